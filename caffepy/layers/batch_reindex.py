"""BatchReindex: items of a batch, chosen by index."""

from __future__ import annotations

from caffepy.errors import ConfigError, DataError, ShapeError
from caffepy.layers.labels import read_indices
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register


@register("BatchReindex")
class BatchReindex(Layer):
    """y[i] = x[index[i]]; items may be left out, repeated and reordered. The gradients of a repeated item add up.

    x (N, ...), index (M), y (M, ...). DataError for an index outside 0 .. N - 1; the index gets no gradient.
    """

    num_bottom = 2

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(bottom[1].shape) != 1:
            raise ShapeError(f"the index {self.bottom_name(1)} must have one axis, it is {bottom[1].shape}")
        top[0].reshape((*bottom[1].shape, *bottom[0].shape[1:]))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        if top[0].count:
            # An item is one run of memory, in the same order at both ends.
            items, chosen = bottom[0].flat(), top[0].flat()
            table = items.reshape((bottom[0].shape[0], -1))
            self.engine.gather(table, self._index(bottom), chosen.reshape((top[0].shape[0], -1)))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[1]:
            raise ConfigError("BatchReindex cannot pass a gradient to its index", hint="Set propagate_down: false.")
        if propagate_down[0]:
            dx = bottom[0].flat("diff")
            dx[...] = 0
            if top[0].count:
                rows = top[0].flat("diff").reshape((top[0].shape[0], -1))
                self.engine.scatter_add(dx.reshape((bottom[0].shape[0], -1)), self._index(bottom), rows)

    def _index(self, bottom: list[Blob]) -> Array:
        name, size = self.bottom_name(1), bottom[0].shape[0]

        def error(i: int, value: float) -> DataError:
            return DataError(f"index {value:g} at position {i} of {name} is outside 0 .. {size - 1}")

        return read_indices(self, bottom[1].data, size, error)
