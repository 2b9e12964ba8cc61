"""Scale and Bias."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError, ShapeError
from tests.support import ENGINES, Built, assert_close

IMAGE = (2, 3, 4, 5)

# bottom, fields, covered axes (start, end)
LEARNED = [
    (IMAGE, "", (1, 2)),
    ((40, 7, 20, 20), "", (1, 2)),
    ((5, 6), "", (1, 2)),
    ((2, 3, 2, 2, 3), "", (1, 2)),
    (IMAGE, "num_axes: -1", (1, 4)),
    (IMAGE, "axis: 0", (0, 1)),
    (IMAGE, "axis: 0 num_axes: 2", (0, 2)),
    (IMAGE, "axis: 2 num_axes: 2", (2, 4)),
    (IMAGE, "axis: -1", (3, 4)),
    (IMAGE, "axis: -3 num_axes: 2", (1, 3)),
    (IMAGE, "axis: 0 num_axes: -1", (0, 4)),
    (IMAGE, "num_axes: 0", (0, 0)),
    ((3,), "axis: 0", (0, 1)),
    ((), "num_axes: 0", (0, 0)),
    ((0, 3, 2, 2), "", (1, 2)),
]
SECOND = [
    (IMAGE, "", (1, 2)),
    (IMAGE, "", (1, 3)),
    (IMAGE, "axis: 0 num_axes: 1", (0, 4)),  # num_axes is for learned ones
    (IMAGE, "axis: 0", (0, 1)),
    ((8, 32, 24, 24), "axis: 0", (0, 2)),  # a gate for each item, over more than one tile
    (IMAGE, "axis: -2", (2, 4)),
    (IMAGE, "", (0, 0)),
]


def spread(values, shape, axes):
    return np.reshape(values, (1,) * axes[0] + shape[slice(*axes)] + (1,) * (len(shape) - axes[1]))


def total(products, axes):
    others = tuple(i for i in range(products.ndim) if not axes[0] <= i < axes[1])
    return products.astype(float).sum(axis=others)


def made(shape, axes):
    random = np.random.default_rng(1)
    x, dy = random.standard_normal((2, *shape)).astype("f4")
    a, b = random.standard_normal((2, *shape[slice(*axes)])).astype("f4")
    return x, dy, a, b


def put(built, blob, values):
    blob.data[...] = built.engine.asarray(values)
    blob.diff[...] = 10


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape, fields, axes", LEARNED)
def test_learned_scale(shape, fields, axes, bias, in_place, engine):
    x, dy, a, b = made(shape, axes)
    built = Built(f'type: "Scale" scale_param {{ {fields} bias_term: {str(bias).lower()} }}', x, engine=engine)
    blobs = built.layer.blobs
    assert [blob.shape for blob in blobs] == [a.shape, b.shape][: 1 + bias]
    assert [built.host(blob.data).mean() for blob in blobs if blob.count] == [1, 0][: 1 + bias]
    if in_place:
        built.top = built.bottom
    for blob, values in zip(blobs, (a, b)):
        put(built, blob, values)
    assert_close(built.forward()[0], x * spread(a, shape, axes) + bias * spread(b, shape, axes))
    assert_close(built.backward(dy)[0], dy * spread(a, shape, axes))
    # Caffe loses the factor's old gradient where it has nothing to sum, or one item and several factors.
    lost = a.size == x.size or (a.size > 1 and np.prod(shape[: axes[0]]) == 1)
    assert_close(built.host(blobs[0].diff), (0 if lost else 10) + total(dy * x, axes))
    if bias:
        assert_close(built.host(blobs[1].diff), 10 + total(dy, axes))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape, fields, axes", SECOND)
def test_scale_by_the_second_bottom(shape, fields, axes, bias, engine):
    x, dy, a, b = made(shape, axes)
    built = Built(f'type: "Scale" scale_param {{ {fields} bias_term: {str(bias).lower()} }}', x, a, engine=engine)
    assert [blob.shape for blob in built.layer.blobs] == [b.shape] * bias
    built.bottom[1].diff[...] = 10  # overwritten
    if bias:
        put(built, built.layer.blobs[0], b)
    assert_close(built.forward()[0], x * spread(a, shape, axes) + bias * spread(b, shape, axes))
    dx, da = built.backward(dy)
    assert_close(dx, dy * spread(a, shape, axes))
    assert_close(da, total(dy * x, axes))
    if bias:
        assert_close(built.host(built.layer.blobs[0].diff), 10 + total(dy, axes))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("shape, fields, axes", LEARNED)
def test_learned_bias(shape, fields, axes, in_place, engine):
    x, dy, _, b = made(shape, axes)
    built = Built(f'type: "Bias" bias_param {{ {fields} }}', x, engine=engine)
    if in_place:
        built.top = built.bottom
    (blob,) = built.layer.blobs
    assert blob.shape == b.shape and not built.host(blob.data).any()
    put(built, blob, b)
    assert_close(built.forward()[0], x + spread(b, shape, axes))
    assert_close(built.backward(dy)[0], dy, 0)
    assert_close(built.host(blob.diff), 10 + total(dy, axes))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shape, fields, axes", SECOND)
def test_bias_from_the_second_bottom(shape, fields, axes, engine):
    x, dy, _, b = made(shape, axes)
    built = Built(f'type: "Bias" bias_param {{ {fields} }}', x, b, engine=engine)
    built.bottom[1].diff[...] = 10
    assert_close(built.forward()[0], x + spread(b, shape, axes))
    dx, db = built.backward(dy)
    assert_close(dx, dy, 0)
    assert_close(db, total(dy, axes))


@pytest.mark.parametrize("engine", ENGINES)
def test_only_what_is_wanted(engine):
    built = Built('type: "Scale" scale_param { bias_term: true }', np.ones((2, 3)), engine=engine)
    built.layer.param_propagate_down[:] = [False, True]
    built.forward()
    assert not built.backward(np.ones((2, 3), "f4"), propagate_down=[False])[0].any()
    assert [built.host(blob.diff).tolist() for blob in built.layer.blobs] == [[0, 0, 0], [2, 2, 2]]


@pytest.mark.parametrize(
    "fields, shapes, error, message",
    [
        ("axis: 4", [IMAGE], ConfigError, "axis 4 is out of range for a bottom with 4 axes (-4 to 3)"),
        ("num_axes: -2", [IMAGE], ConfigError, "{0}_param.num_axes must be -1 (to the end) or more, got -2"),
        (
            "axis: 3 num_axes: 2",
            [IMAGE],
            ConfigError,
            f'{{0}}_param: axis 3 with num_axes 2 reaches beyond the 4 axes of "x" {IMAGE}',
        ),
        ("", [IMAGE, (4,)], ShapeError, f'the {{1}} (4,) does not fit the axes from 1 on of "x" {IMAGE}'),
        ("axis: 3", [IMAGE, (5, 1)], ShapeError, f'the {{1}} (5, 1) does not fit the axes from 3 on of "x" {IMAGE}'),
    ],
)
@pytest.mark.parametrize("layer_type, what", [("Scale", "factor"), ("Bias", "bias")])
def test_refused(layer_type, what, fields, shapes, error, message):
    text = f'type: "{layer_type}" bottom: "x" {layer_type.lower()}_param {{ {fields} }}'
    with pytest.raises(error, match=f"^{re.escape(message.format(layer_type.lower(), what))}$"):
        Built(text, *(np.ones(s) for s in shapes))


def test_another_shape():
    built = Built('type: "Scale" bottom: "x"', np.ones((2, 3)))
    built.bottom[0].reshape(4, 3, 2)
    assert built.forward()[0].shape == (4, 3, 2)
    built.bottom[0].reshape(4, 2)
    with pytest.raises(ShapeError, match=r'^the factor \(3,\) does not fit the axes from 1 on of "x" \(4, 2\)$'):
        built.forward()
