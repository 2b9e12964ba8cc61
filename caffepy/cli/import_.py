"""caffepy import: an ONNX model as a prototxt and a caffemodel."""

from __future__ import annotations

import click

from caffepy.cli import options


@click.command(
    help="Write an ONNX model as a deploy prototxt and a caffemodel, and compare our pass with onnxruntime's."
)
@click.argument("model", metavar="MODEL.onnx")
@click.option("--output", default="", help="PREFIX of what is written: PREFIX.prototxt, PREFIX.caffemodel.")
@click.option(
    "--shape",
    multiple=True,
    metavar="NAME=N,C,H,W",
    help="Of an input whose shape the file leaves open.",
)
@options.max_memory
@options.force
def command(model, output, shape):
    from caffepy.cli import terminal
    from caffepy.export.prototxt import import_model

    terminal.start_logging()
    prefix = output or model.removesuffix(".onnx")
    found = import_model(model, f"{prefix}.prototxt", f"{prefix}.caffemodel", _shapes(shape))
    for name, largest in found.items():
        terminal.echo(f"{name}: largest difference to onnxruntime {largest:.3g}")
    terminal.echo(f"Wrote {prefix}.prototxt and {prefix}.caffemodel")


def _shapes(given: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    found = {}
    for entry in given:
        name, equals, dims = entry.rpartition("=")
        try:
            found[name] = tuple(int(dim) for dim in dims.split(","))
        except ValueError:
            equals = ""
        if not equals or min(found[name]) < 1:
            raise click.UsageError(f'--shape is NAME=N,C,H,W, as data=1,3,224,224, got "{entry}"')
    return found
