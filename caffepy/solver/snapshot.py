"""Snapshots: Caffe's weights and solver state, and beside them what Caffe forgets.

`<prefix>_iter_<n>.caffemodel`, `.solverstate` (HDF5: the same plus `.h5`) are Caffe's own. `.resume` is ours: JSON
with the data cursors, generators and recurrent states, the loss window, and sizes and checksums of the other two.
Every file is written under a temporary name, flushed and renamed, the solver state last: where it is, all are.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import zlib
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf.message import DecodeError

from caffepy.errors import CaffeError, ConfigError, SnapshotError
from caffepy.files import atomic_write, new_hdf5, temporary_name
from caffepy.net import weights
from caffepy.proto.caffe_pb2 import SolverParameter, SolverState

if TYPE_CHECKING:
    from caffepy.net.layer import Layer
    from caffepy.net.net import Net
    from caffepy.solver.solver import Solver

log = logging.getLogger(__name__)

_LAST = 10**8  # an iteration of as many digits as any run has
_STATE = re.compile(r"_iter_(\d+)\.solverstate(\.h5)?$")


def prefix(param: SolverParameter, solver_file: str) -> str:
    """`snapshot_prefix`; not set: the solver file without extension; a folder: that name inside it."""
    stem = os.path.splitext(solver_file)[0]
    if not param.HasField("snapshot_prefix"):
        return stem
    if os.path.isdir(param.snapshot_prefix):
        return os.path.join(param.snapshot_prefix, os.path.basename(stem))
    return param.snapshot_prefix


def check(solver: Solver) -> None:
    """Find out at the start, not after hours, that the solver's snapshots cannot be written."""
    check_writable(solver.snapshot_prefix)
    if solver.param.snapshot_format == SolverParameter.HDF5:
        weights.check_hdf5_names(solver.net)


def check_writable(path: str) -> None:
    """Raises ConfigError if files whose names begin with `path` cannot be made."""
    probe = temporary_name(f"{path}_iter_{_LAST}.caffemodel.h5")
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        raise ConfigError(
            f'snapshots cannot be written to "{path}": {error.strerror}',
            hint="Make the folder, or set snapshot_prefix to one that exists."
            if missing
            else f"Set snapshot_prefix to another folder, or make files possible in {probe.absolute().parent}.",
        ) from None


def save(solver: Solver, name: str) -> str:
    """Write the files `name`.caffemodel ... and return the path of the solver state.

    All are complete before the first takes its name: a full disk leaves an older snapshot of this name as it was.
    """
    hdf5 = solver.param.snapshot_format == SolverParameter.HDF5
    kind, suffix = ("HDF5", ".h5") if hdf5 else ("binary proto", "")
    model, state, extra = f"{name}.caffemodel{suffix}", f"{name}.solverstate{suffix}", resume_path(name)
    if hdf5:
        weights.check_hdf5_names(solver.net)
    with atomic_write(state) as new_state, atomic_write(extra) as new_extra, atomic_write(model) as new_model:
        log.info("Snapshotting to %s file %s", kind, model)
        (weights.write_hdf5 if hdf5 else weights.write)(solver.net, new_model, solver.param.snapshot_diff)
        log.info("Snapshotting solver state to %s file %s", kind, state)
        (_write_hdf5 if hdf5 else _write_binary)(solver, model, new_state)
        remembered = _remember(solver, {model: _digest(new_model), state: _digest(new_state)})
        Path(new_extra).write_text(json.dumps(remembered, default=_encode))
        # An older state of this name would for a moment stand beside weights that are not its own.
        Path(state).unlink(missing_ok=True)
    return state


def resume_path(name: str) -> str:
    return f"{name}.resume"


def restore(solver: Solver, path: str | PathLike[str]) -> None:
    """Continue from a solver state: weights, history, iteration, and what `.resume` holds if it is there."""
    path = os.fspath(path)
    state, history = _read(path)
    model = _find_model(state.learned_net, path)
    extra = _recall(path, model)
    if len(history) != len(solver.history):
        raise SnapshotError(
            f"the state has {len(history)} history blob(s), this solver has {len(solver.history)}",
            where=path,
            hint=f'It was written by a solver of another type than "{solver.param.type}", or of another net.',
        )
    for i, (values, blob) in enumerate(zip(history, solver.history)):
        if values.size != blob.count:
            raise SnapshotError(f"history {i} has shape {values.shape}, the parameter {blob.shape}", where=path)
    if model:
        weights.load(solver.net, [model])
    for values, blob in zip(history, solver.history):
        blob.data[...] = solver.engine.asarray(values.reshape(blob.shape))
    solver._iter, solver.current_step = state.iter, state.current_step
    if extra is not None:
        _continue(solver, extra)


def newest(name: str) -> str | None:
    """The newest complete snapshot with the prefix `name`; incomplete ones are passed over with a warning."""
    for path in snapshots(name):
        try:
            state, _ = _read(path)
            model = _find_model(state.learned_net, path)
            if _recall(path, model) is None and model and not weights.is_hdf5(model):
                weights.read_weights(model)
            return path
        except CaffeError as error:
            log.warning("Passing over an incomplete snapshot: %s", error)
    return None


def snapshots(name: str, up_to: int | None = None) -> list[str]:
    """Solver states of the prefix `name`, newest first; all, or those up to an iteration."""
    folder, base = os.path.split(name)
    found = []
    for entry in Path(folder or ".").glob("*.solverstate*"):
        match = _STATE.search(entry.name)
        if match and entry.name[: match.start()] == base and (up_to is None or int(match[1]) <= up_to):
            found.append((int(match[1]), os.path.join(folder, entry.name)))
    return [path for _, path in sorted(found, reverse=True)]


def prune(name: str, keep: int, iteration: int) -> None:
    """Remove all but the newest `keep` snapshots of the prefix up to `iteration`.

    Later ones were left by another run: they must not displace those of this one.
    """
    for path in snapshots(name, iteration)[keep:]:
        for file in _files_of(path):
            Path(file).unlink(missing_ok=True)


def _files_of(state: str) -> Iterator[str]:
    stem, suffix = _split_name(state)
    yield state  # first, so that what remains after a crash is not taken for a snapshot
    yield f"{stem}.caffemodel{suffix}"
    yield resume_path(stem)


def _split_name(state: str) -> tuple[str, str]:
    suffix = ".h5" if state.endswith(".h5") else ""
    return state.removesuffix(suffix).removesuffix(".solverstate"), suffix


def _digest(path: str) -> list[int]:
    """Size and CRC-32."""
    crc = size = 0
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            crc, size = zlib.crc32(chunk, crc), size + len(chunk)
    return [size, crc]


# Caffe's part


def _write_binary(solver: Solver, model: str, path: str) -> None:
    state = SolverState(iter=solver.iter, learned_net=model, current_step=solver.current_step)
    state.history.extend(weights.blob_to_proto(blob) for blob in solver.history)
    Path(path).write_bytes(state.SerializeToString())


def _write_hdf5(solver: Solver, model: str, path: str) -> None:
    with new_hdf5(path) as file:
        file["iter"] = np.array([solver.iter], np.int32)
        file["current_step"] = np.array([solver.current_step], np.int32)
        name = model.encode()
        file["learned_net"] = np.array(name, f"S{len(name) + 1}")  # with its final zero, as C writes it
        group = file.create_group("history")
        for i, blob in enumerate(solver.history):
            group[str(i)] = solver.engine.to_host(blob.data)


def _read(path: str) -> tuple[SolverState, list[np.ndarray]]:
    """Iteration, step and weights of a state in either format (HDF5 if its name ends in .h5), and its history."""
    state = SolverState()
    if path.endswith(".h5"):
        with weights.open_hdf5(path) as file:
            try:
                state.iter, state.current_step = file["iter"].number(), file["current_step"].number()
                state.learned_net = file["learned_net"].text()
                group = file["history"]
                return state, [group[str(i)].numbers() for i in range(len(group))]
            except KeyError as error:
                raise SnapshotError(f"this is no solver state: {error.args[0]}", where=path) from None
    try:
        state.ParseFromString(weights.read_bytes(path))
    except DecodeError:
        raise SnapshotError(
            "this is no complete solver state: truncated, or another kind of file",
            where=path,
            hint="Weights alone (.caffemodel) are given with --weights.",
        ) from None
    if not state.HasField("iter"):
        raise SnapshotError("this is no solver state", where=path)
    return state, [weights.proto_to_array(proto) for proto in state.history]


def _find_model(learned_net: str | bytes, state: str) -> str:
    """The weights of a state: as written there, relative to the working folder, else beside the state."""
    learned_net = os.fsdecode(learned_net)  # bytes where it is no UTF-8
    beside = os.path.join(os.path.dirname(state), os.path.basename(learned_net))
    for path in (learned_net, beside):
        if not learned_net or os.path.isfile(path):
            return path
    raise SnapshotError(f'the weights "{learned_net}" that it belongs to are missing', where=state)


# Our part


def _remember(solver: Solver, files: dict[str, list[int]]) -> dict[str, Any]:
    nets = [solver.net, *solver.test_nets]
    return {
        "format": 1,
        "iter": solver.iter,
        "files": {os.path.basename(path): digest for path, digest in files.items()},
        "random": solver.random.state,
        "layers": [{name: state for name, layer in _by_name(net) if (state := layer.state())} for net in nets],
        **solver.state(),
    }


def _recall(path: str, model: str) -> dict[str, Any] | None:
    """Our file beside a solver state, checked against it; None for a state that Caffe wrote."""
    extra = resume_path(_split_name(path)[0])
    if not os.path.isfile(extra):
        return None
    try:
        remembered = json.loads(Path(extra).read_text(), object_hook=_decode)
        files = remembered["files"]
    except (ValueError, KeyError):
        raise SnapshotError(
            "this is no complete resume file", where=extra, hint="Remove it to resume as Caffe does."
        ) from None
    for file in (path, model):
        expected = files.get(os.path.basename(file))
        if expected is None or list(expected) != _digest(file):
            raise SnapshotError(
                "the file is not the one that was written with this snapshot: truncated or replaced",
                where=file,
                hint=f"Use another snapshot, or remove {extra} to resume as Caffe does.",
            )
    return remembered


def _continue(solver: Solver, extra: dict[str, Any]) -> None:
    solver.random.state = extra["random"]
    for net, states in zip([solver.net, *solver.test_nets], extra["layers"]):
        for name, layer in _by_name(net):
            if name in states:
                layer.set_state(states[name])
    solver.set_state(extra)


def _by_name(net: Net) -> Iterator[tuple[str, Layer]]:
    """Each layer with a name of its own: further layers of one name have their index behind it."""
    seen: set[str] = set()
    for i, layer in enumerate(net.layers):
        yield f"{layer.name}/{i}" if layer.name in seen else layer.name, layer
        seen.add(layer.name)


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        return {"array": data, "dtype": str(value.dtype), "shape": value.shape}
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"cannot store {type(value).__name__} in a snapshot")


def _decode(value: dict[str, Any]) -> Any:
    if value.keys() == {"array", "dtype", "shape"}:
        flat = np.frombuffer(base64.b64decode(value["array"]), value["dtype"])
        return flat.reshape(value["shape"]).copy()
    return value
