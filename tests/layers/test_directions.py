"""Recurrent layers above each other, in both directions, over padded sequences; and as torch.nn has them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError, DataError, ShapeError
from caffepy.proto.caffe_pb2 import TEST
from tests.support import ENGINES, Built, assert_close

KINDS = ["RNN", "LSTM", "GRU"]
STATES = {"RNN": 1, "LSTM": 2, "GRU": 1}
T, N, INPUTS, D = 5, 3, 4, 2
FILLERS = "weight_filler { type: 'uniform' min: -1 max: 1 } bias_filler { type: 'uniform' min: -1 max: 1 }"


def build(kind, fields, *bottoms, engine="numpy", tops=1, **options):
    names = 'bottom: "x" bottom: "marker"' if len(bottoms) > 1 else 'bottom: "x"'
    text = f'type: "{kind}" {names} recurrent_param {{ num_output: {D} {FILLERS} {fields} }}'
    return Built(text, *bottoms, engine=engine, tops=tops, **options)


def take_over(layer, blobs):
    """Give a layer the parameters of another."""
    for mine, theirs in zip(layer.blobs, blobs, strict=True):
        mine.data[...] = theirs.data
        mine.diff[...] = 0


def make(shape=(T, N, INPUTS), seed=1):
    return np.random.default_rng(seed).standard_normal(shape).astype("f4")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
def test_reverse_is_forward_of_what_is_turned_round(kind, engine):
    x, dy = make(), make((T, N, D), 2)
    reverse, forward = (build(kind, f"direction: {way}", v, engine=engine)
                        for way, v in (("REVERSE", x), ("FORWARD", x[::-1])))  # fmt: skip
    take_over(forward.layer, reverse.layer.blobs)
    np.testing.assert_array_equal(reverse.forward()[0], forward.forward()[0][::-1])
    np.testing.assert_array_equal(reverse.backward(dy)[0], forward.backward(dy[::-1])[0][::-1])
    for mine, theirs in zip(reverse.layer.blobs, forward.layer.blobs):
        assert_close(reverse.host(mine.diff), forward.host(theirs.diff))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("static", [False, True])
def test_layers_and_directions_are_those_of_single_layers(static, kind, engine):
    x, markers = make(), np.random.default_rng(3).choice([0, 1, 1], (T, N))
    more = [make((N, 2), 4)] if static else []
    both = build(kind, "direction: BIDIRECTIONAL num_layers: 2", x, markers, *more, engine=engine)
    (y,) = both.forward()
    dy = make(y.shape, 2)
    found = both.backward(dy, propagate_down=[True, False, True][: 2 + len(more)])
    at, below, singles = 0, x, []
    for given in (more, []):
        ways = []
        for way in ("FORWARD", "REVERSE"):
            single = build(kind, f"direction: {way}", below, markers, *given, engine=engine)
            take_over(single.layer, both.layer.blobs[at : at + len(single.layer.blobs)])
            at += len(single.layer.blobs)
            ways.append(single)
        below = np.concatenate([single.forward()[0] for single in ways], axis=2)
        singles.append(ways)
    assert at == len(both.layer.blobs)
    assert_close(y, below)
    for ways in reversed(singles):
        parts = [
            single.backward(half, propagate_down=[True, False, True][: len(single.bottom)])
            for single, half in zip(ways, (dy[..., :D], dy[..., D:]))
        ]
        dy, *rest = (sum(gradients) for gradients in zip(*parts))
    for mine, theirs in zip([found[0], *found[2:]], [dy, *rest[1:]]):
        assert_close(mine, theirs)
    ours = [both.host(blob.diff) for blob in both.layer.blobs]
    theirs = [s.host(blob.diff) for ways in singles for s in ways for blob in s.layer.blobs]
    for mine, expected in zip(ours, theirs, strict=True):
        assert_close(mine, expected)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("padding", ["RIGHT", "LEFT"])
@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind, padding, engine):
    """Each sequence of a padded batch as if it were alone: outputs, final states, gradients of all."""
    x, lengths, ends = make(), [3, 0, 5], [make((2, N, D), 5 + i) for i in range(STATES[kind])]
    initial, fields = [make((2, N, D), 8 + i) for i in range(STATES[kind])], f"padding: {padding} "
    fields += "direction: BIDIRECTIONAL expose_hidden: true state_gradient: true"
    tops = 1 + len(initial)
    batch = build(kind, fields, x, lengths, *initial, engine=engine, tops=tops)
    y, *final = batch.forward()
    dy = make(y.shape, 2)
    dx, _, *dinitial = batch.backward(dy, *ends, propagate_down=[True, False] + [True] * len(initial))
    total = [0] * len(batch.layer.blobs)
    for n, length in enumerate(lengths):
        steps = slice(0, length) if padding == "RIGHT" else slice(T - length, T)
        pads = np.ones(T, bool)
        pads[steps] = False
        assert not y[pads, n].any() and not dx[pads, n].any()
        if not length:
            for end, start in zip(final, initial):
                np.testing.assert_array_equal(end[:, n], start[:, n])
            continue
        of_n = [a[:, n : n + 1] for a in initial]
        alone = build(kind, fields, x[steps, n : n + 1], *of_n, engine=engine, tops=tops)
        take_over(alone.layer, batch.layer.blobs)
        first, *last = alone.forward()
        assert_close(y[steps, n : n + 1], first)
        for end, expected in zip(final, last):
            assert_close(end[:, n : n + 1], expected)
        found, *dstart = alone.backward(dy[steps, n : n + 1], *(e[:, n : n + 1] for e in ends))
        assert_close(dx[steps, n : n + 1], found)
        for mine, expected in zip(dinitial, dstart):
            assert_close(mine[:, n : n + 1], expected)
        total = [t + alone.host(blob.diff) for t, blob in zip(total, alone.layer.blobs)]
    for blob, expected in zip(batch.layer.blobs, total):
        assert_close(batch.host(blob.diff), expected)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
def test_markers_part_sequences_in_both_directions(kind, engine):
    x, markers = make(), np.ones((T, N))
    markers[0] = markers[2] = 0
    joined = build(kind, "direction: BIDIRECTIONAL", x, markers, engine=engine)
    (y,) = joined.forward()
    for steps in (slice(0, 2), slice(2, T)):
        alone = build(kind, "direction: BIDIRECTIONAL", x[steps], engine=engine)
        take_over(alone.layer, joined.layer.blobs)
        assert_close(y[steps], alone.forward()[0])


@pytest.mark.parametrize("engine", ENGINES)
def test_many_items_go_in_parts(engine):
    x = make((3, 70, INPUTS))
    for kind in KINDS:
        many = build(kind, "", x, engine=engine)
        few = build(kind, "", x[:, 33:37], engine=engine)
        take_over(few.layer, many.layer.blobs)
        assert_close(many.forward()[0][:, 33:37], few.forward()[0])
        dy = make((3, 70, D), 2)
        assert_close(many.backward(dy)[0][:, 33:37], few.backward(dy[:, 33:37])[0])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
def test_states_go_on_where_asked(kind, engine):
    x, ones = make(), np.ones((T, N))
    start = ones.copy()
    start[0] = 0
    for bottoms, fields, goes_on in (
        ([x], "", False),
        ([x], "stateful: true", True),
        ([x, ones], "", True),
        ([x, start], "", False),
        ([x, ones], "stateful: false", False),
        ([x, [T] * N], "", False),
        ([x, [T] * N], "stateful: true", True),
        ([x], "stateful: true direction: REVERSE", False),
    ):
        built = build(kind, fields, *bottoms, engine=engine)
        (first,), (second,) = built.forward(), built.forward()
        assert np.array_equal(first, second) != goes_on, fields


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
def test_step_by_step_as_all_at_once(kind, engine):
    x = make()
    whole = build(kind, "num_layers: 2", x, engine=engine, phase=TEST)
    (expected,) = whole.forward()
    steps = build(kind, "num_layers: 2", x[:1], engine=engine, phase=TEST)
    take_over(steps.layer, whole.layer.blobs)
    for chosen in ([0, 1, 2], [2, 0, 0]):
        steps.layer.restart(T)
        for t in range(T):
            steps.bottom[0].fill(x[t : t + 1, chosen] if t > 1 else x[t : t + 1])
            if t == 2:
                steps.layer.choose(steps.engine.xp.asarray(chosen))
            (y,) = steps.forward()
        assert_close(y[0], expected[-1, chosen])


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_between_layers(kind):
    x = make((40, 30, INPUTS))
    built = build(kind, "num_layers: 2 dropout: 0.25", x)
    (y,) = built.forward()
    (mask,) = (built.host(m) for m in built.layer.dropped)
    assert 0.2 < np.mean(mask == 0) < 0.3
    lower = build(kind, "", x)
    take_over(lower.layer, built.layer.blobs[: len(lower.layer.blobs)])
    upper = build(kind, "", lower.forward()[0] * mask / 0.75)
    take_over(upper.layer, built.layer.blobs[len(lower.layer.blobs) :])
    assert_close(y, upper.forward()[0])
    plain, test = build(kind, "num_layers: 2", x), build(kind, "num_layers: 2 dropout: 0.25", x, phase=TEST)
    take_over(test.layer, plain.layer.blobs)
    np.testing.assert_array_equal(test.forward()[0], plain.forward()[0])


def test_forget_bias():
    plain, biased = (build("LSTM", f"forget_bias: {b}", make()) for b in (0, 1.5))
    bias = biased.host(biased.layer.blobs[1].data)
    assert bias[D : 2 * D].min() > 0.5 and abs(np.delete(bias, [D, D + 1])).max() <= 1
    assert abs(plain.host(plain.layer.blobs[1].data)).max() <= 1


WRONG = [
    ("num_layers: 0", [(T, N, 2)], ConfigError, "recurrent_param.num_layers must be at least 1"),
    ("dropout: 1", [(T, N, 2)], ConfigError, "recurrent_param.dropout must lie in 0 .. 1, below 1, it is 1"),
    (
        "num_layers: 2 expose_hidden: true",
        [(T, N, 2), (1, N, D)],
        ShapeError,
        'the initial h "marker" must be (layers times directions, N, num_output) = (2, 3, 2), it is (1, 3, 2)',
    ),
]


@pytest.mark.parametrize("fields, shapes, error, message", WRONG)
def test_wrong(fields, shapes, error, message):
    with pytest.raises(error, match=re.escape(message)):
        build("GRU", fields, *map(np.zeros, shapes), tops=len(shapes))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "given, message",
    [
        ([1, 6, 2], 'the length 6 at (1,) of "marker" is none: sequences have 0 to 5 steps here'),
        ([1, 2, -1], "the length -1 at (2,)"),
        (np.full((T, N), 0.5), 'the marker 0.5 at (0, 0) of "marker" is neither 0 nor 1'),
    ],
)
def test_wrong_values(given, message, kind):
    with pytest.raises(DataError, match=re.escape(message)):
        build(kind, "", make(), given).forward()


def of_torch(kind, theirs, blobs, engine):
    """Copy torch.nn's parameters: one bias where the layer has one, b_ih + b_hh; our gates are i, f, o, g."""
    order = [0, 1, 3, 2] if kind == "LSTM" else range(3) if kind == "GRU" else [0]

    def ours(values):
        parts = np.split(values.detach().numpy(), len(order))
        return np.concatenate([parts[i] for i in order])

    blobs = iter(blobs)
    for layer in range(theirs.num_layers):
        for way in ("", "_reverse")[: 1 + theirs.bidirectional]:
            w_i, w_h, b_i, b_h = (ours(getattr(theirs, f"{name}_l{layer}{way}"))
                                  for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))  # fmt: skip
            for values in (w_i, b_i, w_h, b_h) if kind == "GRU" else (w_i, b_i + b_h, w_h):
                next(blobs).data[...] = engine.asarray(values)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_as_torch(kind, layers, directions, padded, engine):
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    theirs = getattr(torch.nn, kind)(INPUTS, D, layers, bidirectional=directions == 2)
    x = torch.randn(T, N, INPUTS, requires_grad=True)
    start = [torch.randn(layers * directions, N, D, requires_grad=True) for _ in range(STATES[kind])]
    given = tuple(start) if kind == "LSTM" else start[0]
    lengths = [4, 1, 5]
    if padded:
        rnn = torch.nn.utils.rnn
        packed, end = theirs(rnn.pack_padded_sequence(x, lengths, enforce_sorted=False), given)
        y = rnn.pad_packed_sequence(packed)[0]
    else:
        y, end = theirs(x, given)
    ends = list(end) if kind == "LSTM" else [end]
    dy, dends = torch.randn(y.shape), [torch.randn(e.shape) for e in ends]
    expected = torch.autograd.grad([y, *ends], [x, *start, *theirs.parameters()], [dy, *dends])
    own = "hidden_top: true" if kind == "RNN" else ""
    fields = f"num_layers: {layers} expose_hidden: true state_gradient: true {own} direction: "
    fields += "BIDIRECTIONAL" if directions == 2 else "FORWARD"
    bottoms = [x.detach().numpy(), *([lengths] if padded else []), *(s.detach().numpy() for s in start)]
    built = build(kind, fields, *bottoms, engine=engine, tops=1 + len(start))
    of_torch(kind, theirs, built.layer.blobs, built.engine)
    for ours, found in zip(built.forward(), [y, *ends], strict=True):
        assert_close(ours, found.detach().numpy())
    wanted = [True, *([False] if padded else []), *([True] * len(start))]
    found = built.backward(dy.numpy(), *(d.numpy() for d in dends), propagate_down=wanted)
    for ours, gradient in zip([f for f, w in zip(found, wanted) if w], expected):
        assert_close(ours, gradient.numpy())
    other = build(kind, fields, *bottoms, engine=engine, tops=1 + len(start))
    names = [name for name, _ in theirs.named_parameters()]
    for name, gradient in zip(names, expected[1 + len(start) :]):
        theirs.get_parameter(name).data = gradient
    of_torch(kind, theirs, other.layer.blobs, other.engine)
    for mine, gradients in zip(built.layer.blobs, other.layer.blobs):
        # b_ih + b_hh stands for one bias here: each has its gradient
        halves = 2 if kind != "GRU" and len(mine.shape) == 1 else 1
        assert_close(built.host(mine.diff), other.host(gradients.data) / halves)
