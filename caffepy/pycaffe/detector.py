"""Detector: a trained classifier run on windows of pictures (R-CNN, Girshick et al. 2014), as pycaffe's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike, fspath
from os.path import abspath
from typing import Any

import numpy as np

from caffepy.errors import ConfigError, ShapeError
from caffepy.proto.caffe_pb2 import TEST
from caffepy.pycaffe import io
from caffepy.pycaffe.classifier import forward_pictures, transformer_of
from caffepy.pycaffe.net import Net


class Detector(Net):
    """A net in the TEST phase that windows of pictures are warped to.

    `mean`, `input_scale`, `raw_scale` and `channel_swap` are those of `caffepy.io.Transformer`; `context_pad` is how
    many pixels of the input show what surrounds the window, on every side.
    """

    def __init__(
        self,
        model_file: str | PathLike[str],
        pretrained_file: str | PathLike[str],
        mean: Any = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
        context_pad: int | None = None,
    ):
        super().__init__(model_file, TEST, weights=pretrained_file)
        self.transformer = transformer_of(self, mean, input_scale, raw_scale, channel_swap)
        self.configure_crop(context_pad)

    def detect_windows(self, images_windows: Iterable[tuple[str | PathLike[str], Iterable[Any]]]) -> list[dict]:
        """The net's first output for every window (ymin, xmin, ymax, xmax) of every picture file.

        Returns one dict a window: "window", "prediction" and "filename".
        """
        asked = [(fspath(name), list(windows)) for name, windows in images_windows]
        crops = []
        for filename, windows in asked:
            image = io.load_image(filename) if windows else None
            crops += [self.crop(image, window) for window in windows]
        if not crops:
            return []
        predictions = iter(forward_pictures(self, self.transformer, crops))
        return [
            {"window": window, "prediction": next(predictions), "filename": filename}
            for filename, windows in asked
            for window in windows
        ]

    def detect_selective_search(self, image_fnames: Sequence[str]) -> list[dict]:
        """`detect_windows` over the windows that selective search proposes (Uijlings et al. 2013)."""
        try:
            import selective_search_ijcv_with_python as selective_search
        except ModuleNotFoundError:
            raise ConfigError(
                "selective search is not installed: the module selective_search_ijcv_with_python is missing",
                hint="It needs Matlab (github.com/sergeyk/selective_search_ijcv_with_python). "
                "Propose windows otherwise and call detect_windows.",
            ) from None
        names = [abspath(name) for name in image_fnames]
        return self.detect_windows(zip(names, selective_search.get_windows(names, cmd="selective_search_rcnn")))

    def crop(self, im: Any, window: Sequence[int]) -> np.ndarray:
        """The window (ymin, xmin, ymax, xmax) of a picture (H, W, K), with its context in a picture of input size."""
        box = np.array([int(n) for n in window])
        if box.shape != (4,):
            raise ShapeError(f"a window is (ymin, xmin, ymax, xmax), got {tuple(window)}")
        if self.context_pad:
            return self._with_context(im, box, self.context_pad)
        return _cut(im, box)

    def _with_context(self, im: Any, window: np.ndarray, pad: int) -> np.ndarray:
        size = self.crop_dims[1]  # a square
        half = (window[2:] - window[:2] + 1) / 2
        centre = window[:2] + half
        half = half * size / (size - 2 * pad)
        box = np.round(np.concatenate([centre - half, centre + half]))
        scale = size / (box[2:] - box[:2] + 1)
        border = np.round(np.maximum(0, -box[:2]) * scale).astype(int)  # what lies above and left of the picture
        box = np.clip(box, 0, [*im.shape[:2], *im.shape[:2]]).astype(int)
        shown = np.minimum(np.round((box[2:] - box[:2] + 1) * scale).astype(int), size - border)
        crop = np.ones(self.crop_dims, np.float32) * self.crop_mean
        seen = io.resize_image(_cut(im, box), shown)
        crop[border[0] : border[0] + shown[0], border[1] : border[1] + shown[1]] = seen
        return crop

    def configure_crop(self, context_pad: int | None) -> None:
        """Set the context; what lies outside the picture is filled with the mean."""
        name = self.inputs[0]
        channels, height, width = self.blobs[name].shape[1:]
        if context_pad and not 0 < 2 * context_pad < width:
            raise ConfigError(f"context_pad {context_pad} does not fit into an input of {width} pixels")
        if context_pad and height != width:
            raise ConfigError(f"context_pad needs a net with a square input, this one's is {height}x{width}")
        self.context_pad = context_pad
        self.crop_dims = np.array((height, width, channels))
        mean = self.transformer.mean.get(name)
        self.crop_mean: Any = np.float32(0)
        if mean is not None:
            # In the picture's own order and scale: what preprocess does to it must leave nothing.
            mean = np.broadcast_to(mean, (channels, *mean.shape[1:])).transpose(1, 2, 0)
            if name in self.transformer.channel_swap:
                mean = mean[:, :, np.argsort(self.transformer.channel_swap[name])]
            self.crop_mean = mean / self.transformer.raw_scale.get(name, 1)


def _cut(im: Any, box: np.ndarray) -> np.ndarray:
    top, left, bottom, right = np.maximum(box, 0)
    cut = im[top:bottom, left:right]
    if not cut.size:
        raise ShapeError(f"the window {tuple(box.tolist())} lies outside the picture of {im.shape[0]}x{im.shape[1]}")
    return cut
