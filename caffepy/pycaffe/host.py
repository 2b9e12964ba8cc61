"""HostBlob: a blob as numpy sees it, whatever engine holds its memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from caffepy.engine import Engine
from caffepy.net.blob import Blob, put


class HostBlob:
    """A blob of another engine than NumPy's for pycaffe's scripts: `data` and `diff` are writable numpy arrays.

    On the CPU they are views. From a GPU they are copied when asked for and written back before they are used
    there, as in Caffe: ask for them again after a pass. All else is the blob's own.
    """

    def __init__(self, blob: Blob):
        self.blob = blob

    @property
    def data(self) -> np.ndarray:
        return self.blob.lend("data")

    @data.setter
    def data(self, values: Any) -> None:
        put(self.blob, self.data, values)

    @property
    def diff(self) -> np.ndarray:
        return self.blob.lend("diff")

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
