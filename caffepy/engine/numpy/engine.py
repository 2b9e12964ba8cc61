"""The NumPy engine: arrays in memory, threads over cache-sized tiles, and the kernels numpy itself lacks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from copy import copy
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from caffepy import rng
from caffepy.engine import workers
from caffepy.engine.numpy import conv, lrn, memory, pool
from caffepy.engine.numpy.lowering import sum_of_rows
from caffepy.engine.threads import ThreadPool, available_cores
from caffepy.engine.window import Window

Array = np.ndarray

# Elements a tile of an elementwise function. Smaller tiles would stay in the second-level cache, but a numpy call of
# less than some 30 microseconds costs two threads more in waits for the interpreter lock than it saves.
MAP_TILE = 1 << 17
# Elements of the largest array a tile of pooling.
IMAGE_TILE = 1 << 19
# Below this many elements pooling, and below this many multiply-adds a product, is not worth a second thread: waking
# each other costs the two 100 to 150 microseconds.
POOL_MINIMUM, GEMM_MINIMUM = 1 << 17, 1 << 23


class NumpyEngine:
    """Arrays are numpy.ndarray of float32; kernels see (N, C, H, W) views of channels-last memory."""

    name = "numpy"
    xp: Any = np
    lazy = False
    """Whether values are computed later than asked for, so that looking at one waits: as on a GPU."""
    forks = True
    """Whether processes may compute parts of a batch."""

    def __init__(self, threads: int | None = None):
        self.pool = ThreadPool(threads or available_cores())
        self._local = threading.local()
        # The pool is the only parallelism: BLAS threads under it would fight over the cores.
        threadpool_limits(1, user_api="blas")
        memory.keep_freed_memory()
        self.forks = workers.available()

    @property
    def threads(self) -> int:
        return self.pool.threads

    # Parts of a batch

    @property
    def parts(self) -> int:
        """Into how many parts a batch is divided where layers compute item by item."""
        return self.pool.threads

    @cached_property
    def alone(self) -> NumpyEngine:
        """This engine on one thread: for a part of a batch beside which others are computed."""
        engine = copy(self)
        engine.pool, engine._local = ThreadPool(1), threading.local()
        return engine

    # Memory

    def zeros(self, count: int) -> Array:
        return np.zeros(count, np.float32)

    def memory(self, count: int) -> Array:
        """Zeros to keep, for a blob; processes can share them."""
        return memory.zeros(count) if self.parts > 1 else np.zeros(count, np.float32)

    def asarray(self, host: Any) -> Array:
        """A float32 array of this engine with the host's values; may share memory."""
        return np.asarray(host, np.float32)

    def to_host(self, array: Array) -> np.ndarray:
        """The values as a numpy array; may share memory."""
        return array

    def copy(self, array: Array) -> Array:
        return array.copy()

    def same_memory(self, a: Array, b: Array) -> bool:
        """Whether writing to one writes to the other, for two shapes of what was one array."""
        return np.may_share_memory(a, b)

    def wait(self) -> None:
        """Return when all that was asked for is computed."""

    # Elementwise work and products

    def map(self, fn: Callable, *args: Any, out: Array | tuple[Array, ...]) -> None:
        """`out[...] = fn(xp, *args)` tile by tile, on all threads.

        Arrays of the output's shape, or of its rank and length that broadcast, are cut into tiles; everything else is
        passed whole. With a tuple of outputs `fn` returns as many arrays. An output may also be an argument.
        """
        outs = out if isinstance(out, tuple) else (out,)
        shape = outs[0].shape
        cut = [isinstance(a, np.ndarray) and a.ndim > 0 and a.shape == shape for a in args]
        if all(cut[i] or not isinstance(a, np.ndarray) or a.ndim == 0 for i, a in enumerate(args)):
            flats = _flatten([a for a, c in zip(args, cut) if c] + list(outs))
            if flats is not None:
                tiles = iter(flats)
                args = tuple(next(tiles) if c else a for a, c in zip(args, cut))
                outs = tuple(tiles)
        else:  # a factor for each item, (N, C, 1, 1), goes with its items
            cut = [isinstance(a, np.ndarray) and a.ndim == len(shape) and a.shape[:1] == shape[:1] for a in args]
        length = outs[0].shape[0] if outs[0].ndim else 1
        count = min(length, -(-outs[0].size // MAP_TILE)) or 1

        def task(i: int) -> None:
            at = slice(i * length // count, (i + 1) * length // count) if count > 1 else ...
            with np.errstate(all="ignore"):  # log(0) is -inf in silence, as in Caffe
                result = fn(np, *(a[at] if c else a for a, c in zip(args, cut)))
            for target, value in zip(outs, result if isinstance(out, tuple) else (result,)):
                target[at] = value

        self.pool.run(task, count)

    def relu(self, x: Array, y: Array) -> None:
        """y = max(x, 0); clip takes less than half the time of numpy's maximum of an array and a number."""
        self._by_tile(lambda x, y: np.clip(x, 0, np.inf, out=y), x, y)

    def relu_grad(self, dy: Array, x: Array, dx: Array) -> None:
        """dx = dy where x > 0, else 0."""
        self._by_tile(lambda dy, x, dx: np.multiply(dy, x > 0, out=dx), dy, x, dx)

    def gemm(self, a: Array, b: Array, out: Array, accumulate: bool = False) -> None:
        """out (M, N) = a (M, K) @ b (K, N), or += with `accumulate`; transposed views cost nothing."""
        (m, k), n = a.shape, b.shape[1]
        rows = m >= n
        parts = self.threads if m * n * k >= GEMM_MINIMUM else 1
        if accumulate:  # the product before it is added is a temporary: keep it in cache
            parts = max(parts, -(-m * n // (1 << 18)))
        length = m if rows else n
        parts = min(parts, length) or 1

        def task(i: int) -> None:
            at = slice(i * length // parts, (i + 1) * length // parts)
            left, right, target = (a[at], b, out[at]) if rows else (a, b[:, at], out[:, at])
            if accumulate:
                product = self.scratch("gemm", (left.shape[0], right.shape[1]))
                target += np.matmul(left, right, out=product)
            else:
                np.matmul(left, right, out=target)

        self.pool.run(task, parts)

    # Convolution: x (N, C, *size), w (O, C / group, *kernel), y (N, O, *out)

    def conv(self, x: Array, w: Array, bias: Array | None, y: Array, window: Window, group: int = 1) -> None:
        """y = cross-correlation of x with w, + bias (O,)."""
        conv.forward(_last(x), _last(w), bias, _last(y), window, group, self.pool.run, self.scratch, self.threads)

    def conv_grad_weights(
        self, x: Array, dy: Array, dw: Array, window: Window, group: int = 1, db: Array | None = None
    ) -> None:
        """dw += gradient of the weights, db += that of the bias (O,)."""
        run = self.pool.run
        conv.grad_weights(_last(x), _last(dy), _last(dw), db, window, group, run, self.scratch, self.threads)

    def conv_grad_data(
        self, dy: Array, w: Array, dx: Array, window: Window, group: int = 1, bias: Array | None = None
    ) -> None:
        """dx = gradient of the input; with w and bias taken as a deconvolution's, its forward pass."""
        run = self.pool.run
        conv.grad_data(_last(dy), _last(w), bias, _last(dx), window, group, run, self.scratch, self.threads)

    def add_sum_over_channels(self, x: Array, out: Array, times: Array | None = None) -> None:
        """out (C,) += sum of x (N, C, *size), or of x * times, over all but the channels: a bias's gradient."""
        rows = _rows(x)
        other = None if times is None else _last(times).reshape(rows.shape)
        # Memory limits a plain sum: a second thread would gain nothing.
        out += sum_of_rows(rows) if other is None else self._sum_by_tile(rows, lambda at: rows[at] * other[at])

    def channel_moments(self, x: Array) -> tuple[Array, Array]:
        """Mean and variance (C,) of x (N, C, *size) a channel, each the mean of the tiles' sums."""
        rows = _rows(x)
        if not len(rows):
            return np.zeros(x.shape[1], np.float32), np.zeros(x.shape[1], np.float32)
        mean = sum_of_rows(rows) / np.float32(len(rows))
        variance = self._sum_by_tile(rows, lambda at: np.square(rows[at] - mean)) / np.float32(len(rows))
        return mean, variance

    def _sum_by_tile(self, rows: Array, terms: Callable[[slice], Array]) -> Array:
        """The sum (C,) of terms computed from rows (M, C); those of the tiles are added in a fixed order."""
        parts = min(len(rows), -(-rows.size // MAP_TILE))
        sums = np.zeros((parts, rows.shape[1]), np.float32)

        def task(i: int) -> None:
            sums[i] = sum_of_rows(terms(slice(i * len(rows) // parts, (i + 1) * len(rows) // parts)))

        self.pool.run(task, parts)
        return sums.sum(axis=0)

    # Pooling: x (N, C, H, W), y (N, C, h, w)

    def pool_choice(self, shape: tuple[int, ...], window: Window) -> Array:
        """Memory for `max_pool`'s choices: one small integer an output."""
        dtype = np.uint8 if prod(window.kernel) < 256 else np.int32
        n, c, h, w = shape
        return np.zeros((n, h, w, c), dtype).transpose(0, 3, 1, 2)

    def max_pool(self, x: Array, y: Array, choice: Array, window: Window) -> None:
        self._by_image(pool.max_pool, x, y, choice, window=window)

    def max_pool_grad(self, dy: Array, choice: Array, dx: Array, window: Window) -> None:
        self._by_image(pool.max_pool_grad, dy, choice, dx, window=window)

    def max_pool_mask(self, choice: Array, window: Window, size: tuple[int, int]) -> Array:
        """The index within H * W of each window's largest value, as Caffe's second top has it."""
        return np.moveaxis(pool.mask(_last(choice), window, size), -1, 1)

    def ave_pool(self, x: Array, y: Array, window: Window) -> None:
        self._by_image(pool.ave_pool, x, y, window=window)

    def ave_pool_grad(self, dy: Array, dx: Array, window: Window) -> None:
        self._by_image(pool.ave_pool_grad, dy, dx, window=window)

    def stochastic_pool(self, x: Array, y: Array, choice: Array, window: Window, sample: bool) -> None:
        """A value of each window drawn with probability proportional to it, or the mean that this weights by."""
        if not sample:
            self._by_image(pool.stochastic_mean, x, y, window=window)
            return
        n, c, h, w = y.shape
        # In (0, 1]: a threshold above 0 never picks a value of 0.
        level = 1 - rng.generator.random((n, h, w, c), np.float32).transpose(0, 3, 1, 2)
        self._by_image(pool.stochastic_draw, x, y, choice, level, window=window)

    # Local response normalization across channels

    def lrn(self, x: Array, y: Array, size: int, alpha: float, beta: float, k: float) -> None:
        self._by_rows(lrn.across, x, y, size=size, alpha=alpha, beta=beta, k=k)

    def lrn_grad(self, dy: Array, x: Array, dx: Array, size: int, alpha: float, beta: float, k: float) -> None:
        self._by_rows(lrn.across_grad, dy, x, dx, size=size, alpha=alpha, beta=beta, k=k)

    # Gather, scatter, random numbers

    def gather(self, table: Array, index: Array, out: Array) -> None:
        """out[i] = table[index[i]] for integer indices (n,)."""
        np.take(table, index, axis=0, out=out)

    def scatter_add(self, table: Array, index: Array, rows: Array) -> None:
        """table[index[i]] += rows[i]; repeated indices add up in order."""
        if len(index):
            # Sorted, each row of the table is one run: a tenth of the time of np.add.at.
            order = np.argsort(index, kind="stable")
            ranked = index[order]
            starts = np.flatnonzero(np.concatenate(([True], ranked[1:] != ranked[:-1])))
            table[ranked[starts]] += np.add.reduceat(rows[order], starts, axis=0)

    def scatter(self, table: Array, index: Array, values: Array) -> None:
        """table[index[i]] = values[i], all of one axis; of a repeated index the last value stays."""
        table[index] = values

    def random_mask(self, keep: float, out: Array) -> None:
        """out = 1 with probability `keep`, else 0."""
        np.less(rng.generator.random(out.shape, np.float32), keep, out=out, casting="unsafe")

    # Tiles

    def scratch(self, name: str, shape: tuple[int, ...]) -> Array:
        """Uninitialized memory of the calling thread, valid until it asks for the same name again."""
        buffers = self._local.__dict__
        count = prod(shape)
        buffer = buffers.get(name)
        if buffer is None or buffer.size < count:
            buffer = buffers[name] = np.empty(count, np.float32)
        return buffer[:count].reshape(shape)

    def forget_scratch(self) -> None:
        """Give the scratch memory of all threads back to the system: a process forked now would keep a copy."""
        for engine in (self, self.alone):
            engine._local = threading.local()
        memory.give_back()

    def _by_tile(self, fn: Callable, *arrays: Array) -> None:
        """Run `fn`, which writes to one of them, over tiles of arrays of one shape."""
        flats = _flatten(list(arrays)) or arrays
        length = len(flats[0]) if flats[0].ndim else 0
        parts = max(1, min(length, -(-flats[0].size // MAP_TILE)))
        cuts = [slice(i * length // parts, (i + 1) * length // parts) for i in range(parts)]
        self.pool.run(lambda i: fn(*(a[cuts[i]] if a.ndim else a for a in flats)), parts)

    def _by_image(self, fn: Callable, *arrays: Array, **options: Any) -> None:
        """Run `fn` over groups of images, each array seen channels-last."""
        arrays = tuple(_last(a) for a in arrays)
        n = arrays[0].shape[0]
        largest = max(a.size for a in arrays)
        parts = min(n, max(self.threads if largest > POOL_MINIMUM else 1, largest // IMAGE_TILE)) or 1
        self.pool.run(lambda i: fn(*(a[i * n // parts : (i + 1) * n // parts] for a in arrays), **options), parts)

    def _by_rows(self, fn: Callable, *arrays: Array, **options: Any) -> None:
        """Run `fn` over tiles of rows of channels; all arrays are (N, C, H, W) of one shape."""
        channels = arrays[0].shape[1]
        rows = [_rows(a) for a in arrays]
        n = rows[0].shape[0]
        step = max(1, MAP_TILE // max(1, channels))
        self.pool.run(lambda i: fn(*(a[i * step : (i + 1) * step] for a in rows), **options), -(-n // step))


def _last(a: Array) -> Array:
    """(N, C, *size) seen as (N, *size, C)."""
    return a if a.ndim < 3 else a.transpose(0, *range(2, a.ndim), 1)


def _rows(a: Array) -> Array:
    """(N, C, *size) as a matrix: the channels of one position a row."""
    return _last(a).reshape(a.size // max(1, a.shape[1]), a.shape[1])


def _flatten(arrays: list[Array]) -> list[Array] | None:
    """All arrays as one axis if they share a memory order without holes, else None."""
    for order in (lambda a: a, _last):
        turned = [order(a) for a in arrays]
        if all(a.flags.c_contiguous for a in turned):
            return [a.reshape(-1) for a in turned]
    return None
