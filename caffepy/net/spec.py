"""NetSpec: networks written in Python, as pycaffe's scripts write them.

from caffepy import layers as L, params as P

n = caffepy.NetSpec()
n.data, n.label = L.Data(source="train_lmdb", backend=P.Data.LMDB, batch_size=64, ntop=2)
n.pool = L.Pooling(n.data, kernel_size=2, stride=2, pool=P.Pooling.MAX)
n.score = L.InnerProduct(n.pool, num_output=10, weight_filler=dict(type="xavier"))
n.loss = L.SoftmaxWithLoss(n.score, n.label)
net = caffepy.Net(n.to_proto(), caffepy.TRAIN)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from caffepy.errors import ConfigError, add_note, did_you_mean
from caffepy.net import param_str
from caffepy.net.layer import layer_class, layer_types
from caffepy.proto import caffe_pb2
from caffepy.proto.caffe_pb2 import LayerParameter, NetParameter

_LAYER_FIELDS = LayerParameter.DESCRIPTOR.fields_by_name


class UnknownAttributeError(ConfigError, AttributeError, KeyError):
    """A layer type, message, field, value or top that does not exist.

    An AttributeError, too, so that `hasattr` works, and the KeyError that pycaffe raises.
    """


class NoTopError(ConfigError, TypeError):
    """Something else than a top is given to a layer; a TypeError, too, of pycaffe's very text: the remedy is a note."""

    def __init__(self, message: str, remedy: str):
        super().__init__(message)
        add_note(self, remedy)


class NoValueError(ConfigError, TypeError, ValueError):
    """A value that a field cannot hold: TypeError and ValueError, too, what protobuf raises in pycaffe."""


class Top:
    """The `n`-th top of the layer `fn`: what a layer takes as bottom."""

    def __init__(self, fn: Function, n: int):
        self.fn, self.n = fn, n

    def to_proto(self) -> NetParameter:
        """The net that leads to this top, with automatic names."""
        return to_proto(self)

    def __repr__(self) -> str:
        return f"Top({self.fn.type_name}, {self.n})"


class Function:
    """A layer of a type over `inputs`, tops of others; `params` are its keywords without `ntop` and `in_place`.

    Raises NoTopError for inputs that are none, and ConfigError for a keyword that neither the layer's own message nor
    LayerParameter has.
    """

    def __init__(self, type_name: str, inputs: Iterable[Top], params: Mapping[str, Any]):
        self.type_name, self.inputs, self.params = type_name, tuple(inputs), dict(params)
        self.ntop = int(self.params.pop("ntop", 1))
        self.in_place = bool(self.params.pop("in_place", False))
        for i, bottom in enumerate(self.inputs):
            if not isinstance(bottom, Top):
                raise NoTopError(
                    f"{type_name} input {i} is not a Top (type is {type(bottom)})",
                    "A layer with several tops returns a tuple: name one of them."
                    if isinstance(bottom, (tuple, list))
                    else "Parameters are given by keyword.",
                )
        if self.in_place and self.inputs and len(self.inputs) != self.ntop:
            raise ConfigError(
                f"in place a layer has as many tops as bottoms, not {self.ntop} and {len(self.inputs)}",
                where=f"L.{type_name}",
            )
        self.tops = tuple(Top(self, n) for n in range(self.ntop))
        # Kept, so that a mistake is reported where the layer is written.
        self._message = self._from_keywords()

    def to_proto(self) -> NetParameter:
        """The net that leads to this layer, with automatic names."""
        return to_proto(self)

    def update(self, params: Mapping[str, Any]) -> None:
        """Change keywords, or add some."""
        self.params |= params
        self._message = self._from_keywords()

    def _from_keywords(self) -> LayerParameter:
        layer = LayerParameter(type=self.type_name)
        kind = layer_class(self.type_name)
        own, declared = kind.param_field, param_str.declared(kind)
        fields = _LAYER_FIELDS[own].message_type.fields_by_name if own else {}
        if values := {key: value for key, value in self.params.items() if key in declared}:
            if "param_str" in self.params:
                raise ConfigError(f"{', '.join(values)} and param_str are given", hint="Give one of the two.")
            layer.param_str = param_str.write(values)
        for key, value in self.params.items():
            if key in values:
                continue
            if own and key in fields and not (key.endswith("param") and key in _LAYER_FIELDS):
                assign(getattr(layer, own), key, value, f"L.{self.type_name}")
            elif key in _LAYER_FIELDS:
                assign(layer, key, value, f"L.{self.type_name}")
            else:
                known = [*fields, *declared, *_LAYER_FIELDS, "ntop", "in_place"]
                some = f"Those of {own} are: {', '.join(fields)}." if own else "It has no parameters of its own."
                some = f"It has: {', '.join(declared)}." if declared else some
                raise UnknownAttributeError(
                    f'{self.type_name} has no parameter "{key}"',
                    where=f"L.{self.type_name}",
                    hint=did_you_mean(key, known) or some,
                )
        return layer

    def unnamed(self) -> LayerParameter:
        """The layer as its keywords say, without bottoms and tops."""
        layer = LayerParameter()
        layer.CopyFrom(self._message)
        return layer

    def message(self, bottoms: list[str], name_of: Callable[[Top | Function], str]) -> LayerParameter:
        """The layer with its names: the first top's is the layer's, too, unless `name` is given."""
        if self.in_place and not bottoms:
            raise ConfigError("in place a layer needs a bottom", where=f"L.{self.type_name}")
        layer = self.unnamed()
        layer.bottom.extend(bottoms)
        if not layer.top:
            layer.top.extend(bottoms if self.in_place else [name_of(top) for top in self.tops])
        if not layer.name:
            layer.name = name_of(self.tops[0] if self.tops else self)
        return layer


def assign(message: Message, name: str, value: Any, where: str = "") -> None:
    """Set a field from Python values: dicts for messages, lists for repeated fields, strings or numbers for enums.

    Raises ConfigError that names the field at fault and the nearest known one.
    """
    known = message.DESCRIPTOR.fields_by_name
    if name not in known:
        hint = did_you_mean(name, known) or f"Known fields: {', '.join(known)}."
        raise UnknownAttributeError(f'no field "{name}" in {message.DESCRIPTOR.name}', where=where, hint=hint)
    field = known[name]
    where = f"{where}: {name}" if where else name
    if hasattr(getattr(message, name), "extend"):  # repeated
        one = isinstance(value, (str, bytes, Mapping, Message)) or not isinstance(value, Iterable)
        for item in [value] if one else value:
            if field.message_type is None:
                _try(where, value, getattr(message, name).append, _scalar(field, item, where))
            else:
                _fill(getattr(message, name).add(), item, where)
    elif field.message_type is not None:
        getattr(message, name).SetInParent()
        _fill(getattr(message, name), value, where)
    else:
        _try(where, value, setattr, message, name, _scalar(field, value, where))


def _fill(message: Message, value: Any, where: str) -> None:
    if isinstance(value, Message):
        _try(where, value, message.MergeFrom, value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            assign(message, key, item, where)
    else:
        raise ConfigError(
            f"got {value!r}, a dict of {message.DESCRIPTOR.name}'s fields is expected",
            where=where,
            hint=f"For example: dict({next(iter(message.DESCRIPTOR.fields_by_name))}=...).",
        )


def _scalar(field: FieldDescriptor, value: Any, where: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if field.enum_type is not None and isinstance(value, str):
        return _enum_number(field.enum_type, value, where)
    return value


def _enum_number(enum: EnumDescriptor, value: str, where: str) -> int:
    values = enum.values_by_name
    if value not in values:
        hint = did_you_mean(value, values) or f"Known values: {', '.join(values)}."
        raise NoValueError(f'no value "{value}"', where=where, hint=hint)
    return values[value].number


def _try(where: str, value: Any, function: Callable[..., Any], *arguments: Any) -> None:
    try:
        function(*arguments)
    except (TypeError, ValueError) as error:
        raise NoValueError(f"{value!r} does not fit: {error}", where=where) from None


class _Names:
    """Names for tops and layers: those the user gave, and type and number for the rest."""

    def __init__(self, given: Mapping[Top | Function, str]):
        self.names = dict(given)
        self.numbers: Counter[str] = Counter()

    def __call__(self, item: Top | Function) -> str:
        if item not in self.names:
            type_name = item.fn.type_name if isinstance(item, Top) else item.type_name
            taken = set(self.names.values())
            while (name := f"{type_name}{self.numbers[type_name] + 1}") in taken:
                self.numbers[type_name] += 1
            self.numbers[type_name] += 1
            self.names[item] = name
        return self.names[item]


def _net(ends: Iterable[Top | Function], given: Mapping[Top | Function, str]) -> NetParameter:
    """The layers that lead to `ends`, each after those it needs."""
    name_of = _Names(given)
    done: dict[Function, LayerParameter] = {}
    for end in ends:
        waiting = [end.fn if isinstance(end, Top) else end]
        while waiting:  # a loop, not recursion: nets may be deeper than Python's stack
            fn = waiting[-1]
            before = [bottom.fn for bottom in fn.inputs if bottom.fn not in done]
            if fn in done or not before:
                waiting.pop()
                if fn not in done:
                    done[fn] = fn.message([done[b.fn].top[b.n] for b in fn.inputs], name_of)
            else:
                waiting += reversed(before)
    return NetParameter(layer=done.values())


def to_proto(*tops: Top | Function | Iterable[Top]) -> NetParameter:
    """The net that leads to `tops`; its layers are named by type and number, as "Convolution1"."""
    ends: list[Top | Function] = []
    for top in tops:
        ends += [top] if isinstance(top, (Top, Function)) else top
    return _net(ends, {})


class NetSpec:
    """A net under construction: an attribute assigned names a top, and its layer.

    `spec.name`, `spec["name"]` and `spec.tops["name"]` are the same. Layers come out in the order of assignment,
    after those that they need. `spec["conv1/relu"] = ...` allows any name.
    """

    tops: dict[str, Any]

    def __init__(self) -> None:
        super().__setattr__("tops", {})

    def __setattr__(self, name: str, value: Top | Function) -> None:
        if not isinstance(value, (Top, Function)):
            several = isinstance(value, (tuple, list)) and len(value)
            raise ConfigError(
                f'"{name}" is to be a top of a layer, not {value!r}',
                where="NetSpec",
                hint=f"The layer has {several} tops, each needs a name: n.a, n.b = L..." if several else "",
            )
        self.tops[name] = value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "tops" not in self.__dict__:
            raise AttributeError(name)
        return self[name]

    def __delattr__(self, name: str) -> None:
        del self[name]

    def __setitem__(self, name: str, value: Top | Function) -> None:
        setattr(self, name, value)

    def __getitem__(self, name: str) -> Any:
        return self.tops[self._known(name)]

    def __delitem__(self, name: str) -> None:
        del self.tops[self._known(name)]

    def __contains__(self, name: object) -> bool:
        return name in self.tops

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.tops})

    def update(self, name: str, params: Mapping[str, Any]) -> None:
        """Change keywords of the layer that makes the top `name`, or add some."""
        end = self[name]
        (end.fn if isinstance(end, Top) else end).update(params)

    def _known(self, name: str) -> str:
        if name not in self.tops:
            hint = did_you_mean(name, self.tops) or f"There are: {', '.join(self.tops) or 'none yet'}."
            raise UnknownAttributeError(f'the net has no top "{name}"', where="NetSpec", hint=hint)
        return name

    def to_proto(self) -> NetParameter:
        """The net as a message: `caffepy.Net` takes it, `str()` of it is the prototxt."""
        return _net(self.tops.values(), {top: name for name, top in self.tops.items()})


class Layers:
    """`L.Type(bottom, ..., keyword=...)` describes a layer: its top, or a tuple of its tops if `ntop` is not 1.

    Keywords go to the layer's own message (`num_output` to `convolution_param`), the others to LayerParameter
    (`name`, `param`, `include`, `loss_weight`, `transform_param`). With `ntop=0` the layer itself is returned.
    """

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        known = layer_types()
        if name not in known:
            hint = did_you_mean(name, known) or f"Known types: {', '.join(known)}."
            raise UnknownAttributeError(f'unknown layer type "{name}"', where=f"L.{name}", hint=hint)

        def layer(*bottoms: Top, **keywords: Any) -> Any:
            fn = Function(name, bottoms, keywords)
            return {0: fn, 1: fn.tops[0] if fn.tops else fn}.get(fn.ntop, fn.tops)

        layer.__name__ = layer.__qualname__ = name
        return layer

    def __dir__(self) -> list[str]:
        return layer_types()


class Parameters:
    """`P.Pooling.MAX`: the values that a layer's parameters can take."""

    def __getattr__(self, name: str) -> Values:
        if name.startswith("__"):
            raise AttributeError(name)
        message = getattr(caffe_pb2, f"{name}Parameter", None)
        if message is None:
            known = [m.removesuffix("Parameter") for m in dir(caffe_pb2) if m.endswith("Parameter")]
            raise UnknownAttributeError(
                f'no message "{name}Parameter"', where=f"P.{name}", hint=did_you_mean(name, known)
            )
        return Values(message)


class Values:
    """The enumerations of one message, and their values as numbers."""

    def __init__(self, message: type[Message]):
        self._message = message

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if not hasattr(self._message, name):
            descriptor = self._message.DESCRIPTOR
            known = [value for enum in descriptor.enum_types for value in enum.values_by_name]
            hint = did_you_mean(name, known) or (f"Known values: {', '.join(known)}." if known else "It has none.")
            raise UnknownAttributeError(f'no value "{name}" in {descriptor.name}', hint=hint)
        return getattr(self._message, name)


layers = Layers()
params = Parameters()
