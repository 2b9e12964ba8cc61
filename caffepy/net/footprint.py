"""How much memory a net takes, counted while it is built."""

from __future__ import annotations

from caffepy import limits
from caffepy.errors import ShapeError
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer


def count(layer: Layer, bottom: list[Blob], top: list[Blob]) -> None:
    """Add the values of a layer's tops and parameters to the net's (inside `limits.adding_up`).

    Raises ShapeError where they are more than there may be. Gradients, which not every use of a net has, come on top.
    """
    own = [] if layer.shares_data else [blob for blob in top if not any(blob is other for other in bottom)]
    size = layer.engine.host_bytes(sum(blob.count for blob in (*own, *layer.blobs)))
    limits.check(size, "the layer", ShapeError)
    limits.spend(size)
