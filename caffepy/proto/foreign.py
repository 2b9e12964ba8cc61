"""Prototxts of Caffe's forks: what only they know is found, renamed or blanked, so that the rest can be parsed.

Lines stay where they are, so that places in messages hold. `proto/dialects.py` has the names.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from caffepy.proto import dialects
from caffepy.proto.caffe_pb2 import LayerParameter
from caffepy.proto.dialects import Foreign

log = logging.getLogger(__name__)

_TOKEN = re.compile(r"""\s+|\#[^\n]*|("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|[{}<>\[\]:,;]|[^\s{}<>\[\]:,;"'#]+)""")
_OLD = "V1LayerParameter"
_OFF = re.compile(r"\bactive\s*:\s*false\b", re.IGNORECASE)


class Found(NamedTuple):
    """A field or value of another Caffe."""

    offset: int
    """Where in the text it starts."""
    name: str
    """`Message.field`, or `Message.field: VALUE`."""
    does: str
    """What it would change, as the end of a sentence; empty where it changes nothing."""


class Read(NamedTuple):
    """A text that this Caffe's schema takes, and what it does not say any more."""

    text: str
    found: list[Found]


def read(text: str, descriptor: Descriptor) -> Read:
    """The message of this type in `text` in this Caffe's words. Whatever is no dialect stays as it is."""
    scan = _Scan(text)
    with suppress(_Unreadable):  # then the parser says what is wrong with it
        scan.message(descriptor, "")
    return Read(scan.edited(), sorted(scan.found))


_named: set[tuple[str, str]] = set()


def name_once(found: Sequence[Found], source: str) -> None:
    """One warning for the fields of a file that change nothing; those of a file named before are not named again."""
    names = Counter(f.name for f in found if not f.does and (source, f.name) not in _named)
    if names:
        _named.update((source, name) for name in names)
        listed = ", ".join(f"{name} ({n} times)" if n > 1 else name for name, n in names.items())
        log.warning("%s: fields of other Caffes, which change nothing here: %s", source, listed)


class _Unreadable(Exception):
    """The text is not even the text of some message."""


class _Token(NamedTuple):
    text: str
    start: int
    end: int


class _Scan:
    """One pass over the tokens, message by message."""

    def __init__(self, text: str):
        self.text = text
        self.found: list[Found] = []
        self._edits: list[tuple[int, int, str]] = []
        self._tokens = _tokens(text)
        self._next = next(self._tokens, None)

    def edited(self) -> str:
        """The text with all replacements; what lies inside another replacement is gone."""
        parts, at = [], 0
        for start, end, new in sorted(self._edits, key=lambda edit: (edit[0], -edit[1])):
            if start >= at:
                parts += [self.text[at:start], new]
                at = end
        return "".join([*parts, self.text[at:]])

    def message(self, descriptor: Descriptor | None, closing: str) -> bool:
        """Read fields up to `closing`; whether MyCaffe's switch among them says that the message is off."""
        off = False
        while self._next is not None and self._next.text != closing:
            name = self._take()
            if name.text in "{}<>[]:,;" or name.text[0] in "\"'":
                raise _Unreadable
            off |= self._field(descriptor, name)
            if self._next is not None and self._next.text in ",;":
                self._take()
        if closing:
            self._take(closing)
        return off

    def _field(self, descriptor: Descriptor | None, name: _Token) -> bool:
        field = self._known(descriptor, name)
        values, end, off = self._values(field)
        whole = self.text[values:end]
        if descriptor is None or field is not None:
            if off:
                self._blank(name.start, end)
            elif descriptor is not None and descriptor.name == _OLD and field is not None:
                self._modernize(field, name.start, end, whole)
            return False
        if name.text == dialects.SWITCH:
            self._blank(name.start, end)
            return bool(_OFF.search(whole))
        if (foreign := _foreign(descriptor, name.text)) is not None:
            self._blank(name.start, end)
            matters = foreign.matters(whole) and not _switched_off(whole)
            self._note(name.start, f"{descriptor.name}.{name.text}", foreign.does if matters else "")
        return False

    def _known(self, descriptor: Descriptor | None, name: _Token) -> FieldDescriptor | None:
        """The field of this name, or of what it is called here."""
        if descriptor is None:
            return None
        fields = descriptor.fields_by_name
        here = dialects.RENAMED.get(descriptor.name, {}).get(name.text, "")
        if name.text not in fields and here in fields:
            self._edits.append((name.start, name.end, here))
            return fields[here]
        if name.text not in fields and descriptor.name == _OLD and name.text.endswith("_param"):
            return LayerParameter.DESCRIPTOR.fields_by_name.get(name.text)
        return fields.get(name.text)

    def _modernize(self, field: FieldDescriptor, start: int, end: int, value: str) -> None:
        """Put what forks added to V1 layers where `upgrade` finds it."""
        if field.containing_type.name != _OLD:
            self._edits += [(start, start, "fork_param { "), (end, end, " }")]
        elif field.name == "type" and value in dialects.V1_TYPES:
            self._edits.append((start, end, f'fork_type: "{dialects.V1_TYPES[value]}"'))

    def _values(self, field: FieldDescriptor | None) -> tuple[int, int, bool]:
        """Read what follows a name: where it starts and ends, and whether it is a message that is switched off."""
        if self._next is not None and self._next.text == ":":
            self._take()
        first = self._take()
        if first.text == "[":
            off, start = False, first.start
            while self._next is not None and self._next.text != "]":
                self._value(field, self._take())
                if self._next is not None and self._next.text == ",":
                    self._take()
            return start, self._take("]").end, off
        return self._value(field, first)

    def _value(self, field: FieldDescriptor | None, first: _Token) -> tuple[int, int, bool]:
        if first.text in "{<":
            closing = "}" if first.text == "{" else ">"
            off = self.message(field.message_type if field is not None else None, closing)
            return first.start, self._end, off
        if first.text in "}>]:,;":
            raise _Unreadable
        last = first
        while first.text[0] in "\"'" and self._next is not None and self._next.text[0] in "\"'":
            last = self._take()  # strings side by side are one
        if field is not None:
            self._translate(field, first)
        return first.start, last.end, False

    def _translate(self, field: FieldDescriptor, value: _Token) -> None:
        """Put this Caffe's word for a value of another's."""
        enum: EnumDescriptor | None = field.enum_type
        if enum is None or value.text in enum.values_by_name:
            return
        if (taken := dialects.VALUES.get(enum.name, {}).get(value.text)) is not None:
            self._edits.append((value.start, value.end, taken.here))
            if taken.named:
                name = f"{field.containing_type.name}.{field.name}: {value.text} (read as {taken.here})"
                self._note(value.start, name, "")

    def _take(self, wanted: str = "") -> _Token:
        token = self._next
        if token is None or (wanted and token.text != wanted):
            raise _Unreadable
        self._end = token.end
        self._next = next(self._tokens, None)
        return token

    def _blank(self, start: int, end: int) -> None:
        self.found = [f for f in self.found if not start <= f.offset < end]
        self._edits.append((start, end, re.sub(r"[^\n]", " ", self.text[start:end])))

    def _note(self, offset: int, name: str, does: str) -> None:
        self.found.append(Found(offset, name, does))


def _foreign(descriptor: Descriptor, name: str) -> Foreign | None:
    if name.startswith(dialects.NEVER_MATTER):
        return dialects.NOTHING
    if descriptor.name == "LayerParameter" and name in dialects.UNKNOWN_PARAMS:
        return dialects.NOTHING  # the layer itself is refused by its type
    return dialects.FIELDS.get(descriptor.name, {}).get(name)


def _switched_off(message: str) -> bool:
    option = re.search(rf"\b{dialects.SWITCH}\s*:?\s*[{{<]([^}}>]*)", message)
    return bool(option and _OFF.search(option[1]))


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:  # a string that does not end
            return
        at = match.end()
        if match[1]:
            yield _Token(match[1], match.start(), at)
