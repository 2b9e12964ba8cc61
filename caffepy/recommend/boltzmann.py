"""A restricted Boltzmann machine of ratings (Salakhutdinov, Mnih and Hinton 2007); a case is all ratings of a user."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from caffepy.proto.caffe_pb2 import RatingRBMParameter
from caffepy.recommend.history import UserHistory


class Weights(NamedTuple):
    """w (I, R, H), d (I, H), biases of visible units (I, R) and hidden ones (H,); R is 1 for Gaussian units."""

    w: np.ndarray
    d: np.ndarray
    b_visible: np.ndarray
    b_hidden: np.ndarray


class Cases:
    """Ratings as states of visible units: of `history`, whose users are the cases and whose items are the units."""

    def __init__(self, p: RatingRBMParameter, history: UserHistory):
        self.history = history
        self.grades = np.unique(history.rating)
        """All values that a rating has."""
        self.is_softmax = p.units == p.SOFTMAX
        self.grade = np.searchsorted(self.grades, history.rating)
        self.mean, self.deviation = history.mean, float(history.rating.std()) or 1.0
        self.standard = (history.rating - np.float32(self.mean)) / np.float32(self.deviation)

    @property
    def states(self) -> int:
        return len(self.grades) if self.is_softmax else 1

    def biases(self, pseudo: float) -> np.ndarray:
        """Of visible units: log shares of the grades, or means, as if the whole had `pseudo` more ratings of each."""
        h = self.history
        if not self.is_softmax:
            return (np.bincount(h.item, self.standard, minlength=h.num_items) / (h.item_counts + pseudo))[:, None]
        counts = np.zeros((h.num_items, self.states))
        np.add.at(counts, (h.item, self.grade), 1)
        shares = np.bincount(self.grade, minlength=self.states) / len(h)
        return np.log((counts + pseudo * shares) / (h.item_counts[:, None] + pseudo))

    def batch(self, cases: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which units these cases have (B, I), and the units' states (B, I, R)."""
        h = self.history
        at, rows = h.rows_of(cases)
        there = np.zeros((len(cases), h.num_items), np.float32)
        states = np.zeros((len(cases), h.num_items, self.states), np.float32)
        there[at, h.item[rows]] = 1
        if self.is_softmax:
            states[at, h.item[rows], self.grade[rows]] = 1
        else:
            states[at, h.item[rows], 0] = self.standard[rows]
        return there, states

    def of_pairs(self, case: np.ndarray) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, np.ndarray], np.ndarray]]:
        """Some of the pairs whose cases these are (N,), the `batch` of those cases, and which of it each pair has."""
        order = np.argsort(case, kind="stable")
        for part in np.array_split(order, max(1, len(order) // 2048)):
            known, at = np.unique(case[part], return_inverse=True)
            yield part, self.batch(known), at


def hidden(p: RatingRBMParameter, weights: Weights, there: np.ndarray, states: np.ndarray) -> np.ndarray:
    """What the hidden units (B, H) are driven by."""
    drive = _flat(states) @ weights.w.reshape(-1, weights.w.shape[2]) + weights.b_hidden
    return drive + there @ weights.d if p.conditional else drive


def visible(cases: Cases, weights: Weights, h: np.ndarray, there: np.ndarray) -> np.ndarray:
    """The visible units' means (B, I, R) of the cases' own units."""
    drive = (h @ weights.w.reshape(-1, weights.w.shape[2]).T).reshape(len(h), *weights.b_visible.shape)
    drive += weights.b_visible
    if cases.is_softmax:
        drive -= drive.max(axis=2, keepdims=True)
        np.exp(drive, out=drive)
        drive /= drive.sum(axis=2, keepdims=True)
    drive *= there[:, :, None]
    return drive


def drawn(probabilities: np.ndarray, there: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """One grade for each visible unit that the case has, as (B, I, R) of ones and zeros."""
    out = np.zeros_like(probabilities)
    case, unit = np.nonzero(there)
    below = np.cumsum(probabilities[case, unit], axis=1)
    grade = (random.random((len(case), 1), np.float32) * below[:, -1:] >= below).sum(axis=1)
    out[case, unit, np.minimum(grade, below.shape[1] - 1)] = 1
    return out


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))


def gradient(
    p: RatingRBMParameter, cases: Cases, weights: Weights, chosen: np.ndarray, random: np.random.Generator
) -> Weights:
    """The mean over cases of what contrastive divergence ascends."""
    there, data = cases.batch(chosen)
    first = sigmoid(hidden(p, weights, there, data))
    h, model = first, data
    for _ in range(max(1, p.cd)):
        sample = (random.random(h.shape, np.float32) < h).astype(np.float32)
        model = visible(cases, weights, sample, there)
        if p.sample_visible and cases.is_softmax:
            model = drawn(model, there, random)
        h = sigmoid(hidden(p, weights, there, model))
    scale = np.float32(1 / len(chosen))
    dw = (_flat(data).T @ first - _flat(model).T @ h) * scale
    dd = there.T @ (first - h) * scale
    return Weights(dw.reshape(weights.w.shape), dd, (data - model).sum(axis=0) * scale, (first - h).sum(axis=0) * scale)


def means(p: RatingRBMParameter, cases: Cases, weights: Weights, case: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """The rating that is expected of the unit in the case, of pairs (N,), given the case's other ratings."""
    out = np.empty(len(case), np.float32)
    for part, states, at in cases.of_pairs(case):
        drive = hidden(p, weights, *states)[at]
        out[part] = _expected(p, cases, weights, drive, unit[part])
    return out


def _expected(p: RatingRBMParameter, cases: Cases, weights: Weights, drive: np.ndarray, unit: np.ndarray) -> np.ndarray:
    w, b = weights.w[unit], weights.b_visible[unit]
    if p.prediction == p.MEAN_FIELD:
        score = np.einsum("nrh,nh->nr", w, sigmoid(drive)) + b
        if not cases.is_softmax:
            return np.float32(cases.mean) + np.float32(cases.deviation) * score[:, 0]
    elif cases.is_softmax:
        score = b + np.logaddexp(0, drive[:, None] + w).sum(axis=2)
    else:
        values = ((cases.grades - cases.mean) / cases.deviation).astype(np.float32)
        pulls = [np.logaddexp(0, drive + w[:, 0] * v).sum(axis=1) - (v - b[:, 0]) ** 2 / 2 for v in values]
        score = np.stack(pulls, axis=1)
    share = np.exp(score - score.max(axis=1, keepdims=True))
    return (share / share.sum(axis=1, keepdims=True)) @ cases.grades


def _flat(states: np.ndarray) -> np.ndarray:
    return states.reshape(len(states), -1)
