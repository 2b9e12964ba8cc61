"""Solver: the loop. Forward and backward, update, then what is due: display, test, snapshot."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from enum import Enum
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

import numpy as np

from caffepy import rng
from caffepy.engine import Engine, default_engine
from caffepy.errors import CaffeError, ConfigError, NotFiniteError, whole_number
from caffepy.net.blob import Blob, take_back
from caffepy.net.net import Net
from caffepy.proto import caffe_pb2, text
from caffepy.proto.caffe_pb2 import NetParameter, NetState, SolverParameter
from caffepy.solver import policies, snapshot
from caffepy.solver.loss import SmoothedLoss, added
from caffepy.solver.progress import EarlyStop, Scores
from caffepy.solver.rules import Rule, find_rule

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from caffepy.arrays.fit import FitOptions, History
    from caffepy.passes.recorded import RecordedPasses
    from caffepy.pycaffe.nccl import NCCL

log = logging.getLogger(__name__)


class Action(Enum):
    """What a signal, or any other caller, asks of a running solver."""

    NONE = "none"
    STOP = "stop"
    SNAPSHOT = "snapshot"


class Solver:
    """Trains the net that a solver definition names: a path, or a SolverParameter and the `file` it came from.

    Every iteration: zero the gradients, test if due, `iter_size` forward and backward passes, clip, decay, update,
    snapshot if due. `net` is the net that it trains; `test_nets` share its weights from the first test on, as in Caffe
    (before that `solver.share_weights(test_net)` sees to it).
    Raises ConfigError for definitions that cannot work, NotFiniteError when the loss is no number.
    """

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
        self.smoothed_loss = SmoothedLoss(self.param.average_loss)
        self.action: Callable[[], Action] = lambda: Action.NONE
        self.callbacks: list[tuple[Callable[[], Any], Callable[[], Any]]] = []
        """Pairs called before the passes of an iteration, and between gradients and update."""
        self.on_iteration: list[Callable[[Solver], None]] = []
        """Called after every iteration, for progress bars and the like."""
        self.recorded: RecordedPasses | None = None
        """Runs the passes instead of the net, as a CUDA graph."""
        self.stopped_early = False
        self.last_snapshot = ""
        self._unsaved = False  # the last snapshot that was due could not be written
        self._loss_goes_on = False
        self._timer, self._timed_iter = time.perf_counter(), 0
        log.info("Initializing solver from parameters: \n%s", text.to_text(self.param))
        try:
            self._init()
        except CaffeError as error:
            raise error.at(self.file) if self.file and not error.where else error from None
        log.info("Solver scaffolding done.")

    def _init(self) -> None:
        p = self.param
        self.rule: Rule = find_rule(p)
        for field in ("iter_size", "average_loss"):
            if getattr(p, field) < 1:
                raise ConfigError(f"{field} must be at least 1, got {getattr(p, field)}")
        if p.max_iter < 0:
            raise ConfigError(f"max_iter must not be negative, got {p.max_iter}")
        self.snapshot_prefix = snapshot.prefix(p, self.file)
        if p.snapshot > 0:
            snapshot.check_writable(self.snapshot_prefix)
        if p.random_seed >= 0:
            rng.seed(p.random_seed)
        self._trained_net = self._train_net()
        self.test_nets = list(self._test_nets())
        for source in p.weights:
            for net in (self.net, *self.test_nets):
                net.copy_from(source)
        params = self.net.learnable_params
        self.history = [
            Blob(param.blob.shape, self.engine, param.blob.channels_last)
            for _ in range(self.rule.history)
            for param in params
        ]
        self.early_stop = EarlyStop(p.early_stop) if p.HasField("early_stop") else None
        self.best = EarlyStop(caffe_pb2.EarlyStopParameter(metric=p.snapshot_best)) if p.snapshot_best else None
        for watch in filter(None, (self.early_stop, self.best)):
            watch.check([name for net in self.test_nets for name in net.outputs])

    # pycaffe's names

    @property
    def iter(self) -> int:
        """How many iterations are done."""
        return self._iter

    @property
    def net(self) -> Net:
        """The net that is trained."""
        return self._trained_net

    @property
    def max_iter(self) -> int:
        """`max_iter` of the definition."""
        return self.param.max_iter

    def add_callback(
        self, on_start: Callable[[], Any] | NCCL, on_gradients_ready: Callable[[], Any] | None = None
    ) -> None:
        """Call `on_start()` before the passes of each iteration, `on_gradients_ready()` between them and the update.

        A `caffepy.NCCL` alone makes the solver one of several processes.
        """
        if not callable(on_start):
            on_start.join()
        elif on_gradients_ready is not None:
            self.callbacks.append((on_start, on_gradients_ready))
        else:
            raise ConfigError(
                "add_callback takes two functions",
                hint="The first is called before the passes of an iteration, the second before the update.",
            )

    def share_weights(self, net: Net) -> None:
        """Let `net` use the weights that this solver trains, in the layers of the same names."""
        net.share_trained_layers_with(self.net)

    def apply_update(self) -> None:
        """Update the weights once with the gradients that are there, at the learning rate of `iter`."""
        self._update(display=False)

    # Building nets

    def _train_net(self) -> Net:
        p = self.param
        fields = [f for f in ("net", "net_param", "train_net", "train_net_param") if p.HasField(f)]
        if len(fields) != 1:
            found = " and ".join(fields) + " are given" if fields else "no train net is given"
            raise ConfigError(
                f"{found}: exactly one of net, net_param, train_net, train_net_param is needed",
                hint='Set net: "train_val.prototxt".',
            )
        log.info(
            "Creating training net from %s: %s",
            fields[0],
            getattr(p, fields[0]) if "param" not in fields[0] else "",
        )
        return self._net(getattr(p, fields[0]), caffe_pb2.TRAIN, p.train_state if p.HasField("train_state") else None)

    def _test_nets(self) -> Iterator[Net]:
        """`test_net_param`s, then `test_net`s, then `net` or `net_param` for the remaining `test_iter`s."""
        p = self.param
        sources: list[Any] = [*p.test_net_param, *p.test_net]
        generic = p.net if p.HasField("net") else p.net_param if p.HasField("net_param") else None
        rest = len(p.test_iter) - len(sources)
        if rest < 0 or (rest > 0 and generic is None):
            raise ConfigError(
                f"{len(p.test_iter)} test_iter for {len(sources)} test net(s)",
                hint="Give one test_iter for each test net.",
            )
        sources += [generic] * rest
        if p.test_state and len(p.test_state) != len(sources):
            raise ConfigError(
                f"{len(p.test_state)} test_state for {len(sources)} test net(s): give one for each, or none"
            )
        if sources and p.test_interval <= 0:
            raise ConfigError(
                "test nets are given, but test_interval is not set",
                hint="Set test_interval, or remove test_iter.",
            )
        for i, source in enumerate(sources):
            log.info(
                "Creating test net (#%d) specified by %s",
                i,
                "net file" if isinstance(source, str) else "net_param",
            )
            net = self._net(source, caffe_pb2.TEST, p.test_state[i] if p.test_state else None)
            net.param.debug_info = p.debug_info
            yield net

    def _net(self, source: str | NetParameter, phase: int, state: NetState | None) -> Net:
        """A net whose state is the phase, overridden by the definition's own state, then by the solver's."""
        definition = text.definition(source)
        merged = NetState(phase=phase)  # type: ignore[arg-type]
        merged.MergeFrom(definition.param.state)
        if state is not None:
            merged.MergeFrom(state)
        return Net(definition, state=merged, engine=self.engine)

    # The loop

    def solve(self, resume_file: str | None = None) -> None:
        """Train to `max_iter`, from a solver state if one is given; snapshot and test at the end as Caffe does."""
        p = self.param
        if not p.HasField("max_iter"):
            raise ConfigError("max_iter is not set", where=self.file, hint="Say how many iterations to train.")
        if p.snapshot_after_train or p.snapshot:
            try:
                snapshot.check(self)
            except CaffeError as error:
                raise error.at(self.file) if self.file else error from None
        log.info("Solving %s", self.net.name)
        log.info("Learning Rate Policy: %s", p.lr_policy)
        if resume_file:
            self.restore(resume_file)
        self.stopped_early = False
        self.step(max(0, p.max_iter - self.iter))
        if p.snapshot_after_train and (self._unsaved or not (p.snapshot and self.iter % p.snapshot == 0)):
            self.snapshot()
        if self.stopped_early:
            log.info("Optimization stopped early.")
            return
        if p.display and self.iter % p.display == 0:
            self.smoothed_loss.add(float(self.net.forward_from_to()))
            log.info("Iteration %d, loss = %.6g", self.iter, self.smoothed_loss.value)
        if p.test_interval and self.iter % p.test_interval == 0:
            self.test_all()
        log.info("Optimization Done.")

    def step(self, iterations: int) -> None:
        """Train for so many iterations."""
        p = self.param
        iterations = whole_number("the number of iterations", iterations)
        if iterations > 0:
            try:
                policies.check(p)
            except CaffeError as error:
                raise error.at(self.file) if self.file else error from None
        if not self._loss_goes_on:
            self.smoothed_loss = SmoothedLoss(p.average_loss)
        self._loss_goes_on = False
        self._timer, self._timed_iter = time.perf_counter(), self.iter
        stop = self.iter + iterations
        while self.iter < stop:
            self.net.clear_param_diffs()
            if p.test_interval and self.iter % p.test_interval == 0 and (self.iter > 0 or p.test_initialization):
                self._look()  # before a snapshot of the best weights
                self.test_all()
                if self.stopped_early:
                    break
            for before, _ in self.callbacks:
                before()
            display = bool(p.display) and self.iter % p.display == 0
            self.net.param.debug_info = display and p.debug_info
            self.smoothed_loss.add(self._passes())
            if display:
                self._look()
                self._display()
            for _, ready in self.callbacks:
                ready()
            self._update(display)
            self._iter += 1
            for callback in self.on_iteration:
                callback(self)
            action = self.action()
            if (p.snapshot and self.iter % p.snapshot == 0) or action is Action.SNAPSHOT:
                self._look()
                self._snapshot_if_possible()
            if action is Action.STOP:
                self.stopped_early = True
                break
        self._look()

    def fit(self, x: Any, y: Any = None, **options: Unpack[FitOptions]) -> History:
        """Train on arrays, which go into the net's Input layers, from where the solver is.

            history = solver.fit(images, labels, epochs=5, validation_data=(more_images, more_labels))

        The options are explained at `caffepy.fit.fit_solver`.
        """
        from caffepy.arrays.fit import check_options, fit_solver

        check_options(options)
        return fit_solver(self, x, y, **options)

    def _passes(self) -> Any:
        """`iter_size` forward and backward passes, gradients adding up; the mean loss, on a device still there."""
        total: Any = 0.0
        for _ in range(self.param.iter_size):
            if self.recorded:
                total = total + self.recorded.run()
                continue
            loss = self.net.forward_from_to()
            if not self.engine.lazy:
                loss = float(loss)
                if not math.isfinite(loss):
                    raise self._not_finite(loss)
            self.net.backward_from_to()
            total = total + loss
        return total / self.param.iter_size

    def _look(self) -> None:
        """On a device: fetch the losses and find out what has gone wrong since the last look."""
        if self.engine.lazy:
            self.net.settle()
            for loss in self.smoothed_loss.losses:
                if not math.isfinite(loss):
                    raise self._not_finite(loss)

    def _not_finite(self, loss: float) -> NotFiniteError:
        first = next(
            (
                f'layer "{layer.name}" ({layer.type}) is the first whose output is not finite'
                for layer, tops in zip(self.net.layers, self.net.tops)
                if not all(np.isfinite(self.engine.to_host(blob.data)).all() for blob in tops)
            ),
            "all outputs are finite, their weighted sum is not",
        )
        kept = f"the last snapshot is {self.last_snapshot}" if self.last_snapshot else "no snapshot was made"
        rate = policies.learning_rate(self.param, self.iter, self.current_step)
        return NotFiniteError(
            f"iteration {self.iter}: loss = {loss}; {first}; lr = {rate:.6g}; {kept}",
            hint="Lower base_lr, add warmup_iter or clip_gradients, or look for bad values in the data.",
        )

    def learning_rate(self) -> float:
        """The rate of the current iteration; counts `multistep` on."""
        policies.check(self.param)
        before = self.current_step
        self.current_step = policies.next_step(self.param, self.iter, self.current_step)
        if self.param.lr_policy == "multistep" and self.current_step != before:
            log.info("MultiStep Status: Iteration %d, step = %d", self.iter, self.current_step)
        return policies.learning_rate(self.param, self.iter, self.current_step)

    def _update(self, display: bool) -> None:
        take_back()
        p = self.param
        rate = self.learning_rate()
        if display:
            log.info("Iteration %d, lr = %.6g", self.iter, rate)
        self._clip_gradients()
        params = self.net.learnable_params
        for i, param in enumerate(params):
            history = [blob.flat() for blob in self.history[i :: len(params)]]
            local_rate, decay = rate * param.lr_mult, p.weight_decay * param.decay_mult
            w, g = param.blob.flat("data"), param.blob.flat("diff")
            self.engine.map(_step, w, g, *history, self, local_rate, decay, out=(w, g, *history))

    def _clip_gradients(self) -> None:
        """Scale all gradients so that the L2 norm of their sum over `iter_size` is at most `clip_gradients`."""
        limit = self.param.clip_gradients
        if limit < 0:
            return
        flats = [param.blob.flat("diff") for param in self.net.learnable_params]
        if self.engine.lazy:  # without a look at the norm, hence without the log's line
            xp = self.engine.xp
            factor = xp.minimum(limit / xp.sqrt(sum(xp.sum(flat * flat) for flat in flats)), 1.0)
            for flat in flats:
                flat *= factor
            return
        norm = math.sqrt(sum(float(self.engine.xp.sum(flat * flat)) for flat in flats))
        if norm > limit:
            factor = limit / norm
            log.info(
                "Gradient clipping: scaling down gradients (L2 norm %.6g > %.6g) by scale factor %.6g",
                norm,
                limit,
                factor,
            )
            for flat in flats:
                flat *= factor

    # Display and tests

    def _display(self) -> None:
        now = time.perf_counter()
        seconds, done = now - self._timer, self.iter - self._timed_iter
        per_second = done / seconds if seconds else float(done)
        log.info(
            "Iteration %d (%.6g iter/s, %.6gs/%d iters), loss = %.6g",
            self.iter, per_second, seconds, self.param.display, self.smoothed_loss.value,
        )  # fmt: skip
        self._timer, self._timed_iter = now, self.iter
        for line in output_lines("Train", self.net.output_values()):
            log.info(line)

    def test_all(self) -> None:
        """Run all test nets, then early stop and the best snapshot."""
        scores: Scores = {}
        for i in range(len(self.test_nets)):
            if self.stopped_early:
                return
            for name, value in self.test(i).items():
                scores.setdefault(name, value)
        if self.stopped_early or not self.test_nets:
            return
        if self.best and self.best.improved(scores):
            self._snapshot_if_possible(f"{self.snapshot_prefix}_best")
        if self.early_stop and not self.early_stop.improved(scores) and self.early_stop.exhausted:
            log.info("Early stop: %s", self.early_stop)
            self.stopped_early = True

    def test(self, i: int = 0) -> Scores:
        """Mean of every output element of test net `i` over its `test_iter` batches, by output name."""
        log.info("Iteration %d, Testing net (#%d)", self.iter, i)
        net, count = self.test_nets[i], self.param.test_iter[i]
        net.share_trained_layers_with(self.net)
        sums: dict[str, Any] = {}
        weights, loss = {}, 0.0
        for _ in range(count):
            action = self.action()
            if action is Action.SNAPSHOT:
                self._snapshot_if_possible()
            elif action is Action.STOP:
                self.stopped_early = True
                log.info("Test interrupted.")
                return {}
            loss += float(net.forward_from_to())
            for name, weight, values in net.output_values():
                sums[name] = added(name, sums.get(name), values)
                weights[name] = weight
        if self.param.test_compute_loss and count > 0:
            log.info("Test loss: %.6g", loss / count)
        means = {name: values / count for name, values in sums.items()}
        for line in output_lines("Test", ((name, weights[name], values) for name, values in means.items())):
            log.info(line)
        return {name: float(values.mean()) for name, values in means.items() if values.size}

    # Snapshots

    def snapshot(self, name: str | None = None) -> str:
        """Write weights and state, by default as `<prefix>_iter_<n>`; the path of the state."""
        path = snapshot.save(self, name or f"{self.snapshot_prefix}_iter_{self.iter}")
        if name is None:
            self.last_snapshot = path
            if self.param.snapshot_keep > 0:
                snapshot.prune(self.snapshot_prefix, self.param.snapshot_keep, self.iter)
        return path

    def _snapshot_if_possible(self, name: str | None = None) -> None:
        """A snapshot in the middle of training, which goes on without it: on a full disk the next may succeed."""
        try:
            self.snapshot(name)
            self._unsaved = False
        except (OSError, CaffeError, MemoryError) as error:
            self._unsaved = True
            log.error("Iteration %d: no snapshot was written, training goes on: %s", self.iter, error)

    def restore(self, path: str | PathLike[str]) -> None:
        """Continue from a solver state, ours or Caffe's."""
        log.info("Restoring previous solver status from %s", path)
        snapshot.restore(self, path)
        self.last_snapshot = fspath(path)

    def state(self) -> dict[str, Any]:
        """What a snapshot remembers beyond Caffe's fields."""
        watches = {"early_stop": self.early_stop, "best": self.best}
        return {
            "smoothed_loss": self.smoothed_loss.state(),
            **{name: watch.state() for name, watch in watches.items() if watch},
        }

    def set_state(self, state: dict[str, Any]) -> None:
        self.smoothed_loss.set_state(state["smoothed_loss"])
        self._loss_goes_on = True
        for name in ("early_stop", "best"):
            watch = getattr(self, name)
            if watch and name in state:
                watch.set_state(state[name])


def _step(xp, w, g, *rest):
    """One update of a tile: average, clip, decay, rule. Returns the new weights, the step and the new history."""
    *history, solver, rate, decay = rest
    p = solver.param
    if p.iter_size > 1:
        g = g * (1 / p.iter_size)
    if p.clip_value > 0:
        g = xp.clip(g, -p.clip_value, p.clip_value)
    if decay and not p.decoupled_weight_decay:
        g = g + decay * (w if p.regularization_type == "L2" else xp.sign(w))
    step, history = solver.rule.step(xp, g, history, rate, p, solver.iter + 1)
    if decay and p.decoupled_weight_decay:
        step = step + rate * decay * w
    return (w - step, step, *history)


def output_lines(kind: str, outputs) -> Iterator[str]:
    """Caffe's lines for output blobs: name, weight and values of each; elements are numbered through."""
    number = 0
    for name, weight, values in outputs:
        for value in np.ravel(values):
            loss = f" (* {weight:.6g} = {weight * value:.6g} loss)" if weight else ""
            yield f"    {kind} net output #{number}: {name} = {value:.6g}{loss}"
            number += 1
