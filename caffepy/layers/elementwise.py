"""The shape of a layer that computes y = f(x) element by element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer


def copy(xp, x):
    return x


class Elementwise(Layer):
    """y = function(x), dx = gradient(dy, x, y), each followed by `arguments()`; any shape.

    Run in place, x already holds y when the gradient is taken: right where the gradient needs y alone. See `OfInput`.
    """

    pixelwise = True
    function: ClassVar[Callable]
    gradient: ClassVar[Callable | None] = None

    def arguments(self) -> tuple[Any, ...]:
        """What the functions take besides arrays, read from the definition."""
        return ()

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.args = self.arguments()

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].reshape_like(bottom[0])

    def divisible(self) -> bool:
        return True

    def input(self, bottom: Blob, top: Blob) -> Array:
        """x, as the gradient is given it."""
        return bottom.data

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.engine.map(type(self).function, bottom[0].data, *self.args, out=top[0].data)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        gradient = type(self).gradient
        if gradient is None:
            super().backward(top, propagate_down, bottom)
        elif propagate_down[0]:
            arrays = top[0].diff, self.input(bottom[0], top[0]), top[0].data
            self.engine.map(gradient, *arrays, *self.args, out=bottom[0].diff)


class OfInput(Elementwise):
    """One whose gradient needs x, which is kept where the layer runs in place."""

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().setup(bottom, top)
        self.x = Blob((), self.engine)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        if top[0] is bottom[0]:
            self.x.reshape_like(bottom[0])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        if top[0] is bottom[0]:
            self.engine.map(copy, bottom[0].data, out=self.x.data)
        super().forward(bottom, top)

    def input(self, bottom: Blob, top: Blob) -> Array:
        return self.x.data if top is bottom else bottom.data
