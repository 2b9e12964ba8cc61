"""What is in a file of Caffe's, as a table."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from math import prod
from os import fsdecode

from google.protobuf.message import DecodeError

from caffepy.errors import CaffeError, DataError
from caffepy.files import read_bytes
from caffepy.hdf5 import H5Group
from caffepy.net import weights
from caffepy.proto import settings, text
from caffepy.proto.blobs import proto_shape, proto_to_array
from caffepy.proto.caffe_pb2 import BlobProto, NetParameter, SolverParameter, SolverState
from caffepy.proto.scan import parse
from caffepy.proto.tools import read_binary_net

Row = tuple[str, str, str, str]


def describe(path: str) -> str:
    """A table of layers or blobs with shapes, counts and sizes; the kind of file is found out from its content.

    Raises DataError for a file that is nothing of Caffe's.
    """
    if not os.path.isfile(path) and os.path.exists(path) and not os.path.isdir(path):
        return _of_pipe(path)
    if os.path.isdir(path):
        raise DataError("this is a folder", where=path, hint=f"If it is a database: caffepy data inspect {path}")
    if weights.is_hdf5(path):
        return _hdf5(path)
    if path.endswith((".prototxt", ".txt", ".pbtxt")):
        return _definition(path)
    if path.endswith(".solverstate"):
        return _state(path)
    for reader in (_model, _state, _mean, _definition):
        try:
            return reader(path)
        except CaffeError:
            continue
    read_bytes(path)  # where it cannot be read, that is what is wrong
    raise DataError("this is no caffemodel, solver state, mean file or definition", where=path)


def _of_pipe(path: str) -> str:
    """What comes from a pipe, which can be read but once."""
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "pipe")
        with open(copy, "wb") as file:
            file.write(read_bytes(path))
        try:
            return describe(copy).replace(copy, path)
        except CaffeError as error:
            error.where = error.where.replace(copy, path)
            raise


def _table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    body = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)
    return "\n".join([title, *body])


def _shape(dims: Sequence[int]) -> str:
    return "x".join(map(str, dims)) or "scalar"


def _size(count: int) -> str:
    return f"{count * 4 / 2**20:.2f} MB" if count * 4 >= 2**20 else f"{count * 4 / 2**10:.2f} kB"


def _model(path: str) -> str:
    param = read_binary_net(path)
    if not (param.layer or param.layers):
        raise DataError("no layers", where=path)
    age = "" if param.layer else " (old format: see upgrade-net-proto-binary)"
    if not param.layer:
        param = weights.read_weights(path)
    rows, total = [], 0
    for layer in param.layer:
        shapes = [proto_shape(blob) for blob in layer.blobs]
        count = sum(prod(shape) for shape in shapes)
        total += count
        rows.append(
            (fsdecode(layer.name), fsdecode(layer.type), " ".join(map(_shape, shapes)), str(count) if shapes else "")
        )
    title = (
        f'{path}: caffemodel of "{fsdecode(param.name)}"{age}, {len(rows)} layers, {total} parameters, {_size(total)}'
    )
    return _table(title, ("layer", "type", "shapes", "parameters"), rows)


def _state(path: str) -> str:
    state = SolverState()
    try:
        parse(read_bytes(path), state)
    except DecodeError:
        raise DataError("no solver state", where=path) from None
    if not state.HasField("iter") or not state.HasField("learned_net"):
        raise DataError("no solver state", where=path)
    shapes = [proto_shape(blob) for blob in state.history]
    title = (
        f"{path}: solver state of iteration {state.iter}, step {state.current_step}, "
        f'weights "{fsdecode(state.learned_net)}", {_size(sum(map(prod, shapes)))}'
    )
    return _table(title, ("history", "shape"), ((str(i), _shape(s)) for i, s in enumerate(shapes)))


def _mean(path: str) -> str:
    blob = BlobProto()
    try:
        blob.ParseFromString(read_bytes(path))
    except DecodeError:
        raise DataError("no blob", where=path) from None
    values = proto_to_array(blob)
    if not values.size:
        raise DataError("no blob", where=path)
    return (
        f"{path}: blob {_shape(values.shape)}, {_size(values.size)}, "
        f"mean {values.mean():.6g}, smallest {values.min():.6g}, largest {values.max():.6g}"
    )


def _definition(path: str) -> str:
    net = _parsed(path)
    if isinstance(net, SolverParameter):
        return f"{path}: solver definition\n{text.to_text(net).rstrip()}"
    if net.layer or net.layers:
        net = text.read_net(path).param
    rows = [(layer.name, layer.type, " ".join(layer.bottom), " ".join(layer.top)) for layer in net.layer]
    title = f'{path}: definition of "{net.name}", {len(rows)} layers'
    return _table(title, ("layer", "type", "bottoms", "tops"), rows)


def _parsed(path: str) -> NetParameter | SolverParameter:
    try:
        return text.parse(text.read_text(path), NetParameter(), path)
    except CaffeError as as_net:
        try:
            return text.parse(text.read_text(path), SolverParameter(), path)
        except CaffeError:
            raise as_net from None


def as_it_runs(path: str) -> str:
    """The net or solver in a prototxt with all that is set for the process, as prototxt.

    Where something of a solver's nets is set, they stand in it.
    """
    if isinstance(_parsed(path), NetParameter):
        settings.use(settings.current().words, of_net=True)
        return text.to_text(text.read_net(path).param).rstrip()
    param = text.read_solver(path)
    return text.to_text(with_nets(param) if settings.current().nets else param).rstrip()


def with_nets(param: SolverParameter) -> SolverParameter:
    """The same solver with its nets written in it."""
    out = SolverParameter()
    out.CopyFrom(param)
    for field, inner in (("net", out.net_param), ("train_net", out.train_net_param)):
        if param.HasField(field):  # type: ignore[arg-type]
            inner.CopyFrom(text.definition(getattr(param, field)).param)
            out.ClearField(field)  # type: ignore[arg-type]
    for name in param.test_net:
        out.test_net_param.add().CopyFrom(text.definition(name).param)
    del out.test_net[:]
    return out


def _hdf5(path: str) -> str:
    with weights.open_hdf5(path) as file:
        if file.is_group("history") and "iter" in file:
            group = file.group("history")
            history = [(str(i), _shape(group.dataset(str(i)).shape)) for i in range(len(group))]
            title = f"{path}: solver state (HDF5) of iteration {file.dataset('iter').number()}"
            return _table(title, ("history", "shape"), history)
        if file.is_group("data"):
            return _hdf5_weights(path, file.group("data"))
        arrays = [(name, file.dataset(name)) for name in file if not file.is_group(name)]
        rows = [(name, _shape(array.shape), str(array.dtype)) for name, array in arrays]
        return _table(f"{path}: HDF5 data", ("dataset", "shape", "type"), rows)


def _hdf5_weights(path: str, layers: H5Group) -> str:
    found: list[Row] = []
    total = 0
    for name in layers:
        group = layers.group(name)
        shapes = [group.dataset(str(i)).shape for i in range(len(group)) if str(i) in group]
        count = sum(prod(shape) for shape in shapes)
        total += count
        found.append((name, "", " ".join(map(_shape, shapes)), str(count) if shapes else ""))
    title = f"{path}: weights (HDF5), {len(found)} layers, {total} parameters, {_size(total)}"
    return _table(title, ("layer", "", "shapes", "parameters"), found)
