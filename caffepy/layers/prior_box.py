"""PriorBox: the boxes at every position of a map that SSD's predictions are offsets from."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np

from caffepy.errors import ConfigError, ShapeError
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register
from caffepy.proto.caffe_pb2 import PriorBoxParameter

Pair = tuple[float, float]
"""Something down and across, such as height and width; of boxes width and height."""

SAME = 1e-6
"""Aspect ratios that differ by less are one."""


def ratios(given: Sequence[float], flip: bool) -> list[float]:
    """1, then each ratio followed by its inverse; one that is there already is dropped together with its inverse."""
    found = [1.0]
    for ratio in given:
        if all(abs(ratio - other) >= SAME for other in found):
            found += [ratio, 1 / ratio] if flip else [ratio]
    return found


def box_sizes(p: PriorBoxParameter) -> np.ndarray:
    """Widths and heights (B, 2) of the boxes of a position, in pixels.

    For each min_size the square, that of the geometric mean with its max_size, then w = min sqrt(r), h = min / sqrt(r)
    for the ratios r other than 1. SSD truncates the sizes to whole pixels.
    """
    sizes: list[Pair] = []
    for i, given in enumerate(p.min_size):
        least = int(given)
        sizes.append((least, least))
        if p.max_size:
            sizes.append((sqrt(least * int(p.max_size[i])),) * 2)
        sizes += [(least * sqrt(r), least / sqrt(r)) for r in ratios(p.aspect_ratio, p.flip) if abs(r - 1) >= SAME]
    return np.array(sizes)


def prior_boxes(cells: tuple[int, ...], picture: Pair, step: Pair, p: PriorBoxParameter) -> np.ndarray:
    """Boxes (H, W, B, 4) as shares of the picture, centred at (offset + index) * step."""
    centre_y, centre_x = ((np.arange(n) + p.offset) * s for n, s in zip(cells, step))
    centres = np.stack(np.broadcast_arrays(centre_x, centre_y[:, None]), axis=-1)[:, :, None]
    half = box_sizes(p) / 2
    boxes = np.concatenate([centres - half, centres + half], axis=-1) / (picture[::-1] * 2)
    return boxes.clip(0, 1) if p.clip else boxes


@register("PriorBox")
class PriorBox(Layer):
    """Boxes and variances for a map (N, C, H, W) of a picture (N, c, h, w): the top is (1, 2, H W B 4).

    Channel 0 holds xmin, ymin, xmax, ymax of the B boxes of each position, divided by the picture's size; channel 1
    their variances. From SSD (Liu et al. 2016). `prior_box_param`: `min_size`, `max_size`, `aspect_ratio`, `flip`,
    `clip`, `variance`, `img_size` or `img_h` and `img_w`, `step` or `step_h` and `step_w`, `offset`. Only the bottoms'
    shapes count, so their gradients are 0.
    """

    num_bottom = 2

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.prior_box_param
        if not p.min_size:
            raise ConfigError("prior_box_param.min_size is not set", hint="It is the side of the smallest box, pixels.")
        if any(size < 1 for size in p.min_size):
            raise ConfigError(f"min_size must be at least 1 pixel, got {_listed(p.min_size)}")
        if p.max_size and len(p.max_size) != len(p.min_size):
            raise ConfigError(f"{len(p.max_size)} max_size for {len(p.min_size)} min_size; give none, or one for each")
        if any(most <= least for least, most in zip(p.min_size, p.max_size)):
            raise ConfigError(f"each max_size must exceed its min_size: {_listed(p.max_size)}, {_listed(p.min_size)}")
        if any(ratio <= 0 for ratio in p.aspect_ratio):
            raise ConfigError(f"aspect_ratio must be positive, got {_listed(p.aspect_ratio)}")
        if len(p.variance) not in (0, 1, 4) or any(v <= 0 for v in p.variance):
            raise ConfigError(f"variance must be none, 1 or 4 positive numbers, got {_listed(p.variance)}")
        self._check_pair("img_size", "img_h", "img_w")
        self._check_pair("step", "step_h", "step_w")

    def _check_pair(self, both: str, down: str, across: str) -> None:
        p = self.param.prior_box_param
        given = [name for name in (both, down, across) if p.HasField(name)]
        if given not in ([], [both], [down, across]):
            raise ConfigError(f"give {both}, or {down} and {across}, not {' and '.join(given)}")
        if any(getattr(p, name) <= 0 for name in given):
            raise ConfigError(f"{' and '.join(given)} must be positive")

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        for i in (0, 1):
            if len(bottom[i].shape) != 4:
                raise ShapeError(f"PriorBox needs bottoms (N, C, H, W), {self.bottom_name(i)} is {bottom[i].shape}")
        p, cells = self.param.prior_box_param, bottom[0].shape[2:]
        picture = (p.img_size or p.img_h or bottom[1].shape[2], p.img_size or p.img_w or bottom[1].shape[3])
        step = (p.step or p.step_h or picture[0] / cells[0], p.step or p.step_w or picture[1] / cells[1])
        boxes = prior_boxes(cells, picture, step, p)
        variances = np.broadcast_to(list(p.variance) or [0.1], boxes.shape)
        self.priors = self.engine.asarray(np.stack([boxes.reshape(-1), variances.reshape(-1)])[None])
        top[0].reshape(tuple(self.priors.shape))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].data[...] = self.priors

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        for blob, wanted in zip(bottom, propagate_down):
            if wanted:
                blob.diff[...] = 0


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)
