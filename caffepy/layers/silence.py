"""Silence: consumes blobs so that they are no outputs."""

from __future__ import annotations

from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register


@register("Silence")
class Silence(Layer):
    """No top; the gradients of its bottoms are 0."""

    num_bottom = (1, None)
    num_top = 0

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Nothing to shape."""

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Nothing to compute."""

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        for blob, wanted in zip(bottom, propagate_down):
            if wanted:
                blob.diff[...] = 0
