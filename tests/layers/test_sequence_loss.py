"""SequenceLoss against its formula, label by label, and torch.nn."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError, DataError, ShapeError
from tests.support import ENGINES, Built, assert_close

T, N, K = 4, 3, 5


def make():
    random = np.random.default_rng(1)
    return random.standard_normal((T, N, K)).astype("f4"), random.integers(0, K, (T, N))


def lost(x, labels):
    """(T, N): -log p[label]."""
    p = np.exp(x.astype(float))
    p /= p.sum(2, keepdims=True)
    return -np.log(np.take_along_axis(p, labels[..., None].astype(int), 2)[..., 0])


def turned(array, axis):
    return array if axis == 0 else np.swapaxes(array, 0, 1)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("mask", ["", "lengths", "markers", "label"])
@pytest.mark.parametrize("mode", ["", "FULL", "BATCH_SIZE", "NONE", "VALID"])
def test_what_counts(mode, mask, axis, engine):
    x, labels = make()
    there = np.ones((T, N), bool)
    more, ignored = [], 99
    if mask == "lengths":
        there = np.arange(T)[:, None] < np.array([4, 0, 2])
        more = [[4, 0, 2]]
    elif mask == "markers":
        there[[0, 2, 3], [1, 0, 2]] = False
        more = [turned(there, axis)]
    elif mask:
        there, ignored = labels != 2, 2
    fields = f"sequence_loss_param {{ axis: {axis} }} loss_param {{ ignore_label: {ignored}"
    fields += f" normalization: {mode} }}" if mode else " }"
    if more:
        labels = np.where(there, labels, -7)  # padding holds anything
    divisor = {"FULL": T * N, "BATCH_SIZE": N, "NONE": 1}.get(mode, there.sum())
    each = np.where(there, lost(x, np.where(there, labels, 0)), 0)
    built = Built(f'type: "SequenceLoss" {fields}', turned(x, axis), turned(labels, axis), *more, engine=engine, tops=2)
    loss, perplexity = built.forward()
    assert loss == pytest.approx(each.sum() / divisor, rel=1e-5)
    assert perplexity == pytest.approx(np.exp(each.sum() / there.sum()), rel=1e-5)
    dx = turned(built.backward(np.float32(2), propagate_down=[True] + [False] * (1 + len(more)))[0], axis)
    p = np.exp(x) / np.exp(x).sum(2, keepdims=True)
    expected = (p - (np.arange(K) == labels[..., None])) * there[..., None] * 2 / divisor
    assert_close(dx, expected)


@pytest.mark.parametrize("engine", ENGINES)
def test_many_rows_go_in_parts_and_extremes_are_stable(engine):
    x = np.random.default_rng(1).standard_normal((40, 20, 300)).astype("f4") * 300
    labels = np.random.default_rng(2).integers(0, 300, (40, 20))
    built = Built('type: "SequenceLoss"', x, labels, engine=engine)
    shifted = x.astype(float) - x.max(2, keepdims=True)
    expected = np.log(np.exp(shifted).sum(2)) - np.take_along_axis(shifted, labels[..., None], 2)[..., 0]
    assert built.forward()[0] == pytest.approx(expected.mean(), rel=1e-5)
    assert np.isfinite(built.backward(np.float32(1), propagate_down=[True, False])[0]).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_perplexity_of_a_test_is_over_all_its_steps(engine):
    x, labels = make()
    built = Built('type: "SequenceLoss"', x, labels, [4, 4, 4], engine=engine, tops=2)
    meter, sums, counts = built.layer.meter(1), 0.0, 0
    assert built.layer.meter(0) is None
    for lengths in ([4, 3, 2], [1, 0, 0]):
        built.bottom[2].fill(np.array(lengths, "f4"))
        built.forward()
        meter.add(built.top[1], built.bottom, 1)
        there = np.arange(T)[:, None] < lengths
        sums, counts = sums + (lost(x, labels) * there).sum(), counts + there.sum()
    assert meter.value() == pytest.approx(np.exp(sums / counts), rel=1e-5)


WRONG = [
    ([(T, N), (T, N)], "", ShapeError, 'the scores "x" must be (T, N, K), they are (4, 3)'),
    (
        [(T, N, K), (N, T)],
        "",
        ShapeError,
        'the labels "y" must be (4, 3) as the scores "x" (4, 3, 5), they are (3, 4)',
    ),
    ([(T, N, K), (T, N), (T,)], "", ShapeError, '"m" must be lengths (N,) = (3,) or markers (T, N) = (4, 3), it is'),
    ([(T, N, K), (T, N)], "sequence_loss_param { axis: 2 }", ConfigError, "axis must be 0 or 1, it is 2"),
    ([(T, N, K), (T, N)], "loss_param { class_weighting: 1 }", ConfigError, "knows no weights of classes"),
    ([(T, N, K), (T, N)], "loss_param { label_smoothing: 2 }", ConfigError, "must lie in 0 .. 1, got 2"),
]


@pytest.mark.parametrize("shapes, fields, error, message", WRONG)
def test_wrong(shapes, fields, error, message):
    with pytest.raises(error, match=re.escape(message)):
        Built(f'type: "SequenceLoss" bottom: "x" bottom: "y" bottom: "m" {fields}', *map(np.zeros, shapes))


@pytest.mark.parametrize(
    "label, length, message",
    [
        (K, 4, 'label 5 at position (3, 1) of "y" is outside 0 .. 4'),
        (0, 5, 'the length 5 at (1,) of "m" is none: sequences have 0 to 4 steps here'),
    ],
)
def test_wrong_values(label, length, message):
    x, labels = make()
    labels[3, 1] = label
    built = Built('type: "SequenceLoss" bottom: "x" bottom: "y" bottom: "m"', x, labels, [4, length, 4])
    with pytest.raises(DataError, match=re.escape(message)):
        built.forward()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("smoothing", [0, 0.2])
def test_as_torch(smoothing, engine):
    torch = pytest.importorskip("torch")
    x, labels = make()
    scores = torch.tensor(x, requires_grad=True)
    loss = torch.nn.CrossEntropyLoss(ignore_index=1, label_smoothing=smoothing)
    expected = loss(scores.reshape(-1, K), torch.tensor(labels).reshape(-1))
    expected.backward()
    fields = f"loss_param {{ ignore_label: 1 label_smoothing: {smoothing} }}"
    built = Built(f'type: "SequenceLoss" {fields}', x, labels, engine=engine)
    assert built.forward()[0] == pytest.approx(expected.item(), rel=1e-5)
    assert_close(built.backward(np.float32(1), propagate_down=[True, False])[0], scores.grad.numpy())
