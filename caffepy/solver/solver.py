"""Solver: the loop. Forward and backward, update, then what is due: display, test, snapshot."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from os import PathLike, fspath
from typing import Any, ClassVar

from caffepy import passes, rng
from caffepy.engine import Engine, default_engine
from caffepy.errors import CaffeError, whole_number
from caffepy.net.blob import Blob
from caffepy.net.executor import Executor
from caffepy.net.net import Net
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import NetState, SolverParameter
from caffepy.solver import divergence, nets, policies, resume, snapshot, tests
from caffepy.solver.average import WeightAverage
from caffepy.solver.claim import Claim
from caffepy.solver.display import Display
from caffepy.solver.events import Action, Listener, Requests
from caffepy.solver.listeners import Listeners
from caffepy.solver.loss import SmoothedLoss
from caffepy.solver.objectives.multi_task import MultiTask
from caffepy.solver.rules import Rule, find_rule
from caffepy.solver.tensorboard import TensorBoard
from caffepy.solver.testing import Scores
from caffepy.solver.update import Update
from caffepy.solver.watch import BestSnapshot, EarlyStop, Watch

log = logging.getLogger(__name__)


class Solver:
    """Trains the net that a solver definition names: a path, or a SolverParameter and the `file` it came from.

    Every iteration: zero the gradients, test if due, `iter_size` forward and backward passes, clip, decay, update,
    snapshot if due; `listeners` are told of each (`caffepy.solver.events`). `net` is the net that it trains;
    `test_nets` share its weights from the first test on, as in Caffe. The solver draws from a stream of random numbers
    of its own: that of its `random_seed`, or else a branch of the process's, which seeds it anew when it is seeded.
    Raises ConfigError for definitions that cannot work, NotFiniteError when the loss is no number.
    """

    net_class: ClassVar[type[Net]] = Net
    rule_type: str | None = None
    """The update rule of a subclass, whatever `type` the definition has."""

    def __init__(self, param: str | PathLike[str] | SolverParameter, *, engine: Engine | None = None, file: str = ""):
        self.file = file if isinstance(param, SolverParameter) else fspath(param)
        self.param = SolverParameter()
        self.param.CopyFrom(param if isinstance(param, SolverParameter) else text.read_solver(param))
        if self.rule_type:
            self.param.type = self.rule_type
        self.engine = engine or default_engine()
        self._iter = 0
        self.current_step = 0
        self.rate = 0.0
        """The learning rate of the last update."""
        self.smoothed_loss = SmoothedLoss(self.param.average_loss)
        self._loss_goes_on = False
        self._unchecked = False  # there are losses that nobody has looked at
        self._unsaved = False  # the last snapshot that was due could not be written
        self._listeners = Listeners()
        self.requests = Requests()
        self.root = True
        """Whether this process tests and writes snapshots: the first of several, or the only one."""
        self.testing = False
        self.before_test: dict[str, Any] | None = None
        """Of the test before the present iteration what was there when it began: a snapshot in it or behind it holds
        this, for a resumed run begins the iteration with that test."""
        self.stopped_early = False
        """Whether the last `step` has ended because somebody asked for it."""
        self.scores: Scores = {}
        """Of the last test."""
        self.written = ""
        """The state file that was written last."""
        self.last_snapshot = ""
        """The one to resume from: written or restored last, but not the best."""
        seed = self.param.random_seed
        process = rng.current()
        self.random = rng.Stream(seed) if seed >= 0 else process.branch()
        log.info("Initializing solver from parameters: \n%s", text.to_text(self.param))
        with text.named(self.file), rng.use(self.random):
            self._init()
        if seed < 0:
            process.state = self.random.state  # what is built next goes on behind it, as in Caffe
        log.info("Solver scaffolding done.")

    def _init(self) -> None:
        p = self.param
        self.rule: Rule = find_rule(p)
        policies.check_counts(p)
        self.snapshot_prefix = snapshot.prefix(p, self.file)
        self.claim = Claim(self.snapshot_prefix)
        if p.snapshot > 0:
            snapshot.check_writable(self.snapshot_prefix)
        self._trained_net = self._build(*nets.train_net(p))
        self.test_nets = [self._build(*planned) for planned in nets.test_nets(p)]
        for net in self.test_nets:
            net.param.debug_info = p.debug_info
        for source in p.weights:
            for net in (self.net, *self.test_nets):
                net.copy_from(source)
        self._update = Update(p, self.rule, self.net)
        self.multi_task = MultiTask(p, self.net) if p.HasField("multi_task") else None
        """How several losses share parameters, where the definition says so."""
        watches = list(self._watches())
        for watch in watches:
            watch.check([name for net in self.test_nets for name in net.outputs])
        self._averages = [WeightAverage(p.average_weights)] if p.average_weights else []
        curves = [TensorBoard(p.tensorboard_dir, self.multi_task)] if p.tensorboard_dir else []
        self.listeners.extend(
            [*([self.multi_task] if self.multi_task else []), Display(), *watches, *self._averages, *curves]
        )

    def _build(self, definition: text.Definition, state: NetState) -> Net:
        return self.net_class(definition, state=state, engine=self.engine)

    def _watches(self) -> Iterator[Watch]:
        """Those that decide by the scores of a test."""
        p = self.param
        if p.snapshot_best:
            yield BestSnapshot(p.snapshot_best)
        if p.HasField("early_stop"):
            yield EarlyStop(p.early_stop)

    @property
    def iter(self) -> int:
        """How many iterations are done."""
        return self._iter

    @property
    def net(self) -> Net:
        """The net that is trained."""
        return self._trained_net

    @property
    def passes(self) -> Executor:
        """Runs the passes of `net`."""
        return passes.of(self.net)

    @property
    def history(self) -> list[Blob]:
        """What the rule remembers of each parameter: all first blobs, then all second ones."""
        return self._update.history

    # Listeners and requests

    @property
    def listeners(self) -> Listeners:
        """Who is told what happens: a list, in this order."""
        return self._listeners

    @listeners.setter
    def listeners(self, listeners: Iterable[Listener]) -> None:
        self._listeners.replace(listeners)

    def announce(self, event: str) -> None:
        """Tell all listeners."""
        for listener in list(self.listeners):
            getattr(listener, event)(self)

    def request(self, action: Action) -> None:
        """Ask for a snapshot or a stop behind the present iteration or test; signal handlers and threads may, too."""
        self.requests.add(action)

    def stop(self) -> None:
        """Ask for the end of `step`."""
        self.request(Action.STOP)

    # The loop

    def solve(self, resume_file: str | None = None) -> None:
        """Train to `max_iter`, from a solver state if one is given; snapshot and test at the end as Caffe does."""
        p = self.param
        with text.named(self.file):
            policies.check_length(p)
        writes = bool(p.snapshot_after_train or p.snapshot)
        if writes:
            with text.named(self.file, always=True):
                snapshot.check(self)
            resume.check_states(self)
        log.info("Solving %s", self.net.name)
        log.info("Learning Rate Policy: %s", p.lr_policy)
        if p.iter_size > 1:
            log.info("Gradients of %d batches are averaged for each update: iter_size", p.iter_size)
        try:
            if writes and self.root:
                with text.named(self.file):
                    self.claim.hold()  # before the snapshot is read, which another process may remove
            if resume_file:
                self.restore(resume_file)
            if writes and self.root:
                self.claim.make()
            self._solve()
        finally:
            self.claim.end()

    def _solve(self) -> None:
        p = self.param
        self.step(max(0, p.max_iter - self.iter))
        if p.snapshot_after_train and (self._unsaved or not (p.snapshot and self.iter % p.snapshot == 0)):
            self._check_losses()
            self._tell_of(self._write_together(None), None)
        if self.stopped_early:
            log.info("Optimization stopped early.")
            return
        self._look_at_the_end()
        log.info("Optimization Done.")

    def step(self, iterations: int) -> None:
        """Train for so many iterations, or until somebody asks for a stop."""
        iterations = whole_number("the number of iterations", iterations)
        if iterations > 0:
            with text.named(self.file):
                policies.check(self.param)
        if not self._loss_goes_on:
            self.smoothed_loss = SmoothedLoss(self.param.average_loss)
        self._loss_goes_on = False
        end = self.iter + iterations
        if iterations > 0:
            self.listeners.begin()
        with rng.use(self.random):
            self.announce("start")
            self._obey()
            while self.iter < end and not self.stopped_early:
                self._iterate()
            self._check_losses()
            self.announce("stop")

    def _iterate(self) -> None:
        """One iteration; none where the test before it ends in a stop."""
        p = self.param
        self.net.clear_param_diffs()
        if self._due(p.test_interval) and (self.iter > 0 or p.test_initialization):
            self.before_test = resume.before(self)
            self.test_all()
            self._obey()
            if self.stopped_early:
                return
        self.before_test = None
        self.announce("batch")
        display = self._due(p.display)
        self.net.param.debug_info = display and p.debug_info
        self.smoothed_loss.add(self._passes())
        if display:
            self._check_losses()
            self.announce("display")
        self.announce("gradients")
        self.update(display)
        self._iter += 1
        self.announce("update")
        self._obey(snapshot_due=self._due(p.snapshot))

    def _due(self, interval: int) -> bool:
        return interval > 0 and self.iter % interval == 0

    def _obey(self, snapshot_due: bool = False) -> None:
        """Do what was asked for since the last call."""
        if snapshot_due:
            self.snapshot_if_possible()
        action = self.requests.decide()
        if Action.SNAPSHOT in action and not snapshot_due:
            self.snapshot_if_possible()
        self.stopped_early = Action.STOP in action

    def _passes(self) -> Any:
        """`iter_size` forward and backward passes, gradients adding up; the mean loss, on a device still there."""
        total: Any = 0.0
        for _ in range(self.param.iter_size):
            total = total + self._forward_backward()
        return total / self.param.iter_size

    def _forward_backward(self) -> Any:
        if not self.multi_task:
            return self.passes.forward_backward(self._looked_at)
        with self.net.lock:
            loss = self._looked_at(self.passes.forward())
            self.multi_task.backward()
        return loss

    def _looked_at(self, loss: Any) -> Any:
        """The loss as a number, which is checked now; one that is still to come `_check_losses` looks at."""
        number = self.engine.known(loss)
        if number is None:
            self._unchecked = True
            return loss
        divergence.check(self, [number])
        return number

    def learning_rate(self) -> float:
        """The rate of the current iteration; counts `multistep` on."""
        before = self.current_step
        policies.check(self.param)
        self.current_step = policies.next_step(self.param, self.iter, self.current_step)
        if self.param.lr_policy == "multistep" and self.current_step != before:
            log.info("MultiStep Status: Iteration %d, step = %d", self.iter, self.current_step)
        return policies.learning_rate(self.param, self.iter, self.current_step)

    def update(self, display: bool = False) -> None:
        """Update the weights once with the gradients that are there, at the learning rate of `iter`."""
        self.rate = self.learning_rate()
        if display:
            log.info("Iteration %d, lr = %.6g", self.iter, self.rate)
        self._update.run(self.rate, self.iter + 1)

    # Display, tests and snapshots

    def _look_at_the_end(self) -> None:
        """The display and the test that are due when all iterations are done."""
        with rng.use(self.random):
            self.before_test = resume.before(self)
            if self._due(self.param.display):
                loss = self.passes.forward()
                self._unchecked |= self.engine.known(loss) is None
                self.smoothed_loss.add(float(loss))
                log.info("Iteration %d, loss = %.6g", self.iter, self.smoothed_loss.value)
            if self._due(self.param.test_interval):
                self.test_all()
                self._obey()
            if not self.stopped_early:
                self.before_test = None

    def _check_losses(self) -> None:
        """Where losses were still to come: fetch them, and find out what has gone wrong since the last look."""
        if self._unchecked:
            self._unchecked = False
            self.net.settle()
            divergence.check(self, self.smoothed_loss.losses)

    def test_all(self) -> None:
        """Run all test nets, where this is the process that does, and tell the listeners, who find the `scores`."""
        if self.test_nets:
            self._check_losses()  # before a snapshot of the best weights
            self.scores = tests.run_all(self) if self.root else {}
            self.announce("test")

    def test(self, i: int = 0) -> Scores:
        """A number for each output of test net `i` over its `test_iter` batches; none where a stop was asked for."""
        results = tests.run(self, i)
        return results.scores() if results else {}

    def snapshot(self, name: str | None = None) -> str:
        """Write weights and state, by default as `<prefix>_iter_<n>`; the path of the state.

        Of several processes the first writes, whether or not the others call this; its path is "" in these.
        """
        self._check_losses()
        return self._tell_of(self._write(name), name)

    def snapshot_if_possible(self, name: str | None = None) -> None:
        """A snapshot in the middle of training, which goes on without it: on a full disk the next may succeed."""
        self._check_losses()
        written = ""
        try:
            written = self._write_together(name)
        except (OSError, CaffeError, MemoryError) as error:
            log.error("Iteration %d: no snapshot was written, training goes on: %s", self.iter, error)
        if name is None and not self.testing:
            self._unsaved = not written
        self._tell_of(written, name)

    def _write_together(self, name: str | None) -> str:
        """`_write`, called by all processes: all get the path. In a test the first process is by itself."""
        written = ""
        try:
            written = self._write(name)
        finally:
            if not self.testing:
                written = self.requests.from_first(written)
        return written

    def _write(self, name: str | None) -> str:
        """Write a snapshot, where this is the process that does; its path, "" where none was written."""
        if self.root:
            return self._save(name)
        if self.net.share:
            self.net.share.serve()
        return ""

    def _save(self, name: str | None) -> str:
        share = self.net.share
        with share.served() if share else nullcontext():
            if name is None or name.startswith(f"{self.snapshot_prefix}_"):
                self.claim.make()
            stem = name or f"{self.snapshot_prefix}_iter_{self.iter}"
            for average in self._averages:  # first: where the state is, all are
                average.save(self, stem, self.param.snapshot_format == SolverParameter.HDF5)
            written = snapshot.save(self, stem)
        if name is None and self.param.snapshot_keep > 0:
            snapshot.prune(self.snapshot_prefix, self.param.snapshot_keep)
        return written

    def _tell_of(self, written: str, name: str | None) -> str:
        if written:
            self.written = written
            if name is None:
                self.last_snapshot = written
            self.announce("snapshot")
        return written

    def restore(self, path: str | PathLike[str]) -> None:
        """Continue from a solver state, ours or Caffe's."""
        log.info("Restoring previous solver status from %s", path)
        snapshot.restore(self, path)
        self.before_test = None
        self.last_snapshot = fspath(path)

    def state(self) -> dict[str, Any]:
        """What a snapshot remembers beyond Caffe's fields."""
        return {"smoothed_loss": self.smoothed_loss.state(), "listeners": self.listeners.state()}

    def set_state(self, state: dict[str, Any]) -> None:
        self.listeners.set_state(state.get("listeners", state))  # older snapshots have them beside the rest
        self.smoothed_loss.set_state(state["smoothed_loss"])
        self._loss_goes_on = True
