"""Operators that move values about."""

from __future__ import annotations

import numpy as np

from caffepy.export.importing import Building, Op, reads


@reads("Identity", "Dropout", "Cast")
def same(b: Building, op: Op) -> list[str]:
    return [b.blob(op)]


@reads("Flatten")
def flatten(b: Building, op: Op) -> str:
    axis = op.attribute("axis", 1)
    if axis == 1:
        return b.layer("Flatten", b.blob(op)).top[0]
    return reshaped(b, op, b.blob(op), (-1, op.out()[1]))


@reads("Squeeze", "Unsqueeze")
def reshape(b: Building, op: Op) -> str:
    return reshaped(b, op, b.blob(op), op.out())


@reads("Reshape")
def reshape_as_said(b: Building, op: Op) -> str:
    """With its own 0 and -1, which Caffe's Reshape has, too."""
    said = tuple(int(dim) for dim in op.constant(1))
    return reshaped(b, op, b.blob(op), op.out() if op.attribute("allowzero", 0) else said)


def reshaped(b: Building, op: Op, blob: str, shape: tuple[int, ...]) -> str:
    """The blob in another shape; its items stay items, however many there are."""
    layer = b.layer("Reshape", blob)
    keeps = bool(shape) and shape[:1] == op.shape()[:1]
    layer.reshape_param.shape.dim.extend([0, *shape[1:]] if keeps else shape)
    return layer.top[0]


@reads("Transpose")
def transpose(b: Building, op: Op) -> str:
    rank = len(op.shape())
    layer = b.layer("Permute", b.blob(op))
    layer.permute_param.order.extend(op.attribute("perm", list(range(rank))[::-1]))
    return layer.top[0]


@reads("Concat")
def concat(b: Building, op: Op) -> str:
    layer = b.layer("Concat", *(b.blob(op, i) for i in range(len(op.inputs))))
    layer.concat_param.axis = op.attribute("axis") % len(op.out())
    return layer.top[0]


@reads("Split")
def split(b: Building, op: Op) -> list[str]:
    axis, count = op.axis(0), len(op.outputs)
    sizes = op.listed("split", 1) or [op.out(i)[axis] for i in range(count)]
    if count == 1:
        return [b.blob(op)]
    layer = b.layer("Slice", b.blob(op), tops=count)
    layer.slice_param.axis = axis
    layer.slice_param.slice_point.extend(np.cumsum(sizes[:-1]).tolist())
    return list(layer.top)


@reads("Slice")
def slices(b: Building, op: Op) -> str:
    blob, shape = b.blob(op), op.shape()
    starts, ends = op.listed("starts", 1), op.listed("ends", 2)
    assert starts is not None and ends is not None  # the checker has seen to it
    axes = op.listed("axes", 3) or list(range(len(starts)))
    if any(step != 1 for step in op.listed("steps", 4) or []):
        raise op.refused("steps other than 1 cannot be imported")
    for start, end, axis in zip(starts, ends, axes):
        size = shape[axis]
        first, last, _ = slice(start, end).indices(size)
        if (first, last) != (0, size):
            blob = cut(b, op, blob, axis % len(shape), first, last)
    return blob


def cut(b: Building, op: Op, blob: str, axis: int, start: int, end: int) -> str:
    """Entries `start` to `end` of an axis; what else a Slice gives stays unread."""
    points = [point for point in (start, end) if 0 < point < op.shape()[axis]]
    if not points:
        return blob
    layer = b.layer("Slice", blob, tops=len(points) + 1)
    layer.slice_param.axis = axis
    layer.slice_param.slice_point.extend(points)
    return layer.top[1 if start else 0]


@reads("Pad")
def pad(b: Building, op: Op) -> str:
    """Zeros, which who reads them takes for its own padding."""
    pads = op.listed("pads", 1)
    value = op.constant(2, op.attribute("value", 0.0))
    if op.attribute("mode", "constant") != "constant" or np.any(value) or op.has(3) or pads is None or min(pads) < 0:
        raise op.refused("only zeros around all axes can be imported, before a Conv or an AveragePool")
    blob = b.blob(op)
    if any(pads):
        b.padded[op.outputs[0]] = blob, pads
    return blob


@reads("Tile")
def tile(b: Building, op: Op) -> str:
    repeats = [(axis, int(n)) for axis, n in enumerate(op.constant(1)) if n != 1]
    blob = b.blob(op)
    for axis, count in repeats:
        layer = b.layer("Tile", blob)
        layer.tile_param.axis, layer.tile_param.tiles = axis, count
        blob = layer.top[0]
    return blob


@reads("Resize", "Upsample")
def resize(b: Building, op: Op) -> str:
    """Whole factors of nearest neighbours, or linear with corners on corners."""
    mode = op.attribute("mode", "nearest")
    where = op.attribute("coordinate_transformation_mode", "half_pixel" if op.kind == "Resize" else "asymmetric")
    shape, out = op.shape(), op.out()
    if len(shape) != 4 or shape[:2] != out[:2]:
        raise op.refused("only height and width can be resized")
    down, across = (o / n for o, n in zip(out[2:], shape[2:]))
    if mode == "nearest" and down % 1 == 0 and across % 1 == 0 and _repeats(op, where):
        layer = b.layer("Upsample", b.blob(op))
        layer.upsample_param.scale_h, layer.upsample_param.scale_w = int(down), int(across)
        return layer.top[0]
    if mode == "linear" and where == "align_corners":
        layer = b.layer("Interp", b.blob(op))
        layer.interp_param.height, layer.interp_param.width = out[2:]
        return layer.top[0]
    raise op.refused(f"mode {mode} with {where} cannot be imported")


def _repeats(op: Op, where: str) -> bool:
    """Whether whole factors of nearest neighbours are each value repeated."""
    rounds = op.attribute("nearest_mode", "round_prefer_floor" if op.kind == "Resize" else "floor")
    return (where == "asymmetric" and rounds == "floor") or (where == "half_pixel" and rounds.startswith("round"))
