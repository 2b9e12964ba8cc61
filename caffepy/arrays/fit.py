"""Training and evaluation on arrays, the short way: `net.fit`, `net.evaluate`.

The solver that a prototxt would describe does the work; here are only the batches that go into it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from caffepy.arrays.bar import shown
from caffepy.arrays.columns import RowColumn
from caffepy.arrays.definition import SolverLike, solver_parameter
from caffepy.arrays.evaluate import Logs, evaluate
from caffepy.arrays.feed import Feed, new_order
from caffepy.arrays.inputs import batch_length, input_arrays, length_of
from caffepy.errors import ConfigError, did_you_mean, whole_number
from caffepy.net.net import Net
from caffepy.solver.events import Listener, listening
from caffepy.solver.solver import Solver

if TYPE_CHECKING:
    from typing_extensions import Unpack

log = logging.getLogger(__name__)

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
    check_options(options, "solver")
    param = solver_parameter(solver)
    for source in param.weights:
        net.copy_from(source)
    for name in ("net", "net_param", "train_net", "train_net_param", "test_net", "test_net_param", "test_iter",
                 "test_state", "test_interval", "train_state", "weights"):  # fmt: skip
        param.ClearField(name)
    param.net_param.CopyFrom(net.param)
    param.net_param.state.ClearField("phase")
    built = Solver(param, engine=net.engine)
    built.net.share_trained_layers_with(net)
    return fit_solver(built, x, y, **options)


def check_options(options: Mapping[str, Any], *more: str) -> None:
    """Raises ConfigError for the name of an option that `fit` does not have."""
    known = [*FitOptions.__annotations__, *more]
    for name in options:
        if name not in known:
            hint = did_you_mean(name, known) or f"Its options are: {', '.join(known)}."
            raise ConfigError(f'fit has no option "{name}"', hint=hint)


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
    `x` may be a dataset (`caffepy.data`), whose records have a part for each input; each batch is made when it is due.
    `validation_split` keeps the last items, that share of all, for validation; or `validation_data` is `(x, y)`.
    The mean loss and the other single-valued outputs of every epoch are logged, and with "val_" in front those of
    validation, which runs in the TEST phase. Each of `callbacks` is called after an epoch as `callback(epoch, logs)`,
    or has a method `on_epoch_end` of these arguments; when one returns True, training ends. A `Listener` among them
    hears what the solver announces; each epoch is a `step`.
    `progress` shows a bar, by default on a terminal.
    """
    net = solver.net
    if not any(any(layer.loss_weights) for layer in net.layers):
        raise ConfigError("the net has no loss to make smaller", hint='Add a layer such as type: "SoftmaxWithLoss".')
    epochs, callbacks = whole_number("epochs", epochs), _checked(callbacks)
    listeners = [callback for callback in callbacks if isinstance(callback, Listener)]
    arrays, validation = _parted(net, input_arrays(net, x, y), validation_split, validation_data)
    size = batch_length(net, batch_size)
    batches = -(-length_of(arrays) // size)
    steps = -(-batches // solver.param.iter_size)
    if not solver.param.HasField("max_iter"):
        solver.param.max_iter = solver.iter + epochs * steps
    feed = Feed(net, arrays, size, new_order(solver.random, shuffle))
    history = History()
    with feed.running(), listening(solver, *listeners), shown(solver, epochs, steps, progress):
        for epoch in range(epochs):
            solver.step(steps)
            logs = feed.means()
            if validation is not None:
                found = evaluate(net, validation, batch_size=size)
                logs.update((f"val_{name}", value) for name, value in found.items())
            history.add(epoch, logs)
            log.info("Epoch %d/%d: %s", epoch + 1, epochs, described(logs))
            if _end_asked(callbacks, epoch, logs) or solver.stopped_early:
                break
    return history


def _checked(callbacks: Any) -> list[Any]:
    """The callbacks as a list, each of which can be called or listens."""
    found = list(callbacks) if isinstance(callbacks, Iterable) else [callbacks]
    for callback in found:
        if not isinstance(callback, Listener) and not callable(getattr(callback, "on_epoch_end", callback)):
            raise ConfigError(
                f"a callback is a function, or has a method on_epoch_end, got {callback!r}",
                hint="It is called as callback(epoch, logs).",
            )
    return found


def _end_asked(callbacks: Iterable[Any], epoch: int, logs: Logs) -> bool:
    """Call all that want to hear of an epoch's end, also behind one that wants the training to end."""
    wanted = [getattr(callback, "on_epoch_end", callback) for callback in callbacks]
    answers = [function(epoch, dict(logs)) for function in wanted if callable(function)]
    return any(answer is True for answer in answers)


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
    return {n: _part(a, slice(kept)) for n, a in arrays.items()}, {
        n: _part(a, slice(kept, None)) for n, a in arrays.items()
    }


def _part(values: Any, where: slice) -> Any:
    return values.part(where) if isinstance(values, RowColumn) else values[where]
