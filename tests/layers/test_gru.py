"""GRU against its formula, item by item, in float64."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.net.gradient import numerical_gradient
from tests.support import ENGINES, Built, assert_close

T, N, INPUTS, D = 4, 3, 5, 2


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference(x, markers, static, params, h):
    """Output and final state (N, D), for one sequence after the other."""
    w_i, b_i, *more = params
    fixed = np.zeros((x.shape[1], 3 * D)) if static is None else static @ more.pop(0).T
    w_h, b_h = more
    y = np.zeros((*x.shape[:2], D))
    h = h.astype(float).copy()
    for n in range(x.shape[1]):
        for t in range(x.shape[0]):
            before = h[n] * markers[t, n]
            of_x, of_h = w_i @ x[t, n] + b_i + fixed[n], w_h @ before + b_h
            r, z = (sigmoid(of_x[k * D : (k + 1) * D] + of_h[k * D : (k + 1) * D]) for k in range(2))
            candidate = np.tanh(of_x[2 * D :] + r * of_h[2 * D :])
            y[t, n] = h[n] = (1 - z) * candidate + z * before
    return y, h


def build(*bottoms, engine="numpy", fields="", tops=1, **options):
    return Built(
        f'type: "GRU" bottom: "x" bottom: "marker" recurrent_param {{ num_output: {D} {fields} '
        "weight_filler { type: 'uniform' min: -1 max: 1 } bias_filler { type: 'uniform' min: -1 max: 1 } }",
        *bottoms,
        engine=engine,
        tops=tops,
        **options,
    )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("static", [False, True])
def test_values_and_gradients(static, engine):
    random = np.random.default_rng(1)
    x = random.standard_normal((T, N, INPUTS)).astype("f4")
    markers = random.choice([0, 1, 1], (T, N)).astype("f4")
    bottoms = [x, markers, *([random.standard_normal((N, 2)).astype("f4")] if static else [])]
    built = build(*bottoms, engine=engine)
    shapes = [(3 * D, INPUTS), (3 * D,), *([(3 * D, 2)] if static else []), (3 * D, D), (3 * D,)]
    assert [blob.shape for blob in built.layer.blobs] == shapes
    params = [built.host(blob.data).astype(float) for blob in built.layer.blobs]
    x, given = x.astype(float), bottoms[2].astype(float) if static else None
    h = np.zeros((N, D))
    for _ in range(2):  # the second pass goes on
        before = h
        (y,) = built.forward()
        expected, h = reference(x, markers, given, params, before)
        assert_close(y, expected)
    dy = random.standard_normal((T, N, D)).astype("f4")

    def objective():
        return np.sum(dy * reference(x, markers, given, params, before)[0])

    for blob in built.layer.blobs:
        blob.diff[...] = 1
    dx, _, *ds = built.backward(dy, propagate_down=[True, False, True][: len(bottoms)])
    assert_close(dx, numerical_gradient(objective, x, 1e-5))
    for found in ds:
        assert_close(found, numerical_gradient(objective, given, 1e-5))
    for blob, value in zip(built.layer.blobs, params):
        assert_close(built.host(blob.diff), 1 + numerical_gradient(objective, value, 1e-5))


@pytest.mark.parametrize("engine", ENGINES)
def test_state_resumes_exactly(engine):
    x, markers = np.random.default_rng(1).standard_normal((T, N, INPUTS)).astype("f4"), np.ones((T, N))
    built = build(x, markers, engine=engine)
    built.forward()
    saved = built.layer.state()
    assert set(saved) == {"h"}
    (expected,) = built.forward()
    other = build(x, markers, engine=engine)
    for mine, theirs in zip(other.layer.blobs, built.layer.blobs):
        mine.data[...] = theirs.data
    other.layer.set_state(saved)
    np.testing.assert_array_equal(other.forward()[0], expected)
