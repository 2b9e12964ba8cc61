"""InnerProduct against einsum in float64."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError, ShapeError
from tests.support import ENGINES, Built, assert_close


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "shape, axis",
    [
        ((5, 7), 1),
        ((3, 2, 4, 5), 1),
        ((3, 2, 4, 5), 2),
        ((3, 2, 4, 5), -1),
        ((3, 4), 0),
        ((0, 4), 1),
        ((2, 0, 3, 4), 2),
    ],
)
def test_values(shape, axis, bias, transpose, engine):
    random = np.random.default_rng(1)
    x = random.standard_normal(shape).astype("f4")
    fields = f"num_output: 6 axis: {axis} bias_term: {str(bias).lower()} transpose: {str(transpose).lower()}"
    built = Built(f'type: "InnerProduct" inner_product_param {{ {fields} }}', x, engine=engine)
    lead, tail = shape[: axis % len(shape)], shape[axis % len(shape) :]
    depth = int(np.prod(tail))
    w = random.standard_normal((depth, 6) if transpose else (6, depth)).astype("f4")
    b = random.standard_normal(6 if bias else 0).astype("f4")
    for blob, value in zip(built.layer.blobs, (w, b)):
        blob.data[...] = built.engine.asarray(value)
        blob.diff[...] = 1  # added to
    matrix = (w if transpose else w.T).astype(float)
    rows = x.reshape(int(np.prod(lead)), depth).astype(float)
    assert_close(built.forward()[0], (rows @ matrix + (b if bias else 0)).reshape(*lead, 6))
    dy = random.standard_normal((*lead, 6)).astype("f4")
    (dx,) = built.backward(dy)
    d = dy.reshape(len(rows), 6).astype(float)
    assert_close(dx, (d @ matrix.T).reshape(shape))
    dw = np.einsum("mk,mo->ko" if transpose else "mk,mo->ok", rows, d)
    assert_close(built.host(built.layer.blobs[0].diff), 1 + dw)
    if bias:
        assert_close(built.host(built.layer.blobs[1].diff), 1 + d.sum(axis=0))


@pytest.mark.parametrize("engine", ENGINES)
def test_gradients_that_nobody_wants_are_left_alone(engine):
    built = Built('type: "InnerProduct" inner_product_param { num_output: 2 }', np.ones((3, 4)), engine=engine)
    built.layer.param_propagate_down = [False, False]
    built.forward()
    (dx,) = built.backward(np.ones((3, 2), "f4"), propagate_down=[False])
    assert not dx.any()
    assert not any(built.host(blob.diff).any() for blob in built.layer.blobs)


@pytest.mark.parametrize(
    "fields, message",
    [
        ("", "inner_product_param.num_output must be at least 1"),
        ("num_output: 2 axis: 3", "axis 3 is out of range for a bottom with 3 axes (-3 to 2)"),
    ],
)
def test_refused(fields, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Built(f'type: "InnerProduct" inner_product_param {{ {fields} }}', np.zeros((2, 3, 4)))


def test_bottom_may_change_its_items_only():
    text = 'type: "InnerProduct" bottom: "x" inner_product_param { num_output: 2 }'
    built = Built(text, np.zeros((2, 3, 4)))
    built.bottom[0].reshape(5, 12)
    assert built.forward()[0].shape == (5, 2)
    built.bottom[0].reshape(5, 11)
    message = 'bottom "x" (5, 11) has 11 values from axis 1 on, the weights were made for 12'
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        built.forward()
