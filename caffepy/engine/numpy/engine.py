"""The NumPy engine: arrays in memory, threads over cache-sized tiles, and the kernels numpy itself lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from math import prod
from typing import Any

import numpy as np

from caffepy import rng
from caffepy.engine.after import NOTHING, After
from caffepy.engine.base import Engine
from caffepy.engine.numpy import lrn, pool, recurrent
from caffepy.engine.numpy.blas import one_thread
from caffepy.engine.numpy.conv import ConvPlan
from caffepy.engine.numpy.lowering import sum_of_rows
from caffepy.engine.numpy.pool import PoolPlan
from caffepy.engine.numpy.shapes import Shapes
from caffepy.engine.numpy.tail import NONE
from caffepy.engine.numpy.tiles import cut
from caffepy.engine.threads import ThreadPool, available_cores
from caffepy.engine.window import Ints, Window

Array = np.ndarray

# Elements a tile of an elementwise function. Smaller tiles would stay in the second-level cache, but a numpy call of
# less than some 30 microseconds costs two threads more in waits for the interpreter lock than it saves.
MAP_TILE = 1 << 17
# Elements of the largest array a tile of pooling.
IMAGE_TILE = 1 << 19
# Below this many elements pooling is not worth a second thread: waking each other costs two of them 100 to 150
# microseconds.
POOL_MINIMUM = 1 << 17
# What is summed, products among it, is cut into so many shares at most, whatever the number of threads: so are the
# same numbers added in the same order. A product's shares have at least so many multiply-adds.
SHARES, GEMM_SHARE = 4, 1 << 22


class NumpyEngine(Engine):
    """Arrays are numpy.ndarray, in memory; `threads` share the work, by default all cores."""

    name = "numpy"
    xp: Any = np
    divides = True

    def __init__(self, threads: int | None = None):
        self.pool = ThreadPool(threads or available_cores())
        self._shares = SHARES
        self._among: dict[tuple[int, int], NumpyEngine] = {}

    def among(self, number: int, count: int) -> NumpyEngine:
        threads = self.pool.threads // count
        # Threads on their own may share a pool: its memory is each thread's.
        key = (number if threads > 1 else 0, count)
        engine = self._among.get(key)
        if engine is None:
            engine = copy(self)
            engine.pool, engine._shares, engine._among = ThreadPool(max(1, threads)), self._shares // count or 1, {}
            engine = self._among.setdefault(key, engine)  # whole, for parts ask on threads of their own
        return engine

    def run(self, task: Callable[[int], None], n: int) -> None:
        self.pool.run(task, n)

    def run_in_step(self, steps: Sequence[Callable[[int], None]], n: int, between: Callable[[int], None]) -> None:
        self.pool.in_step(steps, n, between)

    @contextmanager
    def computing(self) -> Iterator[None]:
        # What is infinite or no number is found where a loss is looked at: numpy's warnings would only come before.
        with one_thread, np.errstate(all="ignore"):
            yield

    def wait(self) -> None:
        pass

    # Memory

    def zeros(self, count: int) -> Array:
        return np.zeros(count, np.float32)

    def asarray(self, host: Any) -> Array:
        return np.asarray(host, np.float32)

    def to_host(self, array: Array) -> np.ndarray:
        return array

    def copy(self, array: Array) -> Array:
        return array.copy()

    def same_memory(self, a: Array, b: Array) -> bool:
        return np.may_share_memory(a, b)

    # Elementwise work and products

    def map(self, fn: Callable, *args: Any, out: Array | tuple[Array, ...]) -> None:
        outs = out if isinstance(out, tuple) else (out,)

        def computed(given: Sequence[Any], targets: Sequence[Array]) -> None:
            with np.errstate(all="ignore"):  # log(0) is -inf in silence, as in Caffe
                result = fn(np, *given)
            for target, value in zip(targets, result if isinstance(out, tuple) else (result,)):
                target[...] = value

        if outs[0].size <= MAP_TILE:
            computed(args, outs)
            return
        goes_along, arrays = _cut_together(args, outs)

        def task(*tiles: Array) -> None:
            given = iter(tiles)
            computed([next(given) if along else a for a, along in zip(args, goes_along)], tiles[-len(outs) :])

        self._over(task, arrays, -(-outs[0].size // MAP_TILE))

    def relu(self, x: Array, y: Array) -> None:
        # clip takes less than half the time of numpy's maximum of an array and a number.
        self._over(lambda x, y: np.clip(x, 0, np.inf, out=y), _flat([x, y]), -(-x.size // MAP_TILE))

    def relu_grad(self, dy: Array, x: Array, dx: Array) -> None:
        arrays = _flat([dy, x, dx])
        self._over(lambda dy, x, dx: np.multiply(dy, x > 0, out=dx), arrays, -(-x.size // MAP_TILE))

    def gemm(self, a: Array, b: Array, out: Array, accumulate: bool = False) -> None:
        (m, k), n = a.shape, b.shape[1]
        parts = min(self._shares, max(1, m * n * k // GEMM_SHARE))
        if accumulate:  # the product before it is added is a temporary: keep it in cache
            parts = max(parts, -(-m * n // (1 << 18)))
        if parts == 1:
            with one_thread:
                self._product(a, b, out, accumulate)
        elif m >= n:
            self._over(lambda left, target: self._product(left, b, target, accumulate), (a, out), parts)
        else:
            self._over(lambda right, target: self._product(a, right.T, target.T, accumulate), (b.T, out.T), parts)

    def _product(self, a: Array, b: Array, out: Array, accumulate: bool) -> None:
        if accumulate:
            out += np.matmul(a, b, out=self.pool.scratch("gemm", out.shape))
        else:
            np.matmul(a, b, out=out)

    def add_sum_over_channels(self, x: Array, out: Array, times: Array | None = None) -> None:
        rows = _rows(x)
        with one_thread:
            if times is None:  # memory limits a plain sum: a second thread would gain nothing
                out += sum_of_rows(rows)
            else:
                other = _last(times).reshape(rows.shape)
                out += self._sum_by_tile(rows, lambda at: rows[at] * other[at])

    def channel_moments(self, x: Array) -> tuple[Array, Array]:
        rows = _rows(x)
        if not len(rows):
            return np.zeros(x.shape[1], np.float32), np.zeros(x.shape[1], np.float32)
        with one_thread:
            mean = sum_of_rows(rows) / np.float32(len(rows))
            variance = self._sum_by_tile(rows, lambda at: np.square(rows[at] - mean)) / np.float32(len(rows))
        return mean, variance

    # Convolution

    def conv_plan(self, x: Ints, w: Ints, window: Window, group: int = 1) -> ConvPlan:
        return ConvPlan(Shapes.of(x, w, window, group, self._shares))

    def conv(self, x: Array, w: Array, bias: Array | None, y: Array, plan: ConvPlan, after: After = NOTHING) -> None:
        w, bias, tail = plan.followed(w, bias, y, after) if after is not NOTHING else (w, bias, NONE)
        with one_thread:
            plan.products.forward(_last(x), _last(w), bias, _last(y), self.pool, tail)

    def conv_grad_weights(self, x: Array, dy: Array, dw: Array, plan: ConvPlan, db: Array | None = None) -> None:
        with one_thread:
            plan.products.grad_weights(_last(x), _last(dy), _last(dw), db, self.pool)

    def conv_grad_data(self, dy: Array, w: Array, dx: Array, plan: ConvPlan, bias: Array | None = None) -> None:
        with one_thread:
            plan.back.grad_data(_last(dy), _last(w), bias, _last(dx), self.pool)

    # Pooling

    def pool_plan(self, x: Ints, y: Ints, window: Window) -> PoolPlan:
        return PoolPlan(x, y, window)

    def pool_choice(self, plan: PoolPlan) -> Array:
        """1 + the kernel position, 0 for none."""
        n, c, h, w = plan.shape
        return np.zeros((n, h, w, c), np.uint8 if prod(plan.window.kernel) < 256 else np.int32).transpose(0, 3, 1, 2)

    def max_pool(self, x: Array, y: Array, choice: Array, plan: PoolPlan) -> None:
        self._by_image(pool.max_pool, x, y, choice, plan=plan)

    def max_pool_grad(self, dy: Array, choice: Array, dx: Array, plan: PoolPlan) -> None:
        self._by_image(pool.max_pool_grad, dy, choice, dx, plan=plan)

    def max_pool_mask(self, choice: Array, plan: PoolPlan) -> Array:
        return np.moveaxis(pool.mask(_last(choice), plan), -1, 1)

    def ave_pool(self, x: Array, y: Array, plan: PoolPlan) -> None:
        self._by_image(pool.ave_pool, x, y, plan=plan)

    def ave_pool_grad(self, dy: Array, dx: Array, plan: PoolPlan) -> None:
        self._by_image(pool.ave_pool_grad, dy, dx, plan=plan)

    def stochastic_pool(self, x: Array, y: Array, choice: Array, plan: PoolPlan, sample: bool) -> None:
        if not sample:
            self._by_image(pool.stochastic_mean, x, y, plan=plan)
            return
        n, c, h, w = y.shape
        # In (0, 1]: a threshold above 0 never picks a value of 0.
        level = 1 - rng.generator.random((n, h, w, c), np.float32).transpose(0, 3, 1, 2)
        self._by_image(pool.stochastic_draw, x, y, choice, level, plan=plan)

    def _by_image(self, fn: Callable, *arrays: Array, **options: Any) -> None:
        """Run `fn` over groups of images, each array seen channels-last."""
        largest = max(a.size for a in arrays)
        least = self.pool.threads if largest > POOL_MINIMUM else 1
        self._over(fn, [_last(a) for a in arrays], max(least, largest // IMAGE_TILE), **options)

    # Local response normalization

    def lrn(self, x: Array, y: Array, size: int, alpha: float, beta: float, k: float) -> None:
        rows, parts = [_rows(a) for a in (x, y)], -(-x.size // MAP_TILE)
        self._over(lrn.across, rows, parts, size=size, alpha=alpha, beta=beta, k=k)

    def lrn_grad(self, dy: Array, x: Array, dx: Array, size: int, alpha: float, beta: float, k: float) -> None:
        rows, parts = [_rows(a) for a in (dy, x, dx)], -(-x.size // MAP_TILE)
        self._over(lrn.across_grad, rows, parts, size=size, alpha=alpha, beta=beta, k=k)

    # Recurrent nets

    def lstm(self, z: Array, c_prev: Array, kept: Array | None, c: Array, squashed: Array, h: Array) -> None:
        recurrent.lstm(z, c_prev, kept, c, squashed, h, self.pool.scratch("step", c.shape))

    def lstm_grad(self, dh: Array, dc: Array, z: Array, c_prev: Array, squashed: Array, dz: Array) -> None:
        recurrent.lstm_grad(dh, dc, z, c_prev, squashed, dz, self.pool.scratch("step", dc.shape))

    def gru(self, z: Array, u: Array, h_prev: Array, h: Array) -> None:
        recurrent.gru(z, u, h_prev, h)

    def gru_grad(self, dh: Array, z: Array, u_n: Array, h_prev: Array, d: Array) -> None:
        recurrent.gru_grad(dh, z, u_n, h_prev, d)

    # Rows, random numbers

    def gather(self, table: Array, index: Array, out: Array) -> None:
        np.take(table, index, axis=0, out=out)

    def scatter_add(self, table: Array, index: Array, rows: Array) -> None:
        if len(index):
            touched, sums = self.merge_rows(index, rows)
            table[touched] += sums

    def merge_rows(self, index: Array, rows: Array) -> tuple[Array, Array]:
        # Sorted, each row is one run: a tenth of the time of np.add.at.
        # Numbers of 16 bits numpy sorts by digits: 17,000 of them in a tenth of the time.
        keys = index.astype(np.uint16) if len(index) and int(index.max()) < 1 << 16 else index
        order = np.argsort(keys, kind="stable")
        ranked = index[order]
        starts = np.flatnonzero(np.concatenate(([True], ranked[1:] != ranked[:-1])))
        return ranked[starts], np.add.reduceat(rows[order], starts, axis=0)

    def put_rows(self, table: Array, index: Array, rows: Array) -> None:
        table[index] = rows

    def add_at(self, flat: Array, index: Array, values: Array) -> None:
        np.add.at(flat, index, values)

    def scatter(self, flat: Array, index: Array, values: Array) -> None:
        flat[index] = values

    def random_mask(self, keep: float, out: Array) -> None:
        np.less(rng.generator.random(out.shape, np.float32), keep, out=out, casting="unsafe")

    # Tiles

    def _over(self, fn: Callable, arrays: Sequence[Array], parts: int, **options: Any) -> None:
        """Run `fn`, which writes to some of the arrays, over so many ranges of their first axis, one length."""
        if parts == 1:
            self.pool.run(lambda i: fn(*arrays, **options), 1)
            return
        ranges = cut(len(arrays[0]), parts)
        self.pool.run(lambda i: fn(*(a[ranges[i]] for a in arrays), **options), len(ranges))

    def _sum_by_tile(self, rows: Array, terms: Callable[[slice], Array]) -> Array:
        """The sum (C,) of terms computed from rows (M, C); those of the tiles are added in a fixed order."""
        ranges = cut(len(rows), -(-rows.size // MAP_TILE))
        sums = np.zeros((len(ranges), rows.shape[1]), np.float32)

        def task(i: int) -> None:
            sums[i] = sum_of_rows(terms(ranges[i]))

        self.pool.run(task, len(ranges))
        return sums.sum(axis=0)


def _last(a: Array) -> Array:
    """(N, C, *size) seen as (N, *size, C)."""
    return a if a.ndim < 3 else a.transpose(0, *range(2, a.ndim), 1)


def _rows(a: Array) -> Array:
    """(N, C, *size) as a matrix: the channels of one position a row."""
    return _last(a).reshape(a.size // max(1, a.shape[1]), a.shape[1])


def _flat(arrays: list[Array]) -> list[Array]:
    """All arrays as one axis if they share a memory order without holes, else as they are."""
    for order in (lambda a: a, _last):
        turned = [order(a) for a in arrays]
        if all(a.flags.c_contiguous for a in turned):
            return [a.reshape(-1) for a in turned]
    return arrays


def _cut_together(args: tuple, outs: tuple[Array, ...]) -> tuple[list[bool], list[Array]]:
    """Which of the arguments are cut into tiles with the outputs; these and the outputs, arrays of one length."""
    shape = outs[0].shape
    alike = [isinstance(a, np.ndarray) and a.ndim > 0 and a.shape == shape for a in args]
    if all(alike[i] or not isinstance(a, np.ndarray) or a.ndim == 0 for i, a in enumerate(args)):
        return alike, _flat([*(a for a, is_alike in zip(args, alike) if is_alike), *outs])
    # A factor for each item, (N, C, 1, 1), goes with its items.
    items = [isinstance(a, np.ndarray) and a.ndim == len(shape) and a.shape[:1] == shape[:1] for a in args]
    return items, [*(a for a, has_items in zip(args, items) if has_items), *outs]
