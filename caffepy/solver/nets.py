"""The nets that a solver definition names: one to train, any number to test."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from caffepy.errors import ConfigError, FieldError, did_you_mean
from caffepy.proto import caffe_pb2, text
from caffepy.proto.caffe_pb2 import NetParameter, NetState, SolverParameter

log = logging.getLogger(__name__)

Source = str | NetParameter


class Planned(NamedTuple):
    """A net to be built, and the state that it is to be built in."""

    definition: text.Definition
    state: NetState


def train_net(p: SolverParameter) -> Planned:
    """The one net of `net`, `net_param`, `train_net` and `train_net_param`."""
    field = train_field(p)
    source = getattr(p, field)
    log.info("Creating training net from %s: %s", field, source if isinstance(source, str) else "")
    return _net(source, caffe_pb2.TRAIN, p.train_state if p.HasField("train_state") else None, p.freeze)


def train_field(p: SolverParameter) -> str:
    """The one field that has the net to train. Raises ConfigError for none and for several."""
    fields = [f for f in ("net", "net_param", "train_net", "train_net_param") if p.HasField(f)]
    if len(fields) != 1:
        found = " and ".join(fields) + " are given" if fields else "no train net is given"
        raise ConfigError(
            f"{found}: exactly one of net, net_param, train_net, train_net_param is needed",
            hint='Set net: "train_val.prototxt".',
        )
    return fields[0]


def test_nets(p: SolverParameter) -> Iterator[Planned]:
    """The nets of `test_sources`, each in its `test_state`."""
    sources = test_sources(p)
    if p.test_state and len(p.test_state) != len(sources):
        raise ConfigError(f"{len(p.test_state)} test_state for {len(sources)} test net(s): give one for each, or none")
    if sources and p.test_interval <= 0:
        raise FieldError(
            "test nets are given, but test_interval is not set",
            "test_iter",
            hint="Set test_interval, or remove test_iter.",
        )
    if not sources and p.test_interval > 0:
        log.warning("test_interval is set, but test_iter is not: there will be no test")
    for i, source in enumerate(sources):
        kind = "net file" if isinstance(source, str) else "net_param"
        log.info("Creating test net (#%d) specified by %s", i, kind)
        yield _net(source, caffe_pb2.TEST, p.test_state[i] if p.test_state else None)


def test_sources(p: SolverParameter) -> list[Source]:
    """`test_net_param`s, then `test_net`s, then `net` or `net_param` for the remaining `test_iter`s."""
    sources: list[Any] = [*p.test_net_param, *p.test_net]
    generic = p.net if p.HasField("net") else p.net_param if p.HasField("net_param") else None
    rest = len(p.test_iter) - len(sources)
    if rest < 0 or (rest > 0 and generic is None):
        raise ConfigError(
            f"{len(p.test_iter)} test_iter for {len(sources)} test net(s)", hint="Give one test_iter for each test net."
        )
    return sources + [generic] * rest


def _net(source: Source, phase: int, state: NetState | None, freeze: Sequence[str] = ()) -> Planned:
    definition = _frozen(text.definition(source), freeze)
    return Planned(definition, merged_state(definition.param, phase, state))


def merged_state(net: NetParameter, phase: int, state: NetState | None) -> NetState:
    """The phase, overridden by the definition's own state, then by the solver's."""
    merged = NetState(phase=phase)  # type: ignore[arg-type]
    merged.MergeFrom(net.state)
    if state is not None:
        merged.MergeFrom(state)
    return merged


def _frozen(definition: text.Definition, freeze: Sequence[str]) -> text.Definition:
    """The definition, with the layers of these names, or patterns of names, frozen."""
    if not freeze:
        return definition
    param = NetParameter()
    param.CopyFrom(definition.param)
    names = {layer.name for layer in param.layer}
    for pattern in freeze:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise FieldError(f'freeze: no layer is called "{pattern}"', "freeze", hint=did_you_mean(pattern, names))
    for layer in param.layer:
        layer.freeze |= any(fnmatchcase(layer.name, pattern) for pattern in freeze)
    return definition._replace(param=param)
