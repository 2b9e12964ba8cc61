"""Convolution with fewer multiplications: Winograd's minimal filtering along the first spatial axis.

m outputs of a filter with k taps cost m + k - 1 products instead of m k (Winograd 1980; Lavin and Gray 2016):

    y = A^T [(G w) * (B^T x)]

with x the m + k - 1 rows that the outputs see. In one direction only, the rounding error stays a few times that of
the plain sum, where both directions would multiply it by ten. The other axes, if any, are lowered to columns as in a
plain convolution of one axis less. Rows of x go into the transform whole, so that it is a matrix product, too.

A stride s is s interleaved filters of k / s taps: rows are taken s at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from caffepy.engine.numpy.lowering import (
    Run,
    Scratch,
    Tile,
    add_columns,
    add_to_rows,
    bordered,
    columns,
    sum_of_rows,
    tiles,
)
from caffepy.engine.window import Ints, Window

# Where the polynomials are evaluated, beside infinity. Small, and few of one sign: the error grows with them.
POINTS = (Fraction(0), Fraction(1), Fraction(-1), Fraction(2), Fraction(-1, 2), Fraction(-2), Fraction(1, 2))
# The least factor of multiplications saved that pays for the transforms, and the least depth of the products.
SAVING, DEPTH = 1.2, 12
# Bytes of columns that are multiplied in one call.
COLUMN_BYTES = 2 << 20


class Filtering(NamedTuple):
    """The matrices of m outputs of k taps, n = m + k - 1: A^T (m, n), G (n, k), B^T (n, n)."""

    outputs: np.ndarray
    weights: np.ndarray
    inputs: np.ndarray


@cache
def filtering(m: int, k: int) -> Filtering:
    """The construction of Toom and Cook from POINTS and infinity."""
    points = POINTS[: m + k - 2]
    others = [points[:i] + points[i + 1 :] for i in range(len(points))]
    at_points = [[p**i for p in points] + [Fraction(i == m - 1)] for i in range(m)]
    weights = [
        [p**i / prod((p - q for q in rest), start=Fraction(1)) for i in range(k)] for p, rest in zip(points, others)
    ]
    weights.append([Fraction(i == k - 1) for i in range(k)])
    inputs = [[*_polynomial(rest), Fraction(0)] for rest in others] + [_polynomial(points)]
    return Filtering(*(np.array(matrix, float).astype(np.float32) for matrix in (at_points, weights, inputs)))


def _polynomial(roots: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients of the product of (x - root), lowest first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        coefficients = [s - root * c for s, c in zip(shifted, [*coefficients, Fraction(0)])]
    return coefficients


class Plan(NamedTuple):
    """How a convolution is filtered: `m` outputs at a time, `taps` of `stride` rows each."""

    m: int
    taps: int
    stride: int
    pad: int
    groups_of_rows: int
    rest: Window
    """Of the other axes; with a stride, of the s interleaved rows and the other axes."""
    rest_out: Ints
    matrices: Filtering

    @property
    def n(self) -> int:
        return self.m + self.taps - 1


def plan(window: Window, out: Ints, channels: int) -> Plan | None:
    """The filtering that saves most, or None if a plain convolution is better. `channels` are those of a group."""
    if not out or window.dilation[0] != 1 or window.kernel[0] == 1 or 0 in out:
        return None
    kernel, stride = window.kernel[0], window.stride[0]
    taps = -(-kernel // stride)
    if taps == 1 or stride * prod(window.kernel[1:]) * channels < DEPTH:
        return None
    products = {m: -(-out[0] // m) * (m + taps - 1) * stride for m in range(2, len(POINTS) + 3 - taps)}
    if not products or out[0] * kernel < SAVING * min(products.values()):
        return None
    m = min(products, key=products.__getitem__)
    rest = Window(*(field[1:] for field in window))
    if stride > 1:
        rest = Window((stride, *rest.kernel), (1, *rest.stride), (0, *rest.pad), (1, *rest.dilation))
    rest_out = (1, *out[1:]) if stride > 1 else out[1:]
    return Plan(m, taps, stride, window.pad[0], -(-out[0] // m), rest, rest_out, filtering(m, taps))


def forward(x, w, bias, y, plan: Plan, group: int, run: Run, scratch: Scratch, threads: int) -> None:
    """y = x * w + bias (cross-correlation)."""
    channels, outputs = x.shape[-1] // group, w.shape[0] // group
    filters = np.matmul(plan.matrices.weights, _taps(w, plan))  # (O, n, depth)
    work = _tiles(x, y, w, plan, threads)

    def task(i: int) -> None:
        tile = work[i]
        target = _rows(y, tile, plan)
        for g in range(group):
            mine = slice(g * outputs, (g + 1) * outputs)
            source = _transformed(x[..., g * channels : (g + 1) * channels], tile, plan, scratch)
            products = scratch("outputs", (plan.n, prod(tile.shape) * prod(plan.rest_out), outputs))
            taps = filters[mine].transpose(1, 2, 0)
            for some, lowered in _lowered(source, plan, scratch):
                np.matmul(lowered, taps[some], out=products[some])
            if bias is not None:
                # What is added to the product at the point 1 is added to each of the m outputs.
                add_to_rows(products[POINTS.index(1)], bias[mine])
            _recover(products, tile, plan, target[..., mine], scratch)

    run(task, len(work))


def grad_weights(x, dy, dw, db, plan: Plan, group: int, run: Run, scratch: Scratch, threads: int) -> None:
    """dw += the gradient of the weights, G^T [(B^T x) * (A dy)], db, if any, += that of the bias.

    Partial sums are added in a fixed order.
    """
    channels, outputs = x.shape[-1] // group, dw.shape[0] // group
    depth = plan.stride * prod(dw.shape[2:])
    work = _tiles(x, dy, dw, plan, threads)
    parts = min(threads, len(work))
    sums = np.zeros((parts, plan.n, dw.shape[0], depth), dw.dtype)
    bias_sums = np.zeros((parts, dw.shape[0]), dw.dtype)

    def task(part: int) -> None:
        for tile in work[part * len(work) // parts : (part + 1) * len(work) // parts]:
            for g in range(group):
                mine = slice(g * outputs, (g + 1) * outputs)
                source = _transformed(x[..., g * channels : (g + 1) * channels], tile, plan, scratch)
                gradient = _spread(dy[..., mine], tile, plan, scratch)
                if db is not None:
                    # At the point 1, A dy is the sum of each m rows.
                    bias_sums[part, mine] += sum_of_rows(gradient[POINTS.index(1)])
                for some, lowered in _lowered(source, plan, scratch):
                    sums[part, some, mine] += _products(gradient[some], lowered, scratch)

    run(task, parts)
    total = sums.sum(axis=0) if parts != 1 else sums[0]
    taps = np.matmul(plan.matrices.weights.T, total.swapaxes(0, 1))  # (O, taps, depth)
    dw += taps.reshape(dw.shape[0], plan.taps * plan.stride, *dw.shape[2:])[:, : dw.shape[1]]
    if db is not None:
        db += bias_sums.sum(axis=0)


def grad_data(dy, w, bias, dx, plan: Plan, group: int, run: Run, scratch: Scratch, threads: int) -> None:
    """dx = B [(A dy) * (G w)] + bias: the forward pass transposed, step by step."""
    (n, height), channels, outputs = dx.shape[:2], dx.shape[-1] // group, w.shape[0] // group
    filters = np.matmul(plan.matrices.weights, _taps(w, plan)).swapaxes(0, 1)  # (n, O, depth)
    pad = (plan.pad, *plan.rest.pad[-(dx.ndim - 3) :]) if dx.ndim > 3 else (plan.pad,)
    rest = tuple(size + 2 * p for size, p in zip(dx.shape[2:-1], pad[1:]))
    inside = tuple(slice(p, p + size) for p, size in zip(pad, dx.shape[1:-1]))
    seen = (plan.groups_of_rows - 1) * plan.m + plan.n
    blocks = max(seen, -(-(plan.pad + height) // plan.stride))  # of `stride` rows
    work = _tiles(dx, dy, w, plan, threads)
    images = max(1, work[0].images.stop) if work else 1  # whole images: groups of rows overlap

    def task(i: int) -> None:
        tile = Tile(slice(i * images, min(n, (i + 1) * images)), slice(0, plan.groups_of_rows))
        count, groups = tile.shape
        for g in range(group):
            mine = slice(g * outputs, (g + 1) * outputs)
            gradient = _spread(dy[..., mine], tile, plan, scratch)
            lowered = scratch("columns", (*gradient.shape[:2], filters.shape[2]))
            np.matmul(gradient, filters[:, mine], out=lowered)
            size = (*((plan.stride,) if plan.stride > 1 else ()), *rest, channels)
            transformed = scratch("transformed", (plan.n * count * groups, *size))
            transformed[...] = 0
            columns_of = (len(transformed), *plan.rest_out, *plan.rest.kernel, channels)
            add_columns(lowered.reshape(columns_of), transformed, plan.rest)
            rows = scratch("rows", (count, groups, plan.n, prod(size)))
            by_group = transformed.reshape(plan.n, count, groups, -1).transpose(1, 2, 0, 3)
            np.matmul(plan.matrices.inputs.T, by_group, out=rows)
            total = scratch("bordered", (count, blocks, prod(size)))
            total[...] = 0
            for j in range(plan.n):
                total[:, j : j + (groups - 1) * plan.m + 1 : plan.m] += rows[:, :, j]
            whole = total.reshape(count, blocks * plan.stride, *rest, channels)[(slice(None), *inside)]
            of_group = slice(g * channels, (g + 1) * channels)
            dx[tile.images][..., of_group] = whole if bias is None else whole + bias[of_group]

    run(task, -(-n // images))


def _tiles(x, y, w, plan: Plan, threads: int) -> list[Tile]:
    """Tiles whose rows are groups of m output rows."""
    row = plan.stride * prod(x.shape[2:]) + prod(y.shape[2:])
    return tiles(y.shape[0], plan.groups_of_rows, 4 * plan.n * row, w.nbytes, threads)


def _taps(w, plan: Plan) -> np.ndarray:
    """The weights as (O, taps, depth), filled up with zeros to whole taps."""
    missing = plan.taps * plan.stride - w.shape[1]
    if missing:
        w = np.concatenate([w, np.zeros((w.shape[0], missing, *w.shape[2:]), w.dtype)], axis=1)
    return np.ascontiguousarray(w).reshape(w.shape[0], plan.taps, -1)


def _transformed(x, tile: Tile, plan: Plan, scratch: Scratch) -> np.ndarray:
    """B^T x: (n, groups of rows, [stride,] *rest, C)."""
    images, groups = tile.shape
    start = tile.rows.start * plan.m * plan.stride - plan.pad
    count = ((groups - 1) * plan.m + plan.n) * plan.stride
    source = bordered(x, tile.images, start, count, plan.rest.pad[-(x.ndim - 3) :] if x.ndim > 3 else (), scratch)
    if not source[:1].flags.c_contiguous:  # a group of channels
        copied = scratch("bordered", source.shape)
        copied[...] = source
        source = copied
    length, row = plan.stride * prod(source.shape[2:]), source.strides[1] * plan.stride
    seen = as_strided(source, (images, groups, plan.n, length), (source.strides[0], plan.m * row, row, source.itemsize))
    out = scratch("transformed", (plan.n, images, groups, length))
    np.matmul(plan.matrices.inputs, seen, out=out.transpose(1, 2, 0, 3))
    interleaved = (plan.stride,) if plan.stride > 1 else ()
    return out.reshape(plan.n, images * groups, *interleaved, *source.shape[2:])


def _lowered(source, plan: Plan, scratch: Scratch) -> Iterator[tuple[slice, np.ndarray]]:
    """The columns (positions, depth) of each of the n transformed images, as many at a time as stay in cache."""
    n, rows, *size, channels = source.shape
    positions, depth = rows * prod(plan.rest_out), prod(plan.rest.kernel) * channels
    step = max(1, min(n, COLUMN_BYTES // (4 * positions * depth)))
    for start in range(0, n, step):
        some = slice(start, min(n, start + step))
        lowered = columns(source[some].reshape(-1, *size, channels), plan.rest_out, plan.rest, scratch)
        yield some, lowered.reshape(-1, positions, depth)


def _products(gradient, lowered, scratch: Scratch) -> np.ndarray:
    """gradient (n, positions, O) times lowered (n, positions, depth), summed over positions: (n, O, depth)."""
    n, _, outputs = gradient.shape
    depth = lowered.shape[2]
    if depth < outputs:  # BLAS likes it this way round: 42 instead of 31 GFLOP/s with 15 and 32
        product = scratch("product", (n, depth, outputs))
        return np.matmul(lowered.swapaxes(1, 2), gradient, out=product).swapaxes(1, 2)
    return np.matmul(gradient.swapaxes(1, 2), lowered, out=scratch("product", (n, outputs, depth)))


def _rows(y, tile: Tile, plan: Plan):
    """The tile's rows of y, of which the last group may be incomplete."""
    return y[tile.images, tile.rows.start * plan.m : tile.rows.stop * plan.m]


def _recover(products, tile: Tile, plan: Plan, target, scratch: Scratch) -> None:
    """target = A^T products."""
    images, groups = tile.shape
    length = products[0].size // (images * groups)
    whole = target.flags.c_contiguous and target.shape[1] == groups * plan.m
    out = target.reshape(images, groups, plan.m, length) if whole else None
    if out is None:
        out = scratch("recovered", (images, groups, plan.m, length))
    np.matmul(plan.matrices.outputs, products.reshape(plan.n, images, groups, length).transpose(1, 2, 0, 3), out=out)
    if not whole:
        target[...] = out.reshape(images, groups * plan.m, *target.shape[2:])[:, : target.shape[1]]


def _spread(dy, tile: Tile, plan: Plan, scratch: Scratch) -> np.ndarray:
    """A dy: (n, positions, O); rows that an incomplete group lacks count as zero."""
    images, groups = tile.shape
    source = bordered(dy, tile.images, tile.rows.start * plan.m, groups * plan.m, (0,) * (dy.ndim - 3), scratch)
    if not source.flags.c_contiguous:
        copied = scratch("bordered", source.shape)
        copied[...] = source
        source = copied
    length = source[0, 0].size
    out = scratch("outputs", (plan.n, images, groups, length))
    np.matmul(plan.matrices.outputs.T, source.reshape(images, groups, plan.m, length), out=out.transpose(1, 2, 0, 3))
    return out.reshape(plan.n, -1, dy.shape[-1])
