"""Listed pictures as database records."""

from __future__ import annotations

from os.path import splitext

import numpy as np

from caffepy.data.pictures import image
from caffepy.data.sources.datum import from_image
from caffepy.data.sources.lists import ListEntry
from caffepy.errors import DataError
from caffepy.proto.caffe_pb2 import Datum


class ImagesetConverter:
    """Makes records of list entries as Caffe's convert_imageset does: raw, or encoded.

    With `encoded`, a file's bytes are copied if they are of the wanted type (its extension's, unless `encode_type`
    says another) and no resize is asked; else the picture is encoded anew. `check_size` refuses sizes that differ.
    Raises DataError for an `encode_type` that nothing can be encoded as.
    """

    def __init__(
        self,
        root: str,
        gray: bool = False,
        size: tuple[int, int] | None = None,
        encoded: bool = False,
        encode_type: str = "",
        check_size: bool = False,
    ):
        self.root, self.gray, self.size = root, gray, size
        self.encode_type = encode_type.lower().lstrip(".")
        if self.encode_type:
            image.encoder(self.encode_type)
        self.encoded = encoded or bool(encode_type)
        self.check_size = check_size
        self._shape: tuple[int, ...] | None = None

    def __call__(self, entry: ListEntry, number: int) -> tuple[bytes, bytes]:
        """Key `%08d_name` and Datum of line `number`. Raises DataError naming the file."""
        path = self.root + entry.name
        raw = image.read_file(path)
        picture = image.decode(raw, path, 1 if self.gray else 3)
        if self.size:
            picture = image.resize(picture, *self.size)
        if self.check_size:
            self._check(picture, path)
        datum = self._encode(raw, picture, path) if self.encoded else from_image(picture, entry.label)
        datum.label, datum.encoded = entry.label, self.encoded
        return b"%08d_" % number + entry.name.encode(errors="surrogateescape"), datum.SerializeToString()

    def _encode(self, raw: bytes, picture: np.ndarray, path: str) -> Datum:
        own = splitext(path)[1].lower().lstrip(".")
        wanted = self.encode_type or own
        if not self.size and _same_type(own, wanted):
            return Datum(data=raw)
        return Datum(data=image.encode(picture, wanted))

    def _check(self, picture: np.ndarray, path: str) -> None:
        self._shape = self._shape or picture.shape
        if picture.shape != self._shape:
            raise SizeError(
                f"the picture has shape {picture.shape}, the first one {self._shape}",
                where=path,
                hint="Leave out --check-size, or resize with --resize-height and --resize-width.",
            )


class SizeError(DataError):
    """A picture of another size, where all must be alike."""


def _same_type(a: str, b: str) -> bool:
    return a == b or {a, b} == {"jpg", "jpeg"}
