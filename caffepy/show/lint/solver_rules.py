"""Rules about solvers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from caffepy.errors import CaffeError, ConfigError
from caffepy.proto.caffe_pb2 import TEST, SolverParameter
from caffepy.show.lint import graph
from caffepy.show.lint.finding import ABSENT, ERROR, NOTE, WARNING
from caffepy.show.lint.paths import elsewhere
from caffepy.show.lint.registry import Fault, of_solver
from caffepy.show.lint.solvers import SolverSubject
from caffepy.solver import policies, snapshot
from caffepy.solver.rules import find_rule

_FIELDS = set(SolverParameter.DESCRIPTOR.fields_by_name)


@of_solver
def solver_cannot_start(solver: SolverSubject) -> Iterator[Fault]:
    """What training refuses: type, policy, numbers."""
    checks: list[Callable[[SolverParameter], object]] = [find_rule, policies.check_counts, policies.check]
    for check in checks:
        try:
            check(solver.param)
        except ConfigError as error:
            yield Fault(error.message, error.hint, field=_field_of(error), level=ERROR)


@of_solver
def max_iter_is_not_set(solver: SolverSubject) -> Iterator[Fault]:
    """Training would not know when to end."""
    if not solver.param.HasField("max_iter"):
        yield Fault("max_iter is not set", "Say how many iterations to train.", level=ERROR)


@of_solver
def snapshots_cannot_be_written(solver: SolverSubject) -> Iterator[Fault]:
    """The folder of snapshots is not there, or cannot be written to."""
    if solver.param.snapshot > 0 or solver.param.snapshot_after_train:
        try:
            snapshot.check_writable(snapshot.prefix(solver.param, solver.file))
        except ConfigError as error:
            yield Fault(error.message, error.hint, field="snapshot_prefix", level=ERROR)


@of_solver
def weights_do_not_exist(solver: SolverSubject) -> Iterator[Fault]:
    """Files of weights to start from are not here."""
    for path in (part.strip() for entry in solver.param.weights for part in entry.split(",")):
        if path and not Path(path).exists():
            yield Fault(f'"{path}" does not exist', elsewhere(path, solver.file), field="weights", level=ABSENT)


@of_solver
def net_has_no_loss(solver: SolverSubject) -> Iterator[Fault]:
    """Nothing is learned without a loss; a rate of 0 says that nothing is to be."""
    if solver.param.base_lr and _has_no_loss(solver):
        yield Fault(
            "the train net has no loss: nothing is learned", "Add one: SoftmaxWithLoss, for example.", field="net"
        )


@of_solver
def learning_rate_never_decays(solver: SolverSubject) -> Iterator[Fault]:
    """The rate after the warm-up is that of the last iteration."""
    p = solver.param
    if not _rate_is_known(p) or not p.base_lr:
        return
    last = max(0, p.max_iter - 1)
    first = min(p.warmup_iter, last)
    if last > first and _rate(p, first) == _rate(p, last):
        field, why = _WHY.get(p.lr_policy, ("lr_policy", lambda p: f"lr_policy {p.lr_policy} keeps it"))
        yield Fault(
            f"the learning rate never decays: {why(p)}",
            'lr_policy: "poly", "step" or "cosine" lower it on the way to max_iter.' if p.lr_policy == "fixed" else "",
            field=field if field in {f.name for f, _ in p.ListFields()} else "lr_policy",
            level=NOTE if p.lr_policy == "fixed" else WARNING,
        )


@of_solver
def learning_rate_is_zero(solver: SolverSubject) -> Iterator[Fault]:
    """No parameter changes at a rate of 0; without a loss none is to."""
    is_zero = solver.param.HasField("base_lr") and not solver.param.base_lr
    if is_zero and _rate_is_known(solver.param) and not _has_no_loss(solver):
        yield Fault("base_lr is 0: no parameter is ever updated", "Set base_lr: 0.01, for example.", field="base_lr")


@of_solver
def test_never_runs(solver: SolverSubject) -> Iterator[Fault]:
    """Tests that are defined, and that the loop does not come to."""
    p = solver.param
    if not p.test_iter:
        if p.test_interval:
            yield Fault("the test never runs: test_interval is set, test_iter is not",
                        "Say how many batches a test has: test_iter: 100.", field="test_interval")  # fmt: skip
        elif solver.train and any(rule.phase == TEST for layer in solver.train.param.layer
                                  for rule in layer.include if rule.HasField("phase")):  # fmt: skip
            yield Fault("the test never runs: the net has layers for TEST, the solver has no test_iter",
                        "Set test_iter and test_interval.", field="net")  # fmt: skip
        return
    if p.max_iter and p.test_interval > p.max_iter:
        when = "runs once, before training" if p.test_initialization else "never runs"
        yield Fault(f"the test {when}: test_interval {p.test_interval} is beyond max_iter {p.max_iter}",
                    "Make test_interval smaller.", field="test_interval")  # fmt: skip
    if any(count <= 0 for count in p.test_iter):
        yield Fault("the test never runs: test_iter is 0", "Say how many batches a test has.", field="test_iter")


def _has_no_loss(solver: SolverSubject) -> bool:
    net = solver.train
    return net is not None and net.is_wired and not any(graph.is_loss(node) for node in net.nodes)


def _rate_is_known(p: SolverParameter) -> bool:
    try:
        policies.check(p)
    except CaffeError:
        return False
    return True


def _rate(p: SolverParameter, iteration: int) -> float:
    passed = sum(value <= iteration for value in p.stepvalue)
    step = passed if p.lr_policy == "multistep" else policies.next_step(p, iteration, 0)
    return policies.learning_rate(p, iteration, step)


def _unless_one(gamma: float, otherwise: str) -> str:
    return "gamma is 1" if gamma == 1 else otherwise


_WHY: dict[str, tuple[str, Callable[[SolverParameter], str]]] = {
    "fixed": ("lr_policy", lambda p: f"lr_policy fixed keeps it at {p.base_lr:g}"),
    "step": (
        "stepsize",
        lambda p: _unless_one(p.gamma, f"stepsize {p.stepsize} is not reached in {p.max_iter} iterations"),
    ),
    "multistep": (
        "stepvalue",
        lambda p: _unless_one(p.gamma, f"no stepvalue is reached in {p.max_iter} iterations"),
    ),
    "exp": ("gamma", lambda p: f"gamma is {p.gamma:g}"),
    "inv": ("gamma", lambda p: f"gamma is {p.gamma:g} and power {p.power:g}"),
    "poly": ("power", lambda p: f"power is {p.power:g}"),
    "sigmoid": ("gamma", lambda p: f"gamma is {p.gamma:g}"),
    "cosine": ("min_lr", lambda p: "min_lr is base_lr"),
}
"""Of each policy, the field that decides, and the end of a sentence that says why the rate stays."""


def _field_of(error: ConfigError) -> str:
    """The first field that a message names."""
    return next((word.strip('":,') for word in error.message.split() if word.strip('":,') in _FIELDS), "")
