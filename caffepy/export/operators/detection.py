"""SSD's and Faster R-CNN's boxes: priors, decoding, non-maximum suppression."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffepy.errors import ConfigError
from caffepy.export.convert import At, converts
from caffepy.export.onnx_graph import FLOAT, INT64, OnnxGraph
from caffepy.proto.caffe_pb2 import PriorBoxParameter

NEVER, NO_LIMIT = -3e38, -1e38
"""The score of what must not be chosen, and the threshold that keeps all others."""
ALL = np.iinfo(np.int64).max


@converts("PriorBox")
def prior_box(g: OnnxGraph, at: At) -> list[str]:
    """Only the shapes count, which are known."""
    return [g.constant(at.layer.engine.to_host(at.layer.priors))]


@converts("DetectionOutput", counted_axis=2)
def detection_output(g: OnnxGraph, at: At) -> list[str]:
    p, layer = at.layer.param.detection_output_param, at.layer
    if p.nms_param.eta < 1:
        raise ConfigError("nms_param.eta below 1 cannot be exported", hint="Leave it out, or set eta: 1.")
    items = at.bottom[0][0]
    count, locations = layer.priors, 1 if p.share_location else p.num_classes
    boxes = _decoded(g, at, g.reshape(at.x[0], (items, count, locations, 4)))
    scores = g.op("Transpose", g.reshape(at.x[1], (items, count, p.num_classes)), perm=[0, 2, 1])
    if len(layer.classes) < p.num_classes:
        classes = g.ints(*layer.classes)
        scores = g.op("Gather", scores, classes, axis=1)
        boxes = boxes if p.share_location else g.op("Gather", boxes, classes, axis=2)
    chosen = _chosen_of_classes(g, at, boxes, scores)
    rows = _rows(g, at, boxes, scores, *chosen)
    if p.keep_top_k > -1:
        rows = _best_of_images(g, rows, scores, p.keep_top_k)
    return [g.reshape(_or_nothing(g, rows, scores), (1, 1, -1, 7))]


def _decoded(g: OnnxGraph, at: At, offsets: str) -> str:
    """Boxes (N, P, L, 4) from offsets of that shape."""
    p = at.layer.param.detection_output_param
    parts = g.ops("Split", g.reshape(at.x[2], (2, at.layer.priors, 1, 4)), g.ints(1, 1), count=2, axis=0)
    priors, variances = parts
    scaled = offsets if p.variance_encoded_in_target else g.op("Mul", offsets, variances)
    if p.code_type == PriorBoxParameter.CORNER:
        return g.op("Add", priors, scaled)
    if p.code_type == PriorBoxParameter.CORNER_SIZE:
        first, last = halves(g, priors)
        size = g.op("Sub", last, first)
        return g.op("Add", priors, g.op("Mul", scaled, g.op("Concat", size, size, axis=-1)))
    return from_centres(g, scaled, priors)


def halves(g: OnnxGraph, boxes: str) -> list[str]:
    """x1, y1 and x2, y2 of boxes (..., 4)."""
    return g.ops("Split", boxes, g.ints(2, 2), count=2, axis=-1)


def from_centres(g: OnnxGraph, offsets: str, priors: str) -> str:
    """centre + offset * size, and exp(offset) * size, as corners."""
    first, last = halves(g, priors)
    size, half = g.op("Sub", last, first), g.constant(0.5)
    middle = g.op("Mul", g.op("Add", first, last), half)
    move, grow = halves(g, offsets)
    centre = g.op("Add", middle, g.op("Mul", move, size))
    reach = g.op("Mul", g.op("Mul", g.op("Exp", grow), size), half)
    return g.op("Concat", g.op("Sub", centre, reach), g.op("Add", centre, reach), axis=-1)


def best_alone(g: OnnxGraph, scores: str, count: int) -> str:
    """Scores (..., P), those that are not among the `count` largest of their row NEVER; of equal ones the first."""
    values, index = g.ops("TopK", scores, g.ints(count), count=2, axis=-1)
    never = g.op("Expand", g.constant(NEVER), g.op("Shape", scores))
    return g.op("ScatterElements", never, index, values, axis=-1)


def suppressed(g: OnnxGraph, boxes: str, scores: str, limit: int, overlap: float, least: float | None) -> str:
    """(K, 3) numbers of row, class and box that remain of boxes (B, P, 4), scores (B, C, P): best first.

    Boxes whose edges are exchanged overlap nothing, as in Caffe: for ONNX's operator they are points.
    """
    first, last = halves(g, boxes)
    turned = g.reduce("ReduceMin", g.op("Sub", last, first), [-1])
    boxes = g.op("Where", g.op("Less", turned, g.constant(0)), g.constant(0), boxes)
    threshold = g.constant([NO_LIMIT if least is None else least])
    return g.op(
        "NonMaxSuppression", boxes, scores, g.constant([limit], np.int64), g.constant([min(overlap, 1.0)]), threshold
    )


def column(g: OnnxGraph, rows: str, *numbers: int) -> str:
    """Columns of (K, n): (K) for one, else (K, count)."""
    return g.op("Gather", rows, g.constant(numbers[0] if len(numbers) == 1 else numbers, np.int64), axis=1)


def _chosen_of_classes(g: OnnxGraph, at: At, boxes: str, scores: str) -> tuple[str, str, str]:
    """Numbers of image, class and box (K): images and classes ascending, scores descending."""
    p, classes = at.layer.param.detection_output_param, len(at.layer.classes)
    top_k = p.nms_param.top_k if p.nms_param.HasField("top_k") else -1
    if 0 <= top_k < at.layer.priors:
        scores = best_alone(g, scores, top_k)
    least = p.confidence_threshold if p.HasField("confidence_threshold") else None
    rule = {"limit": at.layer.priors, "overlap": p.nms_param.nms_threshold, "least": least}
    if p.share_location:
        found = suppressed(g, g.op("Squeeze", boxes, g.ints(2)), scores, **rule)
        return column(g, found, 0), column(g, found, 1), column(g, found, 2)
    by_class = g.reshape(g.op("Transpose", boxes, perm=[0, 2, 1, 3]), (-1, at.layer.priors, 4))
    found = suppressed(g, by_class, g.reshape(scores, (-1, 1, at.layer.priors)), **rule)
    row, number = column(g, found, 0), g.ints(classes)
    return g.op("Div", row, number), g.op("Mod", row, number), column(g, found, 2)


def _rows(g: OnnxGraph, at: At, boxes: str, scores: str, image: str, label: str, box: str) -> str:
    """(K, 7): image, label, score, xmin, ymin, xmax, ymax."""
    p = at.layer.param.detection_output_param
    own = g.op("GatherND", boxes, indices(g, image, box, *([] if p.share_location else [label])))
    score = g.op("GatherND", scores, indices(g, image, label, box))
    name = g.op("Gather", g.constant(at.layer.classes), label, axis=0)
    image = g.op("Cast", image, to=FLOAT)
    columns = [g.reshape(values, (-1, 1)) for values in (image, name, score)]
    return g.op("Concat", *columns, g.reshape(own, (-1, 4)), axis=1)


def indices(g: OnnxGraph, *numbers: str) -> str:
    """(K) each as (K, count)."""
    return g.op("Concat", *(g.reshape(values, (-1, 1)) for values in numbers), axis=1)


def _best_of_images(g: OnnxGraph, rows: str, scores: str, keep: int) -> str:
    """Of each image the rows with the `keep` largest scores, in their order."""
    order = _sorted(g, column(g, rows, 2), largest=1)[1]
    image = g.op("Cast", g.op("Gather", column(g, rows, 0), order, axis=0), to=INT64)
    own = g.op("OneHot", image, _items(g, scores), g.constant([0, 1]), axis=-1)
    rank = g.reduce("ReduceSum", g.op("Mul", g.op("CumSum", own, g.constant(0, np.int64)), own), [1], keep=False)
    where = g.reshape(g.op("NonZero", g.op("LessOrEqual", rank, g.constant(keep))), (-1,))
    kept = g.op("Gather", order, where, axis=0)  # OpenCV has no Compress
    return g.op("Gather", rows, _sorted(g, kept, largest=0)[0], axis=0)


def _sorted(g: OnnxGraph, values: str, largest: int) -> list[str]:
    """Values (K) in order, and where they were."""
    return g.ops("TopK", values, g.op("Shape", values), count=2, axis=0, largest=largest)


def _items(g: OnnxGraph, x: str) -> str:
    """The length of the first axis, (1)."""
    return g.op("Slice", g.op("Shape", x), g.ints(0), g.ints(1), g.ints(0))


def _or_nothing(g: OnnxGraph, rows: str, scores: str) -> str:
    """The rows, or where there are none a row for each image: its number and six times -1."""
    items, none = _items(g, scores), g.op("Equal", _items(g, rows), g.ints(0))
    stop = g.op("Squeeze", items, g.ints(0))
    number = g.op("Range", g.constant(0, np.int64), stop, g.constant(1, np.int64))
    blank = g.op("Pad", g.reshape(g.op("Cast", number, to=FLOAT), (-1, 1)), g.ints(0, 0, 0, 6), g.constant(-1))
    missing = g.op("Slice", blank, g.ints(0), g.op("Where", none, items, g.ints(0)), g.ints(0))
    return g.op("Concat", rows, missing, axis=0)


@converts("Proposal", counted_axis=0)
def proposal(g: OnnxGraph, at: At) -> list[str]:
    p, layer = at.layer.param.proposal_param, at.layer
    items, count = at.bottom[0][0], len(layer.boxes)
    scores = g.op("Slice", at.x[0], g.ints(len(layer.anchors)), g.ints(ALL), g.ints(1))
    scores = g.reshape(g.op("Transpose", scores, perm=[0, 2, 3, 1]), (items, 1, count))
    offsets = g.reshape(g.op("Transpose", at.x[1], perm=[0, 2, 3, 1]), (items, count, 4))
    height, width, scale = _info(g, at)
    one = np.array([0, 0, 1, 1], np.float32)
    boxes = from_centres(g, offsets, g.constant(layer.boxes + one))
    sides = [g.op("Sub", side, g.constant(1)) for side in (width, height, width, height)]
    boxes = g.op("Min", g.op("Max", boxes, g.constant(0)), g.op("Concat", *sides, axis=-1))
    ends = g.op("Add", boxes, g.constant(one))
    first, last = halves(g, ends)
    shortest = g.op("Squeeze", g.reduce("ReduceMin", g.op("Sub", last, first), [-1]), g.ints(-1))
    large = g.op("GreaterOrEqual", shortest, g.op("Mul", g.op("Squeeze", scale, g.ints(-1)), g.constant(p.min_size)))
    wanted = g.op("Where", g.op("Unsqueeze", large, g.ints(1)), scores, g.constant(NEVER))
    if p.pre_nms_topn < count:
        wanted = best_alone(g, wanted, p.pre_nms_topn)
    found = suppressed(g, ends, wanted, p.post_nms_topn, p.nms_thresh, None)
    chosen = g.op("GatherND", boxes, column(g, found, 0, 2))
    image = g.reshape(g.op("Cast", column(g, found, 0), to=FLOAT), (-1, 1))
    tops = [g.op("Concat", image, chosen, axis=1), g.op("GatherND", scores, found)]
    return tops[: len(at.top)]


def _info(g: OnnxGraph, at: At) -> Sequence[str]:
    """Height, width and scale of each picture, (N, 1, 1)."""
    items, *rest = at.bottom[2]
    info = g.reshape(at.x[2], (items, 1, int(np.prod([dim or 1 for dim in rest]))))
    return [g.op("Slice", info, g.ints(i), g.ints(i + 1), g.ints(2)) for i in range(3)]
