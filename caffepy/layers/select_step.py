"""SelectStep and LastStep: one step of each sequence."""

from __future__ import annotations

from math import prod

from caffepy.errors import ConfigError, DataError, ShapeError
from caffepy.layers import padding
from caffepy.layers.labels import position, read_indices
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register


@register("SelectStep")
class SelectStep(Layer):
    """y_n = x_t,n: x (T, N, ...), with `select_step_param.axis: 1` (N, T, ...), y (N, ...).

    t is `select_step_param.step`, from the end where it is negative (-1), or of a second bottom (N,).
    """

    num_bottom = (1, 2)
    in_place = "refused"
    param_field = "select_step_param"

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.axis = self.param.select_step_param.axis
        if self.axis not in (0, 1):
            raise ConfigError(
                f"select_step_param.axis must be 0 or 1, it is {self.axis}", hint="It says where time is."
            )

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape = bottom[0].shape
        if len(shape) < 2:
            raise ShapeError(f"{self.bottom_name(0)} must have time and items on its first two axes, it is {shape}")
        self.steps, self.items = shape[self.axis], shape[1 - self.axis]
        self.check_steps(bottom)
        top[0].reshape(self.items, *shape[2:])

    def divisible(self) -> bool:
        return self.axis == 1

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.rows, self.there = self._rows(bottom)
        flat = (self.steps * self.items, prod(bottom[0].shape[2:]))
        with self.written_as(top[0].data, (self.items, flat[1])) as y:
            self.engine.gather(bottom[0].data.reshape(flat), self.rows, y)
            y *= self.there

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        flat = (self.steps * self.items, prod(bottom[0].shape[2:]))
        with self.written_as(bottom[0].diff, flat) as dx:
            dx[...] = 0
            self.engine.put_rows(dx, self.rows, top[0].diff.reshape((self.items, flat[1])) * self.there)

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index == 0

    def _rows(self, bottom: list[Blob]) -> tuple[Array, Array]:
        """Of (T N, ...) or (N T, ...) the rows that are taken, and 0 where none is (N, 1)."""
        xp, item = self.xp, self.xp.arange(self.items)
        step, there = self.chosen(bottom)
        rows = step * self.items + item if self.axis == 0 else item * self.steps + step
        return rows, xp.reshape(xp.astype(there, xp.float32), (-1, 1))

    # What LastStep does otherwise

    def check_steps(self, bottom: list[Blob]) -> None:
        """Whether the steps can be chosen."""
        step = self.param.select_step_param.step
        if len(bottom) == 1 and not -self.steps <= step < self.steps:
            raise ConfigError(f"select_step_param.step {step} is none of the {self.steps} steps")
        if len(bottom) == 2 and bottom[1].shape != (self.items,):
            raise ShapeError(f"the steps {self.bottom_name(1)} must be (N,) = {(self.items,)}, are {bottom[1].shape}")

    def chosen(self, bottom: list[Blob]) -> tuple[Array, Array]:
        """(N,) the step of each item, and whether there is one."""
        xp, every = self.xp, self.xp.ones((self.items,), dtype=self.xp.bool)
        if len(bottom) == 1:
            step = self.param.select_step_param.step % self.steps
            return xp.full((self.items,), step, dtype=xp.int64), every
        name, shape, steps = self.bottom_name(1), bottom[1].shape, self.steps

        def error(i: int, value: float) -> DataError:
            return DataError(f"step {value:g} at {position(i, shape)} of {name} is outside 0 .. {steps - 1}")

        return read_indices(self, bottom[1].data, steps, error), every


@register("LastStep")
class LastStep(SelectStep):
    """y_n = the last x_t,n that is there: x (T, N, ...), with `select_step_param.axis: 1` (N, T, ...), y (N, ...).

    A second bottom says which are: lengths (N,), or 1 and 0 (T, N). Without it the last of all. 0 where none is.
    """

    param_field = "select_step_param"

    def check_steps(self, bottom: list[Blob]) -> None:
        if self.param.select_step_param.HasField("step"):
            raise ConfigError("LastStep takes no select_step_param.step", hint='type: "SelectStep" does.')
        if not self.steps:
            raise ShapeError(f"{self.bottom_name(0)} {bottom[0].shape} has no steps")
        if len(bottom) == 2:
            shape = bottom[0].shape
            padding.check_shape(self, 1, bottom[1], (shape[0], shape[1]), self.axis)

    def chosen(self, bottom: list[Blob]) -> tuple[Array, Array]:
        if len(bottom) == 1:
            return super().chosen(bottom)
        xp = self.xp
        there = padding.present(self, 1, bottom[1], self.steps, self.axis)
        numbered = xp.where(there, xp.reshape(xp.arange(self.steps), (1, -1)), -1)
        last = xp.max(numbered, axis=1)
        return xp.astype(xp.clip(last, 0, None), xp.int64), last >= 0
