"""What a version's folder holds, and that it can do no harm: no code, no files of elsewhere."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import Message

from caffepy import permissions
from caffepy.errors import ConfigError, SnapshotError
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import LayerParameter
from caffepy.serve.api.servable_pb2 import Servable

log = logging.getLogger("caffepy.serve")

WEIGHTS = (".caffemodel", ".caffemodel.h5", ".onnx")
DEPLOY, SETTINGS, WARMUP, MANIFEST = "deploy.prototxt", "servable.prototxt", "warmup.h5", "manifest.json"


@dataclass
class Parts:
    """The files of a version."""

    folder: Path
    weights: Path
    settings: Servable

    @property
    def deploy(self) -> Path:
        return inside(self.folder, DEPLOY)

    @property
    def is_onnx(self) -> bool:
        return self.weights.suffix == ".onnx"

    @property
    def warmup(self) -> Path | None:
        return inside(self.folder, WARMUP) if (self.folder / WARMUP).exists() else None


def find(folder: Path) -> Parts:
    """The parts of the folder. Raises ConfigError and SnapshotError for what is missing or too much."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise SnapshotError(f"cannot read the folder: {error.strerror}", where=str(folder)) from None
    weights = [name for name in names if name.endswith(WEIGHTS) and not name.startswith(".")]
    if len(weights) != 1:
        found = f"{len(weights)} of them: {', '.join(weights)}" if weights else "none"
        raise ConfigError(
            f"a version has exactly one file of weights (*.caffemodel, *.caffemodel.h5 or *.onnx), here is {found}",
            where=str(folder),
        )
    settings = Servable()
    if SETTINGS in names:
        text.read(inside(folder, SETTINGS), settings)
    parts = Parts(folder, inside(folder, weights[0]), settings)
    if not parts.is_onnx and DEPLOY not in names:
        raise ConfigError(f"there is no {DEPLOY}", where=str(folder), hint="caffepy publish makes such a folder.")
    return parts


def inside(folder: Path, name: str) -> Path:
    """The file `name` of the folder, wherever links lead. Raises ConfigError if that is outside."""
    top = folder.resolve()
    path = (folder / name).resolve()
    if top not in path.parents:
        raise ConfigError(
            f'"{name}" lies outside of the folder of its version', where=str(folder), hint="Copy the file into it."
        )
    return path


_FILES = {
    "source", "mean_file", "label_map_file", "name_size_file", "output_directory", "save_file", "file_name", "module",
    "seen", "vocabulary",
}  # fmt: skip
_PYTHON = "Let it run with --allow-python-layers, if you trust whoever can write into the folder."


def check_layers(layers: list[LayerParameter]) -> None:
    """Raises ConfigError for a layer that would run code, or read or write files."""
    for layer in layers:
        if layer.type == "Python":
            if permissions.python_layers():
                continue
            raise ConfigError(f'layer "{layer.name}" runs Python code, which is not served', hint=_PYTHON)
        if layer.HasField("detection_output_param"):  # files for a benchmark, which published definitions name
            layer.detection_output_param.ClearField("save_output_param")
        for message, field in _files_in(layer):
            raise ConfigError(
                f'layer "{layer.name}" ({layer.type}) names a file: {field}: "{getattr(message, field)}"',
                hint="A served net takes its data from Input layers and reads no files.",
            )


def _files_in(message: Message) -> Iterator[tuple[Message, str]]:
    for field, value in message.ListFields():
        if field.message_type is None:
            if field.name in _FILES and value:
                yield message, field.name
        else:
            inner = [value] if isinstance(value, Message) else value
            for part in inner:
                yield from _files_in(part)
