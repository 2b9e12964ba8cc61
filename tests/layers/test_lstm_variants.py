"""Peepholes and layer normalization of LSTM against their formulas, in float64; forms that exclude each other."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError
from tests.support import ENGINES, Built, assert_close

T, N, INPUTS, D = 4, 3, 5, 2


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def normal(x):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5)


def peephole(x, h, c, w, b, u, p):
    i, f, o, g = np.split(w @ x + b + u @ h, 4)
    new = sigmoid(f + p[1] * c) * c + sigmoid(i + p[0] * c) * np.tanh(g)
    return sigmoid(o + p[2] * new) * np.tanh(new), new


def layer_norm(x, h, c, w, b, u, a_x, a_h, a_c, b_c):
    i, f, o, g = np.split(a_x * normal(w @ x) + a_h * normal(u @ h) + b, 4)
    new = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(a_c * normal(new) + b_c), new


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("form, further", [(peephole, [(3, D)]), (layer_norm, [(4 * D,), (4 * D,), (D,), (D,)])])
def test_values(form, further, engine):
    random = np.random.default_rng(1)
    x = random.standard_normal((T, N, INPUTS)).astype("f4")
    markers = random.choice([0, 1, 1], (T, N))
    fields = f"num_output: {D} {form.__name__}: true"
    built = Built(f'type: "LSTM" recurrent_param {{ {fields} }}', x, markers, engine=engine)
    assert [blob.shape for blob in built.layer.blobs[3:]] == further
    if form is layer_norm:
        assert [set(blob.host().tolist()) for blob in built.layer.blobs[3:]] == [{1}, {1}, {1}, {0}]
    params = []
    for blob in built.layer.blobs:
        params.append(random.standard_normal(blob.shape))
        blob.fill(params[-1])
    (y,) = built.forward()
    expected = np.zeros((T, N, D))
    for n in range(N):
        h, c = np.zeros((2, D))
        for t in range(T):
            h, c = form(x[t, n], h * markers[t, n], c * markers[t, n], *params)
            expected[t, n] = h
    assert_close(y, expected)


@pytest.mark.parametrize(
    "kind, fields, message",
    [
        ("LSTM", "peephole: true layer_norm: true", "recurrent_param has both peephole and layer_norm"),
        ("GRU", "peephole: true", "recurrent_param.peephole is for the type LSTM, this is GRU"),
        ("RNN", "forget_bias: 1", "recurrent_param.forget_bias is for the type LSTM, this is RNN"),
        ("LSTM", "hidden_top: true", "recurrent_param.hidden_top is for the type RNN, this is LSTM"),
    ],
)
def test_refused(kind, fields, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        Built(f'type: "{kind}" recurrent_param {{ num_output: 2 {fields} }}', np.zeros((T, N, INPUTS)))
