"""Binary nets of any Caffe: fields that clash with this Caffe's are left out, names, types and blobs are read.

protobuf refuses a whole file for one field that it takes for another message. Then, and where required fields are
missing, the file is taken apart: what of a layer can be read on its own is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from google.protobuf.message import DecodeError, Message

from caffepy.proto import dialects
from caffepy.proto.caffe_pb2 import BlobProto, LayerParameter, NetParameter, PoolingParameter, V1LayerParameter
from caffepy.proto.scan import Field, check_parts, fields

log = logging.getLogger(__name__)

# Messages that are taken apart themselves, by field of the message around them.
_PARTS: dict[tuple[str, int], type[Message]] = {
    ("NetParameter", 100): LayerParameter,
    ("NetParameter", 2): V1LayerParameter,
    ("LayerParameter", 7): BlobProto,
    ("V1LayerParameter", 6): BlobProto,
}


def parse_net(raw: bytes) -> NetParameter:
    """A net, not upgraded. Raises DecodeError for what is truncated, of too many parts or no message at all."""
    check_parts(raw, NetParameter.DESCRIPTOR)
    net = NetParameter()
    try:
        net.ParseFromString(raw)
        if net.IsInitialized():
            return net
    except DecodeError:
        pass
    net = NetParameter()
    _merge(net, raw)
    return net


def settle_structure(net: NetParameter, raw: bytes, source: str) -> None:
    """Where two Caffes mean different things by a number, take what the layer's type or the layers around say.

    `net` is what `parse_net` has made of `raw`.
    """
    written = (field for field in _fields(raw) if field.number == 100)
    for layer, around in zip(net.layer, written):
        for field in _fields(raw, around.start, around.end) if layer.type in dialects.MISPLACED else ():
            if right := dialects.MISPLACED[layer.type].get(field.number):
                wrong = layer.DESCRIPTOR.fields_by_number[field.number].name
                layer.ClearField(wrong)  # type: ignore[arg-type]
                _merge(getattr(layer, right), raw[field.start : field.end])
    _settle_round_mode(net, source)


def _settle_round_mode(net: NetParameter, source: str) -> None:
    """Number 13 of PoolingParameter is `round_mode` (0: up) in Caffe and `ceil_mode` (0: down) in forks."""
    rounded = [layer for layer in net.layer if layer.pooling_param.HasField("round_mode")]
    forks = sorted({layer.type for layer in net.layer} - dialects.CAFFE_TYPES)
    for layer in rounded if forks else ():
        p = layer.pooling_param
        p.ceil_mode = bool(p.round_mode)
        p.ClearField("round_mode")
    if rounded and not forks:
        mode = PoolingParameter.RoundMode.Name(rounded[0].pooling_param.round_mode)
        log.warning(
            '%s: layer "%s" and %d more: taken for round_mode: %s, Caffe\'s; in forks the same number is ceil_mode, '
            "with the opposite sense",
            source,
            rounded[0].name,
            len(rounded) - 1,
            mode,
        )


def _merge(message: Message, raw: bytes) -> None:
    """Add to `message` each field of `raw` that is one of its type."""
    name = message.DESCRIPTOR.name
    for field in _fields(raw):
        one = type(message)()
        try:
            one.ParseFromString(raw[field.begin : field.end])
            complete = one.IsInitialized()
        except DecodeError:
            complete = False
        if complete:
            message.MergeFrom(one)
        elif (name, field.number) in _PARTS:
            descriptor = message.DESCRIPTOR.fields_by_number[field.number]
            _merge(getattr(message, descriptor.name).add(), raw[field.start : field.end])
        else:
            log.debug("%s: field %d is of another Caffe and not read", name, field.number)


def _fields(raw: bytes, start: int = 0, end: int | None = None) -> Iterator[Field]:
    """The fields of the message from `start` to `end`. Raises DecodeError where they do not fill it."""
    try:
        yield from fields(raw, start, len(raw) if end is None else end)
    except (ValueError, IndexError) as error:
        raise DecodeError("truncated, or no message") from error
