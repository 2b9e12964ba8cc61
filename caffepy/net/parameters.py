"""A layer's parameters from messages, checked before anything is changed."""

from __future__ import annotations

from collections.abc import Sequence

from caffepy.errors import ShapeError, SnapshotError
from caffepy.net.blob import Blob
from caffepy.proto.blobs import is_legacy, proto_shape
from caffepy.proto.caffe_pb2 import BlobProto
from caffepy.proto.wire import count_floats, get_floats

RENAME = "To train it anew (fine-tuning), give the layer another name; to keep the weights, restore its parameters."


def shapes_match(blob: Blob, proto: BlobProto) -> bool:
    """Equal shapes; legacy dimensions match a shape padded with ones on the left to four."""
    found = proto_shape(proto)
    if is_legacy(proto):
        return len(blob.shape) <= 4 and found == (1,) * (4 - len(blob.shape)) + blob.shape
    return found == blob.shape


def copy_blobs(protos: Sequence[BlobProto], blobs: Sequence[Blob], source: str) -> None:
    """Fill `blobs` from a layer's stored parameters; all are checked before anything is changed."""
    check_blobs(protos, blobs, source)
    fill_blobs(protos, blobs)


def check_blobs(protos: Sequence[BlobProto], blobs: Sequence[Blob], source: str) -> None:
    """Raises ShapeError and SnapshotError where a layer's stored parameters are not those of `blobs`."""
    if len(protos) != len(blobs):
        raise ShapeError(f"the layer has {len(blobs)} parameter blob(s), in {source} it has {len(protos)}", hint=RENAME)
    for i, (proto, blob) in enumerate(zip(protos, blobs)):
        if not shapes_match(blob, proto):
            raise mismatch(i, blob.shape, proto_shape(proto), source)
        counts = {which: count_floats(proto, which) for which in ("data", "diff")}
        for which, count in counts.items():
            if count != blob.count and (count or which == "data"):
                raise SnapshotError(f"parameter {i} of shape {blob.shape} has {count} values ({which}) in {source}")


def fill_blobs(protos: Sequence[BlobProto], blobs: Sequence[Blob]) -> None:
    for proto, blob in zip(protos, blobs):
        blob.fill(get_floats(proto, "data").reshape(blob.shape))
        if proto.diff or proto.double_diff:
            blob.fill(get_floats(proto, "diff").reshape(blob.shape), "diff")


def mismatch(i: int, ours: tuple, theirs: tuple, source: str) -> ShapeError:
    return ShapeError(f"parameter {i} has shape {ours} here and {theirs} in {source}", hint=RENAME)
