"""Trainings in processes of their own, so many at a time: each a `caffepy train` with its share of the cores."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from caffepy.engine.threads import available_cores
from caffepy.files import read_text
from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.search.reporter import PIPES, RESULT

Message = dict[str, Any]
LOG = "train.log"
_THREADS = ("CAFFEPY_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class ProcessOptions:
    """How trainings run: options of `caffepy train`, GPUs to go round, and variables of the environment."""

    words: Sequence[str] = ()
    gpus: Sequence[int] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def on_all_gpus(options: ProcessOptions, solver: SolverParameter) -> ProcessOptions:
    """The same, going round the GPUs of this machine where the solver asks for GPUs and no option says otherwise."""
    asked = solver.HasField("solver_mode") and solver.solver_mode == solver.GPU
    if options.gpus or "--engine" in options.words or not asked:
        return options
    from caffepy.engine import gpu_count

    return replace(options, gpus=range(gpu_count()))


class Process:
    """A training of the solver file; resumed from its newest snapshot, if there is one."""

    def __init__(self, solver: Path, options: ProcessOptions, slot: int, threads: int, owner: Any):
        self.solver, self.slot, self.owner = solver, slot, owner
        incoming, theirs_out = os.pipe()
        theirs_in, self._outgoing = os.pipe()
        self.incoming: IO[bytes] = os.fdopen(incoming, "rb")
        gpu = ["--gpu", str(options.gpus[slot % len(options.gpus)])] if options.gpus else []
        command = [sys.executable, "-m", "caffepy", "train", "--solver", str(solver), "--resume", *gpu, *options.words]
        shares = {name: str(threads) for name in _THREADS} if threads else {}
        environment = {**os.environ, **shares, **options.environment, PIPES: f"{theirs_in},{theirs_out}"}
        with open(solver.parent / LOG, "ab") as log:
            self._popen = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(theirs_in, theirs_out),
                start_new_session=True,  # Ctrl-C is for who started it
            )
        for theirs in (theirs_in, theirs_out):
            os.close(theirs)
        self.ended = False

    def answer(self, go: bool) -> None:
        with suppress(BrokenPipeError):
            os.write(self._outgoing, json.dumps({"go": go}).encode() + b"\n")

    def stop(self) -> None:
        """Ask for a snapshot and the end."""
        self._popen.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self._popen.kill()

    def close(self) -> int:
        """Wait for the end; the exit status."""
        status = self._popen.wait()
        self.incoming.close()
        os.close(self._outgoing)
        return status

    def last_words(self) -> str:
        """The last line of the log."""
        lines = read_text(self.solver.parent / LOG).strip().splitlines()
        return lines[-1] if lines else ""


class Pool:
    """At most `jobs` processes."""

    def __init__(self, jobs: int, options: ProcessOptions):
        self.jobs, self.options = jobs, options
        self.running: list[Process] = []
        self._threads = max(1, available_cores() // jobs) if jobs > 1 else 0
        self._selector = selectors.DefaultSelector()

    @property
    def free(self) -> int:
        return self.jobs - len(self.running)

    def start(self, solver: Path, owner: Any) -> None:
        slot = min(set(range(self.jobs)) - {process.slot for process in self.running})
        process = Process(solver, self.options, slot, self._threads, owner)
        self.running.append(process)
        self._selector.register(process.incoming, selectors.EVENT_READ, process)

    def poll(self, seconds: float) -> Iterator[tuple[Process, Message]]:
        """What the processes say within so many seconds. Each says once how it ended, and is none of the pool then."""
        for key, _ in self._selector.select(seconds):
            process = key.data
            line = process.incoming.readline()
            if line.endswith(b"\n"):
                message = json.loads(line)
                process.ended = process.ended or "iter" not in message
                yield process, message
            else:
                self._selector.unregister(process.incoming)
                self.running.remove(process)
                status = process.close()
                if not process.ended:
                    yield process, {"failed": _ending(process, status), "fatal": False}
                yield process, {"over": True}

    def stop(self) -> None:
        for process in self.running:
            process.stop()

    def kill(self) -> None:
        """End all at once; they are resumed as if killed."""
        for process in self.running:
            process.kill()
            process.close()
        self.running.clear()


def _ending(process: Process, status: int) -> str:
    if status < 0:
        return f"the process was ended by {signal.Signals(-status).name}"
    return f"the process ended with status {status}: {process.last_words()}"


def result_of(folder: Path) -> Message | None:
    """What a training in the folder has come to, if it is complete."""
    with suppress(OSError, ValueError):
        return json.loads(read_text(folder / RESULT))
    return None
