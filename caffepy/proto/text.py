"""Prototxt in and out: every mistake is reported as file:line:column with the nearest valid name."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import NamedTuple, TypeVar

from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message

from caffepy.errors import CaffeError, ConfigError, FieldError, did_you_mean
from caffepy.files import definitions, near_names, read_file
from caffepy.proto import caffe_pb2, foreign, settings, upgrade

M = TypeVar("M", bound=Message)

_NO_FIELD = re.compile(r'Message type "([\w.]+)" has no field named "([^"]+)"')
_NO_VALUE = re.compile(r'Enum type "([\w.]+)" has no value named ([^\s.]+)')
_TWICE = re.compile(r'Message type "([\w.]+)" should not have multiple "([^"]+)" fields')
_FIELD = re.compile(r"\s*[:{<]")
_TOKEN = re.compile(r"""#[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|[{}<>]|[A-Za-z_]\w*""")


class Place(NamedTuple):
    """Where a layer stands in its file, and its name there."""

    line: int
    column: int
    name: str


class Mention(NamedTuple):
    """A field or value of another Caffe, `Message.field`, and where it stands."""

    line: int
    column: int
    name: str


class Refusal(NamedTuple):
    """A field or value of another Caffe that would change what a layer computes."""

    where: str
    message: str

    def error(self) -> ConfigError:
        return ConfigError(self.message, where=self.where, hint="Leave it out if the net can do without.")


class Definition(NamedTuple):
    """A net as read from a file: the message, upgraded, and where each of its layers stands."""

    param: caffe_pb2.NetParameter
    places: dict[str, list[str]]
    """`file:line:column` of every layer of a name, in file order."""
    refusals: dict[str, Refusal] = {}
    """By place: layers that cannot be built, because they say what only other Caffes can do."""
    upgraded: upgrade.Upgrade = upgrade.Upgrade()
    """What it took to bring the file to the current format."""
    foreign: tuple[Mention, ...] = ()
    """What only other Caffes know and changes nothing here."""


def parse(text: str, message: M, source: str = "<text>") -> M:
    """Parse prototxt into `message`; raises ConfigError with file:line:column and the nearest valid name.

    Fields that only other Caffes have are named in a warning where they change nothing, and refused elsewhere.
    """
    for found in _parse(text, message, source):
        if found.does:
            raise _refusal(found, text, source).error()
    return message


def _parse(text: str, message: Message, source: str) -> list[foreign.Found]:
    """Parse; what of the text only other Caffes know."""
    found: list[foreign.Found] = []
    given = type(message)()
    given.CopyFrom(message)
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        read = foreign.read(text, message.DESCRIPTOR)
        if read.text == text:
            raise _explain(error, text, source, message.DESCRIPTOR.file.pool) from None
        message.CopyFrom(given)
        try:
            text_format.Parse(read.text, message)
        except text_format.ParseError as error:
            raise _explain(error, text, source, message.DESCRIPTOR.file.pool) from None
        foreign.name_once(read.found, source)
        found = read.found
    if missing := message.FindInitializationErrors():
        raise ConfigError(f"required field {missing[0]} is not set", where=source)
    return found


def _refusal(found: foreign.Found, text: str, source: str) -> Refusal:
    line, column = _line_column(text, found.offset)
    layer = _layer_before(text, line, column)
    named = f'layer "{layer.name}": ' if layer is not None and layer.name else ""
    return Refusal(
        f"{source}:{line}:{column}", f"{named}{found.name} is of another Caffe, and not supported: it {found.does}"
    )


def read(path: str | PathLike[str], message: M) -> M:
    """Parse the prototxt file `path` into `message`."""
    return parse(read_text(path), message, str(path))


def read_net(path: str | PathLike[str]) -> Definition:
    """Read a net definition of any age in the current format, as the process's settings have it."""
    found, given = _as_written(path), settings.current()
    if given.of_net:
        given.tell([found.param])
    given.to_net(found.param)
    return found


def _as_written(path: str | PathLike[str]) -> Definition:
    text, param = read_text(path), caffe_pb2.NetParameter()
    refusals, everything = {}, _parse(text, param, str(path))
    for found in reversed([f for f in everything if f.does]):
        layer = _layer_before(text, *_line_column(text, found.offset))
        if layer is None:
            raise _refusal(found, text, str(path)).error()
        refusals[f"{path}:{layer.line}:{layer.column}"] = _refusal(found, text, str(path))
    try:
        upgraded = upgrade.upgrade_net(param)
    except ConfigError as error:
        raise error.at(str(path)) from None
    if not param.layer:
        raise ConfigError("the definition has no layer", where=str(path), hint="Add layer { ... } blocks.")
    places = defaultdict(list)
    for place in layer_places(text):
        places[place.name].append(f"{path}:{place.line}:{place.column}")
    mentions = tuple(Mention(*_line_column(text, f.offset), f.name) for f in everything if not f.does)
    return Definition(param, places, refusals, upgraded, mentions)


def definition(source: str | PathLike[str] | caffe_pb2.NetParameter | Definition) -> Definition:
    """A net as it was read, from whatever names or holds it. A message is taken as it is, not upgraded."""
    if isinstance(source, Definition):
        return source
    return Definition(source, {}) if isinstance(source, caffe_pb2.NetParameter) else read_net(source)


def read_solver(path: str | PathLike[str]) -> caffe_pb2.SolverParameter:
    """Read a solver definition, old `solver_type` enums included, as the process's settings have it."""
    param = read(path, caffe_pb2.SolverParameter())
    try:
        upgrade.upgrade_solver(param)
    except ConfigError as error:
        raise error.at(str(path)) from None
    given = settings.current()
    given.to_solver(param)
    _look_beside(param, Path(path).parent)
    files, inner = net_files(param), settings.inner_nets(param)
    given.tell([*(_as_written(file).param for file in files), *inner] if given.nets else [])
    for net in inner:
        given.to_net(net)
    return param


def net_files(param: caffe_pb2.SolverParameter) -> list[str]:
    """The nets that a solver names."""
    return [*(getattr(param, field) for field in ("net", "train_net") if param.HasField(field)), *param.test_net]


def _look_beside(param: caffe_pb2.SolverParameter, folder: Path) -> None:
    """Where the nets that a solver names are not in the working folder, as in Caffe, but beside it, take these."""
    for field in ("net", "train_net"):
        name = getattr(param, field)
        if name and not Path(name).exists() and (folder / name).is_file():
            setattr(param, field, str(folder / name))
    for i, name in enumerate(param.test_net):
        if not Path(name).exists() and (folder / name).is_file():
            param.test_net[i] = str(folder / name)


def to_text(message: Message) -> str:
    """The message as Caffe prints it: floats in their shortest form that reads back to the same float32."""
    return text_format.MessageToString(message)


def read_text(path: str | PathLike[str]) -> str:
    definitions.append(Path(path).absolute().parent)
    try:
        raw = read_file(path)
    except OSError as error:
        raise ConfigError(f"cannot read the file: {error.strerror}", where=str(path), hint=near_names(path)) from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        if b"\0" in raw:
            raise ConfigError(
                "this is a binary file, a prototxt is expected",
                where=str(path),
                hint="Weights (.caffemodel) are given with --weights, definitions with --model or --solver.",
            ) from None
        return raw.decode("latin-1")  # comments in old files; protobuf's strings are checked later


def layer_places(text: str) -> list[Place]:
    """Line, column and name of every top-level `layer { }` or `layers { }` block."""
    places: list[Place] = []
    depth, opened, previous = 0, (1, 1), ""
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token[0] == "#":
            continue
        if token in "{<":
            if depth == 0 and previous in ("layer", "layers"):
                places.append(Place(*opened, name=""))
            depth += 1
        elif token in "}>":
            depth -= 1
        elif previous == "name" and token[0] in "\"'" and places and not places[-1].name:
            places[-1] = places[-1]._replace(name=token[1:-1])
        elif depth == 0:
            opened = _line_column(text, match.start())
        previous = token
    return places


def field_places(text: str) -> dict[str, tuple[int, int]]:
    """Line and column of every field by the way to it, as `multi_task.task[1].loss`; what is repeated is counted."""
    places: dict[str, tuple[int, int]] = {}
    around, seen, field = [""], Counter[str](), ""
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token[0] in "#\"'":
            continue
        if token in "{<":
            around.append(f"{field}.")
        elif token in "}>":
            around.pop()
        elif _FIELD.match(text, match.end()):
            name = around[-1] + token
            field = f"{name}[{seen[name]}]" if seen[name] else name
            seen[name] += 1
            places[field] = _line_column(text, match.start())
    return places


def place_of(path: str | PathLike[str], field: str) -> str:
    """`file:line:column` of a field of a prototxt file; where it is not set, of the nearest block around it."""
    try:
        places = field_places(read_text(path))
    except ConfigError:  # a definition whose file is gone
        return str(path)
    while field and field not in places:
        field = field.rpartition(".")[0]
    line, column = places.get(field, (0, 0))
    return f"{path}:{line}:{column}" if line else str(path)


def field_names(text: str) -> set[str]:
    """The names of all fields that are not inside of others."""
    return {path.partition("[")[0] for path in field_places(text) if "." not in path}


def field_place(text: str, field: str, line: int = 0, column: int = 0) -> tuple[int, int] | None:
    """Line and column of the first field of this name in the block that starts at a place, or in the whole text."""
    places = field_places(text)
    block = next((f"{path}." for path, at in places.items() if at == (line, column)), "")
    names = ((path, path.rpartition(".")[2].partition("[")[0]) for path in places if path.startswith(block))
    return next((places[path] for path, name in names if name == field), None)


@contextmanager
def named(path: str, always: bool = False) -> Iterator[None]:
    """What is found wrong with a definition says in which file and, of a field, where; `always`: whatever it says."""
    try:
        yield
    except CaffeError as error:
        if not path or (error.where and not always):
            raise
        raise error.at(place_of(path, error.field) if isinstance(error, FieldError) else path) from None


def _line_column(text: str, offset: int) -> tuple[int, int]:
    start = text.rfind("\n", 0, offset)
    return text.count("\n", 0, offset) + 1, offset - start


def _layer_before(text: str, line: int, column: int) -> Place | None:
    """The last layer that starts before this place."""
    return next((p for p in reversed(layer_places(text)) if (p.line, p.column) <= (line, column)), None)


def _explain(error: text_format.ParseError, text: str, source: str, pool: DescriptorPool) -> ConfigError:
    line, column = error.GetLine() or 1, error.GetColumn() or 1
    message = re.sub(r"^\d+:\d+ : ('.*?': )?", "", str(error), flags=re.DOTALL)
    hint = ""
    if found := _NO_FIELD.search(message):
        type_name, name = found.groups()
        descriptor = _find(type_name, pool)
        message = f'no field "{name}" in {_short(type_name)}'
        hint = did_you_mean(name, descriptor.fields_by_name) or _elsewhere(name, descriptor)
    elif found := _NO_VALUE.search(message):
        type_name, name = found.groups()
        values = _find(type_name, pool).values_by_name
        bare = name.strip("\"'")
        message = f'no value "{bare}" in {_short(type_name)}' if bare == name else f"{name} is a string, not a value"
        hint = did_you_mean(bare, values) or f"Known values: {', '.join(values)}."
        if bare in values:
            hint = f"Write it without quotes: {bare}."
    elif found := _TWICE.search(message):
        message = f'field "{found[2]}" is given twice in {_short(found[1])}'
        if (more := f"more_{found[2]}") in _find(found[1], pool).fields_by_name:
            hint = f"Give all but the first as {more}."
    layer = _layer_before(text, line, column)
    if layer is not None and layer.name:
        message = f'layer "{layer.name}": {message}'
    return ConfigError(message, where=f"{source}:{line}:{column}", hint=hint)


def _elsewhere(name: str, descriptor: Descriptor) -> str:
    """Say which kind of file, or which message inside `descriptor`, does have the field."""
    for here, other, kind in (("Net", "Solver", "solver"), ("Solver", "Net", "net")):
        fields = getattr(caffe_pb2, f"{other}Parameter").DESCRIPTOR.fields_by_name
        if descriptor.name == f"{here}Parameter" and name in fields:
            return f"This looks like a {kind} definition, a {here.lower()}'s is expected."
    owners = [f for f in descriptor.fields if f.message_type is not None and name in f.message_type.fields_by_name]
    if len(owners) > 4:
        owners = [f for f in owners if f.number <= 10000]  # Caffe's own
    if 1 <= len(owners) <= 4:
        return f'"{name}" belongs inside {" or ".join(f"{owner.name} {{ }}" for owner in owners)}.'
    return ""


def _find(type_name: str, pool: DescriptorPool) -> Descriptor | EnumDescriptor:
    try:
        return pool.FindMessageTypeByName(type_name)
    except KeyError:
        return pool.FindEnumTypeByName(type_name)


def _short(type_name: str) -> str:
    return type_name.removeprefix("caffe.")
