"""Shapes that well-known Python layers give their tops: py-faster-rcnn's and R-FCN's, FCN's.

For nets that name them on a machine without their code. In which order tops come is known by name alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

from caffepy.proto.caffe_pb2 import TEST, LayerParameter
from caffepy.show.draft.stand_in import Shape, Shapes

Known = Callable[[LayerParameter, Sequence[Shape]], Sequence[Shape | None]]

PICTURE = (1, 3, 600, 1000)
"""Of detection: the shorter side is 600, the longer at most 1000."""
OBJECTS = 20
ROIS = 128
"""Of a batch in training."""
PROPOSALS = {False: 2000, True: 300}
"""By whether it is the TEST phase."""

_known: dict[str, Known] = {}


def of(class_name: str) -> Callable[[Known], Known]:
    def decorate(fn: Known) -> Known:
        _known[class_name] = fn
        return fn

    return decorate


def expected(param: LayerParameter) -> Shapes | None:
    """What the tops of a Python layer will be, if its class is one of these."""
    known = _known.get(param.python_param.layer)
    return partial(known, param) if known else None


def _number(param: LayerParameter, name: str, default: int) -> int:
    found = re.search(rf"{name}['\"]?\s*[:=]\s*(\d+)", param.python_param.param_str)
    return int(found[1]) if found else default


@of("RoIDataLayer")
def roi_data(param: LayerParameter, bottoms: Sequence[Shape]) -> Sequence[Shape | None]:
    """Faster R-CNN's pictures and objects; Fast R-CNN's pictures, regions and targets."""
    coordinates = 4 * _number(param, "num_classes", 21)
    shapes: dict[str, Shape] = {
        "data": PICTURE,
        "im_info": (1, 3),
        "gt_boxes": (OBJECTS, 5),
        "rois": (ROIS, 5),
        "labels": (ROIS,),
    }
    return [shapes.get(top, (ROIS, coordinates) if top.startswith("bbox_") else None) for top in param.top]


@of("AnchorTargetLayer")
def anchor_target(param: LayerParameter, bottoms: Sequence[Shape]) -> Sequence[Shape | None]:
    """Labels of anchors, their targets and two weights of these, of scores (1, 2 A, H, W)."""
    _, channels, height, width = bottoms[0]
    anchors = channels // 2
    boxes = (1, 4 * anchors, height, width)
    return [(1, 1, anchors * height, width), boxes, boxes, boxes][: len(param.top)]


@of("ProposalLayer")
def proposal(param: LayerParameter, bottoms: Sequence[Shape]) -> Sequence[Shape | None]:
    """Regions and their scores."""
    count = PROPOSALS[param.phase == TEST]
    return [(count, 5), (count, 1)][: len(param.top)]


@of("ProposalTargetLayer")
def proposal_target(param: LayerParameter, bottoms: Sequence[Shape]) -> Sequence[Shape | None]:
    """Regions, their labels (of four axes in R-FCN, elsewhere of one), targets and two weights of these."""
    boxes = (ROIS, 4 * _number(param, "num_classes", 21))
    return [(ROIS, 5), (ROIS, 1, 1, 1), boxes, boxes, boxes][: len(param.top)]


def segmentation(param: LayerParameter, bottoms: Sequence[Shape]) -> Sequence[Shape | None]:
    """FCN's data layers: a picture, and a label for each pixel."""
    sizes: dict[str, Shape] = {"data": (1, 3, 500, 500), "color": (1, 3, 500, 500), "depth": (1, 1, 500, 500)}
    labels: Shape = (1, 1, 500, 500)
    return [sizes.get(top, labels) for top in param.top]


for _name in ("VOCSegDataLayer", "SBDDSegDataLayer", "NYUDSegDataLayer", "SIFTFlowSegDataLayer",
              "PASCALContextSegDataLayer"):  # fmt: skip
    of(_name)(segmentation)
