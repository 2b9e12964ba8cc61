"""Runs: a training with all its resumes is one, and the snapshots under a prefix are of one run alone.

A run that starts anew, or goes on from an earlier iteration, sets apart what others have left: it moves to the folder
`<prefix>_run_1`, or the next that is free, under the names that it has.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from caffepy.errors import SnapshotError
from caffepy.solver import resume_file, written

log = logging.getLogger(__name__)

_NUMBER = re.compile(r"_iter_(\d+)$")


class Run(NamedTuple):
    """What tells a run from others; each `.resume` file holds that of its snapshot."""

    id: str
    begun: str

    def __str__(self) -> str:
        return f"the run begun {self.begun}"


def new() -> Run:
    return Run(os.urandom(8).hex(), datetime.now().isoformat(" ", "seconds"))


def of(stem: str) -> Run | None:
    """The run that wrote the snapshot `stem`; None for Caffe's, and for one that cannot be read."""
    try:
        return read(resume_file.read(f"{stem}.resume"))
    except SnapshotError:
        return None


def read(remembered: Mapping[str, Any]) -> Run | None:
    """The run in the content of a `.resume` file; older ones have none."""
    found = remembered.get("run")
    return Run(found["id"], found["begun"]) if found else None


def latest_first(states: Sequence[str]) -> list[str]:
    """Solver states, those of the run that was written last before others; of one run by iteration, others by time."""
    names: dict[str, str] = {}
    times: dict[str, int] = {}
    for path in states:
        run = of(written.stem(path))
        names[path] = name = run.id if run else path
        times[name] = max(times.get(name, 0), os.stat(path).st_mtime_ns)
    return sorted(states, key=lambda path: (times[names[path]], _iteration(written.stem(path))), reverse=True)


def set_apart(prefix: str, run: Run, iteration: int | None) -> None:
    """Leave under the prefix only what is of `run` up to the iteration that it goes on from; None: it starts anew."""
    others = {
        stem: files for stem, files in written.by_stem(prefix).items() if not _belongs(stem, files, run, iteration)
    }
    if not others:
        return
    folder = _new_folder(prefix)
    for path in (path for files in others.values() for path in files):
        os.rename(path, os.path.join(folder, os.path.basename(path)))
    states = [path for files in others.values() for path in files if written.is_state(path)]
    last = max(states, key=lambda path: _iteration(written.stem(path)), default="")
    log.warning(
        "%s: snapshots of another run are now in %s, for this one %s%s",
        prefix,
        folder,
        "starts anew" if iteration is None else f"goes on from iteration {iteration}",
        last and f"; --snapshot {os.path.join(folder, os.path.basename(last))} goes on with that",
    )


def _belongs(stem: str, files: Sequence[str], run: Run, iteration: int | None) -> bool:
    if iteration is None:
        return False
    writer = of(stem)
    if writer and writer.id != run.id:
        return False
    whole = any(map(written.is_state, files))
    # Of a run that was killed while it wrote one, what is there is written anew when it gets there.
    return _iteration(stem) <= iteration or (writer is not None and not whole)


def _iteration(stem: str) -> int:
    """-1 for the best."""
    found = _NUMBER.search(stem)
    return int(found[1]) if found else -1


def _new_folder(prefix: str) -> str:
    number = 1
    while True:
        try:
            os.mkdir(folder := f"{prefix}_run_{number}")
            return folder
        except FileExistsError:
            number += 1
