"""Faster R-CNN over VGG-16: proposals and their classification trained together (Ren et al. 2015)."""

from __future__ import annotations

from caffepy import layers as L
from caffepy.net.spec import Top
from models.definitions.blocks import TEST, Net, conv, conv_relu, gaussian, inner, pool, relu, start
from models.definitions.vgg import DEPTHS, stack

CLASSES = 21
ANCHORS = 9
MODULE = "models.faster_rcnn_vgg16.targets"
PROPOSAL = {"feat_stride": 16, "ratio": [0.5, 1, 2], "scale": [8, 16, 32], "nms_thresh": 0.7, "min_size": 16}


def _python(name: str, settings: str, *bottoms: Top, ntop: int):
    return L.Python(*bottoms, ntop=ntop, python_param={"module": MODULE, "layer": name, "param_str": settings})


def faster_rcnn(train: bool) -> Net:
    n = start(data=1, label=1, im_info=1) if train else start(data=1, im_info=1)
    if train:
        n.gt_boxes, n.im_info = _python("Objects", "", n.data, n.label, ntop=2)
    top = n.data
    for number, count in enumerate(DEPTHS[16], 1):
        frozen = {"param": [{"lr_mult": 0, "decay_mult": 0}] * 2} if number < 3 else {}
        top = stack(n, top, number, count, **frozen)
        top = pool(n, f"pool{number}", top, 2, 2) if number < 5 else top
    rois = proposals(n, top, train)
    n.pool5 = L.ROIPooling(top, rois, pooled_w=7, pooled_h=7, spatial_scale=0.0625)
    top = n.pool5
    for number in (6, 7):
        top = relu(n, f"relu{number}", inner(n, f"fc{number}", top, 4096, weight_filler=gaussian(0.005)))
        n[f"drop{number}"] = L.Dropout(top, in_place=True, dropout_ratio=0.5)
        top = n[f"drop{number}"]
    inner(n, "cls_score", top, CLASSES, weight_filler=gaussian(0.01))
    inner(n, "bbox_pred", top, 4 * CLASSES, weight_filler=gaussian(0.001))
    if train:
        n.loss_cls = L.SoftmaxWithLoss(n.cls_score, n.labels, loss_weight=1, propagate_down=[True, False])
        n.loss_bbox = L.SmoothL1Loss(
            n.bbox_pred, n.bbox_targets, n.bbox_inside_weights, n.bbox_outside_weights, loss_weight=1
        )
        n.accuracy = L.Accuracy(n.cls_score, n.labels, include=TEST)
    else:
        n.cls_prob = L.Softmax(n.cls_score)
    return n


def proposals(n: Net, map_: Top, train: bool) -> Top:
    """The region proposal network, its losses, and the regions: drawn to train on, or the best."""
    top = conv_relu(n, "rpn_conv/3x3", "rpn_relu/3x3", map_, 512, 3, pad=1, weight_filler=gaussian(0.01))
    score = conv(n, "rpn_cls_score", top, 2 * ANCHORS, 1, weight_filler=gaussian(0.01))
    offsets = conv(n, "rpn_bbox_pred", top, 4 * ANCHORS, 1, weight_filler=gaussian(0.01))
    n.rpn_cls_score_reshape = L.Reshape(score, shape={"dim": [0, 2, -1, 0]})
    if train:
        n.rpn_labels, n.rpn_bbox_targets, n.rpn_bbox_inside_weights, n.rpn_bbox_outside_weights = _python(
            "AnchorTarget", "feat_stride: 16", score, n.gt_boxes, n.im_info, ntop=4
        )
        n.rpn_loss_cls = L.SoftmaxWithLoss(
            n.rpn_cls_score_reshape, n.rpn_labels, loss_weight=1, propagate_down=[True, False],
            loss_param={"ignore_label": -1, "normalize": True},
        )  # fmt: skip
        n.rpn_loss_bbox = L.SmoothL1Loss(
            offsets, n.rpn_bbox_targets, n.rpn_bbox_inside_weights, n.rpn_bbox_outside_weights,
            loss_weight=1, sigma=3,
        )  # fmt: skip
    n.rpn_cls_prob = L.Softmax(n.rpn_cls_score_reshape)
    n.rpn_cls_prob_reshape = L.Reshape(n.rpn_cls_prob, shape={"dim": [0, 2 * ANCHORS, -1, 0]})
    counts = {"pre_nms_topn": 12000, "post_nms_topn": 2000} if train else {"pre_nms_topn": 6000, "post_nms_topn": 300}
    bottoms = n.rpn_cls_prob_reshape, offsets, n.im_info
    if not train:
        n.rois = L.Proposal(*bottoms, **PROPOSAL, **counts)
        return n.rois
    n.rpn_rois = L.Proposal(*bottoms, **PROPOSAL, **counts)
    n.rois, n.labels, n.bbox_targets, n.bbox_inside_weights, n.bbox_outside_weights = _python(
        "ProposalTarget", f"num_classes: {CLASSES}", n.rpn_rois, n.gt_boxes, ntop=5
    )
    return n.rois
