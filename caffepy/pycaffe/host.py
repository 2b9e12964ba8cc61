"""HostBlob: a blob as numpy sees it, whatever engine holds its memory; and what is lent from a GPU."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np

from caffepy.engine import Engine
from caffepy.net.blob import Array, Blob, put

_lent: dict[tuple[Blob, str], np.ndarray] = {}
"""Copies of values on a GPU that a script may have written to."""


def lend(blob: Blob, which: str = "data") -> np.ndarray:
    """The values as a numpy array to read and write: a view, or from a GPU a copy.

    The copy is the blob's value until the engine next uses the blob, which writes it back.
    """
    if not blob.engine.on_gpu:
        return blob.host(which)
    copy = _lent.get((blob, which))
    if copy is None or copy.shape != blob.shape:
        flat = blob.flat(which)
        for (other, of), copy in _lent.items():
            # A parameter that layers share: one copy for all of them.
            if copy.shape == blob.shape and blob.engine.same_memory(other.memory(of), flat):
                return copy
        copy = _lent[blob, which] = blob.host(which).copy()
        blob.defer(which, partial(_return, blob, which))
    return copy


def _return(blob: Blob, which: str, view: Array) -> None:
    lent = _lent.pop((blob, which), None)
    if lent is not None and lent.shape == blob.shape:
        view[...] = blob.engine.asarray(lent)


def take_back() -> None:
    """Write all copies that were lent back to their blobs, also for blobs that share memory with those."""
    for blob, which in list(_lent):
        getattr(blob, which)
        _lent.pop((blob, which), None)  # of a blob that was reshaped since


class HostBlob:
    """A blob of another engine than NumPy's for pycaffe's scripts: `data` and `diff` are writable numpy arrays.

    On the CPU they are views. From a GPU they are copied when asked for and written back before they are used
    there, as in Caffe: ask for them again after a pass. All else is the blob's own.
    """

    def __init__(self, blob: Blob):
        self.blob = blob

    @property
    def data(self) -> np.ndarray:
        return lend(self.blob, "data")

    @data.setter
    def data(self, values: Any) -> None:
        put(self.blob, self.data, values)

    @property
    def diff(self) -> np.ndarray:
        return lend(self.blob, "diff")

    @diff.setter
    def diff(self, values: Any) -> None:
        put(self.blob, self.diff, values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.blob, name)

    def __repr__(self) -> str:
        return repr(self.blob)


def for_scripts(blobs: Iterable[Blob], engine: Engine) -> list[Any]:
    """The blobs with numpy arrays as `data` and `diff`: themselves, where the engine is NumPy's."""
    return list(blobs) if engine.name == "numpy" else [HostBlob(blob) for blob in blobs]
