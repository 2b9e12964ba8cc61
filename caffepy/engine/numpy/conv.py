"""Convolution in numpy: a channel on its own, filtered where that saves products, else by columns.

Everything here is channels-last: x (N, *size, C), y (N, *out, O), weights (O, *kernel, C / group).
"""

from __future__ import annotations

from math import prod

import numpy as np

from caffepy.engine.after import After
from caffepy.engine.numpy import depthwise, winograd
from caffepy.engine.numpy.depthwise import Depthwise
from caffepy.engine.numpy.filtered import Filtered
from caffepy.engine.numpy.plain import Plain
from caffepy.engine.numpy.shapes import Shapes
from caffepy.engine.numpy.tail import Tail
from caffepy.engine.threads import ThreadPool


class ConvPlan:
    """How a convolution of certain shapes is computed: made once for them, it holds no values."""

    def __init__(self, shapes: Shapes):
        self.products = products(shapes)
        """The forward pass and the gradient of the weights."""
        self.back = back(shapes, self.products)
        """The gradient of the input."""

    def followed(self, w, bias, y, after: After) -> tuple[np.ndarray, np.ndarray | None, Tail]:
        """Weights, bias and what is left to do after them; w (O, C / group, *kernel), y (N, O, *out)."""
        add = after.add if after.add is None or after.add.ndim < 3 else np.moveaxis(after.add, 1, -1)
        terms = [bias if after.factor is None or bias is None else bias * after.factor, after.offset]
        given = [term for term in terms if term is not None]
        total = sum(given[1:], given[0]) if given else None
        if after.factor is None:
            return w, total, Tail(add=add, relu=after.relu)
        if y.size < w.size and not isinstance(self.products, Depthwise):
            zero = np.zeros_like(after.factor)
            return w, None, Tail(after.factor, zero if total is None else total, add, after.relu)
        return w * after.factor.reshape(-1, *[1] * (w.ndim - 1)), total, Tail(add=add, relu=after.relu)


def products(shapes: Shapes) -> Depthwise | Filtered | Plain:
    """What computes with the fewest operations."""
    if depthwise.fits_forward(shapes):
        return Depthwise(shapes)
    plan = winograd.plan(shapes.window, shapes.out, shapes.channels)
    return Filtered(shapes, plan) if plan else Plain(shapes)


def back(shapes: Shapes, forth: Depthwise | Filtered | Plain) -> Depthwise | Filtered | Flipped | Plain:
    """What computes the gradient of the input with the fewest operations; `forth` can, too."""
    if depthwise.fits(shapes):
        return forth if isinstance(forth, Depthwise) else Depthwise(shapes)
    return Flipped(shapes) if flipped_is_cheaper(shapes) else forth


def flipped_is_cheaper(shapes: Shapes) -> bool:
    """Whether `Flipped` can compute the gradient of the input, and does so faster than sums after the product."""
    window = shapes.window
    if any(s != 1 for s in window.stride) or any(p >= e for p, e in zip(window.pad, window.extent)):
        return False
    # It multiplies at every input position, col2im at every output position but with sums after it.
    return prod(shapes.size) <= 1.5 * prod(shapes.out)


class Flipped:
    """The gradient of the input of a convolution of stride 1: the convolution of dy with flipped kernels."""

    def __init__(self, shapes: Shapes):
        self.products = products(shapes.transposed)
        kernel = shapes.window.kernel
        self._by_group = (shapes.group, shapes.outputs, *kernel, shapes.channels)
        self._backwards = (slice(None), slice(None), *[slice(None, None, -1)] * len(kernel), slice(None))
        self._axes = (0, len(kernel) + 2, *range(2, len(kernel) + 2), 1)

    def grad_data(self, dy, w, bias, dx, threads: ThreadPool) -> None:
        """dx = the gradient of the input (+ bias)."""
        flipped = np.ascontiguousarray(w.reshape(self._by_group)[self._backwards].transpose(self._axes))
        self.products.forward(dy, flipped.reshape(-1, *flipped.shape[2:]), bias, dx, threads)
