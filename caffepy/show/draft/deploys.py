"""Deploy nets that lie near a definition: their inputs tell what a picture is where its source is not here."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from caffepy.errors import CaffeError
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import LayerParameter, NetParameter

Shape = tuple[int, ...]
_MOST = 50
"""Files of a folder that are looked at."""


class Deploy(NamedTuple):
    """A net whose inputs have shapes."""

    file: str
    inputs: dict[str, Shape]
    layers: set[str]


class Deploys:
    """The deploy nets among some files, and in their folders."""

    def __init__(self, files: Sequence[str]):
        self.files = files

    def of(self, net: NetParameter) -> Deploy | None:
        """The one whose layers are most like those of a net."""
        names = _layers(net)
        best = max(self._all, key=lambda deploy: len(names & deploy.layers) / len(names | deploy.layers), default=None)
        return best if best and names & best.layers else None

    @cached_property
    def _all(self) -> list[Deploy]:
        folders = dict.fromkeys(Path(file).parent for file in self.files)
        beside = [str(path) for folder in folders for path in sorted(folder.glob("*.prototxt"))[:_MOST]]
        return [deploy for file in dict.fromkeys([*self.files, *beside]) if (deploy := _read(file))]


def input_shapes(layer: LayerParameter) -> list[Shape]:
    """The shapes of an Input's tops; none where it gives none, or another number of them."""
    shapes = [tuple(shape.dim) for shape in layer.input_param.shape]
    if len(shapes) == 1:
        return shapes * len(layer.top)
    return shapes if len(shapes) == len(layer.top) else []


def _read(file: str) -> Deploy | None:
    try:
        with silence():
            net = text.read_net(file).param
    except CaffeError:
        return None
    inputs: dict[str, Shape] = {}
    for layer in net.layer:
        if layer.type == "Input":
            inputs.update(zip(layer.top, input_shapes(layer)))
    return Deploy(file, inputs, _layers(net)) if inputs and _layers(net) else None


def _layers(net: NetParameter) -> set[str]:
    return {layer.name for layer in net.layer if layer.bottom}


@contextmanager
def silence() -> Iterator[None]:
    """Files that nobody has asked for are not complained of."""
    logger = logging.getLogger("caffepy.proto.foreign")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
