"""Embed: rows of a table, looked up by index."""

from __future__ import annotations

from caffepy.errors import ConfigError, DataError
from caffepy.layers.labels import position, read_indices
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register


@register("Embed")
class Embed(Layer):
    """y[i] = W[x[i]] + b: indices of any shape (...), W (input_dim, num_output), y (..., num_output).

    A gather forward, a scatter-add backward. Indices are truncated towards zero and get no gradient; DataError for
    one outside 0 .. input_dim - 1. With `param { sparse: true }` the gradient of W is rows, and a step of the solver
    touches those that the batch has touched. Without an `input_dim` W has a row for each id that the bottom may hold,
    where that comes from TableData.
    """

    sparse_params = (0,)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.embed_param
        p.input_dim = p.input_dim or bottom[0].num_ids
        if p.num_output <= 0 or p.input_dim <= 0:
            raise ConfigError(f"num_output and input_dim must be at least 1, got {p.num_output} and {p.input_dim}")
        self.add_blob((p.input_dim, p.num_output), p.weight_filler)
        if p.bias_term:
            self.add_blob((p.num_output,), p.bias_filler)

    def allow_force_backward(self, bottom_index: int) -> bool:
        return True  # and then refused, as in Caffe

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].reshape((*bottom[0].shape, self.param.embed_param.num_output))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        index = self._indices(bottom)
        with self.written_as(top[0].data, (bottom[0].count, self.param.embed_param.num_output)) as y:
            self.engine.gather(self.blobs[0].data, index, y)
            if len(self.blobs) > 1:
                y += self.blobs[1].data

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            raise ConfigError("Embed cannot pass a gradient to its indices", hint="Set propagate_down: false.")
        dy = top[0].diff.reshape((bottom[0].count, self.param.embed_param.num_output))
        table = self.blobs[0]
        if self.param_propagate_down[0] and table.rows is not None:
            table.rows.add(self._indices(bottom), dy)
        elif self.param_propagate_down[0]:
            self.engine.scatter_add(table.diff, self._indices(bottom), dy)
        if len(self.blobs) > 1 and self.param_propagate_down[1]:
            self.blobs[1].diff[...] += self.xp.sum(dy, axis=0)

    def _indices(self, bottom: list[Blob]) -> Array:
        name, shape, size = self.bottom_name(0), bottom[0].shape, self.param.embed_param.input_dim

        def error(i: int, value: float) -> DataError:
            return DataError(
                f"index {value:g} at position {position(i, shape)} of {name} is outside 0 .. {size - 1}",
                hint="embed_param.input_dim is the number of rows.",
            )

        return read_indices(self, bottom[0].data, size, error).reshape((-1,))
