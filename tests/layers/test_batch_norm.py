"""BatchNorm."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError, ShapeError
from caffepy.proto.caffe_pb2 import TEST, TRAIN
from tests.support import ENGINES, Built, assert_close

SHAPES = [(3, 4, 3, 5), (7, 5), (4, 3, 6), (2, 3, 2, 3, 4), (1, 4, 3, 3), (40, 7, 20, 20)]


def over_channels(x):
    return tuple(i for i in range(x.ndim) if i != 1)


def moments(x):
    x = x.astype(float)
    return x.mean(axis=over_channels(x), keepdims=True), x.var(axis=over_channels(x), keepdims=True)


def put(built, values):
    for blob, value in zip(built.layer.blobs, values):
        blob.data[...] = built.engine.asarray(value)


def stored(channels):
    random = np.random.default_rng(3)
    return random.standard_normal(channels), random.uniform(1, 3, channels), np.array([1.7])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("phase, fields", [(TRAIN, ""), (TEST, "use_global_stats: false")])
@pytest.mark.parametrize("shape", SHAPES)
def test_batch_statistics(shape, phase, fields, in_place, engine):
    x, dy = np.random.default_rng(1).standard_normal((2, *shape)).astype("f4")
    fields = f'type: "BatchNorm" batch_norm_param {{ {fields} moving_average_fraction: 0.9 eps: 0.01 }}'
    built = Built(fields, x, engine=engine, phase=phase)
    assert [b.shape for b in built.layer.blobs] == [(shape[1],), (shape[1],), (1,)]
    if in_place:
        built.top = built.bottom
    before = stored(shape[1])
    put(built, before)
    mean, variance = moments(x)
    deviation = np.sqrt(variance + 0.01)
    expected = (x - mean) / deviation
    assert_close(built.forward()[0], expected)
    m = x.size / shape[1]
    for blob, old, new in zip(built.layer.blobs, before, (mean.ravel(), variance.ravel() * m / (m - 1), 1)):
        assert_close(built.host(blob.data), 0.9 * old + new)
    axes = over_channels(x)
    along = (dy * expected).mean(axis=axes, keepdims=True)
    dx = (dy - dy.mean(axis=axes, keepdims=True) - expected * along) / deviation
    assert_close(built.backward(dy)[0], dx)
    assert not any(built.host(b.diff).any() for b in built.layer.blobs)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("phase, fields", [(TEST, ""), (TRAIN, "use_global_stats: true")])
@pytest.mark.parametrize("factor", [1.7, 0])
@pytest.mark.parametrize("shape", SHAPES)
def test_stored_statistics(shape, factor, phase, fields, in_place, engine):
    x, dy = np.random.default_rng(1).standard_normal((2, *shape)).astype("f4")
    fields = f'type: "BatchNorm" batch_norm_param {{ {fields} eps: 0.25 }}'
    built = Built(fields, x, engine=engine, phase=phase)
    if in_place:
        built.top = built.bottom
    before = (*stored(shape[1])[:2], np.array([factor]))
    put(built, before)
    spread = (-1, *[1] * (len(shape) - 2))
    mean, variance = (v.reshape(spread) / factor if factor else 0 for v in before[:2])
    assert_close(built.forward()[0], (x - mean) / np.sqrt(variance + 0.25))
    assert_close(built.backward(dy)[0], dy / np.sqrt(variance + 0.25))
    for blob, old in zip(built.layer.blobs, before):
        assert_close(built.host(blob.data), old)


@pytest.mark.parametrize("engine", ENGINES)
def test_large_and_constant_values(engine):
    x = np.full((4, 3, 5, 5), 1e4, "f4")
    x[:, 1] += np.random.default_rng(1).standard_normal((4, 5, 5))
    y = Built('type: "BatchNorm"', x, engine=engine).forward()[0]
    mean, variance = moments(x)
    assert_close(y[:, 1], ((x - mean) / np.sqrt(variance + 1e-5))[:, 1], 1e-3)
    assert np.isfinite(y).all() and not y[:, 0].any()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shape", [(1, 3), (0, 3, 2, 2), (2, 3, 0, 0)])
def test_one_value_or_none(shape, engine):
    built = Built('type: "BatchNorm"', np.ones(shape), engine=engine)
    assert not built.forward()[0].any()
    assert not built.backward(np.ones(shape, "f4"))[0].any()


def test_no_learning():
    layer = Built('type: "BatchNorm" param { lr_mult: 0 }', np.ones((2, 3))).layer
    assert [spec.lr_mult for spec in layer.param.param] == [0, 0, 0]
    message = (
        "the statistics of BatchNorm are not trained, but lr_mult is 2\n"
        "  Remove the param { } blocks, or set lr_mult: 0."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Built('type: "BatchNorm" param { lr_mult: 0 } param { lr_mult: 2 }', np.ones((2, 3)))


def test_refused():
    with pytest.raises(ShapeError, match=r'^BatchNorm needs at least two axes \(N, C\), "x" is \(3,\)$'):
        Built('type: "BatchNorm" bottom: "x"', np.ones(3))
    built = Built('type: "BatchNorm" bottom: "x"', np.ones((2, 3)))
    built.bottom[0].reshape(2, 4)
    with pytest.raises(ShapeError, match=r'^"x" is \(2, 4\), the statistics are for 3 channels$'):
        built.forward()
