"""Attention: y = softmax(scale q k^T) v, head by head."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from caffepy.errors import ConfigError, ShapeError
from caffepy.layers import padding
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register
from caffepy.net.stepwise import Stepwise
from caffepy.proto.caffe_pb2 import TEST, TRAIN

LOWEST = -3e38
"""Above -inf: the largest score where no key may be seen."""
TILE = 1 << 17
"""Weights that are computed at once, on the processor's caches."""


def weigh(xp, q: Array, k: Array, scale: float, hidden: Array | None) -> Array:
    """softmax(scale q k^T) (n, h, T, S); 0 where `hidden`, everywhere where all are. q (n, h, T, d), k (n, h, S, d)."""
    s = xp.matmul(q * scale, xp.matrix_transpose(k))
    if hidden is not None:
        s = xp.where(hidden, -xp.inf, s)
    s -= xp.clip(xp.max(s, axis=-1, keepdims=True), LOWEST, None)
    s = xp.exp(s)
    total = xp.sum(s, axis=-1, keepdims=True)
    s *= 1 / (total + (total == 0))
    return s


def weigh_grad(xp, dp: Array, p: Array) -> Array:
    """The gradient of the scores, from that of the weights."""
    dp -= xp.sum(dp * p, axis=-1, keepdims=True)
    dp *= p
    return dp


@register("Attention")
class Attention(Layer, Stepwise):
    """y_t = sum over s of p_ts v_s, p_t = softmax over s of scale q_t k_s, in `num_heads` parts (Vaswani et al. 2017).

    Bottoms x (T, N, 3 C), which is q, k, v side by side, or q (T, N, C), k (S, N, C), v (S, N, D); with
    `attention_param.axis: 1` (N, T, C) and so on. A last bottom says which keys are there: lengths (N,), or 1 and 0
    (S, N) in the order of k. With `causal` step t sees the keys up to t, counted from the ends where S > T. Where no
    key is seen y is 0. Projections are InnerProducts around the layer.

    Stepwise: q, k and v of the next steps; keys and values of the steps before are kept, all are seen.
    """

    num_bottom = (1, 4)
    in_place = "refused"

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.attention_param
        if p.num_heads < 1:
            raise ConfigError("attention_param.num_heads must be at least 1")
        if p.axis not in (0, 1):
            raise ConfigError(f"attention_param.axis must be 0 or 1, it is {p.axis}", hint="It says where time is.")
        if not 0 <= p.dropout_ratio < 1:
            raise ConfigError(f"attention_param.dropout_ratio must lie in 0 .. 1, below 1, it is {p.dropout_ratio:g}")
        self.axis, self.num_heads = p.axis, p.num_heads
        self.packed, self.masked = len(bottom) < 3, len(bottom) % 2 == 0
        self.keep = 1 - p.dropout_ratio if self.phase == TRAIN else 1.0
        self.capacity = self.seen = 0
        self.keys: Array = None
        self.values: Array = None
        self.there: Array = None

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        given = bottom[: 1 if self.packed else 3]
        for i, blob in enumerate(given):
            if len(blob.shape) != 3:
                order = "(T, N, C)" if self.axis == 0 else "(N, T, C)"
                raise ShapeError(f"{self.bottom_name(i)} must be {order}, it is {blob.shape}")
        if self.packed and bottom[0].shape[2] % 3:
            raise ShapeError(f"{self.bottom_name(0)} {bottom[0].shape} must hold queries, keys and values side by side")
        shapes = [(*b.shape[:2], b.shape[2] // 3) for b in given] * 3 if self.packed else [b.shape for b in given]
        q, k, v = shapes
        items = q[1 - self.axis]
        if q[2] != k[2] or k[:2] != v[:2] or k[1 - self.axis] != items:
            raise ShapeError(f"queries {q}, keys {k} and values {v} do not fit each other")
        for depth in {q[2], v[2]}:
            if depth % self.num_heads:
                raise ShapeError(f"vectors of {depth} values have no {self.num_heads} heads of one length")
        if self.masked:
            padding.check_shape(self, len(bottom) - 1, bottom[-1], (k[0], k[1]), self.axis)
        p = self.param.attention_param
        self.scale = p.scale if p.HasField("scale") else (q[2] // self.num_heads) ** -0.5
        self.lengths = q[self.axis], k[self.axis]
        top[0].reshape(*q[:2], v[2])
        if not self.capacity:
            self.weights = self._zeros(items, self.num_heads, *self.lengths)
            self.dropped = self._zeros(*self.weights.shape) if self.keep < 1 else None

    def divisible(self) -> bool:
        return self.axis == 1 and self.keep == 1 and self.phase != TEST  # where it may go step by step

    def flops(self, bottom: list[Blob], top: list[Blob]) -> int:
        depths = bottom[0].shape[2] // (3 if self.packed else 1) + top[0].shape[2]
        return 2 * self.lengths[0] * self.lengths[1] * top[0].shape[1 - self.axis] * depths

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        q, k, v = self._heads(bottom, "data")
        (y,) = self._split(top[0].data)
        if self.capacity:
            self._step(q, k, v, y, bottom)
            return
        self.hidden = self._hidden(bottom, *self.lengths)
        if self.dropped is not None:
            self.engine.random_mask(self.keep, self.dropped)
            self.dropped *= 1 / self.keep

        def part(xp: Any, at: slice) -> None:
            p = weigh(xp, q[at], k[at], self.scale, self._of(self.hidden, at))
            self.weights[at] = p
            y[at] = xp.matmul(p if self.dropped is None else p * self.dropped[at], v[at])

        self._over_items(part)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if self.masked and propagate_down[-1]:
            raise ConfigError(f"Attention has no gradient for {self.bottom_name(len(bottom) - 1)}, which masks")
        q, k, v = self._heads(bottom, "data")
        dq, dk, dv = self._heads(bottom, "diff")
        (dy,) = self._split(top[0].diff)
        to_q, to_k, to_v = propagate_down[:1] * 3 if self.packed else propagate_down[:3]

        def part(xp: Any, at: slice) -> None:
            p, mask = self.weights[at], None if self.dropped is None else self.dropped[at]
            if to_v:
                dv[at] = xp.matmul(xp.matrix_transpose(p if mask is None else p * mask), dy[at])
            if to_q or to_k:
                dp = xp.matmul(dy[at], xp.matrix_transpose(v[at]))
                ds = weigh_grad(xp, dp if mask is None else dp * mask, p)
                ds *= self.scale
                if to_q:
                    dq[at] = xp.matmul(ds, k[at])
                if to_k:
                    dk[at] = xp.matmul(xp.matrix_transpose(ds), q[at])

        self._over_items(part)

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index < (1 if self.packed else 3)

    # Step by step

    def restart(self, capacity: int) -> None:
        self.capacity, self.seen = capacity, 0
        self.keys = self.values = self.there = None

    def choose(self, index: Array) -> None:
        if self.keys is not None:
            self.keys, self.values, self.there = (
                self.xp.take(a, index, axis=0) for a in (self.keys, self.values, self.there)
            )

    def state(self) -> dict[str, Any]:
        if not self.capacity:
            return {}
        found: dict[str, Any] = {"capacity": self.capacity, "seen": self.seen}
        if self.keys is not None:
            for name in ("keys", "values"):
                found[name] = self.engine.to_host(getattr(self, name)[:, :, : self.seen, :]).copy()
            found["there"] = self.engine.to_host(self.there[:, : self.seen]).copy()
        return found

    def set_state(self, state: dict[str, Any]) -> None:
        self.restart(int(state.get("capacity", 0)))
        if "keys" in state:
            self.seen = seen = int(state["seen"])
            keys, values, there = (self.engine.asarray(state[name]) for name in ("keys", "values", "there"))
            items, heads, _, depth = keys.shape
            self._make_room(items, heads, depth, values.shape[-1])
            self.keys[:, :, :seen, :], self.values[:, :, :seen, :], self.there[:, :seen] = keys, values, there

    def _step(self, q: Array, k: Array, v: Array, y: Array, bottom: list[Blob]) -> None:
        xp, (n, h, steps, d) = self.xp, k.shape
        if self.keys is None or self.keys.shape[0] != n:
            self.seen = 0
            self._make_room(n, h, d, v.shape[-1])
        end = self.seen + steps
        if end > self.capacity:
            raise ConfigError(f"the sequence has more than the {self.capacity} steps that are kept")
        self.keys[:, :, self.seen : end, :] = k
        self.values[:, :, self.seen : end, :] = v
        self.there[:, self.seen : end] = (
            xp.astype(padding.present(self, len(bottom) - 1, bottom[-1], steps, self.axis), xp.float32)
            if self.masked
            else 1.0
        )
        self.seen = end
        hidden = xp.reshape(self.there[:, :end], (n, 1, 1, end)) == 0 if self.masked else None
        if self.param.attention_param.causal and q.shape[2] > 1:
            later = self._later(q.shape[2], end)
            hidden = later if hidden is None else hidden | later
        p = weigh(xp, q, self.keys[:, :, :end, :], self.scale, hidden)
        y[...] = xp.matmul(p, self.values[:, :, :end, :])

    # Within

    def _make_room(self, items: int, heads: int, depth: int, value_depth: int) -> None:
        """For the keys and values of `capacity` steps."""
        self.keys, self.values = (self._zeros(items, heads, self.capacity, each) for each in (depth, value_depth))
        self.there = self._zeros(items, self.capacity)

    def _heads(self, bottom: list[Blob], which: str) -> list[Array]:
        """q, k and v, or their gradients, as views (N, h, T, d)."""
        arrays = [getattr(blob, which) for blob in bottom[: 1 if self.packed else 3]]
        if self.packed:
            depth = bottom[0].shape[2] // 3
            arrays = [arrays[0][:, :, i * depth : (i + 1) * depth] for i in range(3)]
        return self._split(*arrays)

    def _split(self, *arrays: Array) -> list[Array]:
        order = (1, 2, 0, 3) if self.axis == 0 else (0, 2, 1, 3)
        h = self.num_heads
        return [self.xp.permute_dims(a.reshape((*a.shape[:2], h, a.shape[2] // h)), order) for a in arrays]

    def _zeros(self, *shape: int) -> Array:
        return self.engine.zeros(prod(shape)).reshape(shape)

    def _later(self, steps: int, keys: int) -> Array:
        """(1, 1, T, S): which keys lie behind the step."""
        xp = self.xp
        last = xp.reshape(xp.arange(steps), (1, 1, -1, 1)) + (keys - steps)
        return xp.reshape(xp.arange(keys), (1, 1, 1, -1)) > last

    def _hidden(self, bottom: list[Blob], steps: int, keys: int) -> Array | None:
        """(1 or N, 1, 1 or T, S): which keys are not seen."""
        later = self._later(steps, keys) if self.param.attention_param.causal else None
        if not self.masked:
            return later
        there = padding.present(self, len(bottom) - 1, bottom[-1], keys, self.axis)
        absent = self.xp.reshape(~there, (there.shape[0], 1, 1, keys))
        return absent if later is None else absent | later

    @staticmethod
    def _of(hidden: Array | None, at: slice) -> Array | None:
        return hidden if hidden is None or hidden.shape[0] == 1 else hidden[at]

    def _over_items(self, part: Callable[[Any, slice], None]) -> None:
        """Some items after the other, on threads where the engine has them."""
        items, size = self.weights.shape[0], prod(self.weights.shape)
        parts = min(items, -(-size // TILE)) if self.engine.divides else 1
        edges = [items * i // max(1, parts) for i in range(parts + 1)]
        self.engine.run(lambda i: part(self.xp, slice(edges[i], edges[i + 1])), parts)
