"""Rules about nets."""

from __future__ import annotations

from collections.abc import Iterator

from caffepy.net.build import AUTOMATIC, Node
from caffepy.net.layer import Layer
from caffepy.show.draft import Draft, StandIn
from caffepy.show.lint import graph
from caffepy.show.lint.finding import ERROR, NOTE
from caffepy.show.lint.registry import Fault, of_net, of_state

_MOST_NAMES = 6


@of_state
def parameters_never_updated(net: Draft) -> Iterator[Fault]:
    """A layer learns, but no loss depends on it."""
    reached = graph.below_loss(net)
    for node in net.nodes if graph.trains(net) else ():
        if graph.learns(net, node) and id(node) not in reached:
            yield Fault(
                "its parameters are never updated: no loss depends on what it makes",
                "Let a loss read it, or leave it out of TRAIN with include { phase: TEST }.",
                node,
            )


@of_state
def gradient_is_lost(net: Draft) -> Iterator[Fault]:
    """A loss depends on the parameters of a layer, but no gradient comes to it."""
    reached = graph.below_loss(net)
    for node in net.nodes if graph.trains(net) else ():
        if graph.learns(net, node) and id(node) in reached and not node.need_backward:
            stop = graph.stops(net, node, reached)
            by = f'layer "{stop.layer.name}" passes none on' if stop else "none is wanted"
            remedy = (
                f'Remove propagate_down: false of layer "{stop.layer.name}", or set lr_mult: 0 here.' if stop else ""
            )
            yield Fault(f"its gradient is lost, so its parameters are never updated: {by}", remedy, node)


@of_state
def layer_has_no_gradient(net: Draft) -> Iterator[Fault]:
    """Training would stop at a layer that cannot go backward."""
    for node in net.nodes if graph.trains(net) else ():
        layer, wanted = node.layer, [i for i, need in enumerate(node.bottom_need_backward) if need]
        if not node.need_backward or not wanted or isinstance(layer, StandIn):
            continue
        if type(layer).backward is Layer.backward:
            yield Fault(
                f"{layer.type} has no gradient, and the layers below it want one: training would stop here",
                "Set propagate_down: false here, or lr_mult: 0 for all parameters below it.",
                node,
                level=ERROR,
            )
        elif labels := [i for i in wanted if graph.takes_no_gradient(node, i)]:
            yield Fault(
                f"{layer.type} has no gradient for {layer.bottom_name(labels[0])}, which comes from layers that learn: "
                "Caffe would stop here",
                "Give propagate_down for each bottom: true for the prediction, false for the label.",
                node,
            )


@of_state
def gradient_needs_the_bottom(net: Draft) -> Iterator[Fault]:
    """A layer runs in place whose gradient is of what it overwrites."""
    for node in net.nodes if graph.trains(net) else ():
        in_place = any(top is bottom for top in node.top for bottom in node.bottom)
        if in_place and node.need_backward and node.layer.in_place == "forward":
            yield Fault(
                f"{node.layer.type} runs in place, but its gradient needs the bottom that it overwrites: "
                "what lies below gets a wrong one",
                "Give the top a name of its own.",
                node,
            )


@of_state
def softmax_twice(net: Draft) -> Iterator[Fault]:
    """A loss that takes the softmax itself reads a Softmax."""
    makers = {id(blob): node for node in net.nodes if node.layer.type == "Softmax" for blob in node.top}
    for node in net.nodes:
        if node.layer.type == "SoftmaxWithLoss" and (maker := makers.get(id(node.bottom[0]))):
            yield Fault(
                f'SoftmaxWithLoss takes the softmax itself, and reads that of layer "{maker.layer.name}"',
                f'Let it read {maker.layer.bottom_name(0)}, or use type: "MultinomialLogisticLoss".',
                node,
            )


@of_net
def layers_are_frozen(nets: list[Draft]) -> Iterator[Fault]:
    """lr_mult: 0 in a net that is trained."""
    for net in nets:
        frozen = [node for node in net.nodes if graph.is_frozen(net, node)] if graph.trains(net) else []
        if frozen:
            listed = _listed([node.layer.name for node in frozen])
            whole = not any(graph.learns(net, node) for node in net.nodes)
            yield Fault(
                f"lr_mult: 0 keeps {'all parameters of the net' if whole else 'parameters'} as they are loaded "
                f"or filled, never updated: {listed}",
                "Load them with --weights; without it they stay at random.",
                frozen[0],
                level=NOTE if not whole else "warning",
            )
            return


@of_net
def blob_is_dead(nets: list[Draft]) -> Iterator[Fault]:
    """A top of a net that is trained which no layer reads in any state, and which is neither loss nor score."""
    told: set[tuple[str, str]] = set()
    read = {name for net in nets for name in net.read_names}
    for net in nets:
        for node in net.nodes if graph.trains(net) else ():
            for name, weight in zip(node.top_names, node.layer.loss_weights):
                if name in read or weight or name == AUTOMATIC or (node.layer.name, name) in told:
                    continue
                if _is_made_for_others(node):
                    told.add((node.layer.name, name))
                    yield Fault(f'nobody reads its top "{name}"', _dead_remedy(node), node)


def _is_made_for_others(node: Node) -> bool:
    """Not so what is looked at itself: scores, and what the user's own code makes."""
    return not node.layer.takes_label and not graph.is_split(node) and node.layer.type != "Python"


def _dead_remedy(node: Node) -> str:
    if not node.bottom:
        return 'Leave the top out, or silence it: type: "Silence".'
    return 'Leave the layer out, or limit it to TEST; type: "Silence" reads what only Python code looks at.'


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
