"""BN, PSPNet's and SegNet's."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ShapeError
from caffepy.layers.bn import BN, InferenceBN, LearningBN
from caffepy.proto.caffe_pb2 import TEST, TRAIN
from tests.support import ENGINES, Built, assert_close

SHAPES = [(3, 4, 3, 5), (7, 5), (4, 3, 6), (1, 4, 3, 3), (40, 7, 20, 20)]


def statistics(x):
    """Mean and variance a channel, shaped to go with x."""
    axes = tuple(i for i in range(x.ndim) if i != 1)
    return x.astype(float).mean(axis=axes, keepdims=True), x.astype(float).var(axis=axes, keepdims=True)


def expected_gradients(x, dy, scale, eps):
    """Of the batch's normalization: dx, dscale, dshift."""
    mean, variance = statistics(x)
    deviation = np.sqrt(variance + eps)
    normalized, axes = (x - mean) / deviation, tuple(i for i in range(x.ndim) if i != 1)
    dn = dy * scale
    along = (dn * normalized).mean(axis=axes, keepdims=True)
    dx = (dn - dn.mean(axis=axes, keepdims=True) - normalized * along) / deviation
    return dx, (dy * normalized).sum(axis=axes), dy.sum(axis=axes)


def built_with(fields: str, x, engine: str, phase: int = TRAIN, in_place: bool = False, tops: int = 1):
    """The layer with random parameters, and these, each (C,)."""
    built = Built(f'type: "BN" bottom: "x" bn_param {{ {fields} }}', x, engine=engine, phase=phase, tops=tops)
    if in_place:
        built.top = built.bottom
    random, channels = np.random.default_rng(3), x.shape[1]
    values = [random.uniform(0.5, 2, channels).astype("f4") for _ in built.layer.blobs]
    for blob, value in zip(built.layer.blobs, values):
        assert blob.shape == (1, channels, 1, 1)
        blob.data[...] = built.engine.asarray(value.reshape(blob.shape))
    return built, [value.reshape(1, channels, *[1] * (x.ndim - 2)) for value in values]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_statistics_of_the_batch(shape, in_place, engine):
    x, dy = np.random.default_rng(1).standard_normal((2, *shape)).astype("f4")
    built, (slope, bias, *stored) = built_with("momentum: 0.8 eps: 0.01", x, engine, in_place=in_place)
    mean, variance = statistics(x)
    assert_close(built.forward()[0], slope * (x - mean) / np.sqrt(variance + 0.01) + bias)
    for blob, old, new in zip(built.layer.blobs[2:], stored, (mean, variance)):
        assert_close(built.host(blob.data).ravel(), (0.8 * old + 0.2 * new).ravel())
    dx, dslope, dbias = expected_gradients(x, dy, slope, 0.01)
    built.layer.blobs[0].diff[...] = 1  # added to
    assert_close(built.backward(dy)[0], dx, 1e-4)
    assert_close(built.host(built.layer.blobs[0].diff).ravel(), dslope + 1, 1e-4)
    assert_close(built.host(built.layer.blobs[1].diff).ravel(), dbias, 1e-4)
    assert not any(built.host(b.diff).any() for b in built.layer.blobs[2:])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("phase, fields", [(TEST, ""), (TRAIN, "frozen: true"), (TEST, "frozen: true")])
@pytest.mark.parametrize("shape", SHAPES)
def test_stored_statistics(shape, phase, fields, in_place, engine):
    x, dy = np.random.default_rng(1).standard_normal((2, *shape)).astype("f4")
    built, (slope, bias, mean, variance) = built_with(fields + " eps: 0.25", x, engine, phase, in_place)
    normalized = (x - mean) / np.sqrt(variance + 0.25)
    assert_close(built.forward()[0], slope * normalized + bias)
    assert_close(built.backward(dy)[0], dy * slope / np.sqrt(variance + 0.25))
    axes = tuple(i for i in range(x.ndim) if i != 1)
    wanted = [0 * slope.ravel()] * 2 if fields else [(dy * normalized).sum(axis=axes), dy.sum(axis=axes)]
    for blob, gradient in zip(built.layer.blobs, wanted):
        assert_close(built.host(blob.diff).ravel(), gradient, 1e-4)


@pytest.mark.parametrize("engine", ENGINES)
def test_in_place_where_the_slope_is_zero(engine):
    built, _ = built_with("", np.ones((2, 3), "f4"), engine, TEST, in_place=True)
    built.layer.blobs[0].data[...] = 0
    built.forward()
    assert np.isfinite(built.backward(np.ones((2, 3), "f4"))[0]).all()


def test_first_values_and_what_is_trained():
    fresh = Built('type: "BN" bn_param { slope_filler { value: 2 } bias_filler { value: 3 } }', np.ones((2, 3)))
    assert [b.host().ravel().tolist() for b in fresh.layer.blobs] == [[2] * 3, [3] * 3, [0] * 3, [0] * 3]
    specs = fresh.layer.param.param
    assert [(s.lr_mult, s.decay_mult) for s in specs] == [(1, 1), (1, 1), (0, 0), (0, 0)]
    frozen = Built('type: "BN" param { lr_mult: 5 } bn_param { frozen: true }', np.ones((2, 3)))
    assert [b.host().ravel().tolist() for b in frozen.layer.blobs] == [[1] * 3, [0] * 3, [0] * 3, [1] * 3]
    assert [s.lr_mult for s in frozen.layer.param.param] == [0] * 4


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("phase", [TRAIN, TEST])
@pytest.mark.parametrize("shape", SHAPES)
def test_segnet_learns_from_the_batch(shape, phase, in_place, engine):
    x, dy = np.random.default_rng(1).standard_normal((2, *shape)).astype("f4")
    built, (scale, shift) = built_with("bn_mode: LEARN", x, engine, phase, in_place)
    mean, variance = statistics(x)
    assert_close(built.forward()[0], scale * (x - mean) / np.sqrt(variance + 1e-9) + shift)
    dx, dscale, dshift = expected_gradients(x, dy, scale, 1e-9)
    assert_close(built.backward(dy)[0], dx, 1e-4)
    assert_close(built.host(built.layer.blobs[0].diff).ravel(), dscale, 1e-4)
    assert_close(built.host(built.layer.blobs[1].diff).ravel(), dshift, 1e-4)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
def test_segnet_infers_by_scale_and_shift_alone(in_place, engine):
    x, dy = np.random.default_rng(1).standard_normal((2, 3, 4, 2, 2)).astype("f4")
    built, (scale, shift) = built_with("bn_mode: INFERENCE", x, engine, in_place=in_place)
    assert_close(built.forward()[0], scale * x + shift)
    assert_close(built.backward(dy)[0], scale * dy)
    assert_close(built.host(built.layer.blobs[0].diff).ravel(), (dy * x).sum(axis=(0, 2, 3)), 1e-4)


@pytest.mark.parametrize("engine", ENGINES)
def test_segnet_gives_its_statistics(engine):
    x = np.random.default_rng(1).standard_normal((3, 4, 2, 2)).astype("f4")
    built, _ = built_with("scale_filler { value: 1 }", x, engine, tops=3)
    for ours, reference in zip(built.forward()[1:], statistics(x)):
        assert_close(ours, reference)


@pytest.mark.parametrize(
    "fields, form",
    [
        ("", BN),
        ("bn_param { slope_filler { value: 1 } frozen: true }", BN),
        ("bn_param { shift_filler { value: 1 } }", LearningBN),
        ("bn_param { bn_mode: INFERENCE }", InferenceBN),
        ("blobs { data: 1 data: 1 shape { dim: 1 dim: 2 dim: 1 dim: 1 } } " * 2, LearningBN),
        ("blobs { data: 1 data: 1 shape { dim: 1 dim: 2 dim: 1 dim: 1 } } " * 4, BN),
    ],
)
def test_which_form(fields, form):
    assert type(Built(f'type: "BN" {fields}', np.ones((3, 2))).layer) is form


def test_refused():
    with pytest.raises(ShapeError, match=re.escape('BN needs at least two axes (N, C), "x" is (3,)')):
        Built('type: "BN" bottom: "x"', np.ones(3))
    built = Built('type: "BN" bottom: "x"', np.ones((2, 3)))
    built.bottom[0].reshape(2, 4)
    with pytest.raises(ShapeError, match=re.escape('"x" is (2, 4), the parameters are for 3 channels')):
        built.forward()
