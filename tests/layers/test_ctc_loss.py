"""CTCLoss against the sum over all paths, and torch.nn.CTCLoss."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest

from caffepy.errors import ConfigError, DataError, ShapeError
from tests.support import ENGINES, Built, assert_close

T, N, C = 5, 3, 3


def spelled(path, blank):
    """Repetitions joined, blanks left out."""
    return [k for k, _ in itertools.groupby(path) if k != blank]


def by_paths(x, labels, blank):
    """-log of the probability of the labels, the sum over all C^T paths: x (T, C)."""
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    paths = itertools.product(range(x.shape[1]), repeat=len(x))
    total = sum(
        math.prod(p[t, k] for t, k in enumerate(path)) for path in paths if spelled(path, blank) == list(labels)
    )
    return -math.log(total)


def scores(shape=(T, N, C), seed=1):
    return np.random.default_rng(seed).standard_normal(shape).astype("f4")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("kind", ["CTCLoss", "WarpCtcLoss"])
def test_sum_over_all_paths(kind, blank, engine):
    x = scores()
    one, other = (k for k in range(C) if k != blank)
    labels = [[one, other, one], [other, other, -1], [blank, -1, -1]]
    lengths = [5, 4, 3]
    fields = f'type: "{kind}" ctc_loss_param {{ blank_label: {blank} alphabet_size: {C} }}'
    expected = [
        by_paths(x[:length, n].astype(float), [k for k in row if k not in (blank, -1)], blank)
        for n, (row, length) in enumerate(zip(labels, lengths))
    ]
    (loss,) = Built(fields, x, labels, lengths, engine=engine).forward()
    assert loss == pytest.approx(np.mean(expected), rel=1e-5)
    (loss,) = Built(fields + " loss_param { normalization: NONE }", x, labels, lengths, engine=engine).forward()
    assert loss == pytest.approx(np.sum(expected), rel=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_time_step_is_all_lengths(engine):
    x, labels = scores(), [[1, 2], [2, 0], [1, 1]]
    first = Built('type: "CTCLoss" ctc_loss_param { time_step: 4 }', x, labels, engine=engine)
    second = Built('type: "CTCLoss"', x, labels, [4] * N, engine=engine)
    assert first.forward() == second.forward()
    dx = first.backward(np.float32(1), propagate_down=[True, False])[0]
    np.testing.assert_array_equal(dx, second.backward(np.float32(1), propagate_down=[True, False, False])[0])
    assert dx[:4].all() and not dx[4].any()


@pytest.mark.parametrize("engine", ENGINES)
def test_what_cannot_be_spelled(engine):
    x, labels, lengths = scores(), [[1, 1, 2], [1, 2, 0], [0, 0, 0]], [3, 5, 0]
    with pytest.raises(DataError, match=re.escape('the labels of item 0 of "y" need 4 steps, it has 3')):
        Built('type: "CTCLoss" bottom: "x" bottom: "y"', x, labels, lengths, engine=engine).forward()
    built = Built('type: "CTCLoss" ctc_loss_param { zero_infinity: true }', x, labels, lengths, engine=engine)
    (loss,) = built.forward()
    assert loss == pytest.approx(by_paths(x[:, 1].astype(float), [1, 2], 0) / N, rel=1e-5)
    dx = built.backward(np.float32(1), propagate_down=[True, False, False])[0]
    assert dx[:, 1].all() and not dx[:, ::2].any()


@pytest.mark.parametrize("engine", ENGINES)
def test_long_and_sure(engine):
    """A hundred steps of extreme scores: nothing overflows, and a sure path costs nothing."""
    labels = np.tile([1, 2], 25)
    x = np.full((100, 1, C), -500, "f4")
    for t in range(100):
        x[t, 0, labels[t // 2] if t % 2 else 0] = 500
    built = Built('type: "CTCLoss"', x, labels[None], engine=engine)
    (loss,) = built.forward()
    assert loss == pytest.approx(0, abs=1e-3)
    assert np.abs(built.backward(np.float32(1), propagate_down=[True, False])[0]).max() < 1e-3


WRONG = [
    ([(T, N), (N, 2)], "", ShapeError, 'the scores "x" must be (T, N, C), they are (5, 3)'),
    (
        [(T, N, C), (4, 2)],
        "",
        ShapeError,
        'the labels "y" must be (N, L) with N = 3 as in "x" (5, 3, 3), they are (4, 2)',
    ),
    ([(T, N, C), (N, 2)], "alphabet_size: 4", ConfigError, 'alphabet_size is 4, "x" (5, 3, 3) has 3 classes'),
    ([(T, N, C), (N, 2)], "time_step: 6", ConfigError, 'time_step is 6, "x" has 5 steps'),
    ([(T, N, C), (N, 2)], "blank_label: 3", ConfigError, "blank_label 3 is none of the 3 classes"),
    ([(T, N, C), (N, 2), (2,)], "", ShapeError, 'the lengths "n" must be (N,) = (3,), are (2,)'),
]


@pytest.mark.parametrize("shapes, fields, error, message", WRONG)
def test_wrong(shapes, fields, error, message):
    with pytest.raises(error, match=re.escape(message)):
        Built(
            f'type: "CTCLoss" bottom: "x" bottom: "y" bottom: "n" ctc_loss_param {{ {fields} }}',
            *map(np.zeros, shapes),
        )


@pytest.mark.parametrize(
    "labels, lengths, message",
    [
        ([[1, 3], [1, 2], [1, 2]], [5] * N, 'label 3 at (0, 1) of "y" is outside 0 .. 2'),
        ([[1, 2]] * N, [5, 6, 5], 'the length 6 at (1,) of "n" is none: sequences have 0 to 5 steps here'),
    ],
)
def test_wrong_values(labels, lengths, message):
    built = Built('type: "CTCLoss" bottom: "x" bottom: "y" bottom: "n"', scores(), labels, lengths)
    with pytest.raises(DataError, match=re.escape(message)):
        built.forward()


@pytest.mark.parametrize("engine", ENGINES)
def test_as_torch(engine):
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(2)
    x = torch.tensor(random.standard_normal((30, 4, 7)).astype("f4").astype(float), requires_grad=True)
    labels, lengths, of_labels = random.integers(1, 7, (4, 8)), [30, 20, 25, 18], [8, 5, 0, 7]
    for n, length in enumerate(of_labels):
        labels[n, length:] = 0
    expected = torch.nn.CTCLoss(reduction="sum")(
        torch.log_softmax(x, 2), torch.tensor(labels), torch.tensor(lengths), torch.tensor(of_labels)
    )
    expected.backward()
    fields = 'type: "CTCLoss" loss_param { normalization: NONE }'
    built = Built(fields, x.detach().numpy(), labels, lengths, engine=engine)
    (loss,) = built.forward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert_close(built.backward(np.float32(1), propagate_down=[True, False, False])[0], x.grad.numpy())
