"""Losses and normalizing layers, stated once more in float64."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.proto.caffe_pb2 import TEST
from tests.support import ENGINES, Built, assert_close

RANDOM = np.random.default_rng(3)
A, B = (RANDOM.standard_normal((5, 4)).astype("f4") for _ in range(2))
LABELS = np.array([0, 3, 1, 1, 2])
IMAGE = RANDOM.standard_normal((3, 4, 5, 2)).astype("f4")
pytestmark = pytest.mark.parametrize("engine", ENGINES)


def softmax(x, axis=1):
    e = np.exp(x.astype("f8") - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def test_euclidean(engine):
    built = Built('type: "EuclideanLoss"', A, B, engine=engine)
    assert built.forward()[0] == pytest.approx(((A - B) ** 2).sum() / 10, rel=1e-5)
    for ours, sign in zip(built.backward(2.0), (1, -1)):
        assert_close(ours, sign * 2 * (A - B) / 5)


@pytest.mark.parametrize("norm, power", [("L1", 1), ("L2", 2)])
def test_hinge(norm, power, engine):
    sign = np.where(np.arange(4) == LABELS[:, None], -1, 1)
    built = Built(f'type: "HingeLoss" hinge_loss_param {{ norm: {norm} }}', A, LABELS, engine=engine)
    assert built.forward()[0] == pytest.approx((np.maximum(0, 1 + sign * A) ** power).sum() / 5, rel=1e-5)


@pytest.mark.parametrize("legacy", [False, True])
def test_contrastive(legacy, engine):
    similar = np.array([1, 0, 0, 1, 0])
    squared = ((A - B) ** 2).sum(1)
    apart = np.maximum(2 - squared, 0) if legacy else np.maximum(2 - np.sqrt(squared), 0) ** 2
    text = f'type: "ContrastiveLoss" contrastive_loss_param {{ margin: 2 legacy_version: {str(legacy).lower()} }}'
    loss = Built(text, A, B, similar, engine=engine).forward()[0]
    assert loss == pytest.approx(np.where(similar, squared, apart).sum() / 10, rel=1e-5)


@pytest.mark.parametrize("mode, divisor", [("FULL", 30), ("VALID", 24), ("BATCH_SIZE", 3), ("NONE", 1)])
def test_softmax_loss_normalization(mode, divisor, engine):
    labels = RANDOM.integers(0, 4, (3, 5, 2))
    labels.reshape(-1)[:6] = 7
    p = np.take_along_axis(softmax(IMAGE), np.minimum(labels, 3)[:, None], 1)[:, 0]
    expected = -np.log(p)[labels != 7].sum() / divisor
    text = f'type: "SoftmaxWithLoss" loss_param {{ ignore_label: 7 normalization: {mode} }}'
    built = Built(text, IMAGE, labels, engine=engine)
    assert built.forward()[0] == pytest.approx(expected, rel=1e-5)
    (dx, _) = built.backward(1.0, propagate_down=[True, False])
    assert not dx.transpose(0, 2, 3, 1)[labels == 7].any()


def test_infogain_with_the_identity_is_the_softmax_loss(engine):
    loss = Built('type: "InfogainLoss"', A, LABELS, np.eye(4), engine=engine).forward()[0]
    assert loss == pytest.approx(-np.log(softmax(A)[range(5), LABELS]).mean(), rel=1e-5)


def test_multinomial_logistic(engine):
    p = softmax(A).astype("f4")
    built = Built('type: "MultinomialLogisticLoss"', p, LABELS, engine=engine)
    assert built.forward()[0] == pytest.approx(-np.log(p[range(5), LABELS]).mean(), rel=1e-5)


def test_sigmoid_cross_entropy(engine):
    target = RANDOM.uniform(0, 1, A.shape)
    s = 1 / (1 + np.exp(-A.astype("f8")))
    expected = -(target * np.log(s) + (1 - target) * np.log(1 - s)).sum() / 5
    built = Built('type: "SigmoidCrossEntropyLoss"', A, target, engine=engine)
    assert built.forward()[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("in_place", [False, True])
def test_batch_norm(in_place, engine):
    mean, variance = IMAGE.mean((0, 2, 3)), IMAGE.var((0, 2, 3))
    built = Built('type: "BatchNorm" batch_norm_param { moving_average_fraction: 0.9 }', IMAGE, engine=engine)
    if in_place:
        built.top = built.bottom
    y = built.forward()[0]
    assert_close(y.mean((0, 2, 3)), np.zeros(4), 1e-3, floor=1e-2)
    assert_close(y.var((0, 2, 3)), np.ones(4), 1e-3)
    stored = [built.host(b.data) for b in built.layer.blobs]
    assert_close(stored[0], mean)
    assert_close(stored[1], variance * 30 / 29)
    assert stored[2] == 1
    still = Built('type: "BatchNorm"', IMAGE, engine=engine, phase=TEST)
    for blob, value in zip(still.layer.blobs, stored):
        blob.data[...] = still.engine.asarray(value)
    expected = (IMAGE - mean[:, None, None]) / np.sqrt(variance * 30 / 29 + 1e-5)[:, None, None]
    assert_close(still.forward()[0], expected)


@pytest.mark.parametrize("axis, shape", [(1, (4,)), (0, (3,)), (1, (4, 5)), (2, (5, 2)), (0, ())])
def test_scale_and_bias(axis, shape, engine):
    factor, offset = RANDOM.standard_normal(shape), RANDOM.standard_normal(shape)
    spread = (1,) * (axis if shape else 0) + shape
    spread += (1,) * (4 - len(spread))
    text = f"axis: {axis} num_axes: {len(shape)}"
    scale = Built(f'type: "Scale" scale_param {{ {text} bias_term: true }}', IMAGE, engine=engine)
    for blob, value in zip(scale.layer.blobs, (factor, offset)):
        assert blob.shape == shape
        blob.data[...] = scale.engine.asarray(value)
    assert_close(scale.forward()[0], IMAGE * factor.reshape(spread) + offset.reshape(spread))
    dy = RANDOM.standard_normal(IMAGE.shape).astype("f4")
    assert_close(scale.backward(dy)[0], dy * factor.reshape(spread))
    others = tuple(i for i in range(4) if spread[i] == 1)
    assert_close(scale.host(scale.layer.blobs[0].diff), (dy * IMAGE).sum(others).reshape(shape))
    bias = Built(f'type: "Bias" bias_param {{ axis: {axis} }}', IMAGE, offset, engine=engine)
    assert_close(bias.forward()[0], IMAGE + offset.reshape(spread))


@pytest.mark.parametrize("across", [False, True])
def test_mvn(across, engine):
    axes = (1, 2, 3) if across else (2, 3)
    x = IMAGE.astype("f8")
    expected = (x - x.mean(axes, keepdims=True)) / (x.std(axes, keepdims=True) + 1e-9)
    text = f'type: "MVN" mvn_param {{ across_channels: {str(across).lower()} }}'
    assert_close(Built(text, IMAGE, engine=engine).forward()[0], expected)


def test_lrn(engine):
    x = RANDOM.standard_normal((2, 7, 4, 3)).astype("f4")
    padded = np.pad(x.astype("f8") ** 2, ((0, 0), (2, 2), (0, 0), (0, 0)))
    total = sum(padded[:, i : i + 7] for i in range(5))
    for beta in (0.75, 0.5):
        text = f'type: "LRN" lrn_param {{ alpha: 0.3 beta: {beta} k: 2 }}'
        assert_close(Built(text, x, engine=engine).forward()[0], x * (2 + 0.3 / 5 * total) ** -beta)
    rows = np.pad(x.astype("f8") ** 2, ((0, 0), (0, 0), (1, 1), (1, 1)))
    window = sum(rows[:, :, i : i + 4, j : j + 3] for i in range(3) for j in range(3))
    text = 'type: "LRN" lrn_param { local_size: 3 alpha: 0.3 norm_region: WITHIN_CHANNEL }'
    assert_close(Built(text, x, engine=engine).forward()[0], x * (1 + 0.3 / 9 * window) ** -0.75)
