"""Which inputs of a net are ids, rows of a table that it looks up, and how large these may be."""

from __future__ import annotations

from collections.abc import Iterable

from caffepy.proto.caffe_pb2 import LayerParameter

EXACT = 1 << 24
"""float32 holds every whole number up to here."""
_PASS_ON = {"Split", "Reshape", "Flatten", "Concat", "Permute", "Reverse"}
"""Layers whose tops hold the values of their bottoms."""

Span = tuple[int, int]


def spans(layers: Iterable[LayerParameter], inputs: Iterable[str]) -> dict[str, Span]:
    """Of the inputs that reach an Embed as they are: the least and the largest id."""
    sources = {name: {name} for name in inputs}
    found: dict[str, Span] = {}
    for layer in layers:
        ids = [sources.get(name, set()) for name in layer.bottom]
        if layer.type == "Embed" and ids:
            p = layer.embed_param
            span = (-EXACT if p.combine else 0), min(p.input_dim - 1, EXACT)
            for name in ids[0]:
                least, largest = found.get(name, (-EXACT, EXACT))
                found[name] = max(least, span[0]), min(largest, span[1])
        passed = set().union(*ids) if layer.type in _PASS_ON else set()
        for name in layer.top if layer.bottom else ():
            sources[name] = passed
    return found
