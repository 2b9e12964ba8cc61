"""An ONNX model as Caffe's layers: what reads each operator, and how their blobs are called."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from os import PathLike
from typing import Any

import numpy as np

from caffepy.errors import CaffeError, ConfigError
from caffepy.export import importers
from caffepy.export.extra import needed
from caffepy.export.model_file import FOLDED, ModelFile, Shapes, name_of, read_model
from caffepy.net.net import Net
from caffepy.proto.caffe_pb2 import TEST, LayerParameter, NetParameter


class Op:
    """An operator to be read: its attributes, which of its inputs are constants, the shapes around it."""

    def __init__(self, node: Any, model: ModelFile):
        onnx = needed("onnx", "caffepy import")
        self.kind, self.name = node.op_type, name_of(node)
        self.inputs, self.outputs = list(node.input), list(node.output)
        self.attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        self.model = model

    def has(self, i: int) -> bool:
        return i < len(self.inputs) and bool(self.inputs[i])

    def attribute(self, name: str, default: Any = None) -> Any:
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def is_constant(self, i: int) -> bool:
        return self.has(i) and self.inputs[i] in self.model.constants

    def constant(self, i: int, default: Any = None) -> Any:
        """The values of an input that has to be a constant; `default` where it is left out."""
        if not self.has(i):
            return default
        if not self.is_constant(i):
            raise self.refused(f"its input {i} is computed; only constants can be imported there")
        return self.model.constants[self.inputs[i]]

    def listed(self, attribute: str, i: int) -> list[int] | None:
        """Numbers that are an attribute in older opsets and an input in newer ones."""
        values = self.attributes.get(attribute)
        values = self.constant(i) if values is None else values
        return None if values is None else [int(value) for value in np.reshape(values, -1)]

    def shape(self, i: int = 0) -> tuple[int, ...]:
        """The shape of an input."""
        name = self.inputs[i]
        if name in self.model.constants:
            return self.model.constants[name].shape
        return self._known(name)

    def out(self, i: int = 0) -> tuple[int, ...]:
        """The shape of an output."""
        return self._known(self.outputs[i])

    def axis(self, default: int) -> int:
        axis = self.attribute("axis", default)
        return axis % max(1, len(self.shape()))

    def _known(self, name: str) -> tuple[int, ...]:
        if name not in self.model.shapes:
            raise self.refused(f'the shape of "{name}" depends on values, which no layer can have')
        return self.model.shapes[name]

    def refused(self, reason: str, hint: str = "") -> ConfigError:
        return ConfigError(reason, where=f'{self.model.path}: node "{self.name}" ({self.kind})', hint=hint)


class Building:
    """The net as far as it is read."""

    def __init__(self, model: ModelFile):
        self.model = model
        self.net = NetParameter(name=model.name)
        self.weights: dict[str, list[np.ndarray]] = {}
        """By layer."""
        self.blobs: dict[str, str] = {}
        """By value of the model."""
        self.padded: dict[str, tuple[str, list[int]]] = {}
        """Values that are another with zeros around it: begins, then ends of all axes. Who reads them must say so."""
        self.values = {name for node in model.nodes for name in (*node.input, *node.output)}
        self._op = ""
        self._names: set[str] = set()

    def give(self, name: str) -> None:
        """An input of the model."""
        layer = self.net.layer.add(name=name, type="Input", top=[name])
        layer.input_param.shape.add(dim=self.model.shapes[name])
        self.blobs[name] = name
        self._names.add(name)

    def blob(self, op: Op, i: int = 0) -> str:
        """The blob of an input, which a constant becomes with a Parameter layer."""
        name = op.inputs[i]
        if name in self.padded:
            raise op.refused("its input has zeros around it, which only Conv and AveragePool can have")
        if name in self.model.constants:
            values = np.asarray(self.model.constants[name], np.float32)
            layer = self.layer("Parameter", blobs=[values])
            layer.parameter_param.shape.dim.extend(values.shape)
            return layer.top[0]
        return self.blobs[name]

    def layer(self, kind: str, *bottoms: str, blobs: Sequence[np.ndarray] = (), tops: int = 1) -> LayerParameter:
        """A new layer, named after the operator, with tops of names of their own."""
        layer = self.net.layer.add(name=self._free(self._op, kind), type=kind, bottom=bottoms)
        layer.top.extend(self._unused(f"{layer.name}/{i}" if i else layer.name) for i in range(tops))
        if blobs:
            self.weights[layer.name] = [np.asarray(values, np.float32) for values in blobs]
        return layer

    def _unused(self, blob: str) -> str:
        """A blob's name that no value of the model has."""
        while blob in self.values:
            blob += "_"
        return blob

    def _free(self, name: str, kind: str) -> str:
        wanted, number = name, 1
        while wanted in self._names:
            wanted = f"{name}/{kind.lower()}" + (f"_{number}" if number > 1 else "")
            number += 1
        self._names.add(wanted)
        return wanted

    def read(self, op: Op) -> None:
        since, self._op = len(self.net.layer), op.name
        tops = _readers[op.kind](self, op)
        for value, top in zip(op.outputs, [tops] if isinstance(tops, str) else tops):
            if value:
                self.blobs[value] = self._named(top, value, since)

    def _named(self, top: str, value: str, since: int) -> str:
        """The top, called as the value if layers from number `since` on have made it."""
        made = self.net.layer[since:]
        if not any(top in layer.top for layer in made) or value in self.blobs.values():
            return top
        for layer in made:
            for names in (layer.bottom, layer.top):
                names[:] = [value if name == top else name for name in names]
        return value

    def finish(self) -> NetParameter:
        """The net, whose outputs have the names that they have in the model; nothing else is left unread."""
        for name in self.model.outputs:
            if name in self.model.constants or name in self.padded:
                raise ConfigError(f'the output "{name}" is no blob of any layer', where=self.model.path)
            if self.blobs[name] != name:
                self._op = name
                self.layer("Split", self.blobs[name]).top[:] = [name]
        read = {name for layer in self.net.layer for name in layer.bottom}
        unread = [top for layer in self.net.layer for top in layer.top if top not in read | set(self.model.outputs)]
        if unread:
            self.net.layer.add(name=self._free("unread", "Silence"), type="Silence", bottom=unread)
        return self.net


Reader = Callable[[Building, Op], "str | Sequence[str]"]
_readers: dict[str, Reader] = {}


def reads(*kinds: str) -> Callable[[Reader], Reader]:
    """Decorator: the function adds the layers of such an operator and returns the blobs of its outputs."""

    def decorate(function: Reader) -> Reader:
        _readers.update(dict.fromkeys(kinds, function))
        return function

    return decorate


@cache
def _import_all() -> None:
    for module in pkgutil.iter_modules(importers.__path__):
        importlib.import_module(f"{importers.__name__}.{module.name}")


def importable() -> list[str]:
    """The operators that can be read, sorted."""
    _import_all()
    return sorted({*_readers, *FOLDED})


@dataclass
class Imported:
    """What was read: the model, the definition that computes it, and the net of this with the model's weights."""

    model: ModelFile
    definition: NetParameter
    net: Net


def imported(path: str | PathLike[str], shapes: Shapes | None = None) -> Imported:
    """A TEST net that computes what the model does. Raises ConfigError and SnapshotError that name file and node."""
    model = read_model(path, importable(), shapes)
    building = Building(model)
    for name in model.inputs:
        building.give(name)
    for node in model.nodes:
        op = Op(node, model)
        if op.kind not in _readers:
            raise op.refused("no layer computes this operator", "It is understood where all its inputs are constants.")
        building.read(op)
    definition = building.finish()
    try:
        net = Net(definition, TEST)
        for name, arrays in building.weights.items():
            for blob, values in zip(net.layer_dict[name].blobs, arrays, strict=True):
                blob.data = values
    except CaffeError as error:
        raise error.at(model.path) from None
    return Imported(model, definition, net)
