"""The states that a definition tells apart: phases, levels and stages that its rules name."""

from __future__ import annotations

from collections.abc import Iterator

from caffepy.net import wiring
from caffepy.proto.caffe_pb2 import TEST, TRAIN, NetParameter, NetState
from caffepy.show.draft import Draft


def states_of(net: NetParameter) -> list[NetState]:
    """Both phases, each with no stage and with every stage that a rule names, at every level that makes a difference.

    States that keep the same layers of the same phase are one.
    """
    rules = [rule for layer in net.layer for rule in (*layer.include, *layer.exclude)]
    stages = dict.fromkeys(stage for rule in rules for stage in (*rule.stage, *rule.not_stage))
    levels = dict.fromkeys([net.state.level, *_levels(net)])
    found: dict[tuple, NetState] = {}
    for phase in (TRAIN, TEST):
        for level in levels:
            for stage in ("", *stages):
                state = NetState(phase=phase, level=level, stage=[*net.state.stage, *([stage] if stage else [])])
                found.setdefault((phase, *_kept(net, state)), state)
    return list(found.values())


def name_of(state: NetState) -> str:
    """`TRAIN`, `TEST, stage "deploy"`, `TRAIN, level 2`."""
    text = wiring.describe(state).removeprefix("phase ")
    return text.replace(", level 0", "")


def meant(drafts: list[Draft]) -> list[Draft]:
    """Those of states that somebody can mean: not where a rule leaves out what other layers read.

    Nor where what goes wrong in a stage goes well in another state: "deploy" is not for TRAIN, say. If no state is
    left, all of them count.
    """
    whole = [net for net in drafts if not any(problem.left_out for problem in net.problems)]
    built = {node.layer.name for net in whole if not net.problems for node in net.nodes}
    found = [net for net in whole if not net.param.state.stage or any(p.layer not in built for p in net.problems)
             or not net.problems]  # fmt: skip
    return found or drafts


def _levels(net: NetParameter) -> Iterator[int]:
    for layer in net.layer:
        for rule in (*layer.include, *layer.exclude):
            if rule.HasField("min_level"):
                yield rule.min_level
            if rule.HasField("max_level"):
                yield rule.max_level + 1


def _kept(net: NetParameter, state: NetState) -> Iterator[int]:
    for i, layer in enumerate(net.layer):
        included = not layer.include or any(wiring.meets(state, rule) for rule in layer.include)
        if included and not any(wiring.meets(state, rule) for rule in layer.exclude):
            yield i
