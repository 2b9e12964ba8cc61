"""`.solverstate`, Caffe's own file: iteration, step, the name of the weights and the history, binary or HDF5."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from caffepy.errors import SnapshotError
from caffepy.files import new_hdf5, read_bytes
from caffepy.net import weights
from caffepy.net.blob import Blob
from caffepy.proto.blobs import proto_to_array
from caffepy.proto.caffe_pb2 import SolverState
from caffepy.proto.scan import parse
from caffepy.solver.training import Training


class State(NamedTuple):
    iter: int
    current_step: int
    learned_net: str | bytes
    """Bytes where it is no UTF-8."""
    history: list[np.ndarray]


def write_binary(solver: Training, model: str, path: str) -> None:
    state = SolverState(iter=solver.iter, learned_net=model, current_step=solver.current_step)
    state.history.extend(weights.blob_to_proto(blob) for blob in solver.history)
    Path(path).write_bytes(state.SerializeToString())


def write_hdf5(solver: Training, model: str, path: str) -> None:
    with new_hdf5(path) as file:
        file["iter"] = np.array([solver.iter], np.int32)
        file["current_step"] = np.array([solver.current_step], np.int32)
        name = model.encode()
        file["learned_net"] = np.array(name, f"S{len(name) + 1}")  # with its final zero, as C writes it
        group = file.create_group("history")
        for i, blob in enumerate(solver.history):
            weights.write_values(group, str(i), blob)


def read(path: str, blobs: Sequence[Blob] = ()) -> State:
    """A state in either format, HDF5 if its name ends in .h5. Raises SnapshotError naming the file.

    The history is for `blobs`: of those that are spread over processes only the part of this one is read.
    """
    state = _read_hdf5(path, blobs) if path.endswith(".h5") else _read_binary(path)
    if min(state.iter, state.current_step) < 0:
        raise SnapshotError(f"it is of iteration {state.iter}, step {state.current_step}", where=path)
    return state


def _read_hdf5(path: str, blobs: Sequence[Blob]) -> State:
    with weights.open_hdf5(path) as file:
        try:
            group = file.group("history")
            count = len(group)
            wanted = blobs if len(blobs) == count else [None] * count
            history = [weights.read_values(group.dataset(str(i)), blob) for i, blob in enumerate(wanted)]
            iteration, step = (file.dataset(name).number() for name in ("iter", "current_step"))
            return State(iteration, step, file.dataset("learned_net").text(), history)
        except KeyError as error:
            raise SnapshotError(f"this is no solver state: {error.args[0]}", where=path) from None


def _read_binary(path: str) -> State:
    state = SolverState()
    try:
        parse(read_bytes(path), state)
    except DecodeError:
        raise SnapshotError(
            "this is no complete solver state: truncated, or another kind of file",
            where=path,
            hint="Weights alone (.caffemodel) are given with --weights.",
        ) from None
    if not state.HasField("iter"):
        raise SnapshotError("this is no solver state", where=path)
    try:
        history = [proto_to_array(proto) for proto in state.history]
    except SnapshotError as error:
        raise error.at(path) from None
    return State(state.iter, state.current_step, state.learned_net, history)
