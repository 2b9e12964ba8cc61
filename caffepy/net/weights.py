"""Weights in and out of files: Caffe's binary and HDF5 formats, matched to layers by name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from google.protobuf.message import DecodeError

from caffepy import hdf5
from caffepy.errors import ConfigError, ShapeError, SnapshotError
from caffepy.files import atomic_write, near_names, new_hdf5, open_file, read_bytes
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer
from caffepy.net.parameters import RENAME, check_blobs, fill_blobs, mismatch
from caffepy.proto import binary, upgrade
from caffepy.proto.blobs import array_to_proto
from caffepy.proto.caffe_pb2 import BlobProto, NetParameter

log = logging.getLogger(__name__)

Paths = str | PathLike[str] | Sequence[str | PathLike[str]]


class NamedLayers(Protocol):
    """What of a net its weights are stored by: its layers, by name."""

    name: str
    layer_dict: dict[str, Layer]

    @property
    def layers(self) -> Sequence[Layer]: ...

    @property
    def layer_names(self) -> list[str]: ...

    def owns_param(self, layer: str, i: int) -> bool: ...


def blob_to_proto(blob: Blob, write_diff: bool = False) -> BlobProto:
    """The blob's shape and values, in C order, as Caffe stores them."""
    return array_to_proto(blob.host(), blob.host("diff") if write_diff else None)


def load(net: NamedLayers, paths: Paths) -> None:
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
    """A `.caffemodel` of any age and Caffe, upgraded. Raises SnapshotError for truncated and foreign files."""
    raw = read_bytes(path)
    try:
        param = binary.parse_net(raw)
        upgrade.upgrade_net(param)
    except DecodeError:
        problem, hint = "this is no complete caffemodel: truncated, or another kind of file", ""
        if path.endswith((".solverstate", ".solverstate.h5")):
            problem = "this is a solver state, weights are expected"
            hint = f"Weights are in {path.replace('.solverstate', '.caffemodel')}. To resume: caffepy train --snapshot."
        raise SnapshotError(problem, where=path, hint=hint) from None
    except ConfigError as error:
        raise error.at(path) from None
    if not param.layer:
        raise SnapshotError("the file holds no layers, so it is no caffemodel", where=path)
    return param


def copy_layers(net: NamedLayers, layers: Iterable, source: str) -> None:
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
        fill_blobs(protos, blobs)
    _warn_of_strangers(net, [blobs for _, blobs in matched], source)


def _warn_of_strangers(net: NamedLayers, matched: Iterable[Sequence[Blob]], source: str) -> None:
    """Caffe says nothing, and the net works on with random weights."""
    if any(layer.blobs for layer in net.layers) and not any(matched):
        log.warning("%s: no layer with parameters has a name that the net has: nothing was copied", source)


def to_proto(net: NamedLayers, write_diff: bool = False) -> NetParameter:
    """The net as Caffe stores it: every layer as built, with its blobs."""
    param = NetParameter(name=net.name)
    for layer in net.layers:
        stored = param.layer.add()
        stored.CopyFrom(layer.param)
        del stored.blobs[:]
        stored.blobs.extend(blob_to_proto(blob, write_diff) for blob in layer.blobs)
    return param


def save(net: NamedLayers, path: str, write_diff: bool = False) -> None:
    """Write a binary caffemodel, whole or not at all."""
    with atomic_write(path) as temporary:
        write(net, temporary, write_diff)


def save_hdf5(net: NamedLayers, path: str, write_diff: bool = False) -> None:
    """Write weights as HDF5, whole or not at all."""
    try:
        check_hdf5_names(net)
    except SnapshotError as error:
        raise error.at(path) from None
    with atomic_write(path) as temporary:
        write_hdf5(net, temporary, write_diff)


def check_hdf5_names(net: NamedLayers) -> None:
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


def write(net: NamedLayers, path: str, write_diff: bool = False) -> None:
    """Write the bytes of a caffemodel to `path` itself."""
    Path(path).write_bytes(to_proto(net, write_diff).SerializeToString())


def write_hdf5(net: NamedLayers, path: str, write_diff: bool = False) -> None:
    """`data/<layer>/<i>`, a shared blob only with its owner; `diff/` likewise, all blobs."""
    with new_hdf5(path) as file:
        data = file.create_group("data")
        diff = file.create_group("diff") if write_diff else None
        for layer in net.layers:
            group = data.create_group(layer.name)
            diff_group = None if diff is None else diff.create_group(layer.name)
            for i, blob in enumerate(layer.blobs):
                if net.owns_param(layer.name, i):
                    write_values(group, str(i), blob)
                if diff_group is not None:
                    diff_group[str(i)] = blob.host("diff")


def write_values(group: Any, name: str, blob: Blob) -> None:
    """A blob's values as a dataset of an HDF5 group; of a table that is spread all rows, whoever keeps them."""
    if blob.spread is None:
        group[name] = blob.engine.to_host(blob.data)
    else:
        blob.spread.write(blob.name, blob.host(), group.create_dataset(name, blob.whole_shape, np.float32))


def read_values(dataset: hdf5.H5Dataset, blob: Blob | None) -> np.ndarray:
    """A dataset's values for a blob."""
    return dataset.numbers() if blob is None or blob.spread is None else blob.spread.read(dataset)


def load_hdf5(net: NamedLayers, path: str) -> None:
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
    net: NamedLayers, name: str, blobs: Sequence[Blob], group: hdf5.H5Group, path: str
) -> Iterator[tuple[Blob, np.ndarray]]:
    """A layer's parameters and their values; shapes are compared before the values are read."""
    if len(group) > len(blobs):
        raise ShapeError(f"the layer has {len(blobs)} parameter blob(s), in {path} {len(group)}", hint=RENAME)
    for i, blob in enumerate(blobs):
        if str(i) not in group:
            if net.owns_param(name, i):
                raise ShapeError(f"parameter {i} is missing in {path}", hint=RENAME)
            continue  # shared: it comes with its owner
        dataset = group.dataset(str(i))
        if dataset.shape != blob.whole_shape:
            raise mismatch(i, blob.whole_shape, dataset.shape, path)
        yield blob, read_values(dataset, blob)


def checks(path: str) -> dict[str, Callable[[Sequence[Blob]], None]]:
    """Of each layer with parameters in a weight file, what raises ShapeError where they do not fit a layer's blobs."""
    if not is_hdf5(path):
        stored = {layer.name: layer.blobs for layer in read_weights(path).layer if layer.blobs}
        return {name: partial(check_blobs, protos, source=path) for name, protos in stored.items()}
    with open_hdf5(path) as file:
        if "data" not in file:
            raise SnapshotError('the HDF5 file has no group "data", so it holds no weights', where=path)
        data = file.group("data")
        shapes = {name: {i: data.group(name).dataset(i).shape for i in data.group(name)} for name in data}
    return {name: partial(_check_shapes, found, path) for name, found in shapes.items() if found}


def _check_shapes(stored: dict[str, tuple[int, ...]], path: str, blobs: Sequence[Blob]) -> None:
    """Raises ShapeError where HDF5 datasets, by number, are not those of `blobs`; shared ones may be missing."""
    if len(stored) > len(blobs):
        raise ShapeError(f"the layer has {len(blobs)} parameter blob(s), in {path} {len(stored)}", hint=RENAME)
    for i, blob in enumerate(blobs):
        if stored.get(str(i), blob.shape) != blob.shape:
            raise mismatch(i, blob.shape, stored[str(i)], path)


def is_hdf5(path: str) -> bool:
    """Whether the file is HDF5, whatever its name. What comes through a pipe, which is read but once, is not."""
    if not Path(path).is_file():
        return False
    try:
        with open_file(path) as file:
            return file.read(8) == b"\x89HDF\r\n\x1a\n"
    except OSError:
        return False


@contextmanager
def open_hdf5(path: str) -> Iterator[hdf5.H5Group]:
    """The root group of `path`, to be read in the block. Raises SnapshotError for what is missing or damaged."""
    if not Path(path).is_file():
        raise SnapshotError("there is no such file", where=path, hint=near_names(path))
    try:
        with hdf5.open_hdf5(path, SnapshotError) as file:
            yield file
    except PermissionError:
        raise SnapshotError("cannot read the file: Permission denied", where=path) from None
