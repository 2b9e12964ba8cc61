"""Questions about the layers of a draft that several rules ask."""

from __future__ import annotations

from collections.abc import Iterator

from caffepy.net.build import Node
from caffepy.net.layer import LossLayer
from caffepy.proto.caffe_pb2 import TRAIN
from caffepy.show.draft import Draft, StandIn


def trains(net: Draft) -> bool:
    """Whether it is of the TRAIN phase and has a loss."""
    return net.param.state.phase == TRAIN and any(is_loss(node) for node in net.nodes)


def is_loss(node: Node) -> bool:
    """Whether a top counts in the net's loss."""
    return any(node.layer.loss_weights)


def is_split(node: Node) -> bool:
    return node.layer.type == "Split"


def learns(net: Draft, node: Node) -> bool:
    """Whether the layer has parameters that are to be updated."""
    return any(net.learnable_params[number].lr_mult for number in node.params)


def is_frozen(net: Draft, node: Node) -> bool:
    """Whether the definition keeps all parameters of the layer as they are, and not because they are statistics."""
    filler = node.layer.param.convolution_param.weight_filler.type
    return (
        bool(node.params)
        and not learns(net, node)
        and node.layer.type not in ("BatchNorm", "BN")
        and filler != "bilinear"
    )


def readers(net: Draft, node: Node) -> Iterator[tuple[Node, int]]:
    """The layers that read a top of this one, Splits and layers in place included, each with which bottom it is."""
    tops = {id(blob) for blob in node.top}
    for other in net.nodes[net.nodes.index(node) + 1 :]:
        for i, blob in enumerate(other.bottom):
            if id(blob) in tops:
                yield other, i


def below_loss(net: Draft) -> set[int]:
    """The ids of nodes on which a loss depends, whatever stops gradients on the way."""
    reached: set[int] = set()
    wanted: set[int] = set()  # ids of blobs
    for node in reversed(net.nodes):
        if is_loss(node) or any(id(blob) in wanted for blob in node.top):
            reached.add(id(node))
            wanted.update(id(blob) for blob in node.bottom)
    return reached


def stops(net: Draft, node: Node, reached: set[int]) -> Node | None:
    """On a way from the layer to a loss, the first layer that is told not to pass a gradient on."""
    seen: set[int] = set()
    frontier = [node]
    while frontier:
        for reader, i in readers(net, frontier.pop(0)):
            if id(reader) not in reached or id(reader) in seen:
                continue
            told = reader.layer.param.propagate_down
            if told and not told[i]:
                return reader
            seen.add(id(reader))
            frontier.append(reader)
    return None


def takes_no_gradient(node: Node, bottom: int) -> bool:
    """Whether this bottom is the label of a loss of those that Caffe stops at when it wants a gradient."""
    is_plain = type(node.layer).allow_force_backward is LossLayer.allow_force_backward
    return is_plain and bottom == 1 and not isinstance(node.layer, StandIn)
