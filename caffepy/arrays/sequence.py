"""Sequence: a net of layers in a row, built in Python, saved as prototxt and loaded again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from os import PathLike, fspath
from pathlib import Path
from typing import Any, SupportsIndex

from caffepy.engine import Engine
from caffepy.errors import ConfigError
from caffepy.files import atomic_write, check_writable
from caffepy.net.layer import layer_class
from caffepy.net.net import Net
from caffepy.net.weights import Paths
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import TRAIN, LayerParameter, NetParameter

Shape = Iterable[int]


class Sequence:
    """Layers in a row: each takes the output of the one before it, the first the input.

        from caffepy import layers as L
        lenet = caffepy.Sequence(
            [
                L.Convolution(num_output=20, kernel_size=5, weight_filler=dict(type="xavier")),
                L.Pooling(pool=0, kernel_size=2, stride=2),
                L.InnerProduct(num_output=10, weight_filler=dict(type="xavier")),
                L.Accuracy(),
                L.SoftmaxWithLoss(),
            ],
            input=(64, 1, 28, 28),
        )
        lenet.save("lenet.prototxt")
        net = lenet.net()
        net.fit(images, labels, epochs=3)

    A layer is what `caffepy.layers` makes when it is called without bottoms, or a LayerParameter. `input` is the
    shape of the blob "data". Losses and Accuracy also take the blob "label", of shape `label` (default: a number
    for each item), and stand beside the row: what comes after them takes what they took. With `in_place=True` a layer
    writes over what it takes. Layers without a name are called by type and number: "Convolution1".
    Raises ConfigError for layers that do not fit into a row.
    """

    net_class: type[Net] = Net

    def __init__(
        self,
        layers: Iterable[Any] = (),
        *,
        input: Shape,
        label: Shape | None = None,
        name: str = "",
        names: tuple[str, str] = ("data", "label"),
    ):
        self.name = name
        self.input = tuple(input)
        self.label = tuple(label) if label is not None else self.input[:1]
        self.names = names
        self.layers: list[LayerParameter] = []
        self._automatic: Counter[str] = Counter()
        for layer in layers:
            self.add(layer)

    def add(self, layer: Any) -> None:
        """Append a layer."""
        param = LayerParameter()
        param.CopyFrom(_message(layer))
        if getattr(getattr(layer, "fn", None), "in_place", False):
            param.top[:] = [self._trunk()]
        kind = layer_class(param.type)
        least = kind.num_bottom if isinstance(kind.num_bottom, int) else kind.num_bottom[0]
        most = kind.num_bottom if isinstance(kind.num_bottom, int) else kind.num_bottom[1]
        if most == 0 or least > (2 if _beside(param) else 1):
            raise ConfigError(
                f"a layer of type {param.type} does not fit into a row: it takes {least} bottom(s)",
                hint="Write the net with caffepy.NetSpec, or as prototxt.",
            )
        self._automatic[param.type] += 1
        # NetSpec has called a layer that stands alone so.
        if not param.name or (param.name == f"{param.type}1" and not isinstance(layer, LayerParameter)):
            param.name = f"{param.type}{self._automatic[param.type]}"
        if param.name in {other.name for other in self.layers}:
            raise ConfigError(f'the sequence has two layers called "{param.name}"')
        self.layers.append(param)

    def _trunk(self) -> str:
        """The blob that the next layer takes."""
        for layer in reversed(self.layers):
            if not _beside(layer):
                return layer.top[0] if layer.top else layer.name
        return self.names[0]

    def to_proto(self) -> NetParameter:
        """The net's definition, with Input layers in front."""
        net = NetParameter(name=self.name or None)
        data, label = self.names
        _add_input(net, data, self.input)
        if any(_beside(layer) for layer in self.layers):
            _add_input(net, label, self.label)
        trunk = data
        for layer in self.layers:
            out = net.layer.add()
            out.CopyFrom(layer)
            out.bottom[:] = [trunk, label] if _beside(layer) else [trunk]
            if not out.top:
                out.top.append(out.name)
            if not _beside(layer):
                trunk = out.top[0]
        return net

    def save(self, path: str | PathLike[str]) -> None:
        """Write the net as prototxt."""
        check_writable(path)
        with atomic_write(fspath(path)) as temporary:
            Path(temporary).write_text(text.to_text(self.to_proto()))

    @classmethod
    def load(cls, path: str | PathLike[str] | NetParameter) -> Sequence:
        """The sequence in a prototxt. Raises ConfigError with the layer where the net is more than a row of layers."""
        param = text.definition(path).param
        where = "" if isinstance(path, NetParameter) else fspath(path)
        inputs, rest = _inputs(param), [layer for layer in param.layer if layer.type != "Input"]
        if not 1 <= len(inputs) <= 2:
            raise ConfigError(
                f"a sequence has an input and perhaps a label, this net has {len(inputs)} inputs",
                where=where,
                hint="Its data must come from Input layers.",
            )
        data, label = [*inputs, "label"][:2]
        out = cls(input=inputs[data], label=inputs.get(label), name=param.name, names=(data, label))
        trunk = data
        for layer in rest:
            wanted = [trunk, label] if _beside(layer) else [trunk]
            if list(layer.bottom) != wanted:
                raise ConfigError(
                    f"the layer takes {', '.join(layer.bottom) or 'nothing'}, in a row it would take "
                    f"{', '.join(wanted)}",
                    where=f'{where}: layer "{layer.name}"' if where else f'layer "{layer.name}"',
                    hint="A net that branches is no sequence: use caffepy.Net.",
                )
            if not _beside(layer):
                trunk = layer.top[0] if layer.top else layer.name
            out.add(layer)
        return out

    def net(self, phase: int = TRAIN, weights: Paths | None = None, engine: Engine | None = None) -> Net:
        """The net, ready to run."""
        return self.net_class(self.to_proto(), phase, weights=weights, engine=engine)

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, i: SupportsIndex) -> LayerParameter:
        return self.layers[i]

    def __iter__(self) -> Iterator[LayerParameter]:
        return iter(self.layers)

    def __repr__(self) -> str:
        return f"Sequence({self.input}: {', '.join(layer.name for layer in self.layers)})"


def _message(layer: Any) -> LayerParameter:
    """The definition that stands behind what `caffepy.layers` returns."""
    if isinstance(layer, LayerParameter):
        return layer
    if not hasattr(layer, "fn"):
        raise ConfigError(
            f"a sequence consists of layers, got {layer!r}", hint="Write, for example: caffepy.layers.ReLU()."
        )
    if getattr(layer.fn, "in_place", False) and not layer.fn.inputs:
        return layer.fn.unnamed()
    from caffepy.net.spec import to_proto

    made = to_proto(layer).layer
    if len(made) != 1:
        raise ConfigError(
            f"a layer of type {made[-1].type} is given with its bottoms",
            hint="In a sequence they follow from the order: leave them out.",
        )
    param = LayerParameter()
    param.CopyFrom(made[0])
    param.ClearField("top")
    return param


def _beside(layer: LayerParameter) -> bool:
    """Whether the layer compares with the label, and nothing comes after it."""
    return layer_class(layer.type).takes_label


def _add_input(net: NetParameter, name: str, shape: tuple[int, ...]) -> None:
    layer = net.layer.add(name=name, type="Input", top=[name])
    layer.input_param.shape.add(dim=shape)


def _inputs(param: NetParameter) -> dict[str, tuple[int, ...]]:
    """Name to shape of the tops of Input layers."""
    found = {}
    for layer in param.layer:
        if layer.type == "Input":
            shapes = layer.input_param.shape
            for i, top in enumerate(layer.top):
                found[top] = tuple(shapes[i if len(shapes) > 1 else 0].dim) if shapes else ()
    return found
