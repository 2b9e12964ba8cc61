"""CTCLoss: -log probability of a sequence of labels, over all ways to spell it in the steps that there are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from caffepy.errors import ConfigError, DataError, ShapeError
from caffepy.layers import padding
from caffepy.layers.softmax import softmax
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import LossLayer, register
from caffepy.proto.caffe_pb2 import LossParameter


class Spelling(NamedTuple):
    """The labels of a batch with blanks around them: S = 2 L + 1 states, of which each item uses the first ones."""

    states: np.ndarray
    """(N, S) the classes."""
    skips: np.ndarray
    """(N, S) whether a state may follow the one before the last: not so blanks and repeated labels."""
    ends: np.ndarray
    """(N, S) the states in which an item may end."""
    needed: np.ndarray
    """(N,) the least number of steps."""


def spell(labels: np.ndarray, blank: int) -> Spelling:
    """Of labels (N, L), where entries below 0 and blanks are none."""
    rows = [row[(row >= 0) & (row != blank)] for row in labels]
    n, most = len(rows), max(map(len, rows), default=0)
    states = np.full((n, 2 * most + 1), blank)
    skips, ends = np.zeros(states.shape, bool), np.zeros(states.shape, bool)
    needed = np.zeros(n, int)
    for i, row in enumerate(rows):
        states[i, 1 : 2 * len(row) : 2] = row
        repeated = row[1:] == row[:-1]
        skips[i, 3 : 2 * len(row) : 2] = ~repeated
        ends[i, max(0, 2 * len(row) - 1) : 2 * len(row) + 1] = True
        needed[i] = len(row) + repeated.sum()
    return Spelling(states, skips, ends, needed)


@register("CTCLoss")
class CTCLoss(LossLayer):
    """L = mean over the items of -log p(labels | x) (Graves et al. 2006), x (T, N, C) or (T, N, C, 1) before softmax.

    Labels (N, L): entries that are `ctc_loss_param.blank_label` (0) or negative are none. A third bottom gives lengths
    (N,) of the items; without it `time_step` does, unset T. p sums over all paths, a class a step, that are the labels
    once repetitions are joined and blanks left out. An item that cannot be spelled in its steps is an error, or with
    `zero_infinity` counts 0. `loss_param.normalization: NONE` sums over the items.
    """

    num_bottom = (2, 3)
    recordable = False  # labels are looked at
    param_field = "ctc_loss_param"

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.loss_param
        self.mode = p.normalization if p.HasField("normalization") else LossParameter.BATCH_SIZE
        if self.mode not in (LossParameter.BATCH_SIZE, LossParameter.NONE):
            raise ConfigError("CTCLoss knows the normalizations BATCH_SIZE and NONE")

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index == 0

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, shape = self.param.ctc_loss_param, bottom[0].shape
        if len(shape) not in (3, 4) or shape[3:] not in ((), (1,)):
            raise ShapeError(f"the scores {self.bottom_name(0)} must be (T, N, C), they are {shape}")
        self.steps, self.items, self.classes = shape[:3]
        if len(bottom[1].shape) < 1 or bottom[1].shape[0] != self.items:
            raise ShapeError(
                f"the labels {self.bottom_name(1)} must be (N, L) with N = {self.items} as in {self.bottom_name(0)} "
                f"{shape}, they are {bottom[1].shape}"
            )
        if p.HasField("alphabet_size") and p.alphabet_size != self.classes:
            raise ConfigError(
                f"ctc_loss_param.alphabet_size is {p.alphabet_size}, {self.bottom_name(0)} {shape} has "
                f"{self.classes} classes"
            )
        if p.time_step > self.steps:
            raise ConfigError(
                f"ctc_loss_param.time_step is {p.time_step}, {self.bottom_name(0)} has {self.steps} steps"
            )
        if not 0 <= p.blank_label < self.classes:
            raise ConfigError(f"ctc_loss_param.blank_label {p.blank_label} is none of the {self.classes} classes")
        if len(bottom) > 2 and bottom[2].shape != (self.items,):
            raise ShapeError(f"the lengths {self.bottom_name(2)} must be (N,) = {(self.items,)}, are {bottom[2].shape}")
        top[0].reshape(())

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp = self.xp
        lengths, spelling = self._lengths(bottom), spell(self._labels(bottom[1]), self.param.ctc_loss_param.blank_label)
        possible = self._possible(spelling.needed, lengths)
        x = bottom[0].data.reshape((self.steps, self.items, self.classes))
        self.p = softmax(xp, x, 2)
        states, skips, ends = (xp.asarray(a) for a in spelling[:3])
        self.index = xp.broadcast_to(states[None, ...], (self.steps, *states.shape))
        found = xp.astype(xp.take_along_axis(x, self.index, axis=2), xp.float64)
        scores = found - xp.astype(_log_sum(xp, x), xp.float64)
        last = xp.asarray(lengths - 1).reshape((-1, 1))
        nothing = xp.full(ends.shape, -xp.inf, dtype=xp.float64)
        end = xp.where(ends, xp.zeros_like(nothing), nothing)
        before, behind = self._before(scores, skips, last), self._behind(scores, skips, last, end)
        counted = xp.asarray(possible & (lengths > 0)).reshape((-1, 1))
        total = _log_sum(xp, before[-1] + end) if self.steps else xp.zeros((self.items, 1))
        total = xp.where(counted, total, xp.zeros_like(total))
        step = xp.reshape(xp.arange(self.steps), (-1, 1, 1))
        self.there = counted[None, ...] & (step <= last[None, ...])
        self.share = [xp.astype(xp.exp(a + b - total), xp.float32) for a, b in zip(before, behind)]
        """Of each step the probability of each state, given the labels."""
        self.normalizer = 1.0 if self.mode == LossParameter.NONE else float(max(1, self.items))
        top[0].data[...] = -xp.sum(total) / self.normalizer

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0] or not bottom[0].count:
            return
        xp, shape = self.xp, (self.steps, self.items, self.classes)
        row = xp.reshape(xp.arange(self.steps * self.items), (self.steps, self.items, 1))
        seen = self.engine.zeros(bottom[0].count)
        share, place = xp.stack(self.share), row * self.classes + self.index
        self.engine.add_at(seen, xp.reshape(place, (-1,)), xp.reshape(share, (-1,)))
        dx = xp.where(self.there, self.p - seen.reshape(shape), xp.zeros_like(self.p))
        bottom[0].diff[...] = (dx * (top[0].diff / self.normalizer)).reshape(bottom[0].shape)

    def _before(self, scores: Array, skips: Array, last: Array) -> list[Array]:
        """Log probability of all that is read up to each step, and of being in each state then; steps of (N, S)."""
        xp = self.xp
        found: list[Array] = []
        for t in range(self.steps):
            if t == 0:
                first = xp.reshape(xp.arange(skips.shape[1]), (1, -1)) < 2
                reached = xp.where(first, scores[0, ...], -xp.inf)
            else:
                a = found[-1]
                near = xp.logaddexp(a, _shifted(xp, a, 1))
                far = xp.where(skips, _shifted(xp, a, 2), -xp.inf)
                reached = xp.where(t <= last, xp.logaddexp(near, far) + scores[t, ...], a)
            found.append(reached)
        return found

    def _behind(self, scores: Array, skips: Array, last: Array, end: Array) -> list[Array]:
        """Log probability of all that is read behind each step, from each state."""
        xp, found = self.xp, [end] * self.steps
        for t in range(self.steps - 2, -1, -1):
            b = found[t + 1] + scores[t + 1, ...]
            near = xp.logaddexp(b, _shifted(xp, b, -1))
            far = _shifted(xp, xp.where(skips, b, -xp.inf), -2)
            found[t] = xp.where(t < last, xp.logaddexp(near, far), end)
        return found

    def _lengths(self, bottom: list[Blob]) -> np.ndarray:
        if len(bottom) > 2:
            padding.check_lengths(self, 2, bottom[2], self.steps)
            return bottom[2].host().astype(int)
        p = self.param.ctc_loss_param
        return np.full(self.items, p.time_step if p.HasField("time_step") else self.steps)

    def _labels(self, blob: Blob) -> np.ndarray:
        given = blob.host().reshape(self.items, -1)
        wrong = ~(given < self.classes)  # NaN, too
        if wrong.any():
            n, i = np.argwhere(wrong)[0]
            raise DataError(
                f"label {given[n, i]:g} at {(int(n), int(i))} of {self.bottom_name(1)} is outside "
                f"0 .. {self.classes - 1}",
                hint="Entries below 0, and those of the blank, are no labels.",
            )
        return given.astype(int)

    def _possible(self, needed: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        wrong = needed > lengths
        if wrong.any() and not self.param.ctc_loss_param.zero_infinity:
            n = int(np.argmax(wrong))
            raise DataError(
                f"the labels of item {n} of {self.bottom_name(1)} need {needed[n]} steps, it has {lengths[n]}",
                hint="ctc_loss_param { zero_infinity: true } lets such items count 0.",
            )
        return ~wrong


def _log_sum(xp, x: Array) -> Array:
    """log of the sum of exp(x) over the last axis, which stays; -inf where all are."""
    highest = xp.clip(xp.max(x, axis=-1, keepdims=True), -1e300 if x.dtype == xp.float64 else -3e38, None)
    return highest + xp.log(xp.clip(xp.sum(xp.exp(x - highest), axis=-1, keepdims=True), 1e-38, None))


def _shifted(xp, a: Array, by: int) -> Array:
    """(N, S) moved along the states, -inf where nothing comes from."""
    gap = xp.full((a.shape[0], min(abs(by), a.shape[1])), -xp.inf, dtype=a.dtype)
    return xp.concat((gap, a[:, :-by]) if by > 0 else (a[:, -by:], gap), axis=1)
