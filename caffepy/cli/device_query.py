"""caffepy device-query: what can compute."""

from __future__ import annotations

from collections.abc import Iterator

import click

from caffepy.cli import options


@click.command("device-query", help="List what can compute: the processor, and the GPUs with their memory.")
@options.gpu
def command(gpu):
    from importlib.util import find_spec

    from caffepy.cli import terminal
    from caffepy.engine import check_gpu, gpu_count
    from caffepy.errors import MissingExtraError

    torch = find_spec("torch") is not None
    if gpu and not torch:
        raise MissingExtraError("torch", "torch", "computing on a GPU")
    if not gpu:
        for line in processor():
            terminal.echo(line)
        if not torch:
            terminal.echo('GPU: needs PyTorch (pip install "caffepy[torch]")')
        elif not gpu_count():
            terminal.echo("GPU: none that PyTorch can use")
    for i in options.gpu_ids(gpu) if gpu else range(gpu_count() if torch else 0):
        check_gpu(i)
        terminal.echo(describe(i))


def processor() -> Iterator[str]:
    """Lines on the processor: its cores, what numpy was built to use of it, the library of products, memory."""
    import platform

    import numpy as np
    from threadpoolctl import threadpool_info

    from caffepy import limits
    from caffepy.engine.threads import available_cores

    info = np.show_config(mode="dicts")
    simd = info["SIMD Extensions"]
    found = [*simd.get("baseline", ()), *simd.get("found", ())]
    memory = limits.readable(limits.machine_memory())
    yield f"CPU: {platform.machine()}, {available_cores()} threads compute, {memory} memory"
    for library in threadpool_info():
        if library["user_api"] == "blas":
            kernel = f", {library['architecture']} kernels" if "architecture" in library else ""
            yield f"BLAS: {library['internal_api']} {library['version']}{kernel}"
    yield f"SIMD: {found[-1] if found else 'none'} (NumPy {np.__version__})"


def describe(i: int) -> str:
    """Number, name, memory and capability of a GPU."""
    import torch

    p = torch.cuda.get_device_properties(i)
    free, total = torch.cuda.mem_get_info(i)
    return (
        f"GPU {i}: {p.name}, {total / 2**30:.1f} GiB memory ({free / 2**30:.1f} free), "
        f"{p.multi_processor_count} multiprocessors, capability {p.major}.{p.minor}"
    )
