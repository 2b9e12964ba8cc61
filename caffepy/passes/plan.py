"""Which layers go backward from some of a net's losses to some of its parameters."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from caffepy.errors import ConfigError, did_you_mean
from caffepy.net.blob import Blob
from caffepy.net.build import Node
from caffepy.net.named import listed
from caffepy.net.net import Net


@dataclass
class Plan:
    """A backward pass: its layers in the order in which they run, and of each what else than usual is wanted."""

    layers: list[int]
    wanted: dict[int, list[bool]] = field(default_factory=dict)
    """By layer: the bottoms whose gradients are wanted."""
    params: dict[int, list[bool]] = field(default_factory=dict)
    """By layer: the parameters whose gradients are wanted."""
    silent: list[tuple[Blob, float]] = field(default_factory=list)
    """Tops that no gradient reaches, though their layers go backward, and what stands there otherwise: loss weights."""


def plan(net: Net, losses: Collection[str] | None, params: Collection[Blob] | None) -> Plan:
    """The layers that lead from the losses named (None: all) to the parameters (None: to all that need gradients).

    A layer between two losses gets no gradient from the one that is not named. Raises ConfigError for other names.
    """
    losses = None if losses is None else listed(losses)
    # A loss that others read, too, has its weight on a top of the Split, and goes by its own name.
    copied = {net.source_of(name) for node in net.nodes if node.layer.type == "Split" for name in node.top_names}
    weighted = {name for name, weight in net.blob_loss_weights.items() if weight} - copied
    known = sorted({net.source_of(name) for name in weighted})
    for name in losses or ():
        if name not in known:
            hint = did_you_mean(name, known) or f"Its losses are: {', '.join(known)}."
            raise ConfigError(f'the net has no loss "{name}"', hint=hint)
    chosen = set(known if losses is None else losses)
    numbers = _numbers(net, params)
    leading = _leading(net, numbers)
    made = Plan([])
    reached: set[str] = set()
    for i in reversed(range(len(net.nodes))):
        node = net.nodes[i]
        from_loss = {name for name in node.top_names if name in weighted and net.source_of(name) in chosen}
        live = from_loss | (reached & set(node.top_names))
        if not live or not node.need_backward or not leading[i][0]:
            continue
        wanted = [need and leads for need, leads in zip(node.bottom_need_backward, leading[i][1])]
        made.layers.append(i)
        made.wanted[i] = wanted
        made.params[i] = _params_of(node, numbers)
        made.silent += [
            (blob, weight)
            for name, blob, weight in zip(node.top_names, node.top, node.layer.loss_weights)
            if name not in live
        ]
        reached.update(name for name, want in zip(node.bottom_names, wanted) if want)
    return made


def _leading(net: Net, numbers: set[int] | None) -> list[tuple[bool, list[bool]]]:
    """Of each layer: whether its gradients, and those of which of its bottoms, lead to one of the parameters."""
    if numbers is None:
        return [(True, [True] * len(node.bottom)) for node in net.nodes]
    found: list[tuple[bool, list[bool]]] = []
    above: set[str] = set()  # blobs that depend on one of them
    for node in net.nodes:
        bottoms = [name in above for name in node.bottom_names]
        leads = any(bottoms) or any(_params_of(node, numbers))
        if leads:
            above.update(node.top_names)
        found.append((leads, bottoms))
    return found


def _numbers(net: Net, params: Collection[Blob] | None) -> set[int] | None:
    """The numbers of these parameters, the net's or one of its layers', among the learnable ones."""
    if params is None:
        return None
    wanted = {id(blob) for blob in params}
    return {number for number, param in enumerate(net.learnable_params) if id(param.blob) in wanted} | {
        number for node in net.nodes for blob, number in zip(node.layer.blobs, node.params) if id(blob) in wanted
    }


def _params_of(node: Node, numbers: set[int] | None) -> list[bool]:
    wanted = node.layer.param_propagate_down
    if numbers is None:
        return list(wanted)
    return [want and number in numbers for want, number in zip(wanted, node.params)]
