"""Float arrays in and out of BlobProto at memory speed.

protobuf's Python API hands out one Python float at a time: seconds for AlexNet's 61 million weights. A packed
field on the wire is its raw little-endian array, so it is cut out of, or put into, the serialized message.
"""

from __future__ import annotations

import numpy as np

from caffepy.proto import caffe_pb2

_FIELDS = caffe_pb2.BlobProto.DESCRIPTOR.fields_by_name


def set_floats(proto: caffe_pb2.BlobProto, field: str, values: np.ndarray) -> None:
    """Append `values` (any shape, in C order) to the packed float field `field`."""
    raw = np.ascontiguousarray(values, "<f4").tobytes()
    if raw:
        proto.MergeFromString(_varint(_FIELDS[field].number << 3 | 2) + _varint(len(raw)) + raw)


_RAW: dict[int, np.dtype] = {
    caffe_pb2.BlobProto.DOUBLE: np.dtype("<f8"),
    caffe_pb2.BlobProto.FLOAT: np.dtype("<f4"),
    caffe_pb2.BlobProto.FLOAT16: np.dtype("<f2"),
    caffe_pb2.BlobProto.INT: np.dtype("<i4"),
    caffe_pb2.BlobProto.UINT: np.dtype("<u4"),
    caffe_pb2.BlobProto.BOOL: np.dtype("?"),
}
"""NVIDIA's `raw_data_type`."""


def count_floats(proto: caffe_pb2.BlobProto, field: str) -> int:
    """How many values `get_floats` finds."""
    count = len(getattr(proto, field) or getattr(proto, f"double_{field}"))
    return count or (len(proto.raw_data) // _RAW[proto.raw_data_type].itemsize if field == "data" else 0)


def get_floats(proto: caffe_pb2.BlobProto, field: str) -> np.ndarray:
    """The field as a flat float32 array; falls back on its double twin, and on NVIDIA's `raw_data`."""
    for name, dtype in ((field, "<f4"), (f"double_{field}", "<f8")):
        if count := len(getattr(proto, name)):
            only = caffe_pb2.BlobProto()
            getattr(only, name).MergeFrom(getattr(proto, name))
            raw = only.SerializeToString()
            return np.frombuffer(raw, dtype, count, len(raw) - count * np.dtype(dtype).itemsize).astype("f4")
    if field == "data" and proto.raw_data:
        kind = _RAW[proto.raw_data_type]
        return np.frombuffer(proto.raw_data, kind, len(proto.raw_data) // kind.itemsize).astype("f4")
    return np.empty(0, "f4")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
