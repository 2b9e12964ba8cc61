"""pycaffe's solver classes, and the function that chooses one."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, ClassVar

from caffepy.arrays.fit import FitOptions, History, check_options, fit_solver
from caffepy.arrays.options import shows_options
from caffepy.engine import Engine
from caffepy.errors import ConfigError
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.pycaffe.host import take_back
from caffepy.pycaffe.nccl import NCCL
from caffepy.pycaffe.net import Net
from caffepy.solver import solver as core
from caffepy.solver.events import Listener
from caffepy.solver.training import Training

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Callbacks(Listener):
    """Two functions as `add_callback` takes them."""

    def __init__(self, on_start: Callable[[], Any], on_gradients_ready: Callable[[], Any]):
        self.on_start, self.on_gradients_ready = on_start, on_gradients_ready

    def batch(self, solver: Training) -> None:
        if not solver.testing:
            self.on_start()
            take_back()

    def gradients(self, solver: Training) -> None:
        self.on_gradients_ready()
        take_back()


class Solver(core.Solver):
    __doc__ = core.Solver.__doc__

    net_class: ClassVar[type[Net]] = Net

    @property
    def max_iter(self) -> int:
        """`max_iter` of the definition."""
        return self.param.max_iter

    def add_callback(
        self, on_start: Callable[[], Any] | NCCL, on_gradients_ready: Callable[[], Any] | None = None
    ) -> None:
        """Call `on_start()` before the passes of each iteration, `on_gradients_ready()` between them and the update.

        A `caffepy.NCCL` alone makes the solver one of several processes. For other moments see `caffepy.Listener`.
        """
        if isinstance(on_start, NCCL):
            on_start.join()
        elif on_gradients_ready is not None:
            self.listeners.append(Callbacks(on_start, on_gradients_ready))
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
        take_back()
        self.update()

    def step(self, iterations: int) -> None:
        take_back()
        super().step(iterations)

    @shows_options
    def fit(self, x: Any, y: Any = None, **options: Unpack[FitOptions]) -> History:
        """Train on arrays, which go into the net's Input layers, from where the solver is.

            history = solver.fit(images, labels, epochs=5, validation_data=(more_images, more_labels))

        The options are explained at `caffepy.arrays.fit.fit_solver`.
        """
        check_options(options)
        return fit_solver(self, x, y, **options)


class SGDSolver(Solver):
    """Stochastic gradient descent with momentum, whatever `type` the definition names."""

    rule_type = "SGD"


class NesterovSolver(Solver):
    """Nesterov's accelerated gradient, whatever `type` the definition names."""

    rule_type = "Nesterov"


class AdaGradSolver(Solver):
    """AdaGrad, whatever `type` the definition names."""

    rule_type = "AdaGrad"


class RMSPropSolver(Solver):
    """RMSProp, whatever `type` the definition names."""

    rule_type = "RMSProp"


class AdaDeltaSolver(Solver):
    """AdaDelta, whatever `type` the definition names."""

    rule_type = "AdaDelta"


class AdamSolver(Solver):
    """Adam, whatever `type` the definition names."""

    rule_type = "Adam"


CLASSES = {
    cls.rule_type: cls for cls in (SGDSolver, NesterovSolver, AdaGradSolver, RMSPropSolver, AdaDeltaSolver, AdamSolver)
}


def get_solver(param_file: str | PathLike[str] | SolverParameter, *, engine: Engine | None = None) -> Solver:
    """The solver of a definition, a path or a message, of the class that its `type` names.

        solver = caffepy.get_solver("solver.prototxt")
        solver.step(100)

    Raises ConfigError for an unknown type, and for all that the solver's constructor refuses.
    """
    if isinstance(param_file, SolverParameter):
        param, file = param_file, ""
    else:
        param, file = text.read_solver(param_file), fspath(param_file)
    return CLASSES.get(param.type, Solver)(param, engine=engine, file=file)
