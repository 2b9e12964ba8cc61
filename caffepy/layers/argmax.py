"""ArgMax: the indices of the largest values."""

from __future__ import annotations

from math import prod

from caffepy.errors import ConfigError
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register


@register("ArgMax")
class ArgMax(Layer):
    """Indices of the `argmax_param.top_k` (1) largest values, best first; of equal values the larger index first.

    Without `axis` each item is flattened: y (N, 1, top_k), with `out_max_val` (N, 2, top_k), indices then values.
    With `axis` that axis becomes top_k, and `out_max_val` gives the values instead. No gradient.
    """

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, shape = self.param.argmax_param, bottom[0].shape
        self.axis = self.canonical_axis(p.axis, len(shape)) if p.HasField("axis") else None
        size = prod(shape[1:]) if self.axis is None else shape[self.axis]
        if not 1 <= p.top_k <= size:
            raise ConfigError(f"top_k must lie in 1 .. {size}, the number of values compared, got {p.top_k}")
        if self.axis is None:
            rest = (1,) * (max(len(shape), 3) - 3)
            top[0].reshape((shape[0], 2 if p.out_max_val else 1, p.top_k, *rest))
        else:
            top[0].reshape((*shape[: self.axis], p.top_k, *shape[self.axis + 1 :]))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, p = self.xp, self.param.argmax_param
        x = bottom[0].data
        x = self.by_item(x) if self.axis is None else xp.moveaxis(x, self.axis, -1)
        # A stable rising sort puts the larger of two equal indices later; the end, reversed, is best first.
        order = xp.flip(xp.argsort(x, axis=-1, stable=True)[..., -p.top_k :], axis=-1)
        values = xp.take_along_axis(x, order, axis=-1) if p.out_max_val else None
        if self.axis is None:
            top[0].data[:, 0] = order.reshape(top[0].data[:, 0].shape)
            if values is not None:
                top[0].data[:, 1] = values.reshape(top[0].data[:, 1].shape)
        else:
            top[0].data[...] = xp.moveaxis(order if values is None else values, -1, self.axis)
