"""A search: trials begun, followed, ended and resumed, each a training in its own folder."""

from __future__ import annotations

import logging
import math
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from caffepy.errors import CaffeError, DataError, did_you_mean
from caffepy.files import atomic_write
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.search import folds as cross
from caffepy.search.definition import SearchDefinition
from caffepy.search.interrupts import Interrupts
from caffepy.search.model import Model
from caffepy.search.processes import Message, Pool, Process, ProcessOptions, on_all_gpus, result_of
from caffepy.search.space import build, shown
from caffepy.search.study import OWNER, RESULT, Proposals, open_study, storage_errors, url_of
from caffepy.solver.solver import Solver
from caffepy.solver.watch import names_output

log = logging.getLogger(__name__)

DEFINITION, ASSIGNMENT = "search.prototxt", "folds.npy"
_POLL = 0.25
"""Seconds between looks at the clock and the table."""


class Trial:
    """A trial that runs: its folder, its trainings, and what those of them that are complete have come to."""

    def __init__(self, trial: Any, folder: Path, trainings: list[Path], longest: int):
        self.trial, self.folder, self.trainings = trial, folder, trainings
        self.longest = longest
        """Iterations of a training."""
        self.number: int = trial.number
        self.results: list[Message] = []
        self.begun = time.monotonic()

    @property
    def next(self) -> Path:
        """The solver file of the training that is due."""
        return self.trainings[len(self.results)]


class Search:
    """A search in its folder. `run` begins it, or goes on where it was interrupted, at whatever moment.

    `watch` is called whenever something has changed, and now and then.
    """

    def __init__(
        self,
        definition: SearchDefinition,
        folder: Path,
        options: ProcessOptions | None = None,
        watch: Callable[[Search], object] = lambda search: None,
    ):
        self.definition, self.folder, self.watch = definition, folder, watch
        self.param = p = definition.param
        if not p.solver:
            raise definition.error("solver", "solver is not set", 'It names the solver: solver: "solver.prototxt".')
        try:
            self.model = Model.read(p.solver).prepared(p.seed)
        except CaffeError as error:
            raise error if error.where else error.at(definition.place("solver")) from None
        self.parameters = build(definition, self.model)
        self._check()
        self.pool = Pool(p.jobs, on_all_gpus(options or ProcessOptions(), self.model.solver))
        self.trials: dict[int, Trial] = {}
        """Those that run, by number."""
        self.interrupts = Interrupts(self.pool)
        self.began = time.monotonic()
        self.owner = f"{socket.gethostname()}:{folder.absolute()}"

    def _check(self) -> None:
        """Build the nets once: what is wrong with them is wrong with all trials."""
        p, definition = self.model.solver, self.definition
        if p.test_interval < 1:
            raise definition.error("metric", f"{self.param.solver} has no tests: set test_iter and test_interval")
        if not p.max_iter:
            raise definition.error("solver", f"{self.param.solver} has no max_iter")
        p = SolverParameter()
        p.CopyFrom(self.model.solver)
        p.snapshot = 0  # nothing is written beside the solver's file
        with quiet():
            solver = Solver(p, file=self.param.solver)
        outputs = [name for net in solver.test_nets for name in net.outputs]
        metric = self.param.metric
        if not names_output(metric, outputs):
            known = f"Test outputs: {', '.join(outputs)}."
            raise definition.error(
                "metric", f'no test net has the output "{metric}"', did_you_mean(metric, outputs) or known
            )

    def run(self) -> Any:
        """Search to the end; the study. Raises KeyboardInterrupt where it was interrupted: all is kept."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with alone_in(self.folder), storage_errors(url_of(self.param, self.folder)), self.interrupts:
            self._write_definition()
            self.study = open_study(self.definition, self.folder, self.model)
            self.ended_before = sum(trial.state.is_finished() for trial in self.study.get_trials(deepcopy=False))
            self.proposals = Proposals(self.study, self.definition, self.parameters, self.model.solver)
            if self.param.folds and not (self.folder / ASSIGNMENT).exists():
                self.folds.make(self.model, self.folder / ASSIGNMENT)
            try:
                self._resume()
                self._loop()
            except BaseException:
                self.pool.kill()
                raise
        if self.interrupts.count:
            raise KeyboardInterrupt
        return self.study

    @property
    def folds(self) -> cross.Folds:
        p = self.param
        return cross.Folds(p.folds, p.seed, p.stratify, p.group)

    def _write_definition(self) -> None:
        """What `--report` reads: the same, by its name."""
        p = type(self.param)()
        p.CopyFrom(self.param)
        p.name = self.definition.name
        with atomic_write(self.folder / DEFINITION) as temporary:
            Path(temporary).write_text(text.to_text(p))

    # The loop

    def _loop(self) -> None:
        while True:
            while self.pool.free and self._may_begin():
                self._start(self._prepared(self.proposals.begin(self.owner)))
            self.watch(self)
            if not self.pool.running:
                return
            for process, message in self.pool.poll(_POLL):
                self._take(process.owner, process, message)

    def _may_begin(self) -> bool:
        if self.interrupts.count or (self.param.seconds and time.monotonic() - self.began >= self.param.seconds):
            return False
        return self.proposals.left > 0

    def _resume(self) -> None:
        """Go on with the trials that ran when the search was interrupted."""
        from optuna.trial import TrialState

        shared = "://" in self.param.storage
        for frozen in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            owner = frozen.user_attrs.get(OWNER)
            if owner == self.owner or not shared:
                trial = self._prepared(self.proposals.again(frozen._trial_id))
                while not self.pool.free:
                    for process, message in self.pool.poll(_POLL):
                        self._take(process.owner, process, message)
                self._start(trial)

    def _prepared(self, trial: Any) -> Trial:
        """The trial with its definition in its folder."""
        folder = self.folder / f"trial_{trial.number:04d}"
        folder.mkdir(exist_ok=True)
        settings = [p.setting(trial.params[p.path]) for p in self.parameters if p.path in trial.params]
        # The baseline is the definition as it stands, also where that is not among the choices.
        model = self.model if self.proposals.is_baseline(trial.number) else self.model.set(settings)
        trainings = [model.write(folder)]
        if self.param.folds:
            trainings = []
            for fold in range(self.param.folds):
                inner = folder / f"fold_{fold}"
                inner.mkdir(exist_ok=True)
                trainings.append(cross.held_out(model, fold, self.folder / ASSIGNMENT).write(inner))
        return Trial(trial, folder, trainings, model.solver.max_iter)

    def _start(self, trial: Trial) -> None:
        """Start the trial's next training that is not complete, or end the trial where all are."""
        while len(trial.results) < len(trial.trainings):
            found = result_of(trial.next.parent)
            if found is None:
                self.trials[trial.number] = trial
                if not trial.results:
                    described = ", ".join(f"{k} = {shown(v)}" for k, v in trial.trial.params.items())
                    log.info("Trial %d: %s", trial.number, described or "the definition as it stands")
                self.pool.start(trial.next, trial)
                return
            trial.results.append(found)
        self._complete(trial)

    def _take(self, trial: Trial, process: Process, message: Message) -> None:
        if "iter" in message:
            process.answer(self._goes_on(trial, message))
        elif "failed" in message:
            if message["fatal"]:
                raise DataError(
                    f"trial {trial.number} cannot go on: {message['failed']}",
                    where=str(trial.folder),
                    hint="Make room, then start the same command again: the search goes on, nothing is lost.",
                )
            self._end(trial, None, "FAIL", failure=message["failed"])
        elif "done" in message:
            trial.results.append(message["done"])
        elif trial.number in self.trials and (len(trial.results) == len(trial.trainings) or not self.interrupts.count):
            self._start(self.trials.pop(trial.number))  # it is over; else it has ended, or waits for the next call

    def _goes_on(self, trial: Trial, message: Message) -> bool:
        """Take in a test, and decide. The folds of a trial are one behind the other; the last test ends it anyway."""
        step = len(trial.results) * trial.longest + message["iter"]
        value = message["scores"].get(self.param.metric, math.nan)
        if not message["iter"] or self.proposals.goes_on(
            trial.trial, value, step, trial.longest * len(trial.trainings)
        ):
            return True
        self._end(trial, None, "PRUNED", iter=message["iter"])
        return False

    def _complete(self, trial: Trial) -> None:
        values = [found["scores"].get(self.param.metric, math.nan) for found in trial.results]
        value, deviation = float(np.mean(values)), float(np.std(values))
        if not math.isfinite(value):
            self._end(trial, None, "FAIL", failure=f"{self.param.metric} is {value}")
            return
        more = {"deviation": deviation, "folds": values} if len(values) > 1 else {}
        self._end(trial, value, "COMPLETE", iter=trial.results[-1]["iter"], **more)

    def _end(self, trial: Trial, value: float | None, state: str, **attributes: Any) -> None:
        self.trials.pop(trial.number, None)
        seconds = round(time.monotonic() - trial.begun, 3)
        trial.trial.set_user_attr(RESULT, {**attributes, "seconds": seconds, "folder": str(trial.folder)})
        self.proposals.end(trial.trial, value, state)
        if state == "FAIL":
            log.warning("Trial %d failed: %s", trial.number, attributes["failure"])
        elif state == "PRUNED":
            log.info("Trial %d ended at iteration %d: others were better there", trial.number, attributes["iter"])
        else:
            best = self.study.best_trial
            log.info(
                "Trial %d: %s = %.6g; the best is %.6g, of trial %d",
                trial.number, self.param.metric, value, best.value, best.number,
            )  # fmt: skip


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Within the block no other process has this folder. Raises DataError where one has."""
    import fcntl

    with open(folder / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DataError(
                "another search runs in this folder", where=str(folder), hint="Wait for it, or set --folder."
            ) from None
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Within the block solvers and nets log nothing but warnings."""
    loggers = [logging.getLogger(f"caffepy.{room}") for room in ("solver", "net")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before):
            logger.setLevel(level)
