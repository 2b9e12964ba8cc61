"""Weights in and out of files: Caffe's binary and HDF5 formats, matched to layers by name."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from google.protobuf.message import DecodeError

from caffepy import hdf5
from caffepy.errors import ConfigError, ShapeError, SnapshotError
from caffepy.files import atomic_write, near_names, new_hdf5
from caffepy.net.blob import Blob
from caffepy.proto import upgrade
from caffepy.proto.caffe_pb2 import BlobProto, NetParameter
from caffepy.proto.scan import parse
from caffepy.proto.wire import get_floats, set_floats

if TYPE_CHECKING:
    from caffepy.net.net import Net

log = logging.getLogger(__name__)

Paths = str | PathLike[str] | Sequence[str | PathLike[str]]


def blob_to_proto(blob: Blob, write_diff: bool = False) -> BlobProto:
    """The blob's shape and values, in C order, as Caffe stores them."""
    proto = BlobProto()
    proto.shape.dim.extend(blob.shape)
    set_floats(proto, "data", blob.engine.to_host(blob.data))
    if write_diff:
        set_floats(proto, "diff", blob.engine.to_host(blob.diff))
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


def shapes_match(blob: Blob, proto: BlobProto) -> bool:
    """Equal shapes; legacy dimensions match a shape padded with ones on the left to four."""
    found = proto_shape(proto)
    if is_legacy(proto):
        return len(blob.shape) <= 4 and found == (1,) * (4 - len(blob.shape)) + blob.shape
    return found == blob.shape


def copy_blobs(protos: Sequence[BlobProto], blobs: Sequence[Blob], source: str) -> None:
    """Fill `blobs` from a layer's stored parameters; all are checked before anything is changed."""
    check_blobs(protos, blobs, source)
    _fill(protos, blobs)


def check_blobs(protos: Sequence[BlobProto], blobs: Sequence[Blob], source: str) -> None:
    """Raises ShapeError and SnapshotError where a layer's stored parameters are not those of `blobs`."""
    if len(protos) != len(blobs):
        raise ShapeError(
            f"the layer has {len(blobs)} parameter blob(s), in {source} it has {len(protos)}", hint=_RENAME
        )
    for i, (proto, blob) in enumerate(zip(protos, blobs)):
        if not shapes_match(blob, proto):
            raise _mismatch(i, blob.shape, proto_shape(proto), source)
        counts = {which: len(getattr(proto, which) or getattr(proto, f"double_{which}")) for which in ("data", "diff")}
        for which, count in counts.items():
            if count != blob.count and (count or which == "data"):
                raise SnapshotError(f"parameter {i} of shape {blob.shape} has {count} values ({which}) in {source}")


def _fill(protos: Sequence[BlobProto], blobs: Sequence[Blob]) -> None:
    for proto, blob in zip(protos, blobs):
        blob.fill(get_floats(proto, "data").reshape(blob.shape))
        if proto.diff or proto.double_diff:
            blob.fill(get_floats(proto, "diff").reshape(blob.shape), "diff")


_RENAME = "To train it anew (fine-tuning), give the layer another name; to keep the weights, restore its parameters."


def _mismatch(i: int, ours: tuple, theirs: tuple, source: str) -> ShapeError:
    return ShapeError(f"parameter {i} has shape {ours} here and {theirs} in {source}", hint=_RENAME)


def load(net: Net, paths: Paths) -> None:
    """Copy trained layers by name from one or several files (a list, or separated by commas), binary or HDF5."""
    if isinstance(paths, (str, PathLike)):
        paths = fspath(paths).split(",")
    for path in paths:
        path = fspath(path).strip()
        if is_hdf5(path):
            load_hdf5(net, path)
        else:
            copy_layers(net, read_weights(path).layer, path)


def read_weights(path: str) -> NetParameter:
    """A `.caffemodel` of any age, upgraded. Raises SnapshotError for truncated and foreign files."""
    param = NetParameter()
    raw = read_bytes(path)
    try:
        parse(raw, param)
        upgrade.upgrade_net(param)
    except DecodeError:
        raise SnapshotError("this is no complete caffemodel: truncated, or another kind of file", where=path) from None
    except ConfigError as error:
        raise error.at(path) from None
    if not param.layer:
        raise SnapshotError("the file holds no layers, so it is no caffemodel", where=path)
    return param


def copy_layers(net: Net, layers: Iterable, source: str) -> None:
    """Copy parameters from LayerParameter messages; layers that the net does not have are skipped with a note.

    A layer that does not fit is refused before any is copied.
    """
    matched = []
    for stored in layers:
        target = net.layer_dict.get(stored.name)
        if target is None:
            log.info("Ignoring source layer %s", stored.name)
            continue
        try:
            check_blobs(stored.blobs, target.blobs, source)
        except (ShapeError, SnapshotError) as error:
            raise error.at(f'layer "{stored.name}"') from None
        matched.append((stored.blobs, target.blobs))
    for protos, blobs in matched:
        _fill(protos, blobs)
    _warn_of_strangers(net, [blobs for _, blobs in matched], source)


def _warn_of_strangers(net: Net, matched: Iterable[Sequence[Blob]], source: str) -> None:
    """Caffe says nothing, and the net works on with random weights."""
    if net.learnable_params and not any(matched):
        log.warning("%s: no layer with parameters has a name that the net has: nothing was copied", source)


def to_proto(net: Net, write_diff: bool = False) -> NetParameter:
    """The net as Caffe stores it: every layer as built, with its blobs."""
    param = NetParameter(name=net.name)
    for layer in net.layers:
        stored = param.layer.add()
        stored.CopyFrom(layer.param)
        del stored.blobs[:]
        stored.blobs.extend(blob_to_proto(blob, write_diff) for blob in layer.blobs)
    return param


def save(net: Net, path: str, write_diff: bool = False) -> None:
    """Write a binary caffemodel, whole or not at all."""
    with atomic_write(path) as temporary:
        write(net, temporary, write_diff)


def save_hdf5(net: Net, path: str, write_diff: bool = False) -> None:
    """Write weights as HDF5, whole or not at all."""
    try:
        check_hdf5_names(net)
    except SnapshotError as error:
        raise error.at(path) from None
    with atomic_write(path) as temporary:
        write_hdf5(net, temporary, write_diff)


def check_hdf5_names(net: Net) -> None:
    """Raises SnapshotError for a net that has no HDF5 form."""
    names = net.layer_names
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SnapshotError(
            f'the net has two layers "{twice[0]}", which the HDF5 format cannot hold',
            hint="Rename one of them or use snapshot_format: BINARYPROTO.",
        )
    for layer in net.layers:
        if "/" in layer.name:
            raise SnapshotError(
                f'layer name "{layer.name}" contains "/", which the HDF5 format cannot hold',
                hint="Rename the layer or use snapshot_format: BINARYPROTO.",
            )


def write(net: Net, path: str, write_diff: bool = False) -> None:
    """Write the bytes of a caffemodel to `path` itself."""
    Path(path).write_bytes(to_proto(net, write_diff).SerializeToString())


def write_hdf5(net: Net, path: str, write_diff: bool = False) -> None:
    """`data/<layer>/<i>`, a shared blob only with its owner; `diff/` likewise, all blobs."""
    with new_hdf5(path) as file:
        data = file.create_group("data")
        diff = file.create_group("diff") if write_diff else None
        for layer in net.layers:
            group = data.create_group(layer.name)
            diff_group = None if diff is None else diff.create_group(layer.name)
            for i, blob in enumerate(layer.blobs):
                if net.owns_param(layer.name, i):
                    group[str(i)] = blob.engine.to_host(blob.data)
                if diff_group is not None:
                    diff_group[str(i)] = blob.engine.to_host(blob.diff)


def load_hdf5(net: Net, path: str) -> None:
    """Copy trained layers by name from an HDF5 weight file; all is read before anything is changed."""
    matched: list[Sequence[Blob]] = []
    stored: list[tuple[Blob, np.ndarray]] = []
    with open_hdf5(path) as file:
        if "data" not in file:
            raise SnapshotError('the HDF5 file has no group "data", so it holds no weights', where=path)
        data = file.group("data")
        for name in data:
            target = net.layer_dict.get(name)
            if target is None:
                log.info("Ignoring source layer %s", name)
                continue
            try:
                stored += _read_group(net, name, target.blobs, data.group(name), path)
            except ShapeError as error:
                raise error.at(f'layer "{name}"') from None
            matched.append(target.blobs)
    for blob, values in stored:
        blob.fill(values)
    _warn_of_strangers(net, matched, path)


def _read_group(
    net: Net, name: str, blobs: Sequence[Blob], group: hdf5.Group, path: str
) -> Iterator[tuple[Blob, np.ndarray]]:
    """A layer's parameters and their values; shapes are compared before the values are read."""
    if len(group) > len(blobs):
        raise ShapeError(f"the layer has {len(blobs)} parameter blob(s), in {path} {len(group)}", hint=_RENAME)
    for i, blob in enumerate(blobs):
        if str(i) not in group:
            if net.owns_param(name, i):
                raise ShapeError(f"parameter {i} is missing in {path}", hint=_RENAME)
            continue  # shared: it comes with its owner
        dataset = group.dataset(str(i))
        if dataset.shape != blob.shape:
            raise _mismatch(i, blob.shape, dataset.shape, path)
        yield blob, dataset.numbers()


def read_bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SnapshotError(f"cannot read the file: {error.strerror}", where=path, hint=near_names(path)) from None


def is_hdf5(path: str) -> bool:
    """Whether the file is HDF5, whatever its name."""
    try:
        with open(path, "rb") as file:
            return file.read(8) == b"\x89HDF\r\n\x1a\n"
    except OSError:
        return False


@contextmanager
def open_hdf5(path: str) -> Iterator[hdf5.Group]:
    """The root group of `path`, to be read in the block. Raises SnapshotError for what is missing or damaged."""
    if not Path(path).is_file():
        raise SnapshotError("there is no such file", where=path, hint=near_names(path))
    try:
        with hdf5.open_hdf5(path, SnapshotError) as file:
            yield file
    except PermissionError:
        raise SnapshotError("cannot read the file: Permission denied", where=path) from None
