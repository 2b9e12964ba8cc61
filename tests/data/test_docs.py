"""docs/data.md: its definitions are right, and no field of ours is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from caffepy.proto import caffe_pb2, text

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
EXAMPLES = re.findall(r"```prototxt\n(.*?)```", PAGE, re.DOTALL)
OURS = [
    field.name
    for message in (caffe_pb2.TransformationParameter, caffe_pb2.DataParameter, caffe_pb2.ImageDataParameter)
    for field in message.DESCRIPTOR.fields
    if field.number > 10000
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_are_definitions(example):
    assert len(text.parse(example, caffe_pb2.NetParameter()).layer) == 1


@pytest.mark.parametrize("field", sorted(set(OURS)))
def test_every_field_is_in_an_example(field):
    assert f"`{field}: " in PAGE
    assert any(re.search(rf"\b{field}: ", example) for example in EXAMPLES)


def test_commands_exist():
    from caffepy.cli import cli

    for name in re.findall(r"^    caffepy (\S+)", PAGE, re.MULTILINE):
        assert cli.get_command(None, name)
