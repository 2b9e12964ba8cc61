"""What recurrent layers share: bottoms and tops, the state between passes, products over whole sequences."""

from __future__ import annotations

from math import prod
from typing import Any, ClassVar

from caffepy.errors import ConfigError, ShapeError
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer


def sigmoid(xp, x):
    # A third faster than the exact one of sigmoid.py, and as stable; here nothing compares it with 0 or 1.
    return 0.5 * xp.tanh(0.5 * x) + 0.5


def add(xp, x, y):
    return x + y


def multiply(xp, x, y):
    return x * y


class Recurrent(Layer):
    """z_t = W_x x_t + b (+ W_static s) + W_h (m_t h_t-1), from which a subclass makes the states of step t.

    x (T, N, ...) with the trailing axes flattened to I, markers m (T, N) that are 0 where a sequence starts,
    optionally a static input s (N, ...) flattened to S; y (T, N, D), D = `recurrent_param.num_output`.
    Parameters: W_x (gates D, I), b (gates D), [W_static (gates D, S)], W_h (gates D, D).

    A pass starts from the final states of the one before, zero at first, and gradients stop there. With
    `expose_hidden` further bottoms give the initial states and further tops take the final ones, all
    (1, N, D); no gradient passes through either. Markers get none.
    """

    param_field = "recurrent_param"
    num_bottom = (2, None)
    num_top = (1, None)
    gates: ClassVar[int]
    """Rows of W_x and W_h for each element of the state."""
    state_names: ClassVar[tuple[str, ...]]
    """The states that pass from step to step; the first is h."""

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.recurrent_param
        if p.num_output <= 0:
            raise ConfigError("recurrent_param.num_output must be at least 1")
        self.size = p.num_output
        self.exposed = p.expose_hidden
        hidden = self.state_names if self.exposed else ()
        least = 2 + len(hidden)
        if len(bottom) not in (least, least + 1):
            initial = "".join(f", initial {name}" for name in hidden)
            raise ConfigError(
                f"{self.type} takes the bottoms input, markers[, static input]{initial}: "
                f"{least} or {least + 1}, {len(bottom)} given",
                hint="" if hidden else "expose_hidden: true adds bottoms and tops for the states.",
            )
        if len(top) != 1 + len(hidden):
            final = "".join(f", final {name}" for name in hidden)
            raise ConfigError(f"{self.type} takes the tops output{final}: {1 + len(hidden)}, {len(top)} given")
        self.has_static = len(bottom) > least
        self._check_bottoms(bottom)
        self.depth = prod(bottom[0].shape[2:])
        self.static_depth = prod(bottom[2].shape[1:]) if self.has_static else 0
        rows = self.gates * self.size
        self.add_blob((rows, self.depth), p.weight_filler)
        self.add_blob((rows,), p.bias_filler)
        if self.has_static:
            self.add_blob((rows, self.static_depth), p.weight_filler)
        self.recurrent_weight = len(self.blobs)
        self.add_blob((rows, self.size), p.weight_filler)
        self.carried: list[Array] = []
        self.allocated: tuple[int, int] | None = None

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self._check_bottoms(bottom)
        steps, items = bottom[0].shape[:2]
        if prod(bottom[0].shape[2:]) != self.depth:
            raise ShapeError(
                f"{self.bottom_name(0)} {bottom[0].shape} has {prod(bottom[0].shape[2:])} values a step, "
                f"the weights were made for {self.depth}"
            )
        if self.has_static and prod(bottom[2].shape[1:]) != self.static_depth:
            raise ShapeError(
                f"the static input {self.bottom_name(2)} {bottom[2].shape} has {prod(bottom[2].shape[1:])} "
                f"values an item, the weights were made for {self.static_depth}"
            )
        top[0].reshape(steps, items, self.size)
        for blob in top[1:]:
            blob.reshape(1, items, self.size)
        if self.allocated == (steps, items):
            return
        if self.allocated is None or self.allocated[1] != items:
            # States of other sequences mean nothing to these.
            self.carried = [self.new(items, self.size) for _ in self.state_names]
        self.allocated = steps, items
        self.z = self.new(steps, items, self.gates * self.size)
        """Sums before the activations; `step` may overwrite them with the activations."""
        self.dz = self.new(steps, items, self.gates * self.size)
        self.marked = self.new(steps, items, self.size)
        """h of the step before, multiplied by the marker."""
        self.states = [self.new(steps + 1, items, self.size) for _ in self.state_names]
        self.allocate(steps, items)

    def flops(self, bottom: list[Blob], top: list[Blob]) -> int:
        steps, items = bottom[0].shape[:2]
        return 2 * items * self.gates * self.size * (steps * (self.depth + self.size) + self.static_depth)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        engine, (steps, items) = self.engine, bottom[0].shape[:2]
        z = self.rows(self.z)
        engine.gemm(self._input(bottom), self.blobs[0].data.T, z)
        engine.map(add, z, self.blobs[1].data, out=z)
        if self.has_static:
            fixed = self.new(items, self.gates * self.size)
            engine.gemm(self._static(bottom), self.blobs[2].data.T, fixed)
            for t in range(steps):
                engine.map(add, self.z[t, ...], fixed, out=self.z[t, ...])
        for i, state in enumerate(self.states):
            state[0, ...] = bottom[2 + self.has_static + i].data[0, ...] if self.exposed else self.carried[i]
        recurrent = self.blobs[self.recurrent_weight].data.T
        hidden = self.states[0]
        for t in range(steps):
            marker = self.marker(bottom, t)
            engine.map(multiply, hidden[t, ...], marker, out=self.marked[t, ...])
            engine.gemm(self.marked[t, ...], recurrent, self.z[t, ...], accumulate=True)
            self.step(t, marker)
        self.output(top[0].data)
        for i, state in enumerate(self.states):
            (top[1 + i].data[0, ...] if self.exposed else self.carried[i])[...] = state[steps, ...]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[1]:
            raise ConfigError(
                f"{self.type} has no gradient for its markers {self.bottom_name(1)}",
                hint="Set propagate_down: false for this bottom.",
            )
        engine, (steps, items) = self.engine, bottom[0].shape[:2]
        dh = self.output_gradient(top[0].diff)
        carry = self.new(items, self.size)
        recurrent = self.blobs[self.recurrent_weight].data
        self.start_backward()
        for t in reversed(range(steps)):
            engine.map(add, dh[t, ...], carry, out=carry)
            marker = self.marker(bottom, t)
            self.step_gradient(t, carry)
            if t:
                engine.gemm(self.dz[t, ...], recurrent, carry)
                engine.map(multiply, carry, marker, out=carry)
        dz = self.rows(self.dz)
        self.add_product(0, dz, self._input(bottom))
        if self.param_propagate_down[1]:
            engine.add_sum_over_channels(dz, self.blobs[1].diff)
        self.add_product(self.recurrent_weight, dz, self.rows(self.marked))
        if propagate_down[0]:
            with self.written_as(bottom[0].diff, (steps * items, self.depth)) as dx:
                engine.gemm(dz, self.blobs[0].data, dx)
        if self.has_static:
            total = self.xp.sum(self.dz, axis=0)
            self.add_product(2, total, self._static(bottom))
            if propagate_down[2]:
                with self.written_as(bottom[2].diff, (items, self.static_depth)) as ds:
                    engine.gemm(total, self.blobs[2].data, ds)
        for blob, wanted in zip(bottom[2 + self.has_static :], propagate_down[2 + self.has_static :]):
            if wanted:
                blob.diff[...] = 0

    # What a subclass computes

    def allocate(self, steps: int, items: int) -> None:
        """Make further workspaces."""

    def step(self, t: int, marker: Array) -> None:
        """From z[t] and states[...][t], the states [t + 1]. `marker` is (N, D)."""
        raise NotImplementedError

    def output(self, y: Array) -> None:
        """The top from the states of all steps."""
        y[...] = self.states[0][1:, ...]

    def output_gradient(self, dy: Array) -> Array:
        """The gradient of h (T, N, D) that the top gives."""
        return dy

    def start_backward(self) -> None:
        """Before the last step's gradient."""

    def step_gradient(self, t: int, dh: Array) -> None:
        """dz[t] from the gradient of the h that step t made."""
        raise NotImplementedError

    # What the base provides

    def new(self, *shape: int) -> Array:
        return self.engine.zeros(prod(shape)).reshape(shape)

    def rows(self, array: Array) -> Array:
        """(T, N, K) as (T N, K)."""
        return array.reshape((array.shape[0] * array.shape[1], array.shape[2]))

    def marker(self, bottom: list[Blob], t: int) -> Array:
        """The markers of step t, (N, D)."""
        column = bottom[1].data[t, ...].reshape((-1, 1))
        return self.xp.broadcast_to(column, (column.shape[0], self.size))

    def add_product(self, i: int, dy: Array, x: Array) -> None:
        """Add dy^T x to the gradient of parameter i."""
        if self.param_propagate_down[i]:
            self.engine.gemm(dy.T, x, self.blobs[i].diff, accumulate=True)

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index != 1

    def state(self) -> dict[str, Any]:
        if self.exposed:
            return {}
        return {name: self.engine.to_host(value).copy() for name, value in zip(self.state_names, self.carried)}

    def set_state(self, state: dict[str, Any]) -> None:
        for name, value in zip(self.state_names, self.carried):
            if name in state:
                value[...] = self.engine.asarray(state[name])

    def _input(self, bottom: list[Blob]) -> Array:
        steps, items = bottom[0].shape[:2]
        return bottom[0].data.reshape((steps * items, self.depth))

    def _static(self, bottom: list[Blob]) -> Array:
        return bottom[2].data.reshape((bottom[2].shape[0], self.static_depth))

    def _check_bottoms(self, bottom: list[Blob]) -> None:
        shape = bottom[0].shape
        if len(shape) < 2:
            raise ShapeError(f"the input {self.bottom_name(0)} must be (T, N, ...), it is {shape}")
        if bottom[1].shape != shape[:2]:
            raise ShapeError(
                f"the markers {self.bottom_name(1)} must be (T, N) = {shape[:2]} as the input "
                f"{self.bottom_name(0)} {shape}, they are {bottom[1].shape}"
            )
        if self.has_static and bottom[2].shape[:1] != shape[1:2]:
            raise ShapeError(
                f"the static input {self.bottom_name(2)} must be (N, ...) with N = {shape[1]} as in "
                f"{self.bottom_name(0)} {shape}, it is {bottom[2].shape}"
            )
        for i, name in enumerate(self.state_names if self.exposed else (), 2 + self.has_static):
            expected = (1, shape[1], self.size)
            if bottom[i].shape != expected:
                raise ShapeError(
                    f"the initial {name} {self.bottom_name(i)} must be (1, N, num_output) = {expected}, "
                    f"it is {bottom[i].shape}"
                )
