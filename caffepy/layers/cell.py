"""Cell: one direction of one layer of a recurrent net, over all steps of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

from caffepy.engine import Engine
from caffepy.net.blob import Array
from caffepy.net.layer import Layer

LEAST_ITEMS, MOST_PARTS = 32, 8
"""Of a part of a batch, whose steps one thread takes without waiting for others; and how many there are."""


def add(xp, x, y):
    return x + y


def multiply(xp, x, y):
    return x * y


def choose(xp, there, new, old):
    return xp.where(there != 0, new, old)


def absent_share(xp, there, x):
    return xp.where(there != 0, 0 * x, x)


@dataclass
class Given:
    """What a pass over time reads."""

    x: Array
    """(T N, I)."""
    static: Array | None = None
    """(N, S), a further input of every step."""
    kept: Array | None = None
    """(T, N, 1): the factor of the states before each step, 0 where a sequence starts."""
    there: Array | None = None
    """(T, N, 1): 0 where a step is padding, which leaves the states as they are and puts out 0."""


class Cell:
    """z_t = W_x x_t + b (+ W_static s) + W_h (kept_t h_t-1), from which a subclass makes the states after step t.

    Parameters, added to the layer's: W_x (gates D, I), b (gates D), [W_static (gates D, S)], W_h (gates D, D) and what
    a subclass adds. With `reverse` the last step is the first. Passes over time go over parts of the batch, side by
    side; the parts follow from the batch alone.
    """

    gates: ClassVar[int]
    """Rows of W_x and W_h for each element of the state."""
    state_names: ClassVar[tuple[str, ...]]
    """The states that pass from step to step; the first is h."""
    keeps_h: ClassVar[bool] = False
    """Whether h after a step depends on h before it beside what W_h makes of that."""
    halved: ClassVar[int] = 0
    """Of how many gates, the first ones, z has half the sum: see `Engine.lstm`."""

    def __init__(self, layer: Layer, depth: int, static_depth: int, reverse: bool):
        self.layer, self.engine, self.xp = layer, layer.engine, layer.xp
        p = layer.param.recurrent_param
        self.depth, self.static_depth, self.reverse, self.size = depth, static_depth, reverse, p.num_output
        self.first = len(layer.blobs)
        self.rows = self.gates * self.size
        layer.add_blob((self.rows, depth), p.weight_filler)
        layer.add_blob((self.rows,), p.bias_filler)
        if static_depth:
            layer.add_blob((self.rows, static_depth), p.weight_filler)
        self.recurrent_weight = len(layer.blobs) - self.first
        layer.add_blob((self.rows, self.size), p.weight_filler)
        self.further = len(layer.blobs) - self.first
        """The first parameter that a subclass adds."""

    def parameter(self, i: int) -> Array:
        return self.layer.blobs[self.first + i].data

    def learns(self, i: int) -> bool:
        return self.layer.param_propagate_down[self.first + i]

    def gradient(self, i: int) -> Array:
        return self.layer.blobs[self.first + i].diff

    def reshape(self, steps: int, items: int) -> None:
        self.steps, self.items = steps, items
        self.z = self.new(steps, items, self.rows)
        """Sums before the activations, then the activations."""
        self.marked = self.new(steps, items, self.size)
        """h of the step before, times kept."""
        self.states = [self.new(steps + 1, items, self.size) for _ in self.state_names]
        self.carry = [self.new(items, self.size) for _ in self.state_names]
        """Backward: gradients of the states."""
        self.through = [self.new(items, self.size) for _ in self.state_names]
        """Their share that passes by a step that is padding."""
        self.weights = self.new(self.size, self.rows)
        """W_h as the passes read it: transposed, halved where sums are."""
        self.input_weights = self.new(self.depth, self.rows)
        """W_x, likewise."""
        self.allocate(steps, items)

    def forward(self, given: Given, initial: Sequence[Array | None], y: Array, final: Sequence[Array]) -> None:
        """y (T, N, D) and the final states (N, D), of x and the initial states, None for zero."""
        self.given = given
        self.project()
        self.prepare(self.weights, self.parameter(self.recurrent_weight).T)
        for state, value in zip(self.states, initial):
            state[self.steps if self.reverse else 0, ...] = 0 if value is None else value

        def part(engine: Engine, at: slice) -> None:
            hidden = self.states[0]
            for t in self.order:
                h = hidden[self.before(t), at, ...]
                if given.kept is not None:
                    engine.map(multiply, h, given.kept[t, at, ...], out=self.marked[t, at, ...])
                    h = self.marked[t, at, ...]
                self.step(engine, t, at, h)
                if given.there is not None:
                    for state in self.states:
                        new = state[self.after(t), at, ...]
                        engine.map(choose, given.there[t, at, ...], new, state[self.before(t), at, ...], out=new)

        self._over_items(part)
        self.output(y)
        if given.there is not None:
            self.engine.map(multiply, y, given.there, out=y)
        for state, into in zip(self.states, final):
            into[...] = state[0 if self.reverse else self.steps, ...]

    def backward(self, dy: Array, dfinal: Sequence[Array | None], to_initial: bool) -> None:
        """Parameters' gradients, and what those of the inputs are made of.

        `dfinal` are the gradients of the final states (N, D), None for zero; those of the initial ones are in `carry`,
        `to_initial`.
        """
        given, recurrent = self.given, self.parameter(self.recurrent_weight)
        if given.there is not None:
            dy = dy * given.there
        dh = self.output_gradient(dy)
        for carry, start in zip(self.carry, dfinal):
            carry[...] = 0 if start is None else start

        def part(engine: Engine, at: slice) -> None:
            carry = [c[at, ...] for c in self.carry]
            through = [c[at, ...] for c in self.through]
            for t in reversed(self.order):
                engine.map(add, dh[t, at, ...], carry[0], out=carry[0])
                if given.there is not None:
                    for c, aside in zip(carry, through):
                        engine.map(absent_share, given.there[t, at, ...], c, out=aside)
                        engine.map(multiply, c, given.there[t, at, ...], out=c)
                self.step_gradient(engine, t, at, carry)
                if t != self.order[0] or to_initial:
                    sums = self.recurrent_sums()[t, at, ...]
                    engine.gemm(sums, recurrent, carry[0], accumulate=self.keeps_h)
                if given.kept is not None:
                    engine.map(multiply, carry[0], given.kept[t, at, ...], out=carry[0])
                if given.there is not None:
                    for c, aside in zip(carry, through):
                        engine.map(add, c, aside, out=c)

        self._over_items(part)
        self.parameter_gradients()

    def static_gradient(self, ds: Array, add: bool) -> None:
        """ds (N, S) = its gradient, or += with `add`."""
        self.engine.gemm(self.static_sums(), self.parameter(2), ds, accumulate=add)

    # What a subclass computes

    def allocate(self, steps: int, items: int) -> None:
        """Make further workspaces."""

    def step(self, engine: Engine, t: int, at: slice, h: Array) -> None:
        """The states after step t, of z[t] and of h before it, times kept."""
        raise NotImplementedError

    def output(self, y: Array) -> None:
        """The top from the states of all steps."""
        y[...] = self.hidden()

    def output_gradient(self, dy: Array) -> Array:
        """The gradient of h (T, N, D) that the top gives."""
        return dy

    def step_gradient(self, engine: Engine, t: int, at: slice, carry: list[Array]) -> None:
        """Gradients of the sums of step t, from `carry`, those of the states after it.

        These become gradients of the states before it, but for what W_h gives to that of h.
        """
        raise NotImplementedError

    def recurrent_sums(self) -> Array:
        """(T, N, gates D): gradients of what W_h adds to the sums."""
        raise NotImplementedError

    def project(self) -> None:
        """z = W_x x + b (+ W_static s), for all steps."""
        engine, given, z = self.engine, self.given, self.flat(self.z)
        self.prepare(self.input_weights, self.parameter(0).T)
        engine.gemm(given.x, self.input_weights, z)
        bias = self.new(self.rows)
        self.prepare(bias, self.input_bias())
        engine.map(add, z, bias, out=z)
        if given.static is not None:
            weights, fixed = self.new(self.static_depth, self.rows), self.new(self.items, self.rows)
            self.prepare(weights, self.parameter(2).T)
            engine.gemm(given.static, weights, fixed)
            engine.map(add, self.z, fixed[None, ...], out=self.z)

    def input_bias(self) -> Array:
        return self.parameter(1)

    def parameter_gradients(self) -> None:
        raise NotImplementedError

    def input_gradient(self, dx: Array, add: bool) -> None:
        """dx (T N, I) = its gradient, or += with `add`."""
        raise NotImplementedError

    def static_sums(self) -> Array:
        """(N, gates D): the gradients of the sums, over all steps."""
        raise NotImplementedError

    # What the base provides

    @property
    def order(self) -> range:
        return range(self.steps - 1, -1, -1) if self.reverse else range(self.steps)

    def before(self, t: int) -> int:
        """Where in `states` those before step t are."""
        return t + self.reverse

    def after(self, t: int) -> int:
        return t + (not self.reverse)

    def hidden(self) -> Array:
        """h after every step (T, N, D)."""
        return self.states[0][: self.steps, ...] if self.reverse else self.states[0][1:, ...]

    def previous(self) -> Array:
        """What W_h has been multiplied with (T, N, D)."""
        if self.given.kept is not None:
            return self.marked
        return self.states[0][1:, ...] if self.reverse else self.states[0][: self.steps, ...]

    def prepare(self, out: Array, weights: Array) -> None:
        """Copy weights (or a bias) whose gates lie on the last axis, halved where sums are: exact, in binary."""
        out[...] = weights
        halved = out[..., : self.halved * self.size]
        halved *= 0.5

    def new(self, *shape: int) -> Array:
        return self.engine.zeros(prod(shape)).reshape(shape)

    def flat(self, array: Array) -> Array:
        """(T, N, K) as (T N, K)."""
        return array.reshape((array.shape[0] * array.shape[1], array.shape[2]))

    def add_product(self, i: int, dy: Array, x: Array, rows: slice = slice(None)) -> None:
        """Add dy^T x to the gradient of these rows of parameter i."""
        if self.learns(i):
            self.engine.gemm(dy.T, x, self.gradient(i)[rows], accumulate=True)

    def _over_items(self, part: Callable[[Any, slice], None]) -> None:
        parts = min(MOST_PARTS, self.items // LEAST_ITEMS) if self.engine.divides else 1
        if parts <= 1:
            part(self.engine, slice(None))
            return
        edges = [self.items * i // parts for i in range(parts + 1)]
        self.engine.run(lambda i: part(self.engine.among(i, parts), slice(edges[i], edges[i + 1])), parts)


class Summed(Cell):
    """A cell whose gradients reach W_x, W_static and W_h through the same sums: `dz`."""

    def allocate(self, steps: int, items: int) -> None:
        self.dz = self.new(steps, items, self.rows)

    def recurrent_sums(self) -> Array:
        return self.dz

    def parameter_gradients(self) -> None:
        dz = self.flat(self.dz)
        self.add_product(0, dz, self.given.x)
        if self.learns(1):
            self.engine.add_sum_over_channels(dz, self.gradient(1))
        self.add_product(self.recurrent_weight, dz, self.flat(self.previous()))
        if self.given.static is not None:
            self.add_product(2, self.static_sums(), self.given.static)

    def input_gradient(self, dx: Array, add: bool) -> None:
        self.engine.gemm(self.flat(self.dz), self.parameter(0), dx, accumulate=add)

    def static_sums(self) -> Array:
        return self.xp.sum(self.dz, axis=0)
