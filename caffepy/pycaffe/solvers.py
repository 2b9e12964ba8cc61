"""pycaffe's solver classes, and the function that chooses one."""

from __future__ import annotations

from os import PathLike, fspath

from caffepy.engine import Engine
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.solver.solver import Solver


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
