"""What Faster R-CNN is trained on: anchors and regions drawn for a picture, with their classes and offsets.

Boxes are x1, y1, x2, y2 in pixels whose last ones belong to them. Ren et al. 2015, section 3.1.3, with the numbers of
its appendix's code: of 256 anchors at most half are objects, of 128 regions at most a quarter.
"""

from __future__ import annotations

import numpy as np
import yaml

import caffepy
from caffepy import rng
from caffepy.layers.proposal import anchors, in_pixels, shifted

STDS = np.array([0.1, 0.1, 0.2, 0.2], np.float32)
"""Offsets of regions are divided by these."""


def offsets(boxes: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Differences of the centres over the size, logarithms of the sizes' ratio (N, 4)."""
    size, other = boxes[:, 2:] - boxes[:, :2] + 1, targets[:, 2:] - targets[:, :2] + 1
    centre, other_centre = boxes[:, :2] + size / 2, targets[:, :2] + other / 2
    return np.concatenate([(other_centre - centre) / size, np.log(other / size)], axis=1)


def drawn(random: np.random.Generator, among: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the indices."""
    return among if len(among) <= most else random.choice(among, most, replace=False)


class Objects(caffepy.Layer):
    """Objects (G, 5): box and class; the picture's height, width and scale (1, 3), from AnnotatedData's tops."""

    def reshape(self, bottom, top):
        top[0].reshape(max(1, bottom[1].shape[2]), 5)
        top[1].reshape(1, 3)

    def forward(self, bottom, top):
        if bottom[0].shape[0] != 1:
            raise ValueError("Faster R-CNN is trained on one picture a batch: set batch_size: 1")
        height, width = bottom[0].shape[2:]
        rows = bottom[1].data.reshape(-1, 8)
        top[0].data[:, :4] = np.round(rows[:, 3:7] * [width, height, width, height])
        top[0].data[:, 2:4] -= 1
        top[0].data[:, 4] = np.maximum(rows[:, 1], 0)  # a row of -1 is none
        top[1].data[...] = height, width, 1

    def backward(self, top, propagate_down, bottom):
        pass


class AnchorTarget(caffepy.Layer):
    """For each anchor: 1, 0 or -1 (not counted) (1, 1, A H, W), offsets and their weights (1, 4 A, H, W).

    Objects are anchors that overlap one by 0.7, or more than all others do; background those that overlap all by less
    than 0.3. Bottoms: scores (1, 2 A, H, W), objects, the picture's size.
    """

    def setup(self, bottom, top):
        self.stride = yaml.safe_load(self.param_str)["feat_stride"]
        self.anchors = anchors(16, (0.5, 1, 2), np.array([8, 16, 32]))

    def reshape(self, bottom, top):
        count, (height, width) = len(self.anchors), bottom[0].shape[2:]
        top[0].reshape(1, 1, count * height, width)
        for blob in top[1:]:
            blob.reshape(1, 4 * count, height, width)

    def forward(self, bottom, top):
        cells = bottom[0].shape[2:]
        boxes = shifted(self.anchors, cells, self.stride)
        objects = bottom[1].data[bottom[1].data[:, 4] > 0]
        height, width = bottom[2].data[0, :2]
        inside = (boxes[:, :2] >= 0).all(axis=1) & (boxes[:, 2] < width) & (boxes[:, 3] < height)
        label, target = self._matched(boxes, objects, inside)
        weights = np.repeat((label == 1)[:, None], 4, axis=1).astype(np.float32)
        count = len(self.anchors)
        top[0].data[...] = label.reshape(*cells, count).transpose(2, 0, 1).reshape(top[0].data.shape)
        for blob, rows in zip(top[1:], (target, weights, weights / max(1, (label >= 0).sum()))):
            blob.data[...] = rows.reshape(*cells, 4 * count).transpose(2, 0, 1)

    def _matched(self, boxes, objects, inside):
        random = np.random.default_rng(rng.draw())
        label, target = np.full(len(boxes), -1), np.zeros((len(boxes), 4), np.float32)
        if len(objects) and inside.any():
            overlaps = in_pixels(boxes, objects[:, :4]) * inside[:, None]
            most = overlaps.max(axis=1)
            best = ((overlaps == overlaps.max(axis=0)) & (overlaps > 0)).any(axis=1)
            found, empty = inside & (best | (most >= 0.7)), inside & (most < 0.3)
            target[found] = offsets(boxes[found], objects[overlaps[found].argmax(axis=1), :4])
        else:
            found, empty = np.zeros(len(boxes), bool), inside
        some = drawn(random, np.flatnonzero(found), 128)
        label[drawn(random, np.flatnonzero(empty & ~found), 256 - len(some))] = 0
        label[some] = 1
        return label, target

    def backward(self, top, propagate_down, bottom):
        pass


class ProposalTarget(caffepy.Layer):
    """Regions to classify (R, 5), their classes (R), offsets for each class and two kinds of weights (R, 4 K).

    Of an object's class is what overlaps it by half; all else is background. Bottoms: proposals (P, 5), objects.
    """

    def setup(self, bottom, top):
        self.classes = yaml.safe_load(self.param_str)["num_classes"]

    def reshape(self, bottom, top):
        self._shape(top, 1)

    def _shape(self, top, count):
        for blob, shape in zip(top, ((count, 5), (count,), *((count, 4 * self.classes),) * 3)):
            blob.reshape(*shape)

    def forward(self, bottom, top):
        random = np.random.default_rng(rng.draw())
        objects = bottom[1].data[bottom[1].data[:, 4] > 0]
        own = np.concatenate([np.zeros((len(objects), 1), np.float32), objects[:, :4]], axis=1)
        regions = np.concatenate([bottom[0].data, own])
        nearest, most = np.zeros(len(regions), int), np.zeros(len(regions))
        if len(objects):
            overlaps = in_pixels(regions[:, 1:], objects[:, :4])
            nearest, most = overlaps.argmax(axis=1), overlaps.max(axis=1)
        found = drawn(random, np.flatnonzero(most >= 0.5), 32)
        empty = drawn(random, np.flatnonzero(most < 0.5), 128 - len(found))
        kept = np.concatenate([found, empty])
        self._shape(top, len(kept))
        top[0].data[...] = regions[kept]
        top[1].data[...] = 0
        for blob in top[2:]:
            blob.data[...] = 0
        if not len(found):
            return
        labels = objects[nearest[found], 4].astype(int)
        top[1].data[: len(found)] = labels
        wanted = offsets(regions[found, 1:], objects[nearest[found], :4]) / STDS
        rows = np.arange(len(found))[:, None]
        columns = 4 * labels[:, None] + np.arange(4)
        for blob, values in zip(top[2:], (wanted, 1, 1)):
            blob.data[rows, columns] = values

    def backward(self, top, propagate_down, bottom):
        pass
