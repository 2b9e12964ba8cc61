"""RMSE, MAE: how far predictions are from what they predict, over a whole test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from caffepy.errors import ShapeError
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register


class ErrorMeter:
    """Adds up |x - t|^power over batches; its value is the mean, to the power of 1 / power."""

    def __init__(self, power: int):
        self.power, self.total, self.count = power, 0.0, 0

    def add(self, top: Blob, bottom: Sequence[Blob], weight: float) -> None:
        xp = bottom[0].engine.xp
        error = xp.astype(bottom[0].data.reshape((-1,)) - bottom[1].data.reshape((-1,)), xp.float64)
        self.total += float(xp.sum(xp.abs(error) ** self.power))
        self.count += bottom[0].count

    def value(self) -> float:
        return (self.total / max(1, self.count)) ** (1 / self.power)

    def merge(self, other: ErrorMeter) -> None:
        self.total += other.total
        self.count += other.count


class RatingError(Layer):
    """Base of RMSE and MAE: bottoms x and t of one count, a scalar top: of the batch, in a test of all batches."""

    num_bottom = 2
    takes_label = True
    power: ClassVar[int]

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if bottom[0].count != bottom[1].count:
            raise ShapeError(
                f"{self.bottom_name(0)} {bottom[0].shape} and {self.bottom_name(1)} {bottom[1].shape} "
                "must have the same number of values"
            )
        top[0].reshape(())

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x, t = (blob.data.reshape((-1,)) for blob in bottom)
        top[0].data[...] = self.of(x - t)

    def of(self, error: Array) -> Array:
        raise NotImplementedError

    def meter(self, top_index: int) -> Any:
        return ErrorMeter(self.power)


@register("RMSE")
class RMSE(RatingError):
    """y = sqrt(mean((x - t)^2)); of all values of a test together, not the mean of its batches."""

    power = 2

    def of(self, error: Array) -> Array:
        return self.xp.sqrt(self.xp.sum(error * error) / math.prod(error.shape))


@register("MAE")
class MAE(RatingError):
    """y = mean(|x - t|)."""

    power = 1

    def of(self, error: Array) -> Array:
        return self.xp.sum(self.xp.abs(error)) / math.prod(error.shape)
