"""What recurrent layers share: bottoms and tops, layers above each other and directions, the states between passes."""

from __future__ import annotations

from math import prod
from typing import Any, ClassVar

from caffepy.errors import ConfigError, ShapeError
from caffepy.layers import padding
from caffepy.layers.cell import Cell, Given
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer
from caffepy.net.stepwise import Stepwise
from caffepy.proto.caffe_pb2 import TRAIN, RecurrentParameter

OWNED = {"forget_bias": "LSTM", "peephole": "LSTM", "layer_norm": "LSTM", "hidden_top": "RNN"}
"""Fields that one type reads."""


def masked(xp, x, mask, keep):
    return x * mask / keep


class Recurrent(Layer, Stepwise):
    """Outputs and states of sequences, step by step: y (T, N, D) of x (T, N, ...), D = `recurrent_param.num_output`.

    The trailing axes of x are flattened to I. The next bottom, which may be left out, says where sequences begin and
    end: markers m (T, N), 0 where one starts and 1 elsewhere, so that states do not pass from one to the next in either
    direction; or lengths (N,): the steps behind them, with `padding: LEFT` those before the last so many, leave the
    states as they are and put out 0. Then, optionally, a static input s (N, ...), flattened to S.

    `direction: REVERSE` goes from the last step to the first; BIDIRECTIONAL goes both ways, y is (T, N, 2 D).
    `num_layers` stand above each other, with `dropout` between. Parameters: those of each layer, of its direction or
    both, from the lowest up; s belongs to the lowest.

    With `stateful`, which markers bring with them, a pass starts from the final states of the one before, zero at
    first; the REVERSE direction always starts from zero. With `expose_hidden` further bottoms give the initial states
    and further tops take the final ones, all (layers times directions, N, D). Gradients stop at initial and final
    states unless `state_gradient` lets them pass. Markers and lengths get none.
    """

    param_field = "recurrent_param"
    in_place = "refused"
    num_bottom = (1, None)
    num_top = (1, None)
    cell: ClassVar[type[Cell]]

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.recurrent_param
        for name in ("num_output", "num_layers"):
            if getattr(p, name) <= 0:
                raise ConfigError(f"recurrent_param.{name} must be at least 1")
        if not 0 <= p.dropout < 1:
            raise ConfigError(f"recurrent_param.dropout must lie in 0 .. 1, below 1, it is {p.dropout:g}")
        for name, owner in OWNED.items():
            if p.HasField(name) and self.type != owner:  # type: ignore[arg-type]
                raise ConfigError(f"recurrent_param.{name} is for the type {owner}, this is {self.type}")
        self.size = p.num_output
        self.exposed = p.expose_hidden
        self.state_names = self.cell.state_names
        self._count_blobs(bottom, top)
        self.usually = p.stateful if p.HasField("stateful") else self.has_markers and len(bottom[1].shape) != 1
        """Whether it is stateful where nobody goes step by step."""
        self.stateful = self.usually
        self._check_bottoms(bottom)
        self.depth = prod(bottom[0].shape[2:])
        self.static_depth = prod(bottom[2].shape[1:]) if self.has_static else 0
        both, reverse = RecurrentParameter.BIDIRECTIONAL, p.direction == RecurrentParameter.REVERSE
        ways = (False, True) if p.direction == both else (reverse,)
        self.layers: list[list[Cell]] = []
        """Of each layer its directions."""
        depth, static = self.depth, self.static_depth
        cell = self.cell_class()
        for _ in range(p.num_layers):
            self.layers.append([cell(self, depth, static, reverse) for reverse in ways])
            depth, static = len(ways) * self.size, 0
        self.keep = 1 - p.dropout if self.phase == TRAIN else 1.0
        self.carried: list[Array] = []
        self.allocated: tuple[int, int] | None = None

    def cell_class(self) -> type[Cell]:
        """What computes a direction of a layer."""
        return self.cell

    @property
    def cells(self) -> list[Cell]:
        return [cell for ways in self.layers for cell in ways]

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
        top[0].reshape(steps, items, len(self.layers[0]) * self.size)
        for blob in top[1:]:
            blob.reshape(len(self.cells), items, self.size)
        if self.allocated == (steps, items):
            return
        if self.allocated is None or self.allocated[1] != items:
            # States of other sequences mean nothing to these.
            self.carried = [self._zeros(len(self.cells), items, self.size) for _ in self.state_names]
        self.allocated = steps, items
        for cell in self.cells:
            cell.reshape(steps, items)
        shape = steps, items, len(self.layers[0]) * self.size
        self.between = [self._zeros(*shape) for _ in self.layers[1:]]
        """Outputs of the layers below others."""
        self.dropped = [self._zeros(*shape) for _ in self.between if self.keep < 1]
        self.dbetween = self._zeros(*shape)

    def flops(self, bottom: list[Blob], top: list[Blob]) -> int:
        steps, items = bottom[0].shape[:2]
        return sum(
            2 * items * cell.rows * (steps * (cell.depth + cell.size) + cell.static_depth) for cell in self.cells
        )

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        static = self._static(bottom, "data") if self.has_static else None
        kept, there = self._masks(bottom)
        first = self.first_state
        initial = [blob.data for blob in bottom[first:]] if self.exposed else self.carried
        final = [blob.data for blob in top[1:]] if self.exposed else self.carried
        x, i = bottom[0].data.reshape((self._rows, self.depth)), 0
        for number, (ways, y) in enumerate(zip(self.layers, [*self.between, top[0].data])):
            for way, cell in enumerate(ways):
                zero = not (self.exposed or (self.stateful and not cell.reverse))
                starts = [None if zero else state[i, ...] for state in initial]
                given = Given(x, None if number else static, kept[cell.reverse], there)
                cell.forward(given, starts, self._of(y, way), [state[i, ...] for state in final])
                i += 1
            if number < len(self.between):
                if self.keep < 1:
                    self.engine.random_mask(self.keep, self.dropped[number])
                    self.engine.map(masked, y, self.dropped[number], self.keep, out=y)
                x = y.reshape((self._rows, y.shape[2]))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if self.has_markers and propagate_down[1]:
            what = "lengths" if len(bottom[1].shape) == 1 else "markers"
            raise ConfigError(
                f"{self.type} has no gradient for its {what} {self.bottom_name(1)}",
                hint="Set propagate_down: false for this bottom.",
            )
        first = self.first_state
        through = self.exposed and self.param.recurrent_param.state_gradient
        dy, i = top[0].diff, len(self.cells)
        for number, ways in reversed(list(enumerate(self.layers))):
            for way, cell in reversed(list(enumerate(ways))):
                i -= 1
                ends = [blob.diff[i, ...] if through else None for blob in top[1:]] or [None] * len(self.state_names)
                cell.backward(self._of(dy, way), ends, through and any(propagate_down[first:]))
                for blob, carry, wanted in zip(bottom[first:], cell.carry, propagate_down[first:]):
                    if wanted:
                        blob.diff[i, ...] = carry if through else 0.0 * carry
            if number:
                dy = self.dbetween
                for way, cell in enumerate(ways):
                    cell.input_gradient(dy.reshape((self._rows, dy.shape[2])), add=way > 0)
                if self.keep < 1:
                    self.engine.map(masked, dy, self.dropped[number - 1], self.keep, out=dy)
        lowest = list(enumerate(self.layers[0]))
        if propagate_down[0]:
            with self.written_as(bottom[0].diff, (self._rows, self.depth)) as dx:
                for way, cell in lowest:
                    cell.input_gradient(dx, add=way > 0)
        if self.has_static and propagate_down[first - 1]:
            diff = bottom[first - 1].diff
            with self.written_as(diff, (diff.shape[0], self.static_depth)) as ds:
                for way, cell in lowest:
                    cell.static_gradient(ds, add=way > 0)

    def allow_force_backward(self, bottom_index: int) -> bool:
        return not (self.has_markers and bottom_index == 1)

    # Step by step

    def restart(self, capacity: int) -> None:
        self.stateful = capacity > 0 or self.usually
        for carried in self.carried:
            carried[...] = 0

    def choose(self, index: Array) -> None:
        for carried in self.carried:
            carried[...] = self.xp.take(carried, index, axis=1)

    def state(self) -> dict[str, Any]:
        if self.exposed or not self.stateful:
            return {}
        return {name: self.engine.to_host(value).copy() for name, value in zip(self.state_names, self.carried)}

    def set_state(self, state: dict[str, Any]) -> None:
        for name, value in zip(self.state_names, self.carried):
            if name in state:
                value[...] = self.engine.asarray(state[name])

    # Within

    @property
    def _rows(self) -> int:
        assert self.allocated is not None
        return prod(self.allocated)

    @property
    def first_state(self) -> int:
        """The first bottom that may be an initial state."""
        return 1 + self.has_markers + self.has_static

    def _of(self, array: Array, way: int) -> Array:
        """The values of one direction (T, N, D)."""
        return array[..., way * self.size : (way + 1) * self.size]

    def _static(self, bottom: list[Blob], which: str) -> Array:
        array = getattr(bottom[self.first_state - 1], which)
        return array.reshape((array.shape[0], self.static_depth))

    def _masks(self, bottom: list[Blob]) -> tuple[list[Array | None], Array | None]:
        """(T, N, 1): the factors of the states before each step, in either direction; and which steps are there."""
        if not self.has_markers:
            return [None, None], None
        steps, items = bottom[0].shape[:2]
        if len(bottom[1].shape) == 1:
            there = padding.present(
                self, 1, bottom[1], steps, 0, self.param.recurrent_param.padding == RecurrentParameter.LEFT
            )
            there = self.xp.astype(self.xp.permute_dims(there, (1, 0)), self.xp.float32)
            return [None, None], there.reshape((steps, items, 1))
        padding.check_markers(self, 1, bottom[1])
        markers = bottom[1].data.reshape((steps, items, 1))
        if not any(cell.reverse for cell in self.cells):
            return [markers, None], None
        backwards = self._zeros(steps, items, 1)
        backwards[: steps - 1, ...] = markers[1:, ...]  # before the last step nothing is cut
        backwards[steps - 1 :, ...] = 1
        return [markers, backwards], None

    def _zeros(self, *shape: int) -> Array:
        return self.engine.zeros(prod(shape)).reshape(shape)

    def _count_blobs(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Which bottoms are there. Raises ConfigError for numbers of blobs that make no sense."""
        hidden = self.state_names if self.exposed else ()
        plain = len(bottom) == 1 + len(hidden) and (not hidden or len(bottom[1].shape) == 3)
        self.has_markers = not plain
        least = 2 + len(hidden)
        if not plain and len(bottom) not in (least, least + 1):
            initial = "".join(f", initial {name}" for name in hidden)
            raise ConfigError(
                f"{self.type} takes the bottoms input, markers[, static input]{initial}: "
                f"{least} or {least + 1}, {len(bottom)} given",
                hint=f"Without markers: input{initial}."
                + ("" if hidden else " expose_hidden: true adds bottoms and tops for the states."),
            )
        if len(top) != 1 + len(hidden):
            final = "".join(f", final {name}" for name in hidden)
            raise ConfigError(f"{self.type} takes the tops output{final}: {1 + len(hidden)}, {len(top)} given")
        self.has_static = len(bottom) > least

    def _check_bottoms(self, bottom: list[Blob]) -> None:
        shape = bottom[0].shape
        if len(shape) < 2:
            raise ShapeError(f"the input {self.bottom_name(0)} must be (T, N, ...), it is {shape}")
        if self.has_markers and bottom[1].shape not in (shape[:2], shape[1:2]):
            raise ShapeError(
                f"the markers {self.bottom_name(1)} must be (T, N) = {shape[:2]} as the input "
                f"{self.bottom_name(0)} {shape}, or lengths (N,), they are {bottom[1].shape}"
            )
        if self.has_static and bottom[2].shape[:1] != shape[1:2]:
            raise ShapeError(
                f"the static input {self.bottom_name(2)} must be (N, ...) with N = {shape[1]} as in "
                f"{self.bottom_name(0)} {shape}, it is {bottom[2].shape}"
            )
        p = self.param.recurrent_param
        number = p.num_layers * (1 + (p.direction == RecurrentParameter.BIDIRECTIONAL))
        for i, name in enumerate(self.state_names if self.exposed else (), self.first_state):
            expected = (number, shape[1], self.size)
            if bottom[i].shape != expected:
                which = "1" if number == 1 else "layers times directions"
                raise ShapeError(
                    f"the initial {name} {self.bottom_name(i)} must be ({which}, N, num_output) = {expected}, "
                    f"it is {bottom[i].shape}"
                )
