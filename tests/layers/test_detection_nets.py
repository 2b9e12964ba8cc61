"""Small SSD and Faster R-CNN nets as a whole: they build, run in both phases, and pass gradients to their trunk."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy import passes, rng
from caffepy.engine import get_engine
from caffepy.net.net import Net
from caffepy.proto import caffe_pb2, text
from tests.layers.detection import objects
from tests.support import ENGINES

SSD = """
layer { name: "data" type: "Input" top: "data" top: "label"
  input_param { shape { dim: 2 dim: 3 dim: 24 dim: 24 } shape { dim: 1 dim: 1 dim: 4 dim: 8 } } }
layer { name: "trunk" type: "Convolution" bottom: "data" top: "trunk"
  convolution_param { num_output: 6 kernel_size: 4 stride: 4 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "trunk" top: "trunk" }
layer { name: "norm" type: "Normalize" bottom: "trunk" top: "norm"
  norm_param { across_spatial: false channel_shared: false scale_filler { value: 3 } } }
layer { name: "loc" type: "Convolution" bottom: "norm" top: "loc"
  convolution_param { num_output: 8 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "loc_perm" type: "Permute" bottom: "loc" top: "loc_perm"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "loc_flat" type: "Flatten" bottom: "loc_perm" top: "loc_flat" }
layer { name: "conf" type: "Convolution" bottom: "norm" top: "conf"
  convolution_param { num_output: 6 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "conf_perm" type: "Permute" bottom: "conf" top: "conf_perm"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "conf_flat" type: "Flatten" bottom: "conf_perm" top: "conf_flat" }
layer { name: "prior" type: "PriorBox" bottom: "norm" bottom: "data" top: "prior"
  prior_box_param { min_size: 6 max_size: 12 clip: true variance: [0.1, 0.1, 0.2, 0.2] } }
layer { name: "priors" type: "Concat" bottom: "prior" top: "priors" concat_param { axis: 2 } }
"""
TRAIN = """
layer { name: "loss" type: "MultiBoxLoss" bottom: "loc_flat" bottom: "conf_flat" bottom: "priors" bottom: "label"
  top: "loss" multibox_loss_param { num_classes: 3 code_type: CENTER_SIZE overlap_threshold: 0.3 } %s }
"""
TEST = """
layer { name: "shape" type: "Reshape" bottom: "conf_flat" top: "shape"
  reshape_param { shape { dim: 0 dim: -1 dim: 3 } } }
layer { name: "softmax" type: "Softmax" bottom: "shape" top: "softmax" softmax_param { axis: 2 } }
layer { name: "p" type: "Flatten" bottom: "softmax" top: "p" }
layer { name: "found" type: "DetectionOutput" bottom: "loc_flat" bottom: "p" bottom: "priors" top: "found"
  detection_output_param { num_classes: 3 code_type: CENTER_SIZE keep_top_k: 9 confidence_threshold: 0.01
    nms_param { nms_threshold: 0.45 top_k: 400 } } }
layer { name: "judged" type: "DetectionEvaluate" bottom: "found" bottom: "label" top: "judged"
  detection_evaluate_param { num_classes: 3 } }
"""
RCNN = """
layer { name: "data" type: "Input" top: "data" top: "im_info" top: "label" top: "target"
  input_param { shape { dim: 1 dim: 3 dim: 24 dim: 24 } shape { dim: 1 dim: 3 }
    shape { dim: 1 } shape { dim: 1 dim: 8 } } }
layer { name: "trunk" type: "Convolution" bottom: "data" top: "trunk"
  convolution_param { num_output: 18 kernel_size: 4 stride: 4 weight_filler { type: "xavier" } } }
layer { name: "rpn" type: "Convolution" bottom: "data" top: "rpn"
  convolution_param { num_output: 4 kernel_size: 4 stride: 4 weight_filler { type: "xavier" } } }
layer { name: "scores" type: "Convolution" bottom: "rpn" top: "scores"
  convolution_param { num_output: 6 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "offsets" type: "Convolution" bottom: "rpn" top: "offsets"
  convolution_param { num_output: 12 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "rois" type: "Proposal" bottom: "scores" bottom: "offsets" bottom: "im_info" top: "rois"
  proposal_param { feat_stride: 4 base_size: 4 min_size: 4 ratio: 0.5 ratio: 1 ratio: 2 scale: 2 post_nms_topn: 4 } }
layer { name: "pool" bottom: "trunk" bottom: "rois" top: "pool" %s }
layer { name: "cls" type: "InnerProduct" bottom: "pool" top: "cls"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "box" type: "InnerProduct" bottom: "pool" top: "box"
  inner_product_param { num_output: 8 weight_filler { type: "xavier" } } }
layer { name: "loss_cls" type: "SoftmaxWithLoss" bottom: "cls" bottom: "label" top: "loss_cls" }
layer { name: "loss_box" type: "SmoothL1Loss" bottom: "box" bottom: "target" top: "loss_box" loss_weight: 1 }
"""
POOLS = [
    'type: "ROIPooling" roi_pooling_param { pooled_h: 3 pooled_w: 3 spatial_scale: 0.25 }',
    'type: "ROIAlign" roi_align_param { pooled_h: 3 pooled_w: 3 spatial_scale: 0.25 sampling_ratio: 2 }',
    'type: "PSROIPooling" psroi_pooling_param { spatial_scale: 0.25 output_dim: 2 group_size: 3 }',
]


def build(definition: str, phase: int, engine: str) -> Net:
    rng.seed(3)
    return Net(text.parse(definition, caffe_pb2.NetParameter()), phase, engine=get_engine(engine))


def fill(net: Net, **values) -> None:
    for name, array in values.items():
        net.engine_blobs[name].reshape(array.shape)
        net.engine_blobs[name].fill(array)


def trunk_gradient(net: Net) -> tuple[float, float]:
    """The gradient of the trunk's weights along itself: as backward has it, and by a central difference."""
    weights = net.layer_dict["trunk"].blobs[0]
    before, step = weights.host().copy(), 1e-3
    passes.of(net).forward_backward()
    gradient = weights.host("diff").copy()
    direction = gradient / np.linalg.norm(gradient)
    losses = []
    for sign in (1, -1):
        weights.fill(before + sign * step * direction)
        losses.append(float(passes.of(net).forward()))
    return float(np.linalg.norm(gradient)), (losses[0] - losses[1]) / (2 * step)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("said", ["", "propagate_down: [true, true, false, false]"])
def test_ssd_trains(said, engine):
    net = build(SSD + TRAIN % said, caffe_pb2.TRAIN, engine)
    random = np.random.default_rng(0)
    fill(net, data=random.standard_normal((2, 3, 24, 24)), label=objects(random, 2))
    ours, expected = trunk_gradient(net)
    assert ours == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("engine", ENGINES)
def test_ssd_is_tested(engine):
    net = build(SSD + TEST, caffe_pb2.TEST, engine)
    random = np.random.default_rng(0)
    fill(net, data=random.standard_normal((2, 3, 24, 24)), label=objects(random, 2))
    passes.of(net).forward()
    assert net.engine_blobs["found"].shape == (1, 1, 18, 7)
    assert net.engine_blobs["judged"].shape == (1, 1, 20, 5)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("pool", POOLS)
def test_faster_rcnn_trains(pool, engine):
    net = build(RCNN % pool, caffe_pb2.TRAIN, engine)
    random = np.random.default_rng(0)
    fill(
        net,
        data=random.standard_normal((1, 3, 24, 24)),
        im_info=np.array([[24, 24, 1]]),
        label=np.array([0, 1, 2, 1]),
        target=random.standard_normal((4, 8)),
    )
    ours, expected = trunk_gradient(net)
    assert ours == pytest.approx(expected, rel=0.02)
