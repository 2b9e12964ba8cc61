"""LayerNorm."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError
from tests.support import ENGINES, Built, assert_close


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(
    "fields, shape, axis, eps",
    [
        ("", (2, 3, 4, 5), 2, 1e-10),
        ("", (4, 6), 1, 1e-10),
        ("epsilon: 0.1", (2, 3, 8), 2, 0.1),
        ("eps: 0.1", (2, 3, 8), 2, 0.1),
        ("elementwise_affine: true", (2, 3, 4, 5), 1, 1e-5),
        ("elementwise_affine: true axis: -1 eps: 0.2", (2, 3, 4), 2, 0.2),
        ("axis: 3", (2, 3, 4, 5), 3, 1e-10),
    ],
)
def test_values(fields, shape, axis, eps, in_place, engine):
    random = np.random.default_rng(1)
    x, dy = random.standard_normal((2, *shape)).astype("f4")
    built = Built(f'type: "LayerNorm" layer_norm_param {{ {fields} }}', x, engine=engine)
    if in_place:
        built.top = built.bottom
    axes = tuple(range(axis, len(shape)))
    exact = x.astype(float)
    deviation = np.sqrt(exact.var(axis=axes, keepdims=True) + eps)
    normalized = (exact - exact.mean(axis=axes, keepdims=True)) / deviation
    scale, shift = np.ones(shape[axis:]), np.zeros(shape[axis:])
    if affine := "affine" in fields:
        assert [b.host().tolist() for b in built.layer.blobs] == [scale.tolist(), shift.tolist()]
        scale, shift = random.standard_normal((2, *shape[axis:]))
        for blob, values in zip(built.layer.blobs, (scale, shift)):
            blob.fill(values)
    assert_close(built.forward()[0], normalized * scale + shift)
    dn = dy * scale
    along = (dn * normalized).mean(axis=axes, keepdims=True)
    expected = (dn - dn.mean(axis=axes, keepdims=True) - normalized * along) / deviation
    assert_close(built.backward(dy)[0], expected, 1e-4)
    if affine:
        before = tuple(range(axis))
        assert_close(built.host(built.layer.blobs[0].diff), (dy * normalized).sum(axis=before), 1e-4)
        assert_close(built.host(built.layer.blobs[1].diff), dy.sum(axis=before), 1e-4)


def test_refused():
    with pytest.raises(ConfigError, match=r"^both eps and epsilon, two names for one thing, are given\n"):
        Built('type: "LayerNorm" layer_norm_param { eps: 1 epsilon: 1 }', np.ones((2, 3)))
    built = Built('type: "LayerNorm" bottom: "x" layer_norm_param { elementwise_affine: true }', np.ones((2, 3)))
    built.bottom[0].reshape(2, 4)
    with pytest.raises(ConfigError, match=re.escape('"x" is (2, 4), the parameters are for (3,)')):
        built.forward()
