"""BatchReindex and Filter: choose items of a batch."""

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


@register("Filter")
class Filter(Layer):
    """The items of all but the last bottom whose selector, the last bottom (N) or (N, 1, ...), is not 0.

    The tops have N items when the net is built, and the true number after forward.
    """

    in_place = "refused"
    recordable = False
    num_bottom = (2, None)
    num_top = (1, None)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(top) != len(bottom) - 1:
            raise ConfigError(f"{len(bottom)} bottoms need {len(bottom) - 1} top(s), one for each but the selector")
        for blob, source in zip(top, bottom):
            blob.reshape_like(source)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        selector = bottom[-1].shape
        if any(d != 1 for d in selector[1:]):
            raise ShapeError(
                f"the selector {self.bottom_name(len(bottom) - 1)} must be (N) or (N, 1, ...), it is {selector}"
            )
        for i, blob in enumerate(bottom[:-1]):
            if blob.shape[:1] != selector[:1]:
                raise ShapeError(
                    f"{self.bottom_name(i)} {blob.shape} and the selector {selector} differ in their items"
                )

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.kept = self.xp.nonzero(bottom[-1].data.reshape((-1,)))[0]
        for blob, source in zip(top, bottom):
            blob.reshape((self.kept.shape[0], *source.shape[1:]))
            blob.data[...] = source.data[self.kept]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[-1]:
            raise ConfigError("Filter cannot pass a gradient to its selector", hint="Set propagate_down: false.")
        for blob, source, wanted in zip(top, bottom, propagate_down):
            if wanted:
                source.diff[...] = 0
                source.diff[self.kept] = blob.diff
