"""SequenceLoss: the softmax loss of every step of sequences, without their padding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from caffepy.errors import ConfigError, ShapeError
from caffepy.layers import labels, padding
from caffepy.layers.perplexity import MeanExponent
from caffepy.net.blob import Blob
from caffepy.net.layer import LossLayer, register
from caffepy.proto.caffe_pb2 import LossParameter

TILE = 1 << 17
"""Scores that are looked at together, in the processor's cache."""


@register("SequenceLoss")
class SequenceLoss(LossLayer):
    """L = -sum of log p[label] / normalizer, p = softmax of the scores x (T, N, K), labels (T, N).

    With `sequence_loss_param.axis: 1` (N, T, K), (N, T). A third bottom says which steps count: lengths (N,), or 1 and
    0 in the labels' shape; `loss_param.ignore_label` leaves steps out as well. `normalization`: VALID
    (default) divides by the steps that count, FULL by all, BATCH_SIZE by N, NONE by 1. `label_smoothing` is as in
    SoftmaxWithLoss. A second top is the perplexity, exp of the mean of -log p over the steps that count; that of a test
    is over all its steps.
    """

    num_bottom = (2, 3)
    num_top = (1, 2)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, self.axis = self.param.loss_param, self.param.sequence_loss_param.axis
        if self.axis not in (0, 1):
            raise ConfigError(
                f"sequence_loss_param.axis must be 0 or 1, it is {self.axis}", hint="It says where time is."
            )
        if p.weight_by_label_freqs or p.class_weighting:
            raise ConfigError("SequenceLoss knows no weights of classes", hint="SoftmaxWithLoss does.")
        self.ignore = labels.ignored_label(p)
        self.mode = labels.normalization(p, LossParameter.VALID)
        self.smoothing = p.label_smoothing
        if not 0 <= self.smoothing <= 1:
            raise ConfigError(f"label_smoothing must lie in 0 .. 1, got {self.smoothing:g}")
        self.batch = self.xp.zeros((2,), dtype=self.xp.float64)
        """The sum of -log p over the steps that count, and how many they are."""

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index == 0

    def meter(self, top_index: int) -> Any:
        return MeanExponent(self) if top_index == 1 else None

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape, given = bottom[0].shape, bottom[1].shape
        if len(shape) != 3:
            order = "(T, N, K)" if self.axis == 0 else "(N, T, K)"
            raise ShapeError(f"the scores {self.bottom_name(0)} must be {order}, they are {shape}")
        if given != shape[:2]:
            raise ShapeError(
                f"the labels {self.bottom_name(1)} must be {shape[:2]} as the scores {self.bottom_name(0)} {shape}, "
                f"they are {given}"
            )
        if len(bottom) > 2:
            padding.check_shape(self, 2, bottom[2], (given[0], given[1]), self.axis)
        for blob in top:
            blob.reshape(())
        self.p = self.engine.zeros(bottom[0].count).reshape((bottom[1].count, shape[2]))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, (count, classes) = self.xp, self.p.shape
        x, steps, items = bottom[0].data.reshape((count, classes)), bottom[0].shape[self.axis], self._items(bottom)
        given = bottom[1].data.reshape((-1,))
        there = xp.ones((count,), dtype=xp.bool)
        if len(bottom) > 2:
            there = padding.present(self, 2, bottom[2], steps, self.axis)
            there = xp.permute_dims(there, (1, 0) if self.axis == 0 else (0, 1)).reshape((-1,))
        if self.ignore is not None:
            there = there & (xp.trunc(given) != self.ignore)
        # What stands in the padding is nobody's label.
        read = xp.where(there, given, xp.zeros_like(given))
        index = labels.read_labels(self, read, classes, None, self.bottom_name(1), bottom[1].shape)
        lost, spread = self.engine.zeros(count), self.engine.zeros(count)

        def rows(at: slice) -> None:
            s = x[at, :] - xp.max(x[at, :], axis=1, keepdims=True)
            e = xp.exp(s)
            total = xp.sum(e, axis=1, keepdims=True)
            lost[at] = (xp.log(total) - xp.take_along_axis(s, index[at].reshape((-1, 1)), axis=1)).reshape((-1,))
            if self.smoothing:
                spread[at] = xp.log(total).reshape((-1,)) - xp.mean(s, axis=1)
            self.p[at, :] = e / total

        self._by_rows(rows)
        self.weights, self.index = xp.astype(there, xp.float32), index
        valid = xp.sum(self.weights)
        self.normalizer = labels.normalizer(
            xp, self.mode, count, items, valid, self.param.loss_param.pre_fixed_normalizer
        )
        lost = xp.where(there, lost, xp.zeros_like(lost))
        likelihood = xp.sum(xp.astype(lost, xp.float64))
        self.batch[...] = xp.stack([likelihood, xp.astype(valid, xp.float64)])
        if self.smoothing:
            mixed = (1 - self.smoothing) * lost + self.smoothing * xp.where(there, spread, xp.zeros_like(spread))
            top[0].data[...] = xp.sum(mixed) / self.normalizer
        else:
            top[0].data[...] = likelihood / self.normalizer
        if len(top) > 1:
            top[1].data[...] = xp.exp(likelihood / xp.clip(self.batch[1], 1, None))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        xp, (count, classes) = self.xp, self.p.shape
        weights = self.weights * (top[0].diff / self.normalizer)
        place = xp.arange(count) * classes + self.index
        target = xp.take(self.p.reshape((-1,)), place) - (1 - self.smoothing) - self.smoothing / classes
        with self.written_as(bottom[0].diff, self.p.shape) as dx:

            def rows(at: slice) -> None:
                p = self.p[at, :]
                dx[at, :] = (p - self.smoothing / classes if self.smoothing else p) * weights[at].reshape((-1, 1))

            self._by_rows(rows)
            self.engine.scatter(dx.reshape((-1,)), place, target * weights)

    def _items(self, bottom: list[Blob]) -> int:
        return bottom[0].shape[1 - self.axis]

    def _by_rows(self, rows: Callable[[slice], None]) -> None:
        count, classes = self.p.shape
        parts = max(1, min(count, -(-count * classes // TILE))) if self.engine.divides else 1
        edges = [count * i // parts for i in range(parts + 1)]
        self.engine.run(lambda i: rows(slice(edges[i], edges[i + 1])), parts)
