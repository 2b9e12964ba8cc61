"""caffepy device-query: which GPUs there are."""

from __future__ import annotations

import click

from caffepy.cli import options
from caffepy.errors import MissingExtraError


@click.command("device-query", help="List the GPUs that can be used, and their memory.")
@options.gpu
def command(gpu):
    from importlib.util import find_spec

    from caffepy.cli import terminal
    from caffepy.engine import check_gpu

    if find_spec("torch") is None:
        raise MissingExtraError("torch", "torch", "computing on a GPU")
    ids = options.gpu_ids(gpu or "all")
    for i in ids:
        check_gpu(i)
        terminal.echo(describe(i))


def describe(i: int) -> str:
    """Number, name, memory and capability of a GPU."""
    import torch

    p = torch.cuda.get_device_properties(i)
    free, total = torch.cuda.mem_get_info(i)
    return (
        f"GPU {i}: {p.name}, {total / 2**30:.1f} GiB memory ({free / 2**30:.1f} free), "
        f"{p.multi_processor_count} multiprocessors, capability {p.major}.{p.minor}"
    )
