"""Paths to fields of a definition: `base_lr`, `layer.ip1.param.0.lr_mult`, `layer.*.dropout_param.dropout_ratio`.

A step is the name of a field. Behind a repeated field stands a number, counted from 0, or `*` for all; behind `layer`
a layer's name, or a pattern such as `conv*`, which means those of the layers that have, or read, what follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from math import isnan
from typing import Any, NamedTuple

import numpy as np
from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from caffepy.errors import ConfigError, did_you_mean
from caffepy.proto.caffe_pb2 import LayerParameter, NetParameter

_KINDS = {
    FieldDescriptor.CPPTYPE_INT32: "a whole number of 32 bits",
    FieldDescriptor.CPPTYPE_INT64: "a whole number",
    FieldDescriptor.CPPTYPE_UINT32: "a whole number of 32 bits, at least 0",
    FieldDescriptor.CPPTYPE_UINT64: "a whole number, at least 0",
    FieldDescriptor.CPPTYPE_FLOAT: "a number",
    FieldDescriptor.CPPTYPE_DOUBLE: "a number",
    FieldDescriptor.CPPTYPE_BOOL: "true or false",
    FieldDescriptor.CPPTYPE_STRING: "a text",
    FieldDescriptor.CPPTYPE_ENUM: "a name",
    FieldDescriptor.CPPTYPE_MESSAGE: "a block { }",
}
_FLAGS = {"true": True, "True": True, "1": True, "false": False, "False": False, "0": False}


class Target(NamedTuple):
    """A field of one message, or the entry `index` of a repeated one."""

    message: Message
    field: FieldDescriptor
    index: int | None  # type: ignore[assignment]  # a tuple's method of this name is not needed
    name: str
    """The path that leads there, with names in place of patterns."""

    @property
    def value(self) -> Any:
        value = getattr(self.message, self.field.name)
        return value if self.index is None else value[self.index]

    def parse(self, text: str) -> Any:
        """What `text` means here. Raises ConfigError for another type, and the nearest name of an enum."""
        if self.is_list:
            return [self._one(part.strip()) for part in text.split(",")] if text else []
        return self._one(text)

    @property
    def is_list(self) -> bool:
        return self.index is None and repeated(self.field)

    def set(self, value: Any) -> None:
        """Set what `parse` returned."""
        if self.field.message_type is not None:
            self.value.CopyFrom(value)
        elif self.is_list:
            del self.value[:]
            self.value.extend(value)
        elif self.index is not None:
            getattr(self.message, self.field.name)[self.index] = value
        else:
            setattr(self.message, self.field.name, value)

    def shown(self) -> str:
        """The value as a prototxt has it."""
        values = self.value if self.is_list else [self.value]
        return ",".join(_shown(self.field, value) for value in values)

    def _one(self, text: str) -> Any:
        try:
            value = _parse(self.field, text)
            _fits(self.field, value)
            return value
        except ConfigError as error:
            raise error.at(self.name) from None
        except (ValueError, TypeError, text_format.ParseError):
            raise ConfigError(f'{self.name} takes {_KINDS[self.field.cpp_type]}, got "{text}"') from None


def find(message: Message, path: str) -> list[Target]:
    """What a path means in a definition; nothing where no layer of the name, or of the pattern, is there.

    Raises ConfigError with the nearest name for a path that no definition of this kind can have.
    """
    return list(_walk(message, path, ""))


def _walk(message: Message, path: str, done: str) -> Iterator[Target]:
    name, _, rest = path.partition(".")
    field = _field(message.DESCRIPTOR, name, done)
    here = f"{done}{name}"
    if repeated(field) and rest:
        for index, key, after in _entries(message, field, rest, here):
            yield from _behind(message, field, index, f"{here}.{key}", after)
    else:
        yield from _behind(message, field, None, here, rest)


def _behind(message: Message, field: FieldDescriptor, index: int | None, here: str, rest: str) -> Iterator[Target]:
    target = Target(message, field, index, here)
    if not rest:
        if field.message_type is not None and target.is_list:
            raise ConfigError(f'"{here}" is a list of blocks', hint=f"Name one of them and a field: {here}.0.NAME")
        yield target
    elif field.message_type is None:
        raise ConfigError(f'"{here}" is {_KINDS[field.cpp_type]}, nothing can stand behind it: "{rest}"')
    else:
        yield from _walk(target.value, rest, f"{here}.")


def _check(descriptor: Descriptor, path: str, done: str) -> None:
    """Raises ConfigError where no message of the kind can have what the path means."""
    name, _, rest = path.partition(".")
    if not name:
        return
    field = _field(descriptor, name, done)
    if repeated(field):
        name, rest = f"{name}.{rest.partition('.')[0]}", rest.partition(".")[2]
    if field.message_type is not None:
        _check(field.message_type, rest, f"{done}{name}.")


def _field(descriptor: Descriptor, name: str, done: str) -> FieldDescriptor:
    if name not in descriptor.fields_by_name:
        inside = f" ({done.rstrip('.')})" if done else ""
        hint = did_you_mean(name, descriptor.fields_by_name)
        raise ConfigError(f'no field "{name}" in {descriptor.name}{inside}', hint=hint)
    return descriptor.fields_by_name[name]


def _entries(message: Message, field: FieldDescriptor, rest: str, here: str) -> Iterator[tuple[int, str, str]]:
    """Of the entries that the next step means: index, how a path calls them, and the steps behind."""
    if isinstance(message, NetParameter) and field.name == "layer":
        return _layers(message, rest)
    key, _, rest = rest.partition(".")
    count = len(getattr(message, field.name))
    if key == "*":
        return iter([(i, str(i), rest) for i in range(count)])
    if not key.isdecimal() or int(key) >= count:
        known = f"{count} entries, 0 to {count - 1}" if count else "no entries"
        raise ConfigError(f'"{here}" has {known}: there is no "{key}"')
    return iter([(int(key), key, rest)])


def _layers(net: NetParameter, rest: str) -> Iterator[tuple[int, str, str]]:
    names = {layer.name for layer in net.layer if rest == layer.name or rest.startswith(f"{layer.name}.")}
    if names:  # the longest: names may have dots
        name = max(names, key=len)
        found = [(i, name, rest[len(name) + 1 :]) for i, layer in enumerate(net.layer) if layer.name == name]
    else:
        pattern, _, behind = rest.partition(".")
        _check(LayerParameter.DESCRIPTOR, behind, f"layer.{pattern}.")
        found = [
            (i, layer.name, behind)
            for i, layer in enumerate(net.layer)
            if "*" in pattern and fnmatchcase(layer.name, pattern) and _reads(layer, behind)
        ]
    return iter(found)


def _reads(layer: LayerParameter, path: str) -> bool:
    """Whether a layer has the field that a path begins with, or is of the type that the field is called after."""
    name, _, rest = path.partition(".")
    field = layer.DESCRIPTOR.fields_by_name[name]
    if repeated(field):
        index = rest.partition(".")[0]
        return not rest or len(getattr(layer, name)) > (int(index) if index.isdecimal() else 0)
    if field.message_type is None:
        return True
    return layer.HasField(name) or field.message_type.name == f"{layer.type}Parameter"  # type: ignore[arg-type]


def repeated(field: FieldDescriptor) -> bool:
    found = getattr(field, "is_repeated", None)  # where it is, `label` is deprecated
    return field.label == FieldDescriptor.LABEL_REPEATED if found is None else found


def _parse(field: FieldDescriptor, text: str) -> Any:
    if field.message_type is not None:
        value = field.message_type._concrete_class()
        text_format.Parse(text.strip().removeprefix("{").removesuffix("}"), value)
        return value
    if field.enum_type is not None:
        return _enum(field, text)
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        if text not in _FLAGS:
            raise ValueError
        return _FLAGS[text]
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        if isnan(float(text)):
            raise ValueError
        return float(text)
    return int(text, 0)


def _enum(field: FieldDescriptor, text: str) -> int:
    values = field.enum_type.values_by_name
    if text not in values:
        hint = did_you_mean(text, values) or f"Known values: {', '.join(values)}."
        raise ConfigError(f'no value "{text}" in {field.enum_type.name}', hint=hint)
    return values[text].number


def _fits(field: FieldDescriptor, value: Any) -> None:
    """Raises ValueError for a number that the field cannot hold."""
    if field.message_type is None:
        probe = field.containing_type._concrete_class()
        if repeated(field):
            getattr(probe, field.name).append(value)
        else:
            setattr(probe, field.name, value)


def _shown(field: FieldDescriptor, value: Any) -> str:
    if field.message_type is not None:
        return f"{{ {text_format.MessageToString(value, as_one_line=True)} }}"
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    if isinstance(value, bool):
        return str(value).lower()
    if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT:
        return str(np.float32(value))  # the shortest text that reads back to it
    return str(value)
