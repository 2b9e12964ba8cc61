"""Regions of a map pooled to one size: Fast R-CNN's, Mask R-CNN's and R-FCN's."""

from __future__ import annotations

import numpy as np

from caffepy.export.convert import At, converts
from caffepy.export.onnx_graph import FLOAT, INT64, OnnxGraph
from caffepy.export.operators.detection import column

DOUBLE = 11
"""ONNX's number of float64."""


@converts("ROIPooling")
def roi_pooling(g: OnnxGraph, at: At) -> list[str]:
    p = at.layer.param.roi_pooling_param
    shape = [p.pooled_h, p.pooled_w]
    return [g.op("MaxRoiPool", at.x[0], _regions(g, at), pooled_shape=shape, spatial_scale=p.spatial_scale)]


def _regions(g: OnnxGraph, at: At) -> str:
    return at.x[1] if len(at.bottom[1]) == 2 else g.reshape(at.x[1], (None, 5))


@converts("ROIAlign")
def roi_align(g: OnnxGraph, at: At) -> list[str]:
    p, regions = at.layer.param.roi_align_param, _regions(g, at)
    images = g.op("Cast", column(g, regions, 0), to=INT64)
    how = {"output_height": p.pooled_h, "output_width": p.pooled_w, "spatial_scale": p.spatial_scale}
    if g.opset >= 16:
        how["coordinate_transformation_mode"] = "output_half_pixel"  # nothing is shifted, sides are at least 1
    samples = max(0, p.sampling_ratio)
    return [g.op("RoiAlign", at.x[0], column(g, regions, 1, 2, 3, 4), images, sampling_ratio=samples, **how)]


@converts("PSROIPooling")
def psroi_pooling(g: OnnxGraph, at: At) -> list[str]:
    """Sums over bins from sums from the map's corner, in float64: see layers/psroi_pooling.py."""
    p, (_, channels, height, width) = at.layer.param.psroi_pooling_param, at.bottom[0]
    assert channels is not None and height is not None and width is not None  # N alone can be unknown
    bins, regions = p.group_size, _regions(g, at)
    corners = g.op("Add", _round_away(g, column(g, regions, 1, 2, 3, 4)), g.constant([0, 0, 1, 1]))
    corners = g.op("Mul", corners, g.constant(p.spatial_scale))
    left, right = (g.reshape(x, (-1, 1, 1, bins)) for x in _spans(g, corners, 0, bins, width))
    low, high = (g.reshape(x, (-1, 1, bins, 1)) for x in _spans(g, corners, 1, bins, height))
    image = g.reshape(g.op("Cast", column(g, regions, 0), to=INT64), (-1, 1, 1, 1))
    channel = g.constant(np.arange(channels).reshape(1, p.output_dim, bins, bins), np.int64)
    plane = g.op("Add", g.op("Mul", image, g.ints(channels)), channel)
    sums = _sums_from_corner(g, at.x[0])

    def at_corner(row: str, side: str) -> str:
        place = g.op("Add", g.op("Mul", plane, g.ints(height + 1)), row)
        return g.op("Gather", sums, g.op("Add", g.op("Mul", place, g.ints(width + 1)), side), axis=0)

    total = g.op("Sub", g.op("Add", at_corner(high, right), at_corner(low, left)),
                 g.op("Add", at_corner(high, left), at_corner(low, right)))  # fmt: skip
    sides = [g.op("Max", g.op("Sub", *pair), g.ints(0)) for pair in ((high, low), (right, left))]
    cells = g.op("Mul", *sides)
    mean = g.op("Div", total, g.op("Cast", g.op("Max", cells, g.ints(1)), to=DOUBLE))
    full = g.op("Greater", cells, g.ints(0))
    return [g.op("Where", full, g.op("Cast", mean, to=FLOAT), g.constant(0))]


def _round_away(g: OnnxGraph, x: str) -> str:
    """The nearest whole number, halves away from zero; ONNX's Round takes them to even ones."""
    size, sign = g.op("Abs", x), g.op("Sign", x)
    whole = g.op("Floor", size)
    up = g.op("Cast", g.op("GreaterOrEqual", g.op("Sub", size, whole), g.constant(0.5)), to=FLOAT)
    return g.op("Mul", sign, g.op("Add", whole, up))


def _spans(g: OnnxGraph, corners: str, axis: int, bins: int, size: int) -> list[str]:
    """First and one behind the last cell (R, bins) of each bin along x (0) or y (1)."""
    start, end = (g.reshape(column(g, corners, i), (-1, 1)) for i in (axis, axis + 2))
    side = g.op("Max", g.op("Sub", end, start), g.constant(0.1))
    step = g.op("Div", side, g.constant(bins))
    edges = []
    for kind, number in (("Floor", 0), ("Ceil", 1)):
        offsets = g.op("Mul", g.constant(np.arange(bins) + number), step)
        edge = g.op(kind, g.op("Add", offsets, start))
        edges.append(g.op("Cast", g.op("Clip", edge, g.constant(0), g.constant(size)), to=INT64))
    return edges


def _sums_from_corner(g: OnnxGraph, x: str) -> str:
    """The sums over all rows above and columns left of each corner, planes of (H + 1) (W + 1), as one axis."""
    for axis in (2, 3):
        x = g.op("CumSum", g.op("Cast", x, to=DOUBLE) if axis == 2 else x, g.constant(axis, np.int64))
    return g.reshape(g.op("Pad", x, g.ints(0, 0, 1, 1, 0, 0, 0, 0)), (-1,))
