"""Summaries: shapes, parameters, operations, memory and receptive fields of nets whose numbers are known."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import caffepy
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import TEST, TRAIN, NetState
from caffepy.show.draft import Sources, draft
from caffepy.show.summary import Summary, count

MODELS = Path(__file__).parents[2] / "models"


def summary(name: str, phase: int = TEST, **options) -> Summary:
    return Summary.of(draft(text.read_net(MODELS / name), NetState(phase=phase), Sources(**options)))


def test_alexnet():
    found = summary("bvlc_alexnet/deploy.prototxt", batch=1)
    rows = {row.name: row for row in found.rows}
    assert found.parameters == 60_965_224
    assert rows["conv2"].flops == 2 * 27 * 27 * 256 * 48 * 25
    assert rows["conv1"].data == 4 * 96 * 55 * 55 and rows["relu1"].data == 0
    # The literature's: 11, 19, 51, 67, 99, 131, 163, 195.
    names = ["conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5", "fc6"]
    assert [rows[name].field for name in names] == ["11", "19", "51", "67", "99", "131", "163", "195", "all"]
    assert found.gradients == 0


def test_gradients_are_those_that_backward_needs():
    net = caffepy.Net(_lenet(), TRAIN)
    rows = {row.name: row for row in net.summary().rows}
    assert rows["x"].gradients == 0  # nobody wants that of the data
    assert rows["conv"].gradients == rows["conv"].data == 4 * 2 * 3 * 4 * 4
    assert rows["relu"].data == rows["relu"].gradients == 0  # in place
    assert rows["fc"].gradients == 3 * 4 * 2 * 5  # its own, and those of the two that read it
    assert net.summary().parameter_gradients == 4 * (3 * 2 * 9 + 3 + 5 * 48 + 5)
    assert net.summary().parameters == 3 * 2 * 9 + 3 + 5 * 48 + 5


def _lenet():
    return text.parse(
        """
layer { name: "x" type: "Input" top: "x" top: "label" input_param {
  shape { dim: 2 dim: 2 dim: 6 dim: 6 } shape { dim: 2 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv" convolution_param { num_output: 3 kernel_size: 3 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 5 } }
layer { name: "a" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "a" }
layer { name: "b" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "b" }
""",
        text.caffe_pb2.NetParameter(),
    )


FIELDS = {
    'type: "Convolution" convolution_param { num_output: 1 kernel_h: 1 kernel_w: 5 dilation: 2 }': "1x9",
    'type: "Deconvolution" convolution_param { num_output: 1 kernel_size: 4 stride: 2 }': "2",
    'type: "Pooling" pooling_param { global_pooling: true }': "all",
    'type: "InnerProduct" inner_product_param { num_output: 1 }': "all",
    'type: "ReLU"': "1",
    'type: "LRN"': "1",
    'type: "LRN" lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 }': "3",
    'type: "Interp" interp_param { zoom_factor: 2 }': "1",
}


@pytest.mark.parametrize("layer", FIELDS)
def test_receptive_field_of_a_layer(layer):
    net = text.parse(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 12 dim: 12 } } }'
        f'layer {{ name: "y" bottom: "x" top: "y" {layer} }}',
        text.caffe_pb2.NetParameter(),
    )
    built = Summary.of(draft(text.definition(net), NetState(phase=TEST), Sources()))
    assert built.rows[1].field == FIELDS[layer]


def test_recurrent_layers_are_products():
    net = text.parse(
        'layer { name: "x" type: "Input" top: "x" top: "m" input_param { shape { dim: 3 dim: 2 dim: 5 } '
        "shape { dim: 3 dim: 2 } } }"
        'layer { name: "y" type: "LSTM" bottom: "x" bottom: "m" top: "y" recurrent_param { num_output: 7 } }',
        text.caffe_pb2.NetParameter(),
    )
    assert Summary.of(draft(text.definition(net), NetState(phase=TEST), Sources())).flops == 2 * 3 * 2 * 28 * (5 + 7)


def test_a_nets_repr_is_its_summary():
    net = caffepy.Net(_lenet(), TRAIN)
    lines = repr(net).splitlines()
    assert lines[0] == "TRAIN: 6 layers, 302 parameters"
    assert re.match(r"layer\s+type\s+top\s+params\s+GFLOP\s+data MB\s+grad MB\s+field$", lines[1])
    assert re.match(r"conv\s+Convolution\s+2x3x4x4\s+57\s+<0.001\s+<0.001\s+<0.001\s+3$", lines[4])
    assert lines[-1].startswith("<0.001 GFLOP forward, parameters 0.00115 MB, data ")
    assert str(net.summary()) == repr(net)


def test_counts_are_short():
    assert [count(n) for n in (0, 999, 1234, 60_965_224)] == ["0", "999", "1.23 k", "61 M"]
