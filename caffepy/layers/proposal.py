"""Proposal: the regions that Faster R-CNN looks at, from scores and offsets of anchors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from caffepy.data.pictures.boxes import Array, clip, iou
from caffepy.errors import ConfigError, ShapeError
from caffepy.layers.boxes import decode
from caffepy.layers.nms import best, nms
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register
from caffepy.proto.caffe_pb2 import PriorBoxParameter

in_pixels = partial(iou, extra=1)
"""Overlaps of boxes whose last pixels belong to them."""


def anchors(base: int, ratios: Sequence[float], scales: Sequence[float]) -> Array:
    """Boxes (A, 4) about the middle of a base x base square: w = round(sqrt(base^2 / r)), h = round(w r), times scales.

    Widths are xmax - xmin + 1. Ratios outer, scales inner.
    """
    width = np.round(np.sqrt(base * base / np.asarray(ratios, float)))[:, None]
    height = np.round(width * np.asarray(ratios, float)[:, None])
    sides = np.stack([width * scales, height * scales], axis=-1).reshape(-1, 2)
    centre, half = (base - 1) / 2, (sides - 1) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def shifted(boxes: Array, cells: tuple[int, ...], stride: int) -> Array:
    """The anchors at every position of a map, (H W A, 4)."""
    rows, columns = np.meshgrid(*(np.arange(n) * stride for n in cells), indexing="ij")
    shifts = np.stack([columns, rows, columns, rows], axis=-1)
    return (shifts[:, :, None] + boxes).reshape(-1, 4).astype(np.float32)


@register("Proposal")
class Proposal(Layer):
    """The best boxes (R, 5): image, x1, y1, x2, y2 in pixels; a second top has their scores (R).

    Bottoms: scores (N, 2 A, H, W), those of objects in the second half; offsets (N, 4 A, H, W) from the anchors; and
    the pictures' height, width and scale (N, 3). Boxes are clipped to the picture and dropped below `min_size` times
    the scale; the best `pre_nms_topn` go into non-maximum suppression with `nms_thresh`, `post_nms_topn` of it remain.
    As py-faster-rcnn's Python layer and OpenCV have it (Ren et al. 2015). No gradient. The number of boxes is known
    after forward.
    """

    num_bottom = 3
    num_top = (1, 2)
    recordable = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.proposal_param
        if not p.ratio or not p.scale or min(*p.ratio, *p.scale) <= 0:
            raise ConfigError(
                "proposal_param needs ratio and scale, positive numbers",
                hint="Faster R-CNN has ratio 0.5, 1, 2 and scale 8, 16, 32.",
            )
        if not p.feat_stride or not p.base_size:
            raise ConfigError("feat_stride and base_size must be at least 1")
        self.anchors = anchors(p.base_size, p.ratio, p.scale)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        scores, offsets, info = (blob.shape for blob in bottom)
        count = len(self.anchors)
        for i, (shape, channels) in enumerate(((scores, 2 * count), (offsets, 4 * count))):
            if len(shape) != 4 or shape[1] != channels or shape[2:] != scores[2:]:
                raise ShapeError(
                    f"{self.bottom_name(i)} must be (N, {channels}, H, W) for {count} anchors, it is {shape}",
                    hint="There is an anchor for each pair of a ratio and a scale.",
                )
        if offsets[:1] != scores[:1] or bottom[2].count < 3 * scores[0] or len(info) < 2:
            raise ShapeError(f"{self.bottom_name(2)} must be ({scores[0]}, 3): height, width, scale; it is {info}")
        self.boxes = shifted(self.anchors, scores[2:], self.param.proposal_param.feat_stride)
        top[0].reshape((1, 5))
        for blob in top[1:]:
            blob.reshape(1)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        scores, offsets, info = (self.engine.to_host(blob.data) for blob in bottom)
        n, count = len(scores), len(self.anchors)
        scores = scores[:, count:].transpose(0, 2, 3, 1).reshape(n, -1)
        offsets = offsets.transpose(0, 2, 3, 1).reshape(n, -1, 4)
        rows, chosen = [], []
        for i, picture in enumerate(info.reshape(n, -1)):
            boxes, of_boxes = self._propose(scores[i], offsets[i], *picture[:3].tolist())
            rows.append(np.concatenate([np.full((len(boxes), 1), i), boxes], axis=1))
            chosen.append(of_boxes)
        for blob, values in zip(top, (np.concatenate(rows), np.concatenate(chosen))):
            blob.reshape(values.shape)
            blob.data[...] = self.engine.asarray(values)

    def _propose(self, scores: Array, offsets: Array, height: float, width: float, scale: float) -> tuple[Array, Array]:
        """Boxes (R, 4) of one picture and their scores, best first."""
        p = self.param.proposal_param
        # `decode` takes widths without the last pixel.
        boxes = decode(PriorBoxParameter.CENTER_SIZE, offsets, self.boxes + np.array([0, 0, 1, 1], np.float32))
        boxes = clip(boxes, height - 1, width - 1)
        sides = boxes[:, 2:] - boxes[:, :2] + 1
        large = np.flatnonzero((sides >= p.min_size * scale).all(axis=1))
        order = large[best(scores[large], p.pre_nms_topn)]
        order = order[nms(boxes[order], p.nms_thresh, overlaps=in_pixels, limit=p.post_nms_topn)]
        return boxes[order], scores[order]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        for blob, wanted in zip(bottom, propagate_down):
            if wanted:
                blob.diff[...] = 0
