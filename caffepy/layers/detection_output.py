"""DetectionOutput: SSD's detections from predictions beside priors."""

from __future__ import annotations

import logging

import numpy as np

from caffepy.errors import ConfigError, ShapeError
from caffepy.layers.boxes import decode
from caffepy.layers.detection_files import result_files
from caffepy.layers.nms import best, nms
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register

log = logging.getLogger(__name__)


def check_predictions(layer: Layer, bottom: list[Blob], num_classes: int, share_location: bool) -> int:
    """The number of priors P. Raises ShapeError where loc (N, 4 P L), conf (N, P C), prior (1, 2, 4 P) do not fit."""
    loc, conf, prior = bottom[:3]
    if len(prior.shape) < 3 or prior.shape[:2] != (1, 2) or prior.shape[2] % 4:
        raise ShapeError(
            f"the priors {layer.bottom_name(2)} must be (1, 2, 4 P) as of PriorBox, they are {prior.shape}"
        )
    count = prior.shape[2] // 4
    if loc.shape[:1] != conf.shape[:1]:
        raise ShapeError(f"{layer.bottom_name(0)} {loc.shape} and {layer.bottom_name(1)} {conf.shape} differ in items")
    items = max(1, loc.shape[0])
    wanted = (4 * count * (1 if share_location else num_classes), count * num_classes)
    for i, number in enumerate(wanted):
        if bottom[i].count != number * items:
            raise ShapeError(
                f"{layer.bottom_name(i)} {bottom[i].shape} must have {number} values an item: there are {count} priors "
                f"and {num_classes} classes, and share_location is {str(share_location).lower()}"
            )
    return count


@register("DetectionOutput")
class DetectionOutput(Layer):
    """Boxes and classes (1, 1, D, 7): image, label, score, xmin, ymin, xmax, ymax.

    Bottoms: offsets (N, 4 P), or (N, 4 P C) with `share_location: false` and classes fastest; scores (N, P C); priors
    and variances (1, 2, 4 P). For each class but `background_label_id`: scores above `confidence_threshold`, the best
    `nms_param.top_k` of them, non-maximum suppression (`nms_threshold`, `eta`); then the `keep_top_k` best of an image.
    Images and labels ascend, scores descend. Where nothing is found in all images, D is N: image and six times -1.
    Boxes are not clipped. From SSD (Liu et al. 2016). No gradient. The number of detections is known after forward.
    `save_output_param` writes them to files (layers/detection_files.py).
    """

    num_bottom = (3, 4)
    recordable = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.detection_output_param
        if not p.num_classes:
            raise ConfigError("detection_output_param.num_classes is not set", hint="Count the background, too.")
        if p.nms_param.nms_threshold < 0:
            raise ConfigError(f"nms_threshold must not be negative, got {p.nms_param.nms_threshold:g}")
        if not 0 < p.nms_param.eta <= 1:
            raise ConfigError(f"eta must be in (0, 1], got {p.nms_param.eta:g}")
        self.classes = [c for c in range(p.num_classes) if c != p.background_label_id]
        self.files = result_files(p.save_output_param, self.classes)
        if p.visualize:
            log.warning("visualize shows nothing here: draw the boxes of the top, which are shares of the picture")

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.detection_output_param
        self.priors = check_predictions(self, bottom, p.num_classes, p.share_location)
        top[0].reshape((1, 1, 1, 7))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.detection_output_param
        loc, conf, prior = (self.engine.to_host(blob.data) for blob in bottom[:3])
        n, (priors, variances) = len(loc), prior.reshape(2, self.priors, 1, 4)
        boxes = decode(
            p.code_type,
            loc.reshape((n, self.priors, -1, 4)),
            priors,
            1.0 if p.variance_encoded_in_target else variances,
        )
        scores = conf.reshape((n, self.priors, p.num_classes))
        rows = np.concatenate([self._rows(i, boxes[i], scores[i]) for i in range(n)] or [np.zeros((0, 7))])
        if self.files:
            for i in range(n):
                self.files.add(rows[rows[:, 0] == i])
        if not len(rows):
            rows = np.full((n, 7), -1)
            rows[:, 0] = np.arange(n)
        top[0].reshape((1, 1, *rows.shape))
        top[0].data[...] = self.engine.asarray(rows)

    def _rows(self, image: int, boxes: Array, scores: Array) -> Array:
        """The detections (D, 7) in an image, from boxes (P, L, 4) and scores (P, C)."""
        p = self.param.detection_output_param
        found = []
        for label in self.classes:
            of_label, own = np.ascontiguousarray(scores[:, label]), boxes[:, 0 if p.share_location else label]
            kept = self._best(own, of_label)
            rows = np.empty((len(kept), 7), np.float32)
            rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3:] = image, label, of_label[kept], own[kept]
            found.append(rows)
        rows = np.concatenate(found) if found else np.zeros((0, 7), np.float32)
        return rows[np.sort(best(rows[:, 2], p.keep_top_k))] if p.keep_top_k > -1 else rows

    def _best(self, boxes: Array, scores: Array) -> Array:
        """Indices of the boxes of one class that remain, best first."""
        p = self.param.detection_output_param
        above = np.arange(len(scores))
        if p.HasField("confidence_threshold"):
            above = np.flatnonzero(scores > np.float32(p.confidence_threshold))
        if not len(above):
            return above
        order = above[best(scores[above], p.nms_param.top_k if p.nms_param.HasField("top_k") else -1)]
        return order[nms(boxes[order], p.nms_param.nms_threshold, p.nms_param.eta)]
