"""caffepy publish: a trained net as a version that `caffepy serve` finds."""

from __future__ import annotations

import os

import click

from caffepy.cli import options


@click.command(
    help="Write a version of a served model, BASE/VERSION/, all at once, and check first that it can be served."
)
@click.option("--model", default="", help="The net for use (deploy prototxt); an ONNX file needs none.")
@click.option("--weights", required=True, help="A .caffemodel, .caffemodel.h5 or .onnx file.")
@click.option("--to", "base", required=True, help="Folder, or URL, of the model's versions.")
@click.option("--version", type=int, help="Number of the version (default: the next).")
@click.option(
    "--transform", default="", help='Of pictures, as text: "height: 256 width: 256 crop_size: 224 mean_value: 104".'
)
@click.option("--labels", default="", help="A file with the name of a class in each line.")
@click.option("--warmup", default="", help="An HDF5 file of inputs that are computed before the first request.")
@click.option("--settings", default="", help="A servable.prototxt, for all that the other options do not say.")
@click.option(
    "--top", default=0, help="Of a recommender: for a user so many items, not a rating for a user and an item."
)
@click.option("--exclude-seen", is_flag=True, help="With --top: what the user has rated comes last.")
@options.setting()
@options.max_memory
@options.no_python_layers
@options.imports
def command(model, weights, base, version, transform, labels, warmup, settings, top, exclude_seen):
    from caffepy.cli import terminal
    from caffepy.proto import text
    from caffepy.serve.api.servable_pb2 import Servable, Transform
    from caffepy.serve.publish import publish
    from caffepy.serve.servable import WARMUP

    terminal.start_logging()
    if not model and not weights.endswith(".onnx"):
        raise click.UsageError("--model is missing: the definition of the net that the weights are of")
    servable = text.read(settings, Servable()) if settings else Servable()
    extra = {WARMUP: warmup} if warmup else {}
    if top:
        servable.answer, servable.top_k, servable.exclude_seen = Servable.TOP, top, exclude_seen
    if transform:
        servable.transform.MergeFrom(text.parse(transform, Transform(), "--transform"))
    if labels:
        servable.labels_file = os.path.basename(labels)
        extra[servable.labels_file] = labels
    elif servable.labels_file:
        extra[os.path.basename(servable.labels_file)] = _beside(settings, servable.labels_file)
        servable.labels_file = os.path.basename(servable.labels_file)
    if mean := servable.transform.mean_file:
        extra[os.path.basename(mean)] = mean if os.path.exists(mean) else _beside(settings, mean)
        servable.transform.mean_file = os.path.basename(mean)
    for tensor in servable.input:
        if path := tensor.vocabulary:
            tensor.vocabulary = os.path.basename(path)
            extra[tensor.vocabulary] = path if os.path.exists(path) else _beside(settings, path)
    number, found = publish(base, weights, model, version, servable, extra)
    for what, tensors in (("takes", found.signature.inputs), ("gives", found.signature.outputs)):
        terminal.echo(f"{what} " + ", ".join(f"{tensor.name} ({_sizes(tensor.shape)})" for tensor in tensors))
    terminal.echo(f"Wrote {os.path.join(base, str(number))}")


def _sizes(shape: tuple[int, ...]) -> str:
    return ", ".join("any" if n < 0 else str(n) for n in shape)


def _beside(settings: str, name: str) -> str:
    """A file that `settings` names, beside it."""
    return os.path.join(os.path.dirname(settings), name)
