"""The files and folders that a layer reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from google.protobuf.message import Message

from caffepy.proto.caffe_pb2 import LayerParameter

FIELDS = ("source", "mean_file", "label_map_file", "name_size_file", "root_folder")
"""Fields that name them, in whatever message."""


class FieldPath(NamedTuple):
    """A file or folder, and the field that names it."""

    field: str
    path: str


def missing(param: LayerParameter) -> list[FieldPath]:
    """Those that are not here. A reader of somebody's own alone knows what its source names."""
    if param.data_param.reader:
        return []
    return [named for named in _named(param) if not Path(named.path).exists()]


def without(param: LayerParameter, fields: Sequence[str]) -> LayerParameter:
    """The definition without these fields, wherever they are in it."""
    out = LayerParameter()
    out.CopyFrom(param)
    _clear(out, fields)
    return out


def _named(message: Message) -> Iterator[FieldPath]:
    for field, value in message.ListFields():
        if field.name in FIELDS and isinstance(value, str) and value:
            yield FieldPath(field.name, value)
        elif isinstance(value, Message):
            yield from _named(value)


def _clear(message: Message, fields: Sequence[str]) -> None:
    for field, value in message.ListFields():
        if field.name in fields:
            message.ClearField(field.name)
        elif isinstance(value, Message):
            _clear(value, fields)
