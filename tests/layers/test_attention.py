"""Attention against loops in float64, step by step, and against torch.nn."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError, DataError, ShapeError
from caffepy.proto.caffe_pb2 import TEST
from tests.support import ENGINES, Built, assert_close

T, S, N, C, D, HEADS = 4, 5, 3, 6, 8, 2


def attend(q, k, v, there, causal, heads):
    """y (T, N, D) of q (T, N, C), k, v (S, N, ...) and which keys are there (S, N), one after the other."""
    y = np.zeros((q.shape[0], q.shape[1], v.shape[2]))
    c, d = q.shape[2] // heads, v.shape[2] // heads
    for t, n, h in np.ndindex(q.shape[0], q.shape[1], heads):
        scores = {}
        for s in range(len(k)):
            if there[s, n] and not (causal and s > t + len(k) - len(q)):
                scores[s] = q[t, n, h * c : (h + 1) * c] @ k[s, n, h * c : (h + 1) * c] / c**0.5
        total = sum(np.exp(score) for score in scores.values())
        for s, score in scores.items():
            y[t, n, h * d : (h + 1) * d] += np.exp(score) / total * v[s, n, h * d : (h + 1) * d]
    return y


def make(seed=1):
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape).astype("f4") for shape in ((T, N, C), (S, N, C), (S, N, D))]


def turned(array, axis):
    """(T, N, ...) as the layer takes it."""
    return array if axis == 0 else np.ascontiguousarray(np.swapaxes(array, 0, 1))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", ["", "lengths", "keys"])
def test_values(mask, causal, axis, engine):
    q, k, v = make()
    lengths = np.array([5, 0, 2])
    there = np.arange(S)[:, None] < lengths if mask == "lengths" else np.ones((S, N), bool)
    bottoms = [turned(a, axis) for a in (q, k, v)]
    if mask == "lengths":
        bottoms.append(lengths)
    elif mask:
        there = np.random.default_rng(2).random((S, N)) < 0.5
        bottoms.append(turned(there, axis))
    fields = f"attention_param {{ num_heads: {HEADS} causal: {str(causal).lower()} axis: {axis} }}"
    (y,) = Built(f'type: "Attention" {fields}', *bottoms, engine=engine).forward()
    expected = attend(*(a.astype(float) for a in (q, k, v)), there, causal, HEADS)
    assert_close(turned(y, axis), expected)


@pytest.mark.parametrize("engine", ENGINES)
def test_side_by_side(engine):
    q, k, v = (a[:T, :, :C] for a in make())
    fields = 'type: "Attention" attention_param { num_heads: 2 }'
    packed = np.concatenate([q, k, v], axis=2)
    dy = np.random.default_rng(3).standard_normal((T, N, C)).astype("f4")
    one, three = Built(fields, packed, engine=engine), Built(fields, q, k, v, engine=engine)
    np.testing.assert_array_equal(one.forward(), three.forward())
    (found,) = one.backward(dy)
    np.testing.assert_array_equal(found, np.concatenate(three.backward(dy), axis=2))


@pytest.mark.parametrize("engine", ENGINES)
def test_many_items_are_computed_in_parts(engine):
    random = np.random.default_rng(1)
    x = random.standard_normal((64, 80, 12)).astype("f4")  # 80 * 2 * 64 * 64 weights
    (y,) = Built('type: "Attention" attention_param { num_heads: 2 causal: true }', x, engine=engine).forward()
    few = Built('type: "Attention" attention_param { num_heads: 2 causal: true }', x[:, 37:39], engine=engine)
    assert_close(y[:, 37:39], few.forward()[0])


@pytest.mark.parametrize("engine", ENGINES)
def test_dropout(engine):
    x = np.random.default_rng(1).standard_normal((40, 5, 12)).astype("f4")
    fields = 'type: "Attention" attention_param { num_heads: 2 dropout_ratio: 0.25 }'
    dropping = Built(fields, x, engine=engine)
    (y,) = dropping.forward()
    dropped = dropping.host(dropping.layer.dropped)
    assert 0.2 < np.mean(dropped == 0) < 0.3 and np.allclose(dropped[dropped > 0], 1 / 0.75)
    assert not np.allclose(y, dropping.forward()[0])
    (plain,) = Built('type: "Attention" attention_param { num_heads: 2 }', x, engine=engine).forward()
    (test,) = Built(fields, x, engine=engine, phase=TEST).forward()
    np.testing.assert_array_equal(test, plain)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("axis", [0, 1])
def test_step_by_step_as_all_at_once(axis, engine):
    x = np.random.default_rng(1).standard_normal((7, 3, 12)).astype("f4")
    fields = f'type: "Attention" attention_param {{ num_heads: 2 causal: true axis: {axis} }}'
    (whole,) = Built(fields, turned(x, axis), engine=engine, phase=TEST).forward()
    whole = turned(whole, axis)
    for cuts in ([3, 1, 1, 1, 1], [1] * 7, [7]):
        built = Built(fields, turned(x[: cuts[0]], axis), engine=engine, phase=TEST)
        for _ in range(2):  # the second time from the start again
            built.layer.restart(7)
            at = 0
            for steps in cuts:
                if at == 3:  # another layer goes on
                    state = built.layer.state()
                    built = Built(fields, turned(x[at : at + steps], axis), engine=engine, phase=TEST)
                    built.layer.set_state(state)
                piece = turned(x[at : at + steps], axis)
                built.bottom[0].reshape(piece.shape)
                built.bottom[0].fill(piece)
                (y,) = built.forward()
                assert_close(turned(y, axis), whole[at : at + steps])
                at += steps
    with pytest.raises(ConfigError, match="more than the 7 steps"):
        built.forward()


@pytest.mark.parametrize("engine", ENGINES)
def test_beams_go_on_from_the_chosen_item(engine):
    x = np.random.default_rng(1).standard_normal((2, 3, 6)).astype("f4")
    built = Built('type: "Attention" attention_param { causal: true }', x[:1], engine=engine, phase=TEST)
    built.layer.restart(4)
    built.forward()
    built.layer.choose(built.engine.xp.asarray([2, 2, 0]))
    built.bottom[0].fill(x[1:])
    (y,) = built.forward()
    for item, seen in enumerate([2, 2, 0]):
        both = np.stack([x[0, seen], x[1, item]])[:, None, :]
        (expected,) = Built('type: "Attention" attention_param { causal: true }', both, engine=engine).forward()
        assert_close(y[0, item], expected[1, 0])


WRONG = [
    ([(T, N, 7)], "", ShapeError, '"x" (4, 3, 7) must hold queries, keys and values side by side'),
    ([(T, N)], "", ShapeError, '"x" must be (T, N, C), it is (4, 3)'),
    ([(T, N)], "axis: 1", ShapeError, '"x" must be (N, T, C), it is (4, 3)'),
    ([(T, N, 6)], "axis: 2", ConfigError, "attention_param.axis must be 0 or 1, it is 2"),
    ([(T, N, 6)], "num_heads: 0", ConfigError, "attention_param.num_heads must be at least 1"),
    ([(T, N, 6)], "num_heads: 4", ShapeError, "vectors of 2 values have no 4 heads of one length"),
    (
        [(T, N, 6)],
        "dropout_ratio: 1",
        ConfigError,
        "attention_param.dropout_ratio must lie in 0 .. 1, below 1, it is 1",
    ),
    (
        [(T, N, 6), (S, N, 6), (T, N, 6)],
        "",
        ShapeError,
        "queries (4, 3, 6), keys (5, 3, 6) and values (4, 3, 6) do not fit each other",
    ),
    (
        [(T, N, 6), (2,)],
        "",
        ShapeError,
        '"k" must be lengths (N,) = (3,) or markers (T, N) = (4, 3), it is (2,)',
    ),
]


@pytest.mark.parametrize("shapes, fields, error, message", WRONG)
def test_wrong(shapes, fields, error, message):
    text = f'type: "Attention" bottom: "x" bottom: "k" bottom: "v" attention_param {{ {fields} }}'
    with pytest.raises(error, match=re.escape(message)):
        Built(text, *(np.zeros(shape) for shape in shapes))


@pytest.mark.parametrize(
    "mask, message",
    [
        ([1, 5, 2], 'the length 5 at (1,) of "n" is none: sequences have 0 to 4 steps here'),
        ([1, 2, -1], "the length -1 at (2,)"),
        ([1.5, 2, 3], "the length 1.5 at (0,)"),
        (np.full((T, N), 0.5), 'the marker 0.5 at (0, 0) of "n" is neither 0 nor 1'),
    ],
)
def test_wrong_masks(mask, message):
    built = Built('type: "Attention" bottom: "x" bottom: "n"', np.zeros((T, N, 6)), mask)
    with pytest.raises(DataError, match=re.escape(message)):
        built.forward()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("masked", [False, True])
def test_as_torch(masked, engine):
    """torch.nn.MultiheadAttention: the projections are InnerProducts around the layer, here its own."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    theirs = torch.nn.MultiheadAttention(C, HEADS)
    x = torch.randn(T, N, C, requires_grad=True)
    projected = torch.nn.functional.linear(x, theirs.in_proj_weight, theirs.in_proj_bias)
    projected.retain_grad()
    absent = torch.tensor(np.arange(T) >= np.array([[4], [2], [3]])) if masked else None
    causal = torch.ones(T, T, dtype=torch.bool).triu(1)
    expected, _ = theirs(x, x, x, key_padding_mask=absent, attn_mask=causal)
    given = [projected.detach().numpy(), *([[4, 2, 3]] if masked else [])]
    built = Built(f'type: "Attention" attention_param {{ num_heads: {HEADS} causal: true }}', *given, engine=engine)
    (y,) = built.forward()
    y = torch.tensor(y, requires_grad=True)
    out = theirs.out_proj(y)
    assert_close(out.detach().numpy(), expected.detach().numpy())
    dy = torch.randn(T, N, C)
    out.backward(dy)
    dx, *_ = built.backward(y.grad.numpy(), propagate_down=[True, False][: 1 + masked])
    (through,) = torch.autograd.grad(expected, x, dy)
    assert_close(dx @ theirs.in_proj_weight.detach().numpy(), through.numpy())
