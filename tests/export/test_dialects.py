"""Layers of Caffe's forks as ONNX: what was recorded of independent implementations, and our own passes."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from caffepy.export.convert import exportable
from caffepy.export.onnx_file import ExportOptions
from caffepy.net.net import Net
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import TEST, NetParameter
from tests.export.support import build, computed, noise, ours
from tests.layers.test_detection_golden import FOLDER, assert_within, layer_of
from tests.support import assert_close


def phase(path) -> str:
    with h5py.File(path) as file:
        return str(file.attrs["phase"])


PATHS = [p for p in sorted(FOLDER.glob("*.h5")) if layer_of(p).type in exportable() and phase(p) == "TEST"]
PATHS = [p for p in PATHS if p.stem != "detection_eta"]


def test_every_case_is_here():
    assert len(PATHS) == 84


@pytest.mark.parametrize("opset", [None, 13])
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_case(path, opset):
    with h5py.File(path) as file:
        attrs = dict(file.attrs)
        case = {group: {name: file[group][name][()] for name in file[group]} for group in file}
    param = text.parse(attrs["prototxt"], NetParameter())
    param.layer[-1].CopyFrom(layer_of(path))
    net = Net(param, TEST)
    for i, values in case.get("blobs", {}).items():
        net.layer_dict[attrs["layer"]].blobs[int(i)].fill(values)
    found = computed(net, case["inputs"], ExportOptions(opset=opset))
    for name, values in case["outputs"].items():
        assert_within(found[name], values, 2 * float(attrs["tolerance"]))


INPUT = 'layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: {} }} }} }}'
CONVOLUTION = """
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 bias_term: false } }
"""
LAYERS = {
    "unpool_max": 'type: "Unpooling" unpooling_param { kernel_size: 2 stride: 3 }',
    "unpool_ave": 'type: "Unpooling" unpooling_param { unpool: AVE kernel_size: 3 stride: 2 }',
    "unpool_ave_cut": 'type: "Unpooling" unpooling_param { unpool: AVE kernel_size: 3 stride: 2 unpool_size: 13 }',
    "unpool_tile_more": 'type: "Unpooling" unpooling_param { unpool: TILE kernel_size: 2 stride: 2 unpool_size: 14 }',
    "upsample_repeats": 'type: "Upsample" upsample_param { scale_h: 3 scale_w: 2 }',
    "layer_norm": 'type: "LayerNorm"',
    "layer_norm_affine": 'type: "LayerNorm" layer_norm_param { elementwise_affine: true }',
    "layer_norm_items": 'type: "LayerNorm" layer_norm_param { axis: 0 eps: 0.01 }',
    "gelu": 'type: "GELU"',
    "gelu_exact": 'type: "GELU" gelu_param { enable_bert_version: false }',
    "selu": 'type: "SeLu"',
    "selu_dropout": 'type: "SeLuDropout"',
    "dropout_scaled_in_test": 'type: "Dropout" dropout_param { scale_train: false dropout_ratio: 0.25 }',
    "bn_of_segnet": 'type: "BN" bn_param { bn_mode: INFERENCE }',
    "bn_of_pspnet": 'type: "BN"',
    "batch_norm_of_nvidia": 'type: "BatchNorm" batch_norm_param { scale_bias: true }',
    "depthwise": 'type: "ConvolutionDepthwise" convolution_param { kernel_size: 3 }',
}


@pytest.mark.parametrize("behind_convolution", [False, True])
@pytest.mark.parametrize("opset", [None, 13])
@pytest.mark.parametrize("name", LAYERS)
def test_layer(name, opset, behind_convolution):
    """Alone, and behind a Convolution that a factor a channel is folded into; with more items than exported with."""
    first, bottom = (CONVOLUTION, "conv") if behind_convolution else ("", "x")
    layer = f'layer {{ name: "layer" bottom: "{bottom}" top: "y" {LAYERS[name]} }}'
    net = build(INPUT.format("2 dim: 4 dim: 7 dim: 6") + first + layer)
    if name == "layer_norm_items":  # over the items, too: their number stands in the graph
        inputs = {"x": noise(2, 4, 7, 6)}
    else:
        inputs = {"x": noise(3, 4, 7, 6)}
    found = computed(net, inputs, ExportOptions(opset=opset))
    assert_close(found["y"], ours(net, inputs)["y"], 2e-5)


def test_factors_are_folded_into_the_convolution():
    from caffepy.export.onnx_file import model_of

    net = build(INPUT.format("1 dim: 4 dim: 7 dim: 6") + CONVOLUTION + """
        layer { name: "norm" type: "BatchNorm" bottom: "conv" top: "conv" batch_norm_param { scale_bias: true } }
        layer { name: "bn" type: "BN" bottom: "conv" top: "bn" }
    """)  # fmt: skip
    assert [node.op_type for node in model_of(net).graph.node] == ["Conv"]


def test_memory_cell():
    net = build("""
        layer { name: "c" type: "Input" top: "c" input_param { shape { dim: 1 dim: 3 dim: 5 } } }
        layer { name: "z" type: "Input" top: "z" input_param { shape { dim: 1 dim: 3 dim: 20 } } }
        layer { name: "m" type: "Input" top: "m" input_param { shape { dim: 1 dim: 3 } } }
        layer { name: "unit" type: "LSTMUnit" bottom: "c" bottom: "z" bottom: "m" top: "c2" top: "h" }
    """)
    inputs = {"c": noise(1, 3, 5), "z": noise(1, 3, 20, seed=1), "m": np.float32([[1, 0, 1]])}
    found, expected = computed(net, inputs), ours(net, inputs)
    assert_close(found["c2"], expected["c2"])
    assert_close(found["h"], expected["h"])


SSD = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 32 dim: 32 } } }
layer { name: "map" type: "Convolution" bottom: "data" top: "map"
        convolution_param { num_output: 8 kernel_size: 3 stride: 4 pad: 1 } }
layer { name: "loc" type: "Convolution" bottom: "map" top: "loc" convolution_param { num_output: 8 kernel_size: 1 } }
layer { name: "loc_turned" type: "Permute" bottom: "loc" top: "loc_turned"
        permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "loc_flat" type: "Flatten" bottom: "loc_turned" top: "loc_flat" }
layer { name: "conf" type: "Convolution" bottom: "map" top: "conf" convolution_param { num_output: 6 kernel_size: 1 } }
layer { name: "conf_turned" type: "Permute" bottom: "conf" top: "conf_turned"
        permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "conf_rows" type: "Reshape" bottom: "conf_turned" top: "conf_rows"
        reshape_param { shape { dim: 0 dim: -1 dim: 3 } } }
layer { name: "conf_soft" type: "Softmax" bottom: "conf_rows" top: "conf_soft" softmax_param { axis: 2 } }
layer { name: "conf_flat" type: "Flatten" bottom: "conf_soft" top: "conf_flat" }
layer { name: "prior" type: "PriorBox" bottom: "map" bottom: "data" top: "prior"
        prior_box_param { min_size: 8 max_size: 14 clip: true } }
layer { name: "found" type: "DetectionOutput" bottom: "loc_flat" bottom: "conf_flat" bottom: "prior" top: "found"
        detection_output_param { num_classes: 3 nms_param { nms_threshold: 0.45 top_k: 30 } code_type: CENTER_SIZE
                                 keep_top_k: 12 confidence_threshold: 0.2 } }
"""


@pytest.mark.parametrize("items", [1, 3])
def test_ssd(items):
    net = build(SSD)
    random = np.random.default_rng(5)
    for layer in net.layers:
        for blob in layer.blobs:
            blob.fill(random.normal(0, 0.3, blob.shape))
    inputs = {"data": noise(items, 3, 32, 32)}
    found, expected = computed(net, inputs)["found"], ours(net, inputs)["found"]
    assert {12 * items} == {found.shape[2], expected.shape[2]}
    assert_close(found, expected, 2e-5)


def test_ssd_that_finds_nothing():
    net = build(SSD.replace("confidence_threshold: 0.2", "confidence_threshold: 1"))
    found = computed(net, {"data": noise(2, 3, 32, 32)})["found"]
    assert found.tolist() == [[[[0, *[-1] * 6], [1, *[-1] * 6]]]]


FASTER_RCNN = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 64 dim: 80 } } }
layer { name: "info" type: "Input" top: "info" input_param { shape { dim: 1 dim: 3 } } }
layer { name: "map" type: "Convolution" bottom: "data" top: "map"
        convolution_param { num_output: 8 kernel_size: 8 stride: 8 } }
layer { name: "scores" type: "Convolution" bottom: "map" top: "scores"
        convolution_param { num_output: 12 kernel_size: 1 } }
layer { name: "offsets" type: "Convolution" bottom: "map" top: "offsets"
        convolution_param { num_output: 24 kernel_size: 1 } }
layer { name: "proposal" type: "Proposal" bottom: "scores" bottom: "offsets" bottom: "info" top: "rois" top: "of_rois"
        proposal_param { feat_stride: 8 base_size: 8 min_size: 4 ratio: 0.5 ratio: 1 ratio: 2 scale: 2 scale: 4
                         pre_nms_topn: 200 post_nms_topn: 40 } }
layer { name: "pool" type: "ROIPooling" bottom: "map" bottom: "rois" top: "pool"
        roi_pooling_param { pooled_h: 3 pooled_w: 3 spatial_scale: 0.125 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param { num_output: 5 } }
layer { name: "rows" type: "Reshape" bottom: "fc" top: "rows" reshape_param { shape { dim: -1 dim: 5 } } }
layer { name: "prob" type: "Softmax" bottom: "rows" top: "prob" }
"""


@pytest.mark.parametrize("dynamic", [True, False])
def test_faster_rcnn(dynamic):
    """The number of regions is known when they are found, whether or not the batch is fixed."""
    net = build(FASTER_RCNN)
    random = np.random.default_rng(5)
    for layer in net.layers:
        for blob in layer.blobs:
            blob.fill(random.normal(0, 0.05, blob.shape))
    inputs = {"data": noise(1, 3, 64, 80), "info": np.float32([[64, 80, 1]])}
    found, expected = computed(net, inputs, ExportOptions(dynamic_batch=dynamic)), ours(net, inputs)
    assert expected["prob"].shape == (40, 5)
    for name in net.outputs:
        assert_close(found[name], expected[name], 2e-5)


def test_boxes_are_no_half_numbers():
    from caffepy.errors import ConfigError

    with pytest.raises(ConfigError, match='layer "found" computes indices or boxes, which float16 cannot hold'):
        computed(build(SSD), {}, ExportOptions(half=True))
