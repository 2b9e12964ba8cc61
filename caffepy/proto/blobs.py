"""Arrays in and out of BlobProto: weights in files, mean pictures, history."""

from __future__ import annotations

from math import prod

import numpy as np

from caffepy.errors import SnapshotError
from caffepy.proto.caffe_pb2 import BlobProto
from caffepy.proto.wire import get_floats, set_floats


def array_to_proto(data: np.ndarray, diff: np.ndarray | None = None) -> BlobProto:
    """Shape and values, in C order, as Caffe stores them."""
    proto = BlobProto()
    proto.shape.dim.extend(data.shape)
    set_floats(proto, "data", data)
    if diff is not None:
        set_floats(proto, "diff", diff)
    return proto


def proto_to_array(proto: BlobProto, field: str = "data") -> np.ndarray:
    """The values with the shape that the message states; legacy dimensions give four axes."""
    values = get_floats(proto, field)
    shape = proto_shape(proto)
    if min(shape, default=0) < 0:
        raise SnapshotError(f"a blob has the shape {shape} in the file")
    if values.size != prod(shape):
        raise SnapshotError(f"a blob of shape {shape} has {values.size} values in the file")
    return values.reshape(shape)


def proto_shape(proto: BlobProto) -> tuple[int, ...]:
    if is_legacy(proto):
        return proto.num, proto.channels, proto.height, proto.width
    return tuple(proto.shape.dim)


def is_legacy(proto: BlobProto) -> bool:
    return any(proto.HasField(f) for f in ("num", "channels", "height", "width")) and not proto.HasField("shape")
