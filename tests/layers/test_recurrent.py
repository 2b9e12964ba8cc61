"""LSTM, RNN and LSTMUnit against the formulas, step by step and item by item, in float64."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError, ShapeError
from caffepy.net.gradient import numerical_gradient
from caffepy.proto.caffe_pb2 import TEST
from tests.support import ENGINES, Built, assert_close

SIZE = 3


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def unit(c_prev, z, marker):
    i, f, o, g = np.split(z, 4, axis=-1)
    c = marker * sigmoid(f) * c_prev + sigmoid(i) * np.tanh(g)
    return c, sigmoid(o) * np.tanh(c)


def reference(kind, x, markers, static, params, states):
    """The output and the final states, for one sequence after the other."""
    w_x, b, *params = (p.astype(float) for p in params)
    fixed = np.zeros((x.shape[1], len(b)))
    if static is not None:
        w_static = params.pop(0)
        fixed = static.reshape(len(static), w_static.shape[1]) @ w_static.T
    y = np.zeros((*x.shape[:2], SIZE))
    final = [s.astype(float) for s in states]
    for n in range(x.shape[1]):
        for t in range(x.shape[0]):
            h = final[0][n] * markers[t, n]
            z = w_x @ x[t, n].ravel() + b + fixed[n] + params[0] @ h
            if kind == "LSTM":
                final[1][n], final[0][n] = unit(final[1][n], z, markers[t, n])
                y[t, n] = final[0][n]
            else:
                final[0][n] = np.tanh(z)
                y[t, n] = np.tanh(params[1] @ final[0][n] + params[2])
    return y, final


def build(kind, *bottoms, engine="numpy", exposed=False, **options):
    text = (
        f'type: "{kind}" bottom: "x" bottom: "marker" recurrent_param {{ num_output: {SIZE} expose_hidden: '
        f"{str(exposed).lower()} weight_filler {{ type: 'uniform' min: -0.5 max: 0.5 }} "
        "bias_filler { type: 'uniform' min: -0.5 max: 0.5 } }"
    )
    tops = 1 + (len(states_of(kind)) if exposed else 0)
    return Built(text, *bottoms, engine=engine, tops=tops, **options)


def states_of(kind):
    return ("h", "c") if kind == "LSTM" else ("h",)


def make(kind, shape, static, exposed, seed=1):
    random = np.random.default_rng(seed)
    x = random.standard_normal(shape).astype("f4")
    markers = random.choice([0, 1, 1], shape[:2]).astype("f4")
    bottoms = [x, markers]
    if static:
        bottoms.append(random.standard_normal((shape[1], *static)).astype("f4"))
    if exposed:
        bottoms += [random.standard_normal((1, shape[1], SIZE)).astype("f4") for _ in states_of(kind)]
    return bottoms


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("exposed", [False, True])
@pytest.mark.parametrize("static", [(), (4,), (2, 3, 2)])
@pytest.mark.parametrize("shape", [(5, 4, 2), (1, 3, 2), (4, 2, 2, 3), (3, 1), (0, 2, 3), (2, 0, 3)])
@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_forward_twice(kind, shape, static, exposed, engine):
    bottoms = make(kind, shape, static, exposed)
    built = build(kind, *bottoms, engine=engine, exposed=exposed)
    params = [built.host(blob.data) for blob in built.layer.blobs]
    items = shape[1]
    states = [b[0] for b in bottoms[-len(states_of(kind)) :]] if exposed else [np.zeros((items, SIZE))] * 2
    for _ in range(2):
        expected, final = reference(kind, bottoms[0], bottoms[1], bottoms[2] if static else None, params, states)
        y, *last = built.forward()
        assert_close(y, expected)
        if exposed:
            for ours, theirs in zip(last, final):
                assert_close(ours[0], theirs)
        else:
            states = final


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("exposed", [False, True])
@pytest.mark.parametrize("static", [(), (2, 2)])
@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_backward(kind, static, exposed, engine):
    """Numerical gradients of the reference, in float64; markers 0 and 1."""
    bottoms = make(kind, (4, 3, 2, 2), static, exposed)
    built = build(kind, *bottoms, engine=engine, exposed=exposed)
    params = [built.host(blob.data).astype(float) for blob in built.layer.blobs]
    x, fixed = bottoms[0].astype(float), bottoms[2].astype(float) if static else None
    states = [b[0] for b in bottoms[-len(states_of(kind)) :]] if exposed else [np.zeros((3, SIZE))] * 2
    dy = np.random.default_rng(2).standard_normal((4, 3, SIZE)).astype("f4")

    def objective():
        return np.sum(dy * reference(kind, x, bottoms[1], fixed, params, states)[0])

    built.forward()
    for blob in built.bottom:
        blob.diff[...] = 5
    for blob in built.layer.blobs:
        blob.diff[...] = 1
    for blob in built.top[1:]:
        blob.diff[...] = 3  # ignored
    ours = built.backward(dy, propagate_down=[True, False] + [True] * (len(bottoms) - 2))
    assert_close(ours[0], numerical_gradient(objective, x, 1e-5))
    if static:
        assert_close(ours[2], numerical_gradient(objective, fixed, 1e-5))
    if exposed:
        assert not any(d.any() for d in ours[2 + bool(static) :])
    for blob, value in zip(built.layer.blobs, params):
        assert_close(built.host(blob.diff), 1 + numerical_gradient(objective, value, 1e-5))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_state_resumes_exactly(kind, engine):
    bottoms = make(kind, (3, 2, 4), (), False)
    bottoms[1][...] = 1
    built = build(kind, *bottoms, engine=engine)
    built.forward()
    saved = built.layer.state()
    (expected,) = built.forward()
    assert set(saved) == set(states_of(kind))
    other = build(kind, *bottoms, engine=engine, phase=TEST)
    for mine, theirs in zip(other.layer.blobs, built.layer.blobs):
        mine.data[...] = theirs.data
    other.layer.set_state(saved)
    assert (other.forward()[0] == expected).all()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_other_lengths_keep_the_state_and_other_items_drop_it(kind, engine):
    bottoms = make(kind, (4, 2, 3), (), False)
    bottoms[1][...] = 1
    whole = build(kind, *bottoms, engine=engine)
    split = build(kind, bottoms[0][:1], bottoms[1][:1], engine=engine)
    for mine, theirs in zip(split.layer.blobs, whole.layer.blobs):
        mine.data[...] = theirs.data
    (expected,) = whole.forward()
    first = split.forward()[0]
    for blob, values in zip(split.bottom, bottoms):
        blob.reshape(values[1:].shape)
        blob.data[...] = split.engine.asarray(values[1:])
    assert_close(np.concatenate([first, split.forward()[0]]), expected)
    for blob, values in zip(split.bottom, bottoms):
        blob.reshape(values[:, :1].shape)
        blob.data[...] = split.engine.asarray(values[:, :1])
    assert_close(split.forward()[0], expected[:, :1])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shape", [(1, 4, 3), (1, 1, 1), (1, 0, 2)])
def test_lstm_unit(shape, engine):
    random = np.random.default_rng(3)
    c_prev = random.standard_normal(shape).astype("f4")
    z = random.standard_normal((*shape[:2], 4 * shape[2])).astype("f4")
    markers = random.choice([0, 1], shape[:2]).astype("f4")
    built = Built('type: "LSTMUnit"', c_prev, z, markers, engine=engine, tops=2)
    for ours, expected in zip(built.forward(), unit(c_prev, z, markers[..., None])):
        assert_close(ours, expected)
    dc, dh = random.standard_normal((2, *shape)).astype("f4")
    ours = built.backward(dc, dh, propagate_down=[True, True, False])
    c_prev, z = c_prev.astype(float), z.astype(float)

    def objective():
        c, h = unit(c_prev, z, markers[..., None])
        return np.sum(dc * c) + np.sum(dh * h)

    for d, value in zip(ours, (c_prev, z)):
        assert_close(d, numerical_gradient(objective, value, 1e-5))


@pytest.mark.parametrize("engine", ENGINES)
def test_lstm_unit_with_fractional_markers_has_caffes_gradient(engine):
    built = Built('type: "LSTMUnit"', [[[2.0]]], [[[0, 0, 0, 0.0]]], [[0.5]], engine=engine, tops=2)
    built.forward()
    dz = built.backward(np.ones((1, 1, 1), "f4"), np.zeros((1, 1, 1), "f4"), propagate_down=[True, True, False])[1]
    assert_close(dz.ravel(), [0, 2 * 0.25 * 0.75, 0, 0.5])


@pytest.mark.parametrize("engine", ENGINES)
def test_stable(engine):
    z = np.array([[[1e4, -1e4, 1e4, 1e4]]], "f4")
    c, h = Built('type: "LSTMUnit"', [[[3.0]]], z, [[1]], engine=engine, tops=2).forward()
    assert_close(c, [[[1]]])
    assert_close(h, np.tanh([[[1]]]))


ZERO = np.zeros
REFUSED = [
    ("LSTM", (ZERO((4,)), ZERO((4,))), "", 'the input "x" must be (T, N, ...), it is (4,)'),
    (
        "RNN",
        (ZERO((4, 2, 3)), ZERO((4, 3))),
        "",
        'the markers "marker" must be (T, N) = (4, 2) as the input "x" (4, 2, 3), or lengths (N,), they are (4, 3)',
    ),
    (
        "LSTM",
        (ZERO((4, 2, 3)), ZERO((4, 2)), ZERO((3, 5))),
        "",
        'the static input bottom 2 must be (N, ...) with N = 2 as in "x" (4, 2, 3), it is (3, 5)',
    ),
    (
        "LSTM",
        (ZERO((4, 2, 3)), ZERO((4, 2)), ZERO((1, 2, 3)), ZERO((2, 3))),
        "expose_hidden: true",
        "the initial c bottom 3 must be (1, N, num_output) = (1, 2, 3), it is (2, 3)",
    ),
    (
        "LSTM",
        (ZERO((4, 2, 3)), ZERO((4, 2)), ZERO((1, 2, 3))),
        "expose_hidden: true",
        "LSTM takes the bottoms input, markers[, static input], initial h, initial c: 4 or 5, 3 given\n"
        "  Without markers: input, initial h, initial c.",
    ),
    (
        "RNN",
        (ZERO((4, 2, 3)), ZERO((4, 2)), ZERO((2, 3)), ZERO((1, 2, 3))),
        "",
        "RNN takes the bottoms input, markers[, static input]: 2 or 3, 4 given\n"
        "  Without markers: input. expose_hidden: true adds bottoms and tops for the states.",
    ),
    (
        "RNN",
        (ZERO((4, 2, 3)), ZERO((4, 2)), ZERO((1, 2, 3))),
        "expose_hidden: true",
        "RNN takes the tops output, final h: 2, 1 given",
    ),
]


@pytest.mark.parametrize("kind, bottoms, fields, message", REFUSED)
def test_refused(kind, bottoms, fields, message):
    text = f'type: "{kind}" bottom: "x" bottom: "marker" recurrent_param {{ num_output: {SIZE} {fields} }}'
    tops = 3 if kind == "LSTM" and fields else 1
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        Built(text, *bottoms, tops=tops)


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_refused_later(kind):
    with pytest.raises(ConfigError, match=r"^recurrent_param.num_output must be at least 1$"):
        Built(f'type: "{kind}"', np.zeros((4, 2, 3)), np.zeros((4, 2)))
    built = build(kind, np.zeros((4, 2, 3)), np.zeros((4, 2)))
    built.forward()
    message = f'{kind} has no gradient for its markers "marker"\n  Set propagate_down: false for this bottom.'
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        built.backward(np.zeros((4, 2, SIZE), "f4"))
    built.bottom[0].reshape(4, 2, 5)
    message = '"x" (4, 2, 5) has 5 values a step, the weights were made for 3'
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        built.forward()


@pytest.mark.parametrize(
    "shapes, message",
    [
        (((2, 4, 3), (1, 4, 12), (1, 4)), 'the memory "c" must be (1, N, D), it is (2, 4, 3)'),
        (
            ((1, 4, 3), (1, 4, 9), (1, 4)),
            'the sums bottom 1 must be (1, 4, 12) to fit "c" (1, 4, 3), they are (1, 4, 9)',
        ),
        (
            ((1, 4, 3), (1, 4, 12), (4,)),
            'the markers bottom 2 must be (1, 4) to fit "c" (1, 4, 3), they are (4,)',
        ),
    ],
)
def test_lstm_unit_refuses(shapes, message):
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        Built('type: "LSTMUnit" bottom: "c"', *map(np.zeros, shapes), tops=2)
