"""Nets as prototxt: a line for each field of a layer."""

from __future__ import annotations

from io import StringIO

from google.protobuf import text_format
from google.protobuf.message import Message

from caffepy import NetSpec
from caffepy.proto.caffe_pb2 import LayerParameter, NetParameter

WIDTH = 120


def page(name: str, *parts: str | NetSpec) -> str:
    """A definition of text and of nets, whose Input layers stand for what the text reads."""
    nets = (text_format.Parse(part, NetParameter()) if isinstance(part, str) else part.to_proto() for part in parts)
    return f'name: "{name}"\n' + "".join(_layer(layer) for net in nets for layer in net.layer if layer.type != "Input")


def deploy(name: str, inputs: dict[str, tuple[int, ...]], net: NetSpec) -> str:
    """A definition for deployment: with inputs, without what only training needs."""
    out = f'name: "{name}"\n'
    for blob, shape in inputs.items():
        dims = " ".join(f"dim: {size}" for size in shape)
        out += f'layer {{\n  name: "{blob}"\n  type: "Input"\n  top: "{blob}"\n'
        out += f"  input_param {{ shape {{ {dims} }} }}\n}}\n"
    return out + "".join(_layer(_bare(layer)) for layer in net.to_proto().layer if layer.type != "Input")


def _bare(layer: LayerParameter) -> LayerParameter:
    out = LayerParameter()
    out.CopyFrom(layer)
    out.ClearField("param")
    for _, value in out.ListFields():
        if isinstance(value, Message):
            for field in [f.name for f, _ in value.ListFields() if f.name.endswith("_filler")]:
                value.ClearField(field)
    return out


def _layer(layer: LayerParameter) -> str:
    return "layer {\n" + _fields(layer, "  ") + "}\n"


def _fields(message: Message, indent: str) -> str:
    """A line for each field; a message that is too long for one has its fields in lines of their own."""
    out = ""
    for field, value in message.ListFields():
        for item in value if hasattr(value, "extend") else [value]:
            printed = StringIO()
            text_format.PrintField(field, item, printed, as_one_line=True)
            line = f"{indent}{printed.getvalue().strip()}\n"
            if len(line) > WIDTH and isinstance(item, Message):
                line = f"{indent}{field.name} {{\n{_fields(item, indent + '  ')}{indent}}}\n"
            out += line
    return out
