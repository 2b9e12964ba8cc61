"""Snapshots: Caffe's weights and solver state, and beside them what Caffe forgets.

`<prefix>_iter_<n>.caffemodel`, `.solverstate` (HDF5: the same plus `.h5`) are Caffe's own. `.resume` is ours: JSON
with the data cursors, generators and recurrent states, the loss window, and sizes and checksums of the other two.
Every file is written under a temporary name, flushed and renamed, the solver state last: where it is, all are.
"""

from __future__ import annotations

import logging
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any

from caffepy import temporary
from caffepy.errors import CaffeError, FieldError, SnapshotError
from caffepy.files import atomic_write, no_folder, open_file
from caffepy.net import weights
from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.solver import resume, resume_file, runs, solverstate, written
from caffepy.solver.training import Training

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


def check(solver: Training) -> None:
    """Find out at the start, not after hours, that the solver's snapshots cannot be written."""
    check_writable(solver.snapshot_prefix)
    for path in written.found(solver.snapshot_prefix):
        written.check_replaceable(path)
    _check_format(solver)


def _check_format(solver: Training) -> bool:
    """Whether it is HDF5. Raises ConfigError where the net cannot be written in the solver's format."""
    hdf5 = solver.param.snapshot_format == SolverParameter.HDF5
    if hdf5:
        weights.check_hdf5_names(solver.net)
    elif solver.net.share is not None:
        raise FieldError(
            "tables that are spread over processes can be written as HDF5 alone, a part at a time",
            "snapshot_format",
            hint="Set snapshot_format: HDF5.",
        )
    return hdf5


def check_writable(path: str) -> None:
    """Raises ConfigError if files whose names begin with `path` cannot be made."""
    probe = temporary.temporary_name(f"{path}_iter_{_LAST}.caffemodel.h5")
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        hint = f"Set snapshot_prefix to another folder, or make files possible in {probe.absolute().parent}."
        if isinstance(error, FileNotFoundError):
            place = "" if probe.parent.is_dir() else f"{no_folder(Path(path))} "
            hint = f"{place}Make the folder, or set snapshot_prefix to one that exists."
        raise FieldError(
            f'snapshots cannot be written to "{path}": {error.strerror}', "snapshot_prefix", hint=hint
        ) from None


def save(solver: Training, name: str) -> str:
    """Write the files `name`.caffemodel ... and return the path of the solver state.

    All are complete before the first takes its name: a full disk leaves an older snapshot of this name as it was.
    """
    for part in ("iter_", "best"):
        temporary.sweep(f"{solver.snapshot_prefix}_{part}")
    hdf5 = _check_format(solver)
    kind, suffix = ("HDF5", ".h5") if hdf5 else ("binary proto", "")
    model, state, extra = f"{name}.caffemodel{suffix}", f"{name}.solverstate{suffix}", resume_path(name)
    for path in (model, state, extra):
        written.check_replaceable(path)
    # The weights are renamed behind `.resume`, which says whose they are, and the state, which makes it whole, last.
    with atomic_write(state) as new_state, atomic_write(model) as new_model, atomic_write(extra) as new_extra:
        log.info("Snapshotting to %s file %s", kind, model)
        (weights.write_hdf5 if hdf5 else weights.write)(solver.net, new_model, solver.param.snapshot_diff)
        log.info("Snapshotting solver state to %s file %s", kind, state)
        (solverstate.write_hdf5 if hdf5 else solverstate.write_binary)(solver, model, new_state)
        remembered = resume.remember(solver, {model: _digest(new_model), state: _digest(new_state)})
        try:
            resume_file.write(new_extra, remembered)
        except (TypeError, ValueError):
            resume.check_states(solver)
            raise
        # An older state of this name would for a moment stand beside weights that are not its own.
        Path(state).unlink(missing_ok=True)
    return state


def resume_path(name: str) -> str:
    return f"{name}.resume"


def restore(solver: Training, path: str | PathLike[str]) -> None:
    """Continue from a solver state: weights, history, iteration, and what `.resume` holds if it is there.

    All files are checked before anything is changed: an error leaves the solver as it is.
    """
    path = os.fspath(path)
    state = solverstate.read(path, solver.history)
    model, extra = _find_model(state.learned_net, path), resume_path(_split_name(path)[0])
    remembered = _recall(path, state, model)
    _check_history(solver, state, path)
    if remembered is not None:
        resume.check(solver, remembered, extra)
    with resume.undone(solver):
        if remembered is not None:
            resume.restore(solver, remembered, extra)
        if model:
            weights.load(solver.net, [model])
    for values, blob in zip(state.history, solver.history):
        blob.data[...] = solver.engine.asarray(values.reshape(blob.shape))
    solver._iter, solver.current_step = state.iter, state.current_step
    solver.claim.go_on(runs.read(remembered or {}), state.iter)


def _check_history(solver: Training, state: solverstate.State, path: str) -> None:
    if len(state.history) != len(solver.history):
        raise SnapshotError(
            f"the state has {len(state.history)} history blob(s), this solver has {len(solver.history)}",
            where=path,
            hint=f'It was written by a solver of another type than "{solver.param.type}", or of another net.',
        )
    for i, (values, blob) in enumerate(zip(state.history, solver.history)):
        if values.size != blob.count:
            raise SnapshotError(f"history {i} has shape {values.shape}, the parameter {blob.shape}", where=path)


def newest(name: str) -> str | None:
    """The newest complete snapshot of the run that was written last with the prefix `name`.

    Incomplete ones are passed over with a warning.
    """
    for path in runs.latest_first(snapshots(name)):
        try:
            state = solverstate.read(path)
            model = _find_model(state.learned_net, path)
            if _recall(path, state, model) is None and model and not weights.is_hdf5(model):
                weights.read_weights(model)
            return path
        except CaffeError as error:
            log.warning("Passing over an incomplete snapshot: %s", error)
    return None


def snapshots(name: str) -> list[str]:
    """Solver states of the prefix `name`, the latest iteration first."""
    folder, base = os.path.split(name)
    found = []
    for entry in Path(folder or ".").glob("*.solverstate*"):
        match = _STATE.search(entry.name)
        if match and entry.name[: match.start()] == base:
            found.append((int(match[1]), os.path.join(folder, entry.name)))
    return [path for _, path in sorted(found, reverse=True)]


def prune(name: str, keep: int) -> None:
    """Remove all but the latest `keep` snapshots of the prefix, which are those of the run that writes."""
    for path in snapshots(name)[keep:]:
        for file in _files_of(path):
            with suppress(SnapshotError):  # a file of another kind is not ours to remove
                written.check_replaceable(file)
                Path(file).unlink(missing_ok=True)


def _files_of(state: str) -> Iterator[str]:
    stem, suffix = _split_name(state)
    yield state  # first, so that what remains after a crash is not taken for a snapshot
    yield f"{stem}.caffemodel{suffix}"
    yield f"{stem}_average.caffemodel{suffix}"
    yield resume_path(stem)


def _split_name(state: str) -> tuple[str, str]:
    suffix = ".h5" if state.endswith(".h5") else ""
    return state.removesuffix(suffix).removesuffix(".solverstate"), suffix


def _digest(path: str) -> list[int]:
    """Size and CRC-32."""
    crc = size = 0
    with open_file(path) as file:
        while chunk := file.read(1 << 20):
            crc, size = zlib.crc32(chunk, crc), size + len(chunk)
    return [size, crc]


def _find_model(learned_net: str | bytes, state: str) -> str:
    """The weights of a state: beside it, for it may have been set apart with them, else as written there."""
    learned_net = os.fsdecode(learned_net)  # bytes where it is no UTF-8
    beside = os.path.join(os.path.dirname(state), os.path.basename(learned_net))
    for path in (beside, learned_net):
        if not learned_net or os.path.isfile(path):
            return path if learned_net else ""
    raise SnapshotError(f'the weights "{learned_net}" that it belongs to are missing', where=state)


def _recall(path: str, state: solverstate.State, model: str) -> dict[str, Any] | None:
    """Our file beside a solver state, checked against it; None for a state that Caffe wrote."""
    extra = resume_path(_split_name(path)[0])
    if not os.path.isfile(extra):
        return None
    remembered = resume_file.read(extra)
    hint = f"Use another snapshot, or remove {extra} to resume as Caffe does."
    for file in filter(None, (path, model)):
        if remembered["files"].get(os.path.basename(file)) != _digest(file):
            raise SnapshotError(
                "the file is not the one that was written with this snapshot: truncated or replaced",
                where=file,
                hint=hint,
            )
    if remembered["iter"] != state.iter:
        problem = f"the state is of iteration {state.iter}, its resume file of iteration {remembered['iter']}"
        raise SnapshotError(problem, where=path, hint=hint)
    return remembered
