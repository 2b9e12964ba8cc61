"""PositionalEmbedding: each step is told where it is, by a sum or by a rotation."""

from __future__ import annotations

from typing import Any

import numpy as np

from caffepy.errors import ConfigError, ShapeError
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register
from caffepy.net.stepwise import Stepwise
from caffepy.proto.caffe_pb2 import TEST, PositionalEmbeddingParameter


def angles(first: int, steps: int, depth: int, base: float) -> np.ndarray:
    """(T, depth / 2): t base^(-2 i / depth), t from `first` on."""
    return np.arange(first, first + steps)[:, None] * base ** (-np.arange(0, depth, 2) / depth)


def sinusoids(first: int, steps: int, depth: int, base: float) -> np.ndarray:
    """(T, depth): the sines of `angles` at even places, the cosines at odd ones."""
    found = angles(first, steps, depth, base)
    return np.stack([np.sin(found), np.cos(found)], axis=-1).reshape(steps, -1)[:, :depth]


@register("PositionalEmbedding")
class PositionalEmbedding(Layer, Stepwise):
    """y_t = x_t + P_t, or x_t rotated by angles that grow with t. x (T, N, C), with `axis: 1` (N, T, C).

    `positional_embedding_param.mode` LEARNED: P (max_length, C) is the parameter. SINUSOIDAL: P_t,2i = sin(t
    base^(-2i/C)), P_t,2i+1 = cos of the same (Vaswani et al. 2017). ROTARY: in each of `num_heads` parts of d values
    the pairs (x_i, x_i+d/2), with `interleaved` (x_2i, x_2i+1), turn by t base^(-2i/d) (Su et al. 2021); any number of
    bottoms, queries and keys, and as many tops. May run in place.

    Stepwise: t goes on where the pass before has ended.
    """

    num_bottom = (1, None)
    num_top = (1, None)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, Mode = self.param.positional_embedding_param, PositionalEmbeddingParameter.Mode
        if p.axis not in (0, 1):
            raise ConfigError(
                f"positional_embedding_param.axis must be 0 or 1, it is {p.axis}", hint="It says where time is."
            )
        if len(top) != len(bottom) or (len(bottom) > 1 and p.mode != Mode.ROTARY):
            raise ConfigError(
                f"PositionalEmbedding takes one bottom and one top, with mode: ROTARY as many tops as bottoms: "
                f"{len(bottom)} and {len(top)} given"
            )
        if p.num_heads < 1:
            raise ConfigError("positional_embedding_param.num_heads must be at least 1")
        if p.base <= 0:
            raise ConfigError(f"positional_embedding_param.base must be above 0, it is {p.base:g}")
        self.axis, self.mode, self.first, self.steps = p.axis, p.mode, 0, 0
        self.capacity = 0
        self._check(bottom)
        if p.mode == Mode.LEARNED:
            if not p.max_length:
                raise ConfigError("positional_embedding_param.max_length must be at least 1")
            self.add_blob((p.max_length, bottom[0].shape[2]), p.weight_filler)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self._check(bottom)
        for b, t in zip(bottom, top):
            t.reshape_like(b)
        self.steps = bottom[0].shape[self.axis]
        if self.blobs:
            self._check_length(self.steps)

    def divisible(self) -> bool:
        return self.axis == 1 and self.phase != TEST  # where it may go step by step

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        for b, t in zip(bottom, top):
            if self.mode == PositionalEmbeddingParameter.ROTARY:
                self._turn(b.data, t.data, 1.0)
            else:
                t.data[...] = b.data + self._along(self._table(b.shape[2]))
        self.first += self.steps if self.capacity else 0

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        for b, t, wanted in zip(bottom, top, propagate_down):
            if self.blobs and self.param_propagate_down[0]:
                self.blobs[0].diff[: self.steps, :] += self.xp.sum(t.diff, axis=1 - self.axis)
            if not wanted:
                continue
            if self.mode == PositionalEmbeddingParameter.ROTARY:
                self._turn(t.diff, b.diff, -1.0)
            elif t is not b:
                b.diff[...] = t.diff

    # Step by step

    def restart(self, capacity: int) -> None:
        self.capacity, self.first = capacity, 0

    def choose(self, index: Array) -> None:
        pass

    def most_steps(self) -> int:
        return self.blobs[0].shape[0] if self.blobs else 0

    def state(self) -> dict[str, Any]:
        return {"capacity": self.capacity, "first": self.first} if self.capacity else {}

    def set_state(self, state: dict[str, Any]) -> None:
        self.capacity, self.first = int(state.get("capacity", 0)), int(state.get("first", 0))

    # Within

    def rotation(self, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """Cosines and sines (T, d / 2) of this pass's steps."""
        p = self.param.positional_embedding_param
        found = angles(self.first, self.steps, depth // p.num_heads, p.base)
        return np.cos(found), np.sin(found)

    def added(self, depth: int) -> np.ndarray:
        """SINUSOIDAL: what is added to this pass's steps (T, C)."""
        return sinusoids(self.first, self.steps, depth, self.param.positional_embedding_param.base)

    def _table(self, depth: int) -> Array:
        if not self.blobs:
            return self.engine.asarray(self.added(depth))
        self._check_length(self.first + self.steps)
        return self.blobs[0].data[self.first : self.first + self.steps, :]

    def _along(self, table: Array) -> Array:
        return table[:, None, ...] if self.axis == 0 else table[None, ...]

    def _turn(self, x: Array, y: Array, direction: float) -> None:
        p, (*outer, depth) = self.param.positional_embedding_param, x.shape
        cos, sin = (self.engine.asarray(a) for a in self.rotation(depth))
        cos, sin = self._along(cos[:, None, :]), self._along(sin[:, None, :]) * direction
        x, y = (a.reshape((*outer, p.num_heads, depth // p.num_heads)) for a in (x, y))
        half = depth // p.num_heads // 2
        first, second = (slice(None, None, 2), slice(1, None, 2)) if p.interleaved else (slice(half), slice(half, None))
        a, b = x[..., first], x[..., second]
        turned = a * cos - b * sin, a * sin + b * cos
        y[..., first], y[..., second] = turned

    def _check(self, bottom: list[Blob]) -> None:
        p = self.param.positional_embedding_param
        for i, blob in enumerate(bottom):
            if len(blob.shape) != 3 or blob.shape[:2] != bottom[0].shape[:2]:
                order = "(T, N, C)" if self.axis == 0 else "(N, T, C)"
                raise ShapeError(f"{self.bottom_name(i)} must be {order}, it is {blob.shape}")
            if self.mode == PositionalEmbeddingParameter.ROTARY and blob.shape[2] % (2 * p.num_heads):
                raise ShapeError(f"{p.num_heads} heads of {blob.shape[2]} values cannot be cut into pairs")
            if self.blobs and blob.shape[2] != self.blobs[0].shape[1]:
                raise ShapeError(
                    f"{self.bottom_name(i)} {blob.shape} has vectors of {blob.shape[2]} values, the table of "
                    f"{self.blobs[0].shape[1]}"
                )

    def _check_length(self, steps: int) -> None:
        most = self.blobs[0].shape[0]
        if steps > most:
            raise ShapeError(
                f"{self.bottom_name(0)} has {steps} steps, the table of positions {most}",
                hint="positional_embedding_param.max_length is the number of rows.",
            )
