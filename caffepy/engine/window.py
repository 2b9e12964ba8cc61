"""The geometry of sliding windows, shared by convolution and pooling on every engine."""

from __future__ import annotations

from typing import NamedTuple

Ints = tuple[int, ...]


class Window(NamedTuple):
    """A window over any number of spatial axes; each field has one entry an axis."""

    kernel: Ints
    stride: Ints
    pad: Ints
    dilation: Ints

    @property
    def extent(self) -> Ints:
        """Input cells from a window's first to its last, dilation (k - 1) + 1."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation))

    def conv_shape(self, size: Ints) -> Ints:
        """Output size of a convolution: (in + 2 pad - extent) / stride + 1, rounded down."""
        return tuple((n + 2 * p - e) // s + 1 for n, p, e, s in zip(size, self.pad, self.extent, self.stride))

    def deconv_shape(self, size: Ints) -> Ints:
        """Output size of a deconvolution: stride (in - 1) + extent - 2 pad."""
        return tuple(s * (n - 1) + e - 2 * p for n, p, e, s in zip(size, self.pad, self.extent, self.stride))

    def reach(self, position: Ints, size: Ints, count: Ints) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """For one kernel position: which outputs (of `count`) see a real input cell, and which cells those are.

        Both are slices an axis, so that `out[outputs]` and `x[cells]` have one shape.
        """
        pairs = [self.reach_along(i, k, n, m) for i, (k, n, m) in enumerate(zip(position, size, count))]
        return tuple(o for o, _ in pairs), tuple(c for _, c in pairs)

    def reach_along(self, axis: int, k: int, size: int, count: int) -> tuple[slice, slice]:
        """`reach` for kernel position `k` of one axis."""
        stride = self.stride[axis]
        shift = k * self.dilation[axis] - self.pad[axis]
        first = max(0, -(shift // stride))  # the smallest o with o * stride + shift >= 0
        last = max(first, min(count, (size - 1 - shift) // stride + 1))
        start = first * stride + shift
        return slice(first, last), slice(start, max(start, start + (last - first - 1) * stride + 1), stride)
