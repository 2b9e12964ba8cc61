"""Embed: rows of a table, looked up by index."""

from __future__ import annotations

from math import prod

from caffepy.errors import ConfigError, DataError, ShapeError
from caffepy.layers.labels import position, read_indices
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register
from caffepy.net.spread import over_processes
from caffepy.proto.caffe_pb2 import TEST, Combine


@register("Embed")
class Embed(Layer):
    """y[i] = W[x[i]] + b: indices of any shape (...), W (input_dim, num_output), y (..., num_output).

    With `combine: SUM` or `MEAN` the last axis of x is a list, whose rows are added up or averaged, y (..., num_output)
    without that axis; negative indices fill lists up and count for nothing, nor do those that are 0 in a second bottom,
    the mask of x (`NAME_mask` of TableData). The mean of none is 0.

    A gather forward, a scatter-add backward. Indices are truncated towards zero and get no gradient; DataError for
    one outside 0 .. input_dim - 1. With `param { sparse: true }` the gradient of W is rows, and a step of the solver
    touches those that the batch has touched; with `spread: true` moreover each of several processes keeps a part of
    the rows, and gets those of a batch from the others. Without an `input_dim` W has a row for each id that the bottom
    may hold, where that comes from TableData.
    """

    num_bottom = (1, 2)
    sparse_params = (0,)
    in_place = "refused"

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.embed_param
        p.input_dim = p.input_dim or bottom[0].num_ids
        if p.num_output <= 0 or p.input_dim <= 0:
            raise ConfigError(f"num_output and input_dim must be at least 1, got {p.num_output} and {p.input_dim}")
        self._add_table()
        if p.bias_term:
            self.add_blob((p.num_output,), p.bias_filler)
        self.combine = p.combine
        if self.combine and not bottom[0].shape:
            raise ShapeError(f"combine needs lists of indices (..., L), {self.bottom_name(0)} has no axis")
        if len(bottom) > 1 and not self.combine:
            raise ConfigError("Embed has a mask, but no lists", hint="Set embed_param { combine: SUM } or MEAN.")

    def _add_table(self) -> None:
        p, specs = self.param.embed_param, self.param.param
        table = over_processes(p.input_dim) if specs and specs[0].spread else None
        if table is None:
            self.add_blob((p.input_dim, p.num_output), p.weight_filler)
            return
        with table.random():
            self.add_blob((table.kept, p.num_output), p.weight_filler).spread = table

    def allow_force_backward(self, bottom_index: int) -> bool:
        return True  # and then refused, as in Caffe

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.check_same_shape(bottom)
        shape = bottom[0].shape[:-1] if self.combine else bottom[0].shape
        top[0].reshape((*shape, self.param.embed_param.num_output))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        index, width = self._indices(bottom), self.param.embed_param.num_output
        with self.written_as(top[0].data, (prod(top[0].shape[:-1]), width)) as y:
            if self.combine:
                y[...] = self._combined(index, self._shares(bottom))
            else:
                self._gather(index, y)
            if len(self.blobs) > 1:
                y += self.blobs[1].data

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if any(propagate_down):
            raise ConfigError("Embed cannot pass a gradient to its indices", hint="Set propagate_down: false.")
        dy = top[0].diff.reshape((prod(top[0].shape[:-1]), self.param.embed_param.num_output))
        if self.param_propagate_down[0]:
            index, rows = self._indices(bottom), dy
            if self.combine:
                shares = self._shares(bottom)
                rows = (dy[:, None, :] * shares[:, :, None]).reshape((index.shape[0], dy.shape[1]))
                listed = shares.reshape((-1,)) > 0  # a row that is in no list is not touched
                index, rows = index[listed], rows[listed]
            if self.blobs[0].rows is not None:
                self.blobs[0].rows.add(index, rows)
            else:
                self.engine.scatter_add(self.blobs[0].diff, index, rows)
        if len(self.blobs) > 1 and self.param_propagate_down[1]:
            self.blobs[1].diff[...] += self.xp.sum(dy, axis=0)

    def _indices(self, bottom: list[Blob]) -> Array:
        name, shape, size = self.bottom_name(0), bottom[0].shape, self.param.embed_param.input_dim

        def error(i: int, value: float) -> DataError:
            return DataError(
                f"index {value:g} at position {position(i, shape)} of {name} is outside 0 .. {size - 1}",
                hint="embed_param.input_dim is the number of rows.",
            )

        given = bottom[0].data
        if self.combine:
            given = self.xp.where(given < 0, self.xp.zeros_like(given), given)
        return read_indices(self, given, size, error).reshape((-1,))

    def _gather(self, index: Array, out: Array) -> None:
        """The rows of the table at these indices (n,)."""
        table = self.blobs[0]
        if table.spread is None:
            self.engine.gather(table.data, index, out)
        else:
            share = table.spread.share
            out[...] = self.xp.asarray(share.rows(table.name, table.data, index, alone=self.phase == TEST))

    def _shares(self, bottom: list[Blob]) -> Array:
        """The factor of each row in its list (n, L)."""
        x = bottom[0].data
        listed = x >= 0 if len(bottom) == 1 else (x >= 0) & (bottom[1].data != 0)
        listed = self.xp.astype(listed.reshape((prod(x.shape[:-1]), x.shape[-1])), x.dtype)
        if self.combine == Combine.MEAN:
            return listed / self.xp.maximum(self.xp.sum(listed, axis=1, keepdims=True), 1.0)
        return listed

    def _combined(self, index: Array, shares: Array) -> Array:
        """The rows of each list, weighted and added up (n, num_output)."""
        width = self.param.embed_param.num_output
        rows = self.engine.zeros(index.shape[0] * width).reshape((index.shape[0], width))
        self._gather(index, rows)
        return self.xp.sum(rows.reshape((*shares.shape, width)) * shares[:, :, None], axis=1)
