"""Reshape: the same values under another shape."""

from __future__ import annotations

from math import prod

from caffepy.errors import ConfigError, ShapeError
from caffepy.layers.lost_gradient import gradient_is_lost
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register


class Reshaping(Layer):
    """Copies values in C order; with channels-last storage, Caffe's sharing of memory is not possible."""

    shares_data = True

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].data[...] = bottom[0].data.reshape(top[0].shape)


@register("Reshape")
class Reshape(Reshaping):
    """`reshape_param.shape` in place of the `num_axes` (-1: all) axes from `axis` on.

    A dim 0 copies the bottom's at the same place, one dim -1 is inferred. axis -1 is behind the last axis.
    """

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, shape = self.param.reshape_param, bottom[0].shape
        ndim = len(shape)
        if not -(ndim + 1) <= p.axis <= ndim:
            raise ConfigError(f"axis {p.axis} is out of range for a bottom with {ndim} axes ({-ndim - 1} to {ndim})")
        start = p.axis if p.axis >= 0 else p.axis + ndim + 1
        if p.num_axes < -1:
            raise ConfigError(f"num_axes must be -1 (all) or more, got {p.num_axes}")
        end = ndim if p.num_axes == -1 else start + p.num_axes
        if end > ndim:
            raise ConfigError(f"axis {p.axis} with num_axes {p.num_axes} reaches beyond the {ndim} axes of the bottom")
        dims = list(p.shape.dim)
        if any(d < -1 for d in dims) or dims.count(-1) > 1:
            raise ConfigError(f"dims must be positive, 0 (copy) or one -1 (infer), got {dims}")
        for i, dim in enumerate(dims):
            if dim == 0:
                if start + i >= ndim:
                    raise ConfigError(f"dim {i} is 0 (copy), but the bottom {shape} has no axis {start + i}")
                dims[i] = shape[start + i]
        around = prod(shape[:start]) * prod(shape[end:])
        if -1 in dims:
            known = around * prod(d for d in dims if d != -1)
            if known == 0 or bottom[0].count % known:
                raise ShapeError(f"{self.bottom_name(0)} {shape} has {bottom[0].count} values, no multiple of {known}")
            dims[dims.index(-1)] = bottom[0].count // known
        result = (*shape[:start], *dims, *shape[end:])
        if prod(result) != bottom[0].count:
            raise ShapeError(
                f"{self.bottom_name(0)} {shape} has {bottom[0].count} values, the new shape {result} has {prod(result)}"
            )
        top[0].reshape(result)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0] and not gradient_is_lost(self.name, top[0]):
            bottom[0].diff[...] = top[0].diff.reshape(bottom[0].shape)
