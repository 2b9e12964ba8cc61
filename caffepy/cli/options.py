"""Options that several commands have, defined once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from caffepy import limits, permissions
from caffepy.errors import ConfigError, DataError

if TYPE_CHECKING:
    from caffepy.data.sources.databases import Reader
    from caffepy.engine import Engine
    from caffepy.net.net import Net
    from caffepy.proto.caffe_pb2 import SolverParameter
    from caffepy.search.processes import ProcessOptions

log = logging.getLogger("caffepy.options")


def choice(values: Sequence[str]) -> click.Choice:
    """One of these words, written in any case."""
    return click.Choice(values, case_sensitive=False)


backend = click.option(
    "--backend", type=choice(["lmdb", "leveldb"]), default="lmdb", show_default=True, help="Kind of database."
)
found_backend = click.option("--backend", type=choice(["lmdb", "leveldb"]), help="Kind of database (default: look).")
engine = click.option("--engine", type=choice(["numpy", "torch"]), help="What computes (default: numpy).")
inference_engine = click.option(
    "--engine", type=choice(["numpy", "torch", "onnxruntime"]), help="What computes (default: numpy)."
)
gpu = click.option("--gpu", default="", help='GPU ids separated by ",", or "all"; implies --engine torch.')
precision = click.option(
    "--precision",
    type=choice(["float32", "tf32", "bf16"]),
    help="Of matrix products and convolutions (torch engine); float32, the default, gives Caffe's numbers.",
)
level = click.option("--level", default=0, help="Level of the net's state.")
stage = click.option("--stage", default="", help='Stages of the net\'s state, separated by ",".')
verbose = click.option("--verbose", is_flag=True, help="Also show how the net is put together.")


def _set_max_memory(context: click.Context, option: click.Parameter, value: str | None) -> None:
    context.meta["max_memory"] = value
    try:
        limits.set_max_memory(value)
    except ConfigError as error:
        raise error.at("--max-memory") from None


max_memory = click.option(
    "--max-memory",
    callback=_set_max_memory,
    expose_value=False,
    help="What a file or a net may ask for: 4G, 512M, ... (default: CAFFEPY_MAX_MEMORY, or the machine's memory).",
)
no_python_layers = click.option(
    "--no-python-layers",
    is_flag=True,
    callback=lambda context, option, value: permissions.allow_python_layers(False if value else None),
    expose_value=False,
    help="Refuse nets that name Python code to run.",
)
force = click.option(
    "--force",
    is_flag=True,
    callback=lambda context, option, value: permissions.allow_overwriting(value),
    expose_value=False,
    help="Write over files of the same name that are no snapshots or outputs.",
)


def setting(of_net: bool = True) -> Callable:
    """--set, of a command that reads a net, or else a solver and its nets."""

    def use(context: click.Context, option: click.Parameter, words: tuple[str, ...]) -> None:
        if words:
            from caffepy.proto import settings

            settings.use(words, of_net)
            context.call_on_close(lambda: settings.use(()))

    in_layers = "layer.*.dropout_param.dropout_ratio=0.3"
    example = in_layers if of_net else f"base_lr=0.05 or net.{in_layers}"
    return click.option(
        "--set",
        multiple=True,
        expose_value=False,
        callback=use,
        metavar="PATH=VALUE",
        help=f"Set a field of the definition, for example {example}. May be given again.",
    )


def load(modules: Sequence[str]) -> None:
    """What --import does."""
    if modules:
        from caffepy import plugins
        from caffepy.pycaffe.alias import caffe_is_caffepy

        caffe_is_caffepy()
        for name in modules:
            plugins.load(name)


def _load(context: click.Context, option: click.Parameter, modules: tuple[str, ...]) -> None:
    context.meta["imports"] = modules
    load(modules)


imports = click.option(
    "--import",
    multiple=True,
    expose_value=False,
    callback=_load,
    metavar="MODULE",
    help="Import a module of layers, update rules, ... of your own: its name or .py file. May be given again.",
)


def _shapes(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    found = {}
    for value in values:
        name, _, dims = value.partition("=")
        try:
            found[name] = tuple(int(size) for size in dims.split(","))
        except ValueError:
            found[name] = ()
        if not name or not found[name] or min(found[name]) < 1:
            raise ConfigError(f'--shape takes a top and its shape, got "{value}"', hint="--shape data=1,3,224,224")
    return found


shapes = click.option(
    "--shape",
    "shapes",
    multiple=True,
    callback=_shapes,
    metavar="TOP=N,C,H,W",
    help="Shape of a source's top, data=1,3,224,224. May be given again.",
)


def model(required: bool = True) -> Callable:
    return click.option("--model", required=required, help="The net definition (prototxt).")


def open_db(path: str, backend: str | None) -> tuple[Reader, str]:
    """The database's reader and its kind: `--backend`'s, by default what the folder holds."""
    from caffepy.data.sources.databases import backends_in, guess_backend, open_database

    held = backends_in(path)
    if backend and held and backend not in held:
        names = {"lmdb": "an LMDB", "leveldb": "a LevelDB"}
        raise DataError(
            f"this is {names[held[0]]}, not {names[backend]}",
            where=path,
            hint=f"Set --backend {held[0]}, or leave it out.",
        )
    backend = backend or guess_backend(path)
    return open_database(path, backend), backend


def stages(text: str) -> Sequence[str]:
    """Caffe's reading of --stage: absent means one empty stage."""
    return text.split(",")


def choose_engine(
    name: str | None, gpu: str = "", solver: SolverParameter | None = None, precision: str = ""
) -> Engine:
    """--gpu, else --engine, else CAFFEPY_ENGINE, else a solver's `solver_mode: GPU` if there is a GPU, else NumPy.

    GPU is Caffe's default and stands in most published solvers, so that it alone never fails: without a GPU the CPU
    computes, with a warning where the file asks for a GPU in words. With --engine torch it chooses the device.
    """
    import os

    from caffepy.engine import default_engine, get_engine, gpu_count, gpu_engine

    if gpu and name == "numpy":
        raise ConfigError("--gpu needs the torch engine, but --engine numpy is given", hint="Leave out one of the two.")
    extra = {"precision": precision} if precision else {}
    if gpu:
        return gpu_engine(_own(gpu_ids(gpu)), **extra)
    chosen = name or os.environ.get("CAFFEPY_ENGINE")
    if solver is not None and solver.solver_mode == solver.GPU and chosen != "numpy":
        count = gpu_count()
        if count:
            return gpu_engine(_own(range(count)), **extra)
        if not chosen and solver.HasField("solver_mode"):
            log.warning("solver_mode is GPU, but no GPU can be used: computing on the CPU")
    return get_engine(chosen or "numpy", **extra) if chosen or extra else default_engine()


def inference_net(
    model: str,
    phase: int,
    level: int,
    stage: str,
    weights: str | None,
    engine: str | None,
    gpu: str = "",
    precision: str | None = None,
) -> Net:
    """The net of a command that only runs it, by what `inference_engine` and the others say."""
    from caffepy.net.net import Net

    by_runtime = engine == "onnxruntime"
    for option, given in (("--gpu", gpu), ("--precision", precision)):
        if by_runtime and given:
            raise ConfigError(f"{option} is not for --engine onnxruntime", hint="Leave out one of the two.")
    chosen = choose_engine("numpy" if by_runtime else engine, gpu, precision=precision or "")
    net = Net(model, phase, level, stages(stage), weights=weights, engine=chosen)
    if by_runtime:
        from caffepy.export.session import OnnxRuntime

        net.executor = OnnxRuntime(net)
    return net


def _own(ids: Sequence[int]) -> int:
    """The GPU of this process, one of several on this machine: NCCL joins no two of them on one GPU."""
    from caffepy.distributed import group as parallel

    number = parallel.local_rank()
    if number >= len(ids):
        raise ConfigError(
            f"process {number} of this machine has no GPU left: there are {len(ids)}",
            hint=f"Start one process a GPU, torchrun --nproc-per-node {len(ids)}, or set solver_mode: CPU.",
        )
    return ids[number]


def gpu_ids(text: str) -> list[int]:
    """The numbers in --gpu; "all" are those of this machine."""
    from caffepy.engine import gpu_count

    if text == "all":
        return list(range(gpu_count())) or [0]  # GPU 0, which is then reported as missing
    try:
        ids = [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f'--gpu takes numbers separated by ",", or "all", got "{text}"') from None
    if len(set(ids)) < len(ids):
        raise ConfigError(f"--gpu {text} names a GPU twice", hint="Each GPU gets one process.")
    return ids


def for_trainings(gpu: str, engine: str | None, precision: str | None) -> ProcessOptions:
    """The options of this command as those of trainings that it starts in processes of their own."""
    from caffepy.search.processes import ProcessOptions

    if gpu and engine == "numpy":
        raise ConfigError("--gpu needs the torch engine, but --engine numpy is given", hint="Leave out one of the two.")
    meta = click.get_current_context().meta
    given = {"--engine": engine, "--precision": precision, "--max-memory": meta["max_memory"]}
    words = [word for name, value in given.items() if value for word in (name, value)]
    words += [word for module in meta["imports"] for word in ("--import", module)]
    words += ["--no-python-layers"] * (not permissions.python_layers()) + ["--force"] * permissions.overwriting()
    return ProcessOptions(words, gpu_ids(gpu) if gpu else ())
