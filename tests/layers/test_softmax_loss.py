"""SoftmaxWithLoss against a loop over positions in float64."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError, DataError, ShapeError
from tests.support import ENGINES, Built, assert_close


def reference(x, labels, axis, ignore, mode):
    """Loss and its gradient."""
    axis %= x.ndim
    moved = np.moveaxis(x.astype(float), axis, -1)
    p = np.exp(moved) / np.exp(moved).sum(axis=-1, keepdims=True)
    d, total, valid = np.zeros(p.shape), 0.0, 0
    labels = np.trunc(labels).astype(int).reshape(p.shape[:-1])
    for at in np.ndindex(*labels.shape):
        if ignore is None or labels[at] != ignore:
            valid += 1
            total -= np.log(p[at][labels[at]])
            d[at] = p[at]
            d[at][labels[at]] -= 1
    divisor = {"VALID": valid, "FULL": labels.size, "BATCH_SIZE": int(np.prod(x.shape[:axis])), "NONE": 1}[mode]
    return total / max(divisor, 1), np.moveaxis(d, -1, axis) / max(divisor, 1)


SHAPES = [((5, 3), 1), ((2, 4, 3, 5), 1), ((2, 3, 4), -1), ((2, 3, 4), 0)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("ignore", [None, 1, -1, 255])
@pytest.mark.parametrize("mode", ["VALID", "FULL", "BATCH_SIZE", "NONE"])
@pytest.mark.parametrize("shape, axis", SHAPES)
def test_values(shape, axis, mode, ignore, engine):
    random = np.random.default_rng(1)
    x = random.standard_normal(shape).astype("f4")
    positions = tuple(np.delete(shape, axis))
    labels = random.integers(0, shape[axis], positions) + 0.4  # truncated
    if ignore is not None:
        labels[random.random(positions) < 0.3] = ignore
    extra = "" if ignore is None else f"ignore_label: {ignore}"
    loss_param = f"loss_param {{ normalization: {mode} {extra} }}"
    text = f'type: "SoftmaxWithLoss" softmax_param {{ axis: {axis} }} {loss_param}'
    built = Built(text + " loss_weight: 0.5", x, labels, engine=engine)
    loss, dx = reference(x, labels, axis, ignore, mode)
    assert_close(built.forward()[0], loss)
    assert_close(built.backward(propagate_down=[True, False])[0], 0.5 * dx)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "fields, mode",
    [
        ("", "VALID"),
        ("normalize: true", "VALID"),
        ("normalize: false", "BATCH_SIZE"),
        ("normalize: true normalization: FULL", "FULL"),
    ],
)
def test_which_normalization(fields, mode, engine):
    x = np.random.default_rng(2).standard_normal((3, 2, 4)).astype("f4")
    labels = np.random.default_rng(3).integers(0, 2, (3, 4))
    built = Built(f'type: "SoftmaxWithLoss" loss_param {{ ignore_label: 0 {fields} }}', x, labels, engine=engine)
    assert_close(built.forward()[0], reference(x, labels, 1, 0, mode)[0])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("fixed, divisor", [(4, 4), (0.5, 1)])
def test_a_fixed_normalizer(fixed, divisor, engine):
    x, labels = np.random.default_rng(2).standard_normal((3, 2)).astype("f4"), np.array([0, 1, 1])
    fields = f"loss_param {{ normalization: PRE_FIXED pre_fixed_normalizer: {fixed} }}"
    built = Built(f'type: "SoftmaxWithLoss" {fields}', x, labels, engine=engine)
    loss, dx = reference(x, labels, 1, None, "NONE")
    assert_close(built.forward()[0], loss / divisor)
    assert_close(built.backward(propagate_down=[True, False])[0], dx / divisor)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("share", [0.1, 0.7, 1])
@pytest.mark.parametrize("shape, axis", SHAPES)
def test_smoothed_labels(shape, axis, share, engine):
    """The mean of the losses for every label, weighted by what the smoothed label gives it."""
    random, classes = np.random.default_rng(1), shape[axis]
    x, labels = random.standard_normal(shape).astype("f4"), random.integers(0, classes, tuple(np.delete(shape, axis)))
    fields = f"softmax_param {{ axis: {axis} }} loss_param {{ label_smoothing: {share} }}"
    built = Built(f'type: "SoftmaxWithLoss" {fields}', x, labels, engine=engine)
    terms = [reference(x, labels, axis, None, "VALID")]
    terms += [reference(x, np.full_like(labels, k), axis, None, "VALID") for k in range(classes)]
    weights = [1 - share] + [share / classes] * classes
    assert_close(built.forward()[0], sum(w * loss for w, (loss, _) in zip(weights, terms)))
    expected = sum(w * dx for w, (_, dx) in zip(weights, terms))
    assert_close(built.backward(propagate_down=[True, False])[0], expected)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("given", ["", "class_weighting: 0.5 class_weighting: 2 class_weighting: 3"])
def test_weighted_classes(given, engine):
    """As SegNet: a position counts what its label does; the divisor is that of unweighted positions."""
    random = np.random.default_rng(1)
    x, labels = random.standard_normal((2, 3, 4, 5)).astype("f4"), random.integers(0, 3, (2, 4, 5))
    labels[0, 0] = 7
    weights = [0.5, 2, 3] if given else [1 / max(1, np.sum(labels == k)) for k in range(3)]
    fields = f"loss_param {{ ignore_label: 7 weight_by_label_freqs: true {given} }}"
    built = Built(f'type: "SoftmaxWithLoss" {fields}', x, labels, engine=engine)
    only = [np.where(labels == k, labels, 7) for k in range(3)]
    terms = [reference(x, some, 1, 7, "NONE") for some in only]
    count = np.sum(labels != 7)
    assert_close(built.forward()[0], sum(w * loss for w, (loss, _) in zip(weights, terms)) / count)
    expected = sum(w * dx for w, (_, dx) in zip(weights, terms)) / count
    assert_close(built.backward(propagate_down=[True, False])[0], expected)


def test_weights_for_other_classes():
    fields = "loss_param { weight_by_label_freqs: true class_weighting: 1 }"
    with pytest.raises(ConfigError, match=r"^1 class_weighting given for 3 classes\n  Give one for each class\.$"):
        Built(f'type: "SoftmaxWithLoss" {fields}', np.zeros((2, 3)), np.zeros(2))


def test_too_much_smoothing():
    with pytest.raises(ConfigError, match=r"^label_smoothing must lie in 0 .. 1, got 1.5$"):
        Built('type: "SoftmaxWithLoss" loss_param { label_smoothing: 1.5 }', np.zeros((2, 3)), np.zeros(2))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("items", [0, 3])
def test_nothing_to_learn(items, engine):
    built = Built(
        'type: "SoftmaxWithLoss" loss_param { ignore_label: 1 }',
        np.ones((items, 2)),
        np.ones(items),
        engine=engine,
    )
    assert built.forward()[0] == 0
    assert not built.backward(propagate_down=[True, False])[0].any()


@pytest.mark.parametrize("engine", ENGINES)
def test_stable_and_bounded(engine):
    x = np.array([[1e4, -1e4, 0], [1e4, 1e4, -1e4]], "f4")
    built = Built('type: "SoftmaxWithLoss" loss_param { normalization: NONE }', x, np.array([1, 0]), engine=engine)
    assert_close(built.forward()[0], -np.log(np.finfo("f4").tiny) + np.log(2))
    assert_close(built.backward(propagate_down=[True, False])[0], [[1, -1, 0], [-0.5, 0.5, 0]])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("value, shown", [(3, "3"), (-1, "-1"), (1e9, "1e+09"), (np.nan, "nan"), (-np.inf, "-inf")])
def test_labels_out_of_range(value, shown, engine):
    labels = np.zeros((2, 1, 4, 5))
    labels[1, 0, 2, 3] = value
    built = Built('type: "SoftmaxWithLoss" bottom: "x" bottom: "label"', np.zeros((2, 3, 4, 5)), labels, engine=engine)
    message = (
        f'label {shown} at position (1, 0, 2, 3) of "label" is outside 0 .. 2\n'
        "  The net distinguishes 3 classes: correct the labels or num_output."
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        built.forward()


def test_refused():
    message = (
        'the labels "label" have shape (2, 3), but "x" (2, 3, 4) with classes on axis 1 '
        "needs one label for each of 8 positions, (2, 4)"
    )
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        Built('type: "SoftmaxWithLoss" bottom: "x" bottom: "label"', np.zeros((2, 3, 4)), np.zeros((2, 3)))
    message = "axis 3 is out of range for a bottom with 3 axes (-3 to 2)"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Built('type: "SoftmaxWithLoss" softmax_param { axis: 3 }', np.zeros((2, 3, 4)), np.zeros((2, 4)))
    message = "SoftmaxWithLoss has one top here, as in Caffe\n  Add a Softmax layer for the probabilities."
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Built('type: "SoftmaxWithLoss"', np.zeros((2, 3)), np.zeros(2), tops=2)


def test_class_weights_without_effect_are_told(caplog):
    layer = 'name: "loss" type: "SoftmaxWithLoss" loss_param { class_weighting: 1 class_weighting: 5 }'
    with caplog.at_level("WARNING", "caffepy"):
        Built(layer, [[0.0, 1.0]], [1])
    assert 'layer "loss": class_weighting does nothing without weight_by_label_freqs: true' in caplog.messages
