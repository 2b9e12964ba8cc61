"""caffepy predict: what a net, or a served model, says of pictures, or of rows of a table."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from caffepy.cli import options

if TYPE_CHECKING:
    import numpy as np

    from caffepy.data.pictures.prepared import Prepared
    from caffepy.net.net import Net

log = logging.getLogger("caffepy.predict")
_MOST_VALUES = 10
"""So many values of an output that is no class are shown."""


class _Size(click.ParamType):
    """`256`, or `256x320`, height and width."""

    name = "size"

    def convert(self, value, param, context):
        parts = value.lower().split("x") if isinstance(value, str) else []
        if not 1 <= len(parts) <= 2 or not all(part.isdigit() and int(part) for part in parts):
            self.fail(f'"{value}" is no size: give 256, or HEIGHTxWIDTH such as 256x320')
        return int(parts[0]), int(parts[-1])


@click.command()
@click.option("--model", required=True, help="The net for use (deploy prototxt); of a server, the model's name.")
@click.option("--weights", help="Trained weights. Without them a server is asked.")
@click.option("--labels", help="A file with the name of a class in each line.")
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="How many classes.")
@click.option("--output", help="Write all predictions to this CSV file, too.")
@click.option("--blob", help="The blob to show (default: the net's output).")
@click.option("--like", metavar="NET", help="Prepare pictures as the TEST data layer of this net (train_val.prototxt).")
@click.option("--resize", type=_Size(), help="Size of pictures before they are cropped: 256, or HEIGHTxWIDTH.")
@click.option("--crop-size", type=click.IntRange(min=1), help="Side of the middle that is cropped.")
@click.option("--mean-file", help="Mean picture to subtract (.binaryproto).")
@click.option("--mean-value", metavar="B,G,R", help="Mean of the channels to subtract.")
@click.option("--scale", type=float, help="Factor, after the mean is subtracted.")
@click.option("--rgb", is_flag=True, help="The net takes red, green, blue, not Caffe's blue, green, red.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Items a batch (default: the net's).")
@options.gpu
@options.inference_engine
@options.precision
@options.imports
@options.setting()
@options.max_memory
@options.no_python_layers
@click.option("--server", help="HOST:PORT of a server's gRPC, or http://HOST:PORT of its REST.")
@click.option("--version", type=int, help="Of a server: version of the model (default: the server's choice).")
@click.option("--label", default="", help="Of a server: label of the version.")
@click.option("--token-file", default="", help="Of a server: file whose first line is an API token.")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
def command(
    model, weights, labels, top, output, blob, like, resize, crop_size, mean_file, mean_value, scale, rgb, batch_size,
    gpu, engine, precision, server, version, label, token_file, inputs,
):  # fmt: skip
    """Say what pictures, or rows of a table, are.

    Each INPUT is a picture, a folder or pattern of pictures, an HDF5 file, a table or a CSV file. A line each: label
    and score of the best classes, or the output's values. Pictures are prepared as by the data layer of a net beside
    --model that has its layers, where there is one, else as the options say.
    """
    if server:
        if weights:
            raise click.UsageError("--server and --weights are both given: keep one of the two")
        _ask(server, model, version, label, token_file, inputs)
        return
    if not weights:
        raise click.UsageError("--weights is missing: the net's weights, or --server HOST:PORT to ask a server")
    from caffepy.arrays.pictures import prepared
    from caffepy.cli import terminal
    from caffepy.errors import DataError
    from caffepy.files import check_writable
    from caffepy.proto.caffe_pb2 import TEST, TransformationParameter

    terminal.start_logging()
    if output:
        check_writable(output)
    net = options.inference_net(model, TEST, 0, "", weights, engine, gpu, precision)
    own = TransformationParameter(crop_size=crop_size, mean_file=mean_file, scale=scale)
    if mean_value:
        try:
            own.mean_value.extend(float(value) for value in mean_value.split(","))
        except ValueError:
            raise click.UsageError(f'--mean-value takes numbers, got "{mean_value}"') from None
    answers = _Answers(labels, bool(labels) or (not blob and net.layers[-1].type == "Softmax"), top)
    prepare = partial(prepared, net, model, like, own, resize, rgb)
    for name, values in _predictions(net, inputs, prepare, blob, batch_size):
        terminal.echo(f"{name}: {answers.add(name, values.reshape(-1))}")
    if not answers.rows:
        raise DataError("none of the inputs can be read", hint="The files are named above.")
    if output:
        answers.write(output)


class _Answers:
    """What was predicted, as rows of a CSV file: of classes the best with their scores, else all values."""

    def __init__(self, labels: str, classes: bool, top: int):
        self.labels, self.classes, self.top = labels, classes, top
        self.rows: list[list[str]] = []

    @cached_property
    def names(self) -> list[str]:
        from caffepy.data import class_names

        return class_names.read(self.labels, self.count) if self.labels else [str(i) for i in range(self.count)]

    def add(self, name: str, values: np.ndarray) -> str:
        """Take in the values of an input, and show them."""
        self.count = len(values)
        if self.classes:
            best = (-values).argsort(kind="stable")[: self.top].tolist()
            self.rows.append([name, *(word for k in best for word in (self.names[k], f"{values[k]:.6g}"))])
            return ", ".join(f"{self.names[k]} {values[k]:.4f}" for k in best)
        self.rows.append([name, *(f"{value:.6g}" for value in values)])
        more = f" ... ({len(values)} values)" if len(values) > _MOST_VALUES else ""
        return " ".join(f"{value:.6g}" for value in values[:_MOST_VALUES]) + more

    def write(self, path: str) -> None:
        from caffepy.files import atomic_write

        width = len(self.rows[0]) - 1
        pairs = [f"{word}_{i + 1}" for i in range(width // 2) for word in ("label", "score")]
        header = pairs if self.classes else [f"value_{i + 1}" for i in range(width)]
        with atomic_write(path) as temporary, open(temporary, "w", newline="", errors="surrogateescape") as file:
            csv.writer(file).writerows([["input", *header], *self.rows])


def _predictions(net: Net, inputs, prepare_all, blob: str | None, batch_size) -> Iterator[tuple[str, np.ndarray]]:
    """Name and output of each picture or row; what cannot be read is reported and left out."""
    import numpy as np

    from caffepy.arrays import files
    from caffepy.arrays.inputs import batch_length
    from caffepy.arrays.predict import predict

    pictures = []
    for name in _expanded(inputs):
        if name.endswith(files.SUFFIXES):
            values = predict(net, files.arrays_in(name, net), batch_size, blob or _first(net))
            yield from ((f"{name}:{row}", value) for row, value in enumerate(values))
        else:
            pictures.append(name)
    if not pictures:
        return
    prepare, size = prepare_all(), batch_length(net, batch_size)
    for start in range(0, len(pictures), size):
        some = [(name, x) for name in pictures[start : start + size] if (x := _read(name, prepare)) is not None]
        if some:
            values = predict(net, np.stack([x for _, x in some]), size, blob or _first(net))
            yield from zip((name for name, _ in some), values)


def _first(net: Net) -> str:
    """The output that is shown: the first that has values for each item."""
    items = net.engine_blobs[net.inputs[0]].shape[:1]
    return next((name for name in net.outputs if net.engine_blobs[name].shape[:1] == items), net.outputs[0])


def _read(name: str, prepare: Prepared) -> np.ndarray | None:
    from caffepy.data.pictures.image import read_file
    from caffepy.errors import DataError

    try:
        return prepare(read_file(name), name)
    except DataError as error:
        log.error("%s: %s", error.where, error.message)
        return None


def _expanded(inputs: Sequence[str]) -> Iterator[str]:
    """Files; folders are all pictures in them, and patterns what they match."""
    from glob import glob

    from caffepy.data.pictures.folders import pictures_in
    from caffepy.errors import DataError
    from caffepy.files import near_names

    for word in inputs:
        if Path(word).is_dir():
            found = [str(path) for path in pictures_in(word)]
            if not found:
                raise DataError("no pictures lie in it", where=word)
        elif Path(word).exists():
            found = [word]
        elif not (found := sorted(glob(word, recursive=True))):
            raise DataError("there is no such file or folder", where=word, hint=near_names(word))
        yield from found


def _ask(server: str, model: str, version: int | None, label: str, token_file: str, inputs: Sequence[str]) -> None:
    """What a server says."""
    from caffepy.cli import terminal
    from caffepy.data.pictures.image import read_file
    from caffepy.proto.text import read_text
    from caffepy.serve.client import Client, RestClient

    if version is not None and label:
        raise click.UsageError("--version and --label are both given: keep one of the two")
    token = read_text(token_file).partition("\n")[0].strip() if token_file else ""
    data = [read_file(path) for path in inputs]
    kind = RestClient if "://" in server else Client
    with kind(server, token=token) as client:
        rows = client.classify(model, data, version=version, label=label)
    for path, row in zip(inputs, rows):
        found = ", ".join(f"{name} {score:.4f}" for name, score in row)
        terminal.echo(f"{Path(path).name}: {found}")
