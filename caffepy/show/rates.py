"""Which learning rate: the loss while the rate rises from tiny to too large (Smith 2017)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from os import PathLike

import numpy as np

from caffepy.engine import Engine
from caffepy.errors import ConfigError, NotFiniteError
from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.show.brief import brief
from caffepy.show.pictures import pyplot
from caffepy.solver import Listener, Solver
from caffepy.solver.training import Training

SMOOTHING = 0.95
"""Share of the running mean of losses that an iteration keeps."""
DIVERGED = 4.0
"""How many times the lowest loss is the end."""


class Sweep(Listener):
    """Rates and losses of T iterations, as they come; stops the training when the loss is lost."""

    def __init__(self, tell: Callable[[int], None] = lambda iteration: None):
        self.rates: list[float] = []
        self.losses: list[float] = []
        """Running means, corrected for their start at 0."""
        self._mean, self._tell = 0.0, tell

    def update(self, solver: Training) -> None:
        loss = solver.smoothed_loss.value
        self._mean = SMOOTHING * self._mean + (1 - SMOOTHING) * loss
        self.rates.append(solver.rate)
        self.losses.append(self._mean / (1 - SMOOTHING ** (len(self.losses) + 1)))
        self._tell(len(self.losses))
        if self.losses[-1] > DIVERGED * min(self.losses) > 0:
            solver.stop()

    @property
    def steepest(self) -> float:
        """The rate at which the loss falls fastest in log(rate), at the lowest loss at the latest."""
        lowest = int(np.argmin(self.losses))
        if lowest < 2:
            raise ConfigError(
                "the loss has not fallen at any rate", hint="Begin with a smaller rate: --from; or look at the data."
            )
        slopes = np.gradient(self.losses[: lowest + 1], np.log(self.rates[: lowest + 1]))
        return self.rates[int(np.argmin(slopes))]

    def table(self, lines: int = 12) -> str:
        """Some of the rates, with the losses there, and the rate to take."""
        return "\n".join(self._lines(lines))

    def _lines(self, lines: int) -> Iterator[str]:
        chosen = sorted({round(i) for i in np.linspace(0, len(self.rates) - 1, lines)})
        yield f"{'rate':>10}  {'loss':>10}"
        for i in chosen:
            yield f"{self.rates[i]:>10.3g}  {self.losses[i]:>10.6g}"
        yield f"base_lr: {self.steepest:.2g}, where the loss falls fastest"

    def plot(self, path: str | PathLike[str]) -> None:
        """A picture of loss over rate. Needs matplotlib."""
        plt = pyplot("drawing losses")
        figure, axis = plt.subplots(figsize=(6, 3.8))
        axis.plot(self.rates, self.losses)
        axis.axvline(self.steepest, color="grey", linestyle="--", label=f"base_lr: {self.steepest:.2g}")
        low, rise = min(self.losses), self.losses[0] - min(self.losses)
        axis.set(xscale="log", xlabel="learning rate", ylabel="loss", ylim=(low - 0.1 * rise, low + 1.5 * rise))
        axis.legend()
        figure.tight_layout()
        figure.savefig(path)
        plt.close(figure)


def sweep(
    param: SolverParameter,
    first: float,
    last: float,
    iterations: int,
    engine: Engine,
    file: str = "",
    tell: Callable[[int], None] = lambda iteration: None,
) -> Sweep:
    """Train with rates from `first` to `last`, each the same factor above the one before."""
    if not 0 < first < last:
        raise ConfigError(f"the rates must rise from above 0, got {first:g} to {last:g}")
    param = brief(param)
    param.base_lr, param.lr_policy = first, "exp"
    param.gamma = math.exp(math.log(last / first) / (iterations - 1))
    param.average_loss = 1
    param.ClearField("warmup_iter")
    solver, found = Solver(param, engine=engine, file=file), Sweep(tell)
    solver.listeners.append(found)
    with suppress(NotFiniteError):  # the end, too
        solver.step(iterations)
    if len(found.losses) < 3:
        raise ConfigError(f"the loss is lost at a rate of {first:g} already", hint="Begin with a smaller one: --from.")
    return found
