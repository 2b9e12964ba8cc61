"""Experts, Gate and SNR against loops over experts and items."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy import rng
from caffepy.errors import ConfigError, ShapeError
from caffepy.proto.caffe_pb2 import TEST
from tests.support import ENGINES, Built, assert_close

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((5, 4)).astype("f4")
BANK = RANDOM.standard_normal((5, 3, 2)).astype("f4")
GAUSSIAN = 'weight_filler { type: "gaussian" } bias_filler { type: "gaussian" }'


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("own", [False, True], ids=["one input", "an input each"])
def test_experts_are_networks_side_by_side(engine, own):
    fields = f"num_experts: 3 num_output: 6 num_output: 2 {GAUSSIAN}"
    x = RANDOM.standard_normal((5, 3, 4)).astype("f4") if own else X
    built = Built(f'type: "Experts" experts_param {{ {fields} }}', x, engine=engine)
    w1, b1, w2, b2 = (built.host(blob.data) for blob in built.layer.blobs)
    found = built.forward()[0]
    for e in range(3):
        hidden = np.maximum((x[:, e] if own else x) @ w1[e].T + b1[e], 0)
        assert_close(found[:, e], np.maximum(hidden @ w2[e].T + b2[e], 0))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_gate_mixes_the_experts_of_all_banks(engine):
    other = RANDOM.standard_normal((5, 1, 2)).astype("f4")
    built = Built(f'type: "Gate" gate_param {{ bias_term: true {GAUSSIAN} }}', X, BANK, other, engine=engine)
    w, b = (built.host(blob.data) for blob in built.layer.blobs)
    gate = softmax(X @ w.T + b)
    experts = np.concatenate([BANK, other], axis=1)
    assert_close(built.forward()[0], np.einsum("ne,neh->nh", gate, experts))


def test_a_gate_has_no_bias_unless_asked():
    assert len(Built('type: "Gate"', X, BANK).layer.blobs) == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_snr_is_deterministic_in_test(engine):
    text = 'type: "SNR" snr_param { num_routes: 2 num_output: 4 weight_filler { type: "gaussian" } }'
    built = Built(text, BANK, engine=engine, phase=TEST, tops=2)
    log_alpha = np.array([[-9, 0.3, 9], [1, -0.2, 0]], "f4")
    built.layer.blobs[0].data[...] = built.engine.asarray(log_alpha)
    z = np.clip(sigmoid(log_alpha) * 1.2 - 0.1, 0, 1)
    assert z[0, 0] == 0 and z[0, 2] == 1
    w = built.host(built.layer.blobs[1].data).reshape(2, 4, 3, 2)
    found, penalty = built.forward()
    assert_close(found, np.einsum("te,tgeh,neh->ntg", z, w, BANK))
    assert_close(penalty, sigmoid(log_alpha - 2 / 3 * np.log(0.1 / 1.1)).sum())


def test_snr_draws_hard_concrete_gates_while_it_trains():
    built = Built('type: "SNR" snr_param { num_routes: 2 connection: AVERAGE }', BANK, tops=2)
    built.layer.blobs[0].data[...] = [[0.5, 0, 0], [0, 0, 0]]
    rng.seed(4)
    found, _ = built.forward()
    rng.seed(4)
    u = rng.generator.random((2, 3))
    s = sigmoid((np.log(u) - np.log(1 - u) + built.layer.blobs[0].data) * 3 / 2)
    assert_close(found, np.einsum("te,neh->nth", np.clip(1.2 * s - 0.1, 0, 1), BANK))
    opened = 0
    for _ in range(4000):
        built.layer.forward(built.bottom, built.top)
        opened += built.layer.z > 0
    expected = sigmoid(built.layer.blobs[0].data - 2 / 3 * np.log(0.1 / 1.1))
    np.testing.assert_allclose(opened / 4000, expected, atol=0.03)


REFUSED = [
    ("Experts", "experts_param { num_output: 2 }", [X], ConfigError, "at least 1, got 0 and [2]"),
    ("Experts", "experts_param { num_experts: 2 num_output: 0 }", [X], ConfigError, "at least 1, got 2 and [0]"),
    ("Experts", "experts_param { num_experts: 2 num_output: 4 }", [BANK], ShapeError, "3 inputs for a bank of 2"),
    ("Experts", "experts_param { num_experts: 2 num_output: 4 }", [X[0]], ShapeError, "needs a bottom (N, K)"),
    ("Gate", "", [X, X], ShapeError, "must be a bank of experts (N, E, H)"),
    ("Gate", "", [X, BANK, BANK[:, :, :1]], ShapeError, "must agree in items and values"),
    ("SNR", "snr_param { num_routes: 2 }", [BANK], ConfigError, "num_output, must be at least 1"),
    ("SNR", "snr_param { num_routes: 2 num_output: 2 gamma: 0.1 }", [BANK], ConfigError, "gamma must be negative"),
    ("SNR", "snr_param { num_routes: 2 num_output: 2 }", [X], ShapeError, "needs a bank (N, E, H)"),
]


@pytest.mark.parametrize("kind, fields, bottoms, error, message", REFUSED, ids=lambda v: v if type(v) is str else "")
def test_what_does_not_fit_is_refused(kind, fields, bottoms, error, message):
    with pytest.raises(error) as caught:
        Built(f'type: "{kind}" {fields}', *bottoms)
    assert message in str(caught.value)


@pytest.mark.parametrize("engine", ENGINES)
def test_shapes_that_change_later_are_refused(engine):
    built = Built('type: "Experts" experts_param { num_experts: 3 num_output: 2 }', BANK, engine=engine)
    built.bottom[0].reshape(5, 3, 7)
    with pytest.raises(ShapeError, match="made for 2 values each"):
        built.forward()
