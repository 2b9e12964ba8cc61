"""caffepy: Caffe's nets, solvers and files in Python. `import caffepy as caffe` runs pycaffe scripts.

Names load when first used, so that importing the package, and `caffepy --help`, costs nothing.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # typing takes long to import
if TYPE_CHECKING:
    from typing import Any

    from caffepy import data, layers, plugins, proto
    from caffepy.net import spec as net_spec
    from caffepy.net.blob import Blob
    from caffepy.net.layer import register as register_layer
    from caffepy.net.spec import NetSpec, params, to_proto
    from caffepy.pycaffe import classifier, coord_map, detector, io
    from caffepy.pycaffe.classifier import Classifier
    from caffepy.pycaffe.detector import Detector
    from caffepy.pycaffe.mode import (
        Timer,
        has_nccl,
        init_log,
        layer_type_list,
        log,
        set_device,
        set_mode_cpu,
        set_mode_gpu,
        set_multiprocess,
        set_random_seed,
        set_solver_count,
        set_solver_rank,
        solver_count,
        solver_rank,
    )
    from caffepy.pycaffe.nccl import NCCL
    from caffepy.pycaffe.net import Net
    from caffepy.pycaffe.python_layer import PythonLayer as Layer
    from caffepy.pycaffe.sequence import Sequence
    from caffepy.pycaffe.solvers import (
        AdaDeltaSolver,
        AdaGradSolver,
        AdamSolver,
        NesterovSolver,
        RMSPropSolver,
        SGDSolver,
        Solver,
        get_solver,
    )
    from caffepy.search.calls import cross_validate, search
    from caffepy.show import draw
    from caffepy.solver.events import Listener

    __version__: str

# For `caffepy.io` and the other modules that pycaffe's scripts import by name.
__path__.append(f"{__path__[0]}/pycaffe/modules")

TRAIN, TEST = 0, 1

__all__ = [
    "NCCL",
    "TEST",
    "TRAIN",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Blob",
    "Classifier",
    "Detector",
    "Layer",
    "Listener",
    "NesterovSolver",
    "Net",
    "NetSpec",
    "RMSPropSolver",
    "SGDSolver",
    "Sequence",
    "Solver",
    "Timer",
    "check_layer",
    "classifier",
    "coord_map",
    "cross_validate",
    "data",
    "detector",
    "draw",
    "get_solver",
    "has_nccl",
    "init_log",
    "io",
    "layer_type_list",
    "layers",
    "log",
    "net_spec",
    "params",
    "plugins",
    "proto",
    "register_layer",
    "search",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
    "to_proto",
]

_HOMES = {
    "caffepy.pycaffe.sequence": "Sequence",
    "caffepy.net.blob": "Blob",
    "caffepy.pycaffe.net": "Net",
    "caffepy.net.spec": "NetSpec params to_proto",
    "caffepy.pycaffe.classifier": "Classifier",
    "caffepy.pycaffe.detector": "Detector",
    "caffepy.pycaffe.mode": "Timer has_nccl init_log layer_type_list log set_device set_mode_cpu set_mode_gpu "
    "set_multiprocess set_random_seed set_solver_count set_solver_rank solver_count solver_rank",
    "caffepy.pycaffe.nccl": "NCCL",
    "caffepy.search.calls": "cross_validate",
    "caffepy.show.checks": "check_layer",
    "caffepy.pycaffe.solvers": "AdaDeltaSolver AdaGradSolver AdamSolver NesterovSolver RMSPropSolver SGDSolver Solver "
    "get_solver",
    "caffepy.solver.events": "Listener",
}
_EXPORTS = {name: (home, name) for home, names in _HOMES.items() for name in names.split()}
_EXPORTS |= {
    "Layer": ("caffepy.pycaffe.python_layer", "PythonLayer"),
    "register_layer": ("caffepy.net.layer", "register"),
}
_MODULES = {
    "classifier": "caffepy.pycaffe.classifier",
    "coord_map": "caffepy.pycaffe.coord_map",
    "data": "caffepy.data",
    "detector": "caffepy.pycaffe.detector",
    "draw": "caffepy.show.draw",
    "io": "caffepy.pycaffe.io",
    "layers": "caffepy.layers",
    "net_spec": "caffepy.net.spec",
    "plugins": "caffepy.plugins",
    "proto": "caffepy.proto",
    "search": "caffepy.search",
}


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        home, own_name = _EXPORTS[name]
        value = getattr(import_module(home), own_name)
    elif name in _MODULES:
        value = import_module(_MODULES[name])
        if name == "proto":
            import_module("caffepy.proto.caffe_pb2")
    elif name == "__version__":
        value = _version()
    else:
        raise AttributeError(f"module 'caffepy' has no attribute {name!r}")
    globals()[name] = value
    return value


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # which takes longer than all else here

    try:
        return version("caffepy")
    except PackageNotFoundError:  # a checkout on the path, not installed
        return "0"


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
