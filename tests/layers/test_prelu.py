"""PReLU."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ShapeError
from tests.support import ENGINES, Built, assert_close

SHAPES = [(2, 3, 4, 5), (5, 6), (3, 2, 5), (0, 3, 2, 2), (2, 3, 0, 1), (40, 7, 20, 20)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_values(shape, shared, in_place, engine):
    random = np.random.default_rng(1)
    x, dy = random.standard_normal((2, *shape)).astype("f4")
    x.reshape(-1)[:2] = 0  # there the gradient is the slope
    built = Built(f'type: "PReLU" prelu_param {{ channel_shared: {str(shared).lower()} }}', x, engine=engine)
    if in_place:
        built.top = built.bottom
    blob = built.layer.blobs[0]
    assert blob.shape == (() if shared else shape[1:2])
    assert (built.host(blob.data) == 0.25).all()
    a = np.asarray(random.uniform(-1, 2, blob.shape), np.float32)
    blob.data[...] = built.engine.asarray(a)
    blob.diff[...] = 10  # added to
    spread = a if shared else a.reshape(-1, *[1] * (len(shape) - 2))
    assert_close(built.forward()[0], np.where(x > 0, x, spread * x))
    assert_close(built.backward(dy)[0], dy * np.where(x > 0, 1, spread))
    products = dy.astype(float) * np.minimum(x, 0)
    others = tuple(i for i in range(len(shape)) if i != 1 or shared)
    assert_close(built.host(blob.diff), 10 + products.sum(axis=others), 1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_only_what_is_wanted(engine):
    built = Built('type: "PReLU"', -np.ones((2, 3)), engine=engine)
    built.layer.param_propagate_down[0] = False
    built.forward()
    assert not built.backward(np.ones((2, 3), "f4"), propagate_down=[False])[0].any()
    assert not built.host(built.layer.blobs[0].diff).any()


def test_another_shape():
    shared = Built('type: "PReLU" prelu_param { channel_shared: true }', np.ones((2, 3)))
    shared.bottom[0].reshape(2, 5, 4)
    assert shared.forward()[0].shape == (2, 5, 4)
    built = Built('type: "PReLU" bottom: "x"', np.ones((2, 3)))
    built.bottom[0].reshape(2, 5)
    with pytest.raises(ShapeError, match=r'^"x" is \(2, 5\), the slopes are for 3 channels$'):
        built.forward()


@pytest.mark.parametrize("shape, rule", [((3,), "needs at least two"), ((1, 2, 3, 1, 2), "takes up to four")])
def test_refused(shape, rule):
    message = f'PReLU {rule} axes, "x" is {shape}'
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        Built('type: "PReLU" bottom: "x"', np.ones(shape))
