"""The schema is Caffe's to the last field, its generated code is fresh, and all of it is explained."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

from caffepy.proto import caffe_pb2

ROOT = Path(__file__).parents[2]
SCHEMA = (ROOT / "proto/caffe.proto").read_text(encoding="utf-8")
OURS = 10001  # Caffe ends below; field numbers, and values of enums, from here on are additions.
# Additions that keep the number which a fork gave them, one that Caffe does not use.
FORKS = {
    "BatchNormParameter": {5, 6, 7},
    "BlobProto": {10, 12},
    "DropoutParameter": {2},
    "ImageDataParameter": {15, 16},
    "LayerParameter": {152, 164},
    "LossParameter": {4},
}
ROOTS = {"SearchParameter"}  # what files of our own hold


def read_listing(name):
    """Return {"message NAME" or "enum NAME": its lines} of Caffe's schema or a fork's, as blocks() does for ours."""
    listing = {}
    for line in Path(__file__).with_name(name).read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        if line.startswith("message "):
            listing[line] = block = []
        elif line.startswith("enum "):
            listing[line.partition(":")[0]] = [line]
        else:
            block.append(" ".join(line.split()))
    return listing


def is_added(message, field):
    return field.number >= OURS or field.number in FORKS.get(message.name, ())


def blocks(file, added=is_added):
    """Describe a FileDescriptorProto in the words of the listing, without fields that are `added`."""
    result = {f"enum {e.name}": [describe_enum(e)] for e in file.enum_type}
    for message in file.message_type:
        fields = [f for f in message.field if not added(message, f)]
        dropped = {type_name(f).rpartition(".")[2] for f in message.field} - {
            type_name(f).rpartition(".")[2] for f in fields
        }
        enums = [describe_enum(e) for e in message.enum_type if e.name not in dropped]
        nested = [f"message {n.name}" for n in message.nested_type]
        result[f"message {message.name}"] = enums + nested + [describe_field(f) for f in fields]
    return result


def describe_enum(enum):
    return f"enum {enum.name}: " + ", ".join(f"{v.name}={v.number}" for v in enum.value if v.number < OURS)


def describe_field(field):
    words = [
        str(field.number),
        FieldDescriptorProto.Label.Name(field.label).removeprefix("LABEL_").lower(),
        type_name(field),
        field.name,
    ]
    if field.HasField("default_value"):
        words.append(f"default={default(field)}")
    if field.options.packed:
        words.append("packed")
    return " ".join(words)


def type_name(field):
    scalar = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    return field.type_name.removeprefix(".caffe.") or scalar


def default(field):
    if field.type == FieldDescriptorProto.TYPE_STRING:
        return json.dumps(field.default_value)
    if field.type == FieldDescriptorProto.TYPE_FLOAT:
        # Runtimes spell floats differently; the shortest text that means the same float is unique.
        value = np.float32(field.default_value)
        texts = (f"{value:.{digits}g}" for digits in range(1, 10))
        return next(text for text in texts if np.float32(text) == value)
    return field.default_value


def added_types(file):
    """Names of the top-level messages and enums that can be reached from fields of our own."""
    messages = {m.name: m for m in file.message_type}
    found = set()

    def follow(fields):
        for name in {type_name(f).partition(".")[0] for f in fields if f.type_name} - found:
            found.add(name)
            if name in messages:
                follow(messages[name].field)

    follow(f for m in file.message_type for f in m.field if is_added(m, f) or m.name in ROOTS)
    return found | ROOTS


LISTING = read_listing("caffe-schema.txt")
DETECTION = read_listing("detection-schema.txt")
FILE = FileDescriptorProto()
caffe_pb2.DESCRIPTOR.CopyToProto(FILE)


def test_package():
    assert FILE.package == "caffe"
    assert FILE.syntax in ("", "proto2")  # proto2 is the default and left out


@pytest.mark.parametrize("block", LISTING)
def test_agrees_with_caffe(block):
    ours = blocks(FILE).get(block, [])
    assert [line for line in ours if line not in DETECTION.get(block, [])] == LISTING[block]


@pytest.mark.parametrize("block", DETECTION)
def test_agrees_with_forks_for_detection(block):
    ours = blocks(FILE, added=lambda message, field: False).get(block, [])
    assert [line for line in DETECTION[block] if line not in ours] == []


def test_additions_are_numbered_apart():
    added = {block.split()[1] for block in blocks(FILE).keys() - LISTING.keys() - DETECTION.keys()}
    assert added <= added_types(FILE), f"new types must belong to fields numbered from {OURS} on, or as in a fork"


@pytest.mark.parametrize("message", FORKS)
def test_numbers_of_forks_are_not_caffes(message):
    caffes = {int(line.split()[0]) for line in LISTING[f"message {message}"] if line[0].isdigit()}
    assert not FORKS[message] & caffes


def test_generated_code_is_fresh():
    first = Path(caffe_pb2.__file__).read_text(encoding="utf-8").partition("\n")[0]
    digest = hashlib.sha256(SCHEMA.encode()).hexdigest()
    assert first == f"# sha256 of proto/caffe.proto: {digest}", "caffe_pb2.py is stale: run make proto"


def test_everything_has_a_comment():
    declaration = re.compile(r"\s*(message|enum|optional|repeated|required) ")
    lines = SCHEMA.splitlines()
    bare = [
        f"proto/caffe.proto:{number}: {line.strip()}"
        for number, (before, line) in enumerate(zip(["", *lines], lines, strict=False), 1)
        if declaration.match(line) and "//" not in line and not before.lstrip().startswith("//")
    ]
    assert not bare, "without a comment:\n" + "\n".join(bare)
