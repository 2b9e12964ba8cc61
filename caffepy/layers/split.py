"""Split: several names for one blob; the gradients of all are summed."""

from __future__ import annotations

from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register


def add(xp, *terms):
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


@register("Split")
class Split(Layer):
    """y_i = x, sharing its memory; dx = sum of dy_i in the order of the tops.

    A net inserts one wherever a blob has several readers.
    """

    pixelwise = True
    num_top = (1, None)
    shares_data = True

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        for blob in top:
            blob.reshape_like(bottom[0])
            blob.num_ids = bottom[0].num_ids

    def divisible(self) -> bool:
        return True

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.link(bottom, top)

    def link(self, bottom: list[Blob], top: list[Blob]) -> None:
        for blob in top:
            blob.share_data(bottom[0])

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            self.engine.map(add, *(blob.diff for blob in top), out=bottom[0].diff)
