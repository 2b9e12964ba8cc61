"""The NumPy engine: map, products and convolution against plain loops, whole and cut into the smallest tiles."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import pytest

from caffepy.engine.numpy import engine as engine_module
from caffepy.engine.numpy import tiles, winograd
from caffepy.engine.numpy.engine import NumpyEngine
from caffepy.engine.window import Window
from tests.support import assert_close

SHAPES = [(), (1,), (5,), (3, 4), (2, 3, 4, 5), (0, 3, 2, 2), (70_000,), (9, 4, 60, 61)]


@pytest.fixture(scope="module", params=[1, 3])
def engine(request):
    return NumpyEngine(request.param)


def random(shape, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("f4")


def channels_last(x: np.ndarray) -> np.ndarray:
    """The same values, N,H,W,C in memory."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1)).transpose(0, -1, *range(1, x.ndim - 1)) if x.ndim > 2 else x


LAYOUTS = {"c order": np.ascontiguousarray, "channels last": channels_last}


# map


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layouts", list(product(LAYOUTS, repeat=3)), ids="-".join)
def test_map(engine, shape, layouts):
    a, b, out = (LAYOUTS[name](random(shape, i)) for i, name in enumerate(layouts))
    a, b, out = (np.reshape(array, shape) if not shape else array for array in (a, b, out))
    engine.map(lambda xp, a, b, k: xp.maximum(a, b) * k, a, b, 2, out=out)
    np.testing.assert_array_equal(out, np.maximum(a, b) * 2)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("small", [(1, 4, 1, 1), (61,), (4, 60, 61), (1, 1, 1, 1), ()])
def test_map_passes_other_shapes_whole(engine, small, layout):
    x, scale = LAYOUTS[layout](random((9, 4, 60, 61))), random(small, 1)
    out = np.empty_like(x)
    engine.map(lambda xp, x, scale: x * scale, x, scale, out=out)
    np.testing.assert_array_equal(out, x * scale)


def test_map_in_place_and_to_several_outputs(engine):
    x, y = random((9, 4, 60, 61)), random((9, 4, 60, 61), 1)
    total, difference = x + y, x - y
    engine.map(lambda xp, x, y: (x + y, x - y), x, y, out=(x, y))
    np.testing.assert_array_equal(x, total)
    np.testing.assert_array_equal(y, difference)


def test_map_into_a_part_of_an_array(engine):
    x, out = random((6, 50, 40, 30)), np.zeros((6, 100, 40, 30), "f4")
    engine.map(lambda xp, x: -x, x, out=out[:, 50:])
    np.testing.assert_array_equal(out[:, 50:], -x)
    assert not out[:, :50].any()


# gemm


@pytest.mark.parametrize(
    ("m", "n", "k"), [(1, 1, 1), (2, 3, 4), (300, 200, 50), (7, 900, 300), (900, 7, 300), (3, 4, 0)]
)
@pytest.mark.parametrize("turned", list(product([False, True], repeat=3)))
@pytest.mark.parametrize("accumulate", [False, True])
def test_gemm(engine, m, n, k, turned, accumulate):
    shapes = (m, k), (k, n), (m, n)
    a, b, out = (random(s[::-1], i).T if t else random(s, i) for i, (s, t) in enumerate(zip(shapes, turned)))
    expected = a.astype("f8") @ b.astype("f8") + (out if accumulate else 0)
    engine.gemm(a, b, out, accumulate)
    assert_close(out, expected)


def test_gemm_in_several_parts_is_exact_in_its_order(monkeypatch):
    monkeypatch.setattr(engine_module, "GEMM_SHARE", 1)
    a, b = random((31, 17)), random((17, 23), 1)
    first, second = (np.ones((31, 23), "f4") for _ in range(2))
    for out in (first, second):
        NumpyEngine(4).gemm(a, b, out, accumulate=True)
    np.testing.assert_array_equal(first, second)
    assert_close(first, a.astype("f8") @ b.astype("f8") + 1)


# Convolution


class Naive:
    """y (N, O, *out) and, of sum(dy * y), the gradients of x and w: one output at a time, in float64."""

    def __init__(self, x, w, dy, window: Window, group: int):
        size, channels, outputs = x.shape[2:], x.shape[1] // group, len(w) // group
        border = [(0, 0), (0, 0), *((p, p) for p in window.pad)]
        padded = np.pad(x.astype("f8"), border)
        dx = np.zeros_like(padded)
        self.y, self.dw = np.zeros(dy.shape), np.zeros(w.shape)
        for n, o, *at in np.ndindex(*dy.shape):
            first = o // outputs * channels
            starts = [i * s for i, s in zip(at, window.stride)]
            seen = (n, slice(first, first + channels))
            seen += tuple(slice(i, i + e, d) for i, e, d in zip(starts, window.extent, window.dilation))
            self.y[(n, o, *at)] = (padded[seen] * w[o]).sum()
            self.dw[o] += padded[seen] * dy[(n, o, *at)]
            dx[seen] += w[o] * dy[(n, o, *at)]
        self.dx = dx[(..., *(slice(p, p + n) for p, n in zip(window.pad, size)))]


CONVOLUTIONS = {
    # name: (N, C, *size), (O, kernel), stride, pad, dilation, group
    "plain": ((3, 4, 7, 6), (5, 3, 2), (1, 1), (0, 0), (1, 1), 1),
    "padded": ((3, 4, 7, 6), (5, 3, 3), (1, 1), (1, 2), (1, 1), 1),
    "one channel": ((3, 1, 7, 6), (5, 3, 3), (1, 1), (0, 0), (1, 1), 1),
    "one channel, padded, stride": ((2, 1, 9, 8), (3, 3, 3), (2, 2), (1, 1), (1, 1), 1),
    "strides": ((2, 3, 9, 10), (4, 3, 2), (2, 3), (1, 0), (1, 1), 1),
    "stride beyond the kernel": ((2, 3, 9, 10), (4, 1, 2), (3, 3), (0, 1), (1, 1), 1),
    "dilation": ((2, 3, 9, 10), (4, 3, 3), (1, 1), (2, 1), (2, 3), 1),
    "dilation and stride": ((2, 3, 11, 10), (4, 3, 3), (2, 2), (2, 1), (2, 2), 1),
    "groups": ((2, 6, 6, 7), (4, 3, 3), (1, 1), (1, 1), (1, 1), 2),
    "groups and stride": ((2, 6, 6, 7), (6, 3, 3), (2, 1), (1, 0), (1, 1), 3),
    "depthwise": ((2, 4, 6, 7), (4, 3, 3), (1, 1), (1, 1), (1, 1), 4),
    "1x1": ((2, 5, 6, 7), (4, 1, 1), (1, 1), (0, 0), (1, 1), 1),
    "1x1, groups, stride": ((2, 6, 6, 7), (4, 1, 1), (2, 2), (0, 0), (1, 1), 2),
    "much padding": ((2, 2, 3, 3), (3, 2, 2), (1, 1), (4, 3), (1, 1), 1),
    "many channels": ((1, 64, 8, 9), (3, 3, 3), (2, 1), (1, 1), (1, 1), 1),
    "one axis": ((3, 4, 17), (5, 4), (3,), (2,), (1,), 1),
    "three axes": ((2, 3, 4, 5, 3), (2, 2, 3, 2), (1, 2, 1), (1, 1, 0), (1, 1, 1), 1),
    "no images": ((0, 3, 6, 6), (4, 3, 3), (1, 1), (1, 1), (1, 1), 1),
}  # fmt: skip
TILES = {"whole": tiles.TILE_BYTES, "rows": 2000, "single rows": 1}


class Case:
    def __init__(self, name: str):
        shape, (outputs, *kernel), stride, pad, dilation, self.group = CONVOLUTIONS[name]
        self.window = Window(tuple(kernel), stride, pad, dilation)
        self.x = channels_last(random(shape))
        self.w = random((outputs, shape[1] // self.group, *kernel), 1)
        self.dy = channels_last(random((shape[0], outputs, *self.window.conv_shape(shape[2:])), 2))
        self.naive = Naive(self.x, self.w, self.dy, self.window, self.group)

    def plan(self, engine):
        return engine.conv_plan(self.x.shape, self.w.shape, self.window, self.group)


case_of = cache(Case)


@pytest.fixture(params=TILES)
def tiled(request, monkeypatch):
    monkeypatch.setattr(tiles, "TILE_BYTES", TILES[request.param])
    monkeypatch.setattr(tiles, "TIMES_WEIGHTS", 0)


@pytest.fixture(params=["chosen", "filtered", "plain"])
def method(request, monkeypatch):
    """As the engine chooses, Winograd's filtering wherever it can be, nowhere."""
    if request.param != "chosen":
        monkeypatch.setattr(winograd, "SAVING", 0 if request.param == "filtered" else np.inf)
        monkeypatch.setattr(winograd, "DEPTH", 0)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_conv(engine, tiled, method, name):
    case = case_of(name)
    bias = random(len(case.w), 3)
    for given, added in ((None, 0), (bias, bias.reshape(-1, *[1] * (case.x.ndim - 2)))):
        y = np.full_like(case.dy, np.nan)
        engine.conv(case.x, case.w, given, y, case.plan(engine))
        assert_close(y, case.naive.y + added)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_conv_grad_data(engine, tiled, method, name):
    case = case_of(name)
    bias = random(case.x.shape[1], 3)  # of a deconvolution
    for given, added in ((None, 0), (bias, bias.reshape(-1, *[1] * (case.x.ndim - 2)))):
        dx = np.full_like(case.x, np.nan)
        engine.conv_grad_data(case.dy, case.w, dx, case.plan(engine), given)
        assert_close(dx, case.naive.dx + added)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_conv_grad_weights_are_added(engine, tiled, method, name):
    case = case_of(name)
    dw, db = np.ones_like(case.w), np.ones(len(case.w), np.float32)
    plan = case.plan(engine)
    engine.conv_grad_weights(case.x, case.dy, dw, plan, db)
    assert_close(dw, case.naive.dw + 1)
    assert_close(db, case.dy.sum(axis=(0, *range(2, case.dy.ndim))) + 1)
    again = np.ones_like(case.w)
    engine.conv_grad_weights(case.x, case.dy, again, plan)
    np.testing.assert_array_equal(dw, again)  # the same bits every time


@pytest.mark.parametrize("tile_bytes", [1, 100, 2000, 1 << 20])
@pytest.mark.parametrize(("n", "rows", "row_bytes"), [(3, 7, 220), (1, 1, 4), (8, 4, 8), (5, 1, 12), (0, 2, 16)])
def test_tiles_cover_everything_once(monkeypatch, tile_bytes, n, rows, row_bytes):
    monkeypatch.setattr(tiles, "TILE_BYTES", tile_bytes)
    covered = np.zeros((n, rows), int)
    for tile in tiles.tiles(n, rows, row_bytes, 0, 2):
        covered[tile.images, tile.rows] += 1
    assert (covered == 1).all()


@pytest.mark.parametrize("stride", [1, 2])
def test_pooling_takes_any_memory_order(stride):
    engine, window = NumpyEngine(1), Window((2, 2), (stride, stride), (0, 0), (1, 1))
    x = random((2, 3, 6, 6))
    y = random((2, 3, *window.conv_shape((6, 6))))
    plan = engine.pool_plan(x.shape, y.shape, window)
    choice = engine.pool_choice(plan)
    engine.max_pool(x, y, choice, plan)
    results = [x.copy(), channels_last(x)]
    for dx in results:
        engine.max_pool_grad(np.ones_like(y), choice, dx, plan)
    np.testing.assert_array_equal(*results)
    assert results[0].sum() == y.size


def test_add_at():
    target = np.zeros(6, np.float32)
    NumpyEngine(2).add_at(target[::2], np.array([2, 0, 2]), np.array([1, 2, 3], np.float32))
    assert target.tolist() == [2, 0, 0, 0, 4, 0]


def test_an_engine_among_others_is_whole_when_it_is_seen():
    """Parts ask for theirs on threads of their own."""
    engine = NumpyEngine(threads=2)
    seen = []

    class Watched(dict):
        def __setitem__(self, key, value):
            seen.append(value.pool.threads)
            super().__setitem__(key, value)

        def setdefault(self, key, value):
            seen.append(value.pool.threads)
            return super().setdefault(key, value)

    engine._among = Watched()
    assert engine.among(0, 2) is engine.among(1, 2)
    assert seen == [1]
