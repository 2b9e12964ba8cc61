"""Training, evaluation and prediction on arrays, the short way: `net.fit`, `net.evaluate`, `net.predict`.

The solver that a prototxt would describe does the work; here are only the batches that go into it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Real
from os import PathLike
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from caffepy import passes, rng
from caffepy.arrays.inputs import batch_length, fill, inference_net, input_arrays, length_of, sizes_kept
from caffepy.errors import ConfigError, did_you_mean, whole_number
from caffepy.net.blob import Blob
from caffepy.net.executor import Observer
from caffepy.net.net import Net
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import SolverParameter

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from caffepy.solver import Solver

log = logging.getLogger(__name__)

Logs = dict[str, float]
Callback = Callable[[int, Logs], Any]


class FitOptions(TypedDict, total=False):
    """The options of `fit`; `fit_solver` says what they do."""

    epochs: int
    batch_size: int | None
    validation_split: float
    validation_data: Any
    shuffle: bool
    callbacks: Iterable[Callback | Any]
    progress: bool | None


SolverLike = str | PathLike[str] | SolverParameter | Mapping[str, Any]

DEFAULT_SOLVER = {"type": "Adam", "base_lr": 0.001, "momentum": 0.9, "lr_policy": "fixed"}


@dataclass
class History:
    """What `fit` returns: `history["loss"]` is a list with a value for each epoch; `epoch` counts from 0."""

    epoch: list[int] = field(default_factory=list)
    history: dict[str, list[float]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> list[float]:
        return self.history[name]

    def add(self, epoch: int, logs: Logs) -> None:
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)


def fit_net(
    net: Net, x: Any, y: Any = None, *, solver: SolverLike | None = None, **options: Unpack[FitOptions]
) -> History:
    """Train the net's weights on arrays.

        history = net.fit(images, labels, epochs=5, validation_split=0.1, solver={"type": "SGD", "base_lr": 0.01})

    `solver` is a solver prototxt or message, whose nets do not count, or a dict of fields; without one Adam with a
    rate of 0.001. A new solver starts in each call. See `fit_solver` for the other options.
    """
    from caffepy.solver import get_solver

    check_options(options, "solver")
    param = solver_parameter(solver)
    for source in param.weights:
        net.copy_from(source)
    for name in ("net", "net_param", "train_net", "train_net_param", "test_net", "test_net_param", "test_iter",
                 "test_state", "test_interval", "train_state", "weights"):  # fmt: skip
        param.ClearField(name)
    param.net_param.CopyFrom(net.param)
    param.net_param.state.ClearField("phase")
    built = get_solver(param, engine=net.engine)
    built.net.share_trained_layers_with(net)
    return fit_solver(built, x, y, **options)


def check_options(options: Mapping[str, Any], *more: str) -> None:
    """Raises ConfigError for the name of an option that `fit` does not have."""
    known = [*FitOptions.__annotations__, *more]
    for name in options:
        if name not in known:
            hint = did_you_mean(name, known) or f"Its options are: {', '.join(known)}."
            raise ConfigError(f'fit has no option "{name}"', hint=hint)


def solver_parameter(solver: SolverLike | None) -> SolverParameter:
    """The message that a path, a message or a dict of fields stands for. Raises ConfigError for unknown fields."""
    if isinstance(solver, (str, PathLike)):
        return text.read_solver(solver)
    param = SolverParameter()
    if isinstance(solver, SolverParameter):
        param.CopyFrom(solver)
        return param
    given = DEFAULT_SOLVER if solver is None else {"lr_policy": "fixed", **solver}
    # Through the text format, so that a wrong name or value is reported as in a file.
    lines = (f"{name}: {_literal(name, value)}" for name, values in given.items() for value in _as_list(values))
    return text.parse("\n".join(lines), param, "the solver's fields")


def _as_list(values: Any) -> Iterable[Any]:
    return values if isinstance(values, (list, tuple)) else [values]


def _literal(name: str, value: Any) -> str:
    """The value as the text format has it; names of an enum without quotes."""
    if isinstance(value, bool):
        return str(value).lower()
    described = SolverParameter.DESCRIPTOR.fields_by_name.get(name)
    if not isinstance(value, str) or (described is not None and described.enum_type is not None):
        return str(value)
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def fit_solver(
    solver: Solver,
    x: Any,
    y: Any = None,
    *,
    epochs: int = 1,
    batch_size: int | None = None,
    validation_split: float = 0.0,
    validation_data: Any = None,
    shuffle: bool = True,
    callbacks: Iterable[Callback | Any] = (),
    progress: bool | None = None,
) -> History:
    """Run `solver` over arrays `epochs` times, in batches of `batch_size` (default: the net's), the last one smaller.

        history = solver.fit(images, labels, epochs=5, validation_data=(more_images, more_labels))

    `x` goes into the net's first Input, `y` into the second; a dict names the inputs. The first axis counts items.
    `validation_split` keeps the last items, that share of all, for validation; or `validation_data` is `(x, y)`.
    The mean loss and the other single-valued outputs of every epoch are logged, and with "val_" in front those of
    validation, which runs in the TEST phase. Each of `callbacks` is called after an epoch as `callback(epoch, logs)`,
    or has a method `on_epoch_end` of these arguments; when one returns True, training ends.
    `progress` shows a bar, by default on a terminal.
    """
    net = solver.net
    if not any(any(layer.loss_weights) for layer in net.layers):
        raise ConfigError("the net has no loss to make smaller", hint='Add a layer such as type: "SoftmaxWithLoss".')
    epochs, callbacks = whole_number("epochs", epochs), _checked(callbacks)
    arrays = input_arrays(net, x, y)
    arrays, validation = _parted(net, arrays, validation_split, validation_data)
    size, length = batch_length(net, batch_size), length_of(arrays)
    batches = -(-length // size)
    steps = -(-batches // solver.param.iter_size)
    if not solver.param.HasField("max_iter"):
        solver.param.max_iter = solver.iter + epochs * steps
    history = History()
    with _fed(solver, arrays, size, shuffle) as means, _bar(solver, epochs, steps, progress) as show:
        for epoch in range(epochs):
            show(epoch)
            solver.step(steps)
            logs = means()
            if validation is not None:
                found = evaluate(net, validation, batch_size=size)
                logs.update((f"val_{name}", value) for name, value in found.items())
            history.add(epoch, logs)
            log.info("Epoch %d/%d: %s", epoch + 1, epochs, described(logs))
            # All are called, also after one that wants to end.
            answers = [getattr(callback, "on_epoch_end", callback)(epoch, dict(logs)) for callback in callbacks]
            if solver.stopped_early or any(answer is True for answer in answers):
                break
    return history


def _checked(callbacks: Any) -> list[Any]:
    """The callbacks as a list, each of which can be called."""
    found = list(callbacks) if isinstance(callbacks, Iterable) else [callbacks]
    for callback in found:
        if not callable(getattr(callback, "on_epoch_end", callback)):
            raise ConfigError(
                f"a callback is a function, or has a method on_epoch_end, got {callback!r}",
                hint="It is called as callback(epoch, logs).",
            )
    return found


def described(logs: Logs) -> str:
    return ", ".join(f"{name} = {value:.6g}" for name, value in logs.items())


def _parted(
    net: Net, arrays: dict[str, np.ndarray], split: float, data: Any
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray] | None]:
    """The arrays to train on, and those for validation or None."""
    if not isinstance(split, Real) or not 0 <= split < 1:
        raise ConfigError(f"validation_split is a share from 0 up to, not including, 1, got {split!r}")
    if data is not None:
        return arrays, input_arrays(net, *(data if isinstance(data, (tuple, list)) else (data,)))
    length = length_of(arrays)
    kept = length - int(length * split)
    if kept == length:
        return arrays, None
    return {n: a[:kept] for n, a in arrays.items()}, {n: a[kept:] for n, a in arrays.items()}


def _rows(length: int, size: int, shuffle: bool) -> Iterator[np.ndarray]:
    """Indices of batch after batch, without end; each round goes through all items, in a new order if wished."""
    random = rng.mt19937(rng.draw()) if shuffle else None
    while True:
        order = np.arange(length) if random is None else random.permutation(length)
        for start in range(0, length, size):
            yield order[start : start + size]


@contextmanager
def _fed(solver: Solver, arrays: dict[str, np.ndarray], size: int, shuffle: bool) -> Iterator[Callable[[], Logs]]:
    """Within it each forward pass of the solver's net takes the next batch; yields what means there were so far."""
    feed = Feed(solver.net, arrays, _rows(length_of(arrays), size, shuffle))
    solver.net.observers.append(feed)
    try:
        with sizes_kept(solver.net):
            yield feed.means
    finally:
        solver.net.observers.remove(feed)


class Feed(Observer):
    """Fills a net's inputs before each forward pass, and adds up its outputs."""

    def __init__(self, net: Net, arrays: dict[str, np.ndarray], rows: Iterator[np.ndarray]):
        self._net, self._arrays, self._rows = net, arrays, rows
        self._sums: dict[str, Any] = {}
        self._items = self._length = 0

    def before_pass(self, layers: SequenceOf[int], backward: bool) -> None:
        if not backward:
            batch = next(self._rows)
            fill(self._net, {name: values[batch] for name, values in self._arrays.items()})
            self._length = len(batch)

    def after_pass(self, layers: SequenceOf[int], backward: bool) -> None:
        if not backward:
            self._items += self._length
            add_outputs(self._net, self._length, self._sums)

    def means(self) -> Logs:
        """The mean of each output since the last call."""
        found = {name: float(value) / self._items for name, value in self._sums.items()} if self._items else {}
        self._sums, self._items = {}, 0
        return found


def add_outputs(net: Net, items: int, sums: dict[str, Any]) -> None:
    """Add the weighted loss and the single-valued outputs of a pass over so many items, times their number."""
    lazy = net.engine.lazy  # then numbers stay on the device, and nobody waits for it

    def number(blob: Blob) -> Any:
        total = net.engine.xp.sum(blob.data)
        return total if lazy else float(total)

    losses = [
        weight * number(blob) for node in net.nodes for blob, weight in zip(node.top, node.layer.loss_weights) if weight
    ]
    outputs = {name: net.engine_blobs[name] for name in net.outputs}
    values = {name: number(blob) for name, blob in outputs.items() if blob.count == 1}
    for name, value in {**values, "loss": sum(losses)}.items():
        sums[name] = sums.get(name, 0.0) + items * value


def evaluate(net: Net, x: Any, y: Any = None, batch_size: int | None = None) -> Logs:
    """The mean weighted loss, as "loss", and the mean of every output that is one value a batch, such as accuracy.

        print(net.evaluate(test_images, test_labels)["accuracy"])

    `x` and `y` are as in `fit`. The net computes in the TEST phase, whatever its own.
    """
    runner = inference_net(net)
    arrays = input_arrays(runner, x, y)
    size, length = batch_length(runner, batch_size), length_of(arrays)
    sums: dict[str, Any] = {}
    with sizes_kept(runner):
        for start in range(0, length, size):
            batch = {name: values[start : start + size] for name, values in arrays.items()}
            fill(runner, batch)
            passes.of(runner).forward()
            add_outputs(runner, length_of(batch), sums)
    runner.settle()
    return {name: float(value) / length for name, value in sums.items()}


@contextmanager
def _bar(solver: Solver, epochs: int, steps: int, wanted: bool | None) -> Iterator[Callable[[int], None]]:
    """A progress bar of all iterations; yields a function to be called at the start of an epoch."""
    if not (sys.stderr.isatty() if wanted is None else wanted):
        yield lambda epoch: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn(), TextColumn("loss {task.fields[loss]:.4g}"))  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=epochs * steps, epoch=1, epochs=epochs, loss=0.0)

        def advance(solver: Solver) -> None:
            bar.update(task, advance=1, loss=float(solver.smoothed_loss.value))

        solver.on_iteration.append(advance)
        try:
            yield lambda epoch: bar.update(task, epoch=epoch + 1)
        finally:
            solver.on_iteration.remove(advance)
