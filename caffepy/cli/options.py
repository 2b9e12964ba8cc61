"""Options that several commands have, defined once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from caffepy.errors import ConfigError

if TYPE_CHECKING:
    from caffepy.engine import Engine

backend = click.option(
    "--backend", type=click.Choice(["lmdb", "leveldb"]), default="lmdb", show_default=True, help="Kind of database."
)
engine = click.option("--engine", type=click.Choice(["numpy", "torch"]), help="What computes (default: numpy).")
gpu = click.option("--gpu", default="", help='GPU ids separated by ",", or "all"; implies --engine torch.')
level = click.option("--level", default=0, help="Level of the net's state.")
stage = click.option("--stage", default="", help='Stages of the net\'s state, separated by ",".')
verbose = click.option("--verbose", is_flag=True, help="Also show how the net is put together.")


def model(required: bool = True) -> Callable:
    return click.option("--model", required=required, help="The net definition (prototxt).")


def stages(text: str) -> Sequence[str]:
    """Caffe's reading of --stage: absent means one empty stage."""
    return text.split(",")


def choose_engine(name: str | None, gpu: str = "", gpu_by_default: bool = False) -> Engine:
    """--engine, else --gpu, else CAFFEPY_ENGINE, else (a solver's) `solver_mode: GPU` if a GPU can be used."""
    from caffepy.engine import default_engine, get_engine

    if gpu and name == "numpy":
        raise ConfigError("--gpu needs the torch engine, but --engine numpy is given", hint="Leave out one of the two.")
    if gpu:
        return get_engine("torch", f"cuda:{gpu.split(',')[0]}" if gpu != "all" else "cuda:0")
    return get_engine(name) if name else default_engine()
