"""The receptive field: on how many rows and columns of the input a value of a top depends.

With windows of extent k and stride s one after the other, r' = r + (k - 1) j and j' = j s, where j is the distance, in
the input, of neighbouring values. (Araujo, Norris and Sim 2019.) A Deconvolution's value sees ceil(k / s) values.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from caffepy.engine.window import Window
from caffepy.net.build import Node
from caffepy.proto.caffe_pb2 import LRNParameter

Pair = tuple[Fraction, Fraction]
ONE = (Fraction(1), Fraction(1))


class ReceptiveField(NamedTuple):
    """Extent and distance of values, of height and width; `whole` where a value sees all of the input."""

    extent: Pair = ONE
    distance: Pair = ONE
    whole: bool = False


class Fields:
    """Those of all blobs so far; layers are added in order."""

    def __init__(self) -> None:
        self._of: dict[int, ReceptiveField] = {}

    def add(self, node: Node) -> None:
        """Derive the fields of a layer's tops from those of its bottoms."""
        below = [self._of[id(blob)] for blob in node.bottom if id(blob) in self._of]
        for top in node.top:
            if not node.bottom and len(top.shape) == 4:
                self._of[id(top)] = ReceptiveField()
            elif below:
                self._of[id(top)] = _behind(node, top.shape, below)

    def text(self, node: Node) -> str:
        """`7`, `7x1`, `all`; empty for what has no pixels and is not made of any."""
        field = self._of.get(id(node.top[0])) if node.top and node.bottom else None
        if field is None:
            return ""
        if field.whole:
            return "all"
        height, width = (-(-n.numerator // n.denominator) for n in field.extent)
        return str(height) if height == width else f"{height}x{width}"


def _behind(node: Node, shape: tuple[int, ...], below: list[ReceptiveField]) -> ReceptiveField:
    widest = max(below, key=lambda field: (field.whole, field.extent))
    source = next((blob.shape for blob in node.bottom if len(blob.shape) == 4), ())
    if widest.whole or len(shape) != 4 or len(source) != 4:
        return ReceptiveField(whole=True)
    window = getattr(node.layer, "window", None)
    if not isinstance(window, Window) or len(window.kernel) != 2 or _goes_over_channels(node):
        return _resized(widest, source, shape)
    if window.kernel == source[2:] and not any(window.pad):
        return ReceptiveField(whole=True)
    backwards = getattr(node.layer, "transposed", False)
    extent, distance = [], []
    for r, j, k, s in zip(widest.extent, widest.distance, window.extent, window.stride):
        seen = -(-k // s) if backwards else k
        extent.append(r + (seen - 1) * j)
        distance.append(j / s if backwards else j * s)
    return ReceptiveField((extent[0], extent[1]), (distance[0], distance[1]))


def _goes_over_channels(node: Node) -> bool:
    return node.layer.type == "LRN" and node.layer.param.lrn_param.norm_region == LRNParameter.ACROSS_CHANNELS


def _resized(field: ReceptiveField, source: tuple[int, ...], shape: tuple[int, ...]) -> ReceptiveField:
    """Behind a layer that has no window: values lie closer or farther apart where the size has changed."""
    if source[2:] == shape[2:] or not all(shape) or shape[2:] == (1, 1):
        return field if source[2:] == shape[2:] else ReceptiveField(whole=True)
    distance = [j * old / new for j, old, new in zip(field.distance, source[2:], shape[2:])]
    return ReceptiveField(field.extent, (distance[0], distance[1]))
