"""What the upgrade tools do: read a message, upgrade it, write it whole."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from google.protobuf.message import DecodeError, Message

from caffepy.errors import ConfigError, SnapshotError
from caffepy.files import atomic_write, read_bytes
from caffepy.proto import binary, settings, text, upgrade
from caffepy.proto.caffe_pb2 import NetParameter

log = logging.getLogger(__name__)


def read_binary_net(path: str) -> NetParameter:
    """A net from a binary file, not upgraded. Raises SnapshotError for files that are none."""
    raw = read_bytes(path)
    try:
        param = binary.parse_net(raw)
        binary.settle_structure(param, raw, path)
    except DecodeError:
        raise SnapshotError("this is no complete binary net: truncated, or another kind of file", where=path) from None
    return param


def upgrade_net_file(param: NetParameter, source: str, target: str, write: Callable[[Message, str], None]) -> None:
    """Upgrade `param` and write it to `target`. Raises ConfigError, after writing, if fields were lost."""
    try:
        done = upgrade.upgrade_net(param)
    except ConfigError as error:
        error.at(source)
        raise
    if not done.changed:
        log.info("File already in latest proto format: %s", source)
    for step in done.steps:
        log.info("Upgraded %s: %s", step, source)
    given = settings.current()
    given.tell([param])
    given.to_net(param)
    write(param, target)
    log.info("Wrote upgraded NetParameter to %s", target)
    if done.lost:
        raise ConfigError("not everything could be carried over: " + "; ".join(done.lost), where=source)


def write_text(message: Message, path: str) -> None:
    with atomic_write(path) as temporary:
        Path(temporary).write_text(text.to_text(message))


def write_binary(message: Message, path: str) -> None:
    with atomic_write(path) as temporary:
        Path(temporary).write_bytes(message.SerializeToString())
