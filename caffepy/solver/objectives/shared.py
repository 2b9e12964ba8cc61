"""Which parameters more than one loss reaches, found from the net's graph."""

from __future__ import annotations

from collections.abc import Sequence

from caffepy.net.net import Net
from caffepy.passes.plan import plan


def reached(net: Net, loss: str) -> set[int]:
    """The numbers of the learnable parameters that get a gradient from this loss."""
    made = plan(net, [loss], None)
    return {
        number
        for i, wanted in made.params.items()
        for number, want in zip(net.nodes[i].params, wanted)
        if want and net.learnable_params[number].lr_mult
    }


def shared(net: Net, losses: Sequence[str]) -> list[int]:
    """The numbers of the parameters that two or more of the losses reach, ascending."""
    found = [reached(net, loss) for loss in losses]
    return sorted(n for n in set().union(*found) if sum(n in numbers for numbers in found) > 1)


def layers_of(net: Net, numbers: Sequence[int]) -> dict[str, list[int]]:
    """The layers that have some of these parameters, in order, and which."""
    among, seen = set(numbers), set()
    found: dict[str, list[int]] = {}
    for node in net.nodes:
        for number in node.params:
            if number in among and number not in seen:
                seen.add(number)
                found.setdefault(node.layer.name, []).append(number)
    return found
