"""Unseen: blobs inside layers that have run as one, where nothing was written. Who reads one gets its values still."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from caffepy.net.blob import Array, Blob
from caffepy.net.net import Net
from caffepy.passes.whole import OneLayer, Told


class Unseen:
    """What layers of a net would have left in `blobs`: they run, one by one, when one of these is read.

    They compute from their bottoms as these are by then. Tops that are not among the blobs stay as they are: later
    layers may have run in place.
    """

    def __init__(self, net: Net, layers: Sequence[int], blobs: Iterable[Blob]):
        self._net, self._layers, self._blobs = net, layers, list(blobs)
        mine = {id(blob) for blob in self._blobs}
        tops = {id(blob): blob for i in layers for blob in net.nodes[i].top}
        self._others = [blob for key, blob in tops.items() if key not in mine]
        self._running = False

    def wait(self) -> None:
        """From now on, until another pass writes them."""
        for blob in self._blobs:
            blob.defer("data", self._fill)

    def _fill(self, array: Array) -> None:
        if self._running:
            return
        self._running = True
        try:
            with self._net.lock, self._net.engine.computing():
                for blob in self._blobs:
                    blob.data  # noqa: B018 - what waits is forgotten: the layers write all of it
                kept = [self._net.engine.copy(blob.flat()) for blob in self._others]
                for i in self._layers:
                    OneLayer(self._net.nodes[i], i).forward(Told([], False))
                for blob, values in zip(self._others, kept):
                    blob.flat()[...] = values
        finally:
            self._running = False
