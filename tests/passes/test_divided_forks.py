"""Layers of forks that compute item by item: parts of a batch give what the whole does."""

from __future__ import annotations

from caffepy.passes import Whole
from tests.passes.nets import assert_all_close, build, passes

NET = """
layer { name: "in" type: "Input" top: "x" top: "t"
        input_param { shape { dim: 5 dim: 4 dim: 8 dim: 8 } shape { dim: 5 } } }
layer { name: "dw" type: "ConvolutionDepthwise" bottom: "x" top: "dw"
        convolution_param { kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BN" bottom: "dw" top: "dw" bn_param { frozen: true } }
layer { name: "swish" type: "HardSwish" bottom: "dw" top: "dw" }
layer { name: "shuffle" type: "ShuffleChannel" bottom: "dw" top: "shuffle" shuffle_channel_param { group: 2 } }
layer { name: "pool" type: "Pooling" bottom: "shuffle" top: "pool" top: "mask"
        pooling_param { kernel_size: 2 stride: 2 ceil_mode: false } }
layer { name: "mish" type: "Mish" bottom: "pool" top: "pool" }
layer { name: "up" type: "Upsample" bottom: "pool" bottom: "mask" top: "up" }
layer { name: "unpool" type: "Unpooling" bottom: "pool" top: "unpool"
        unpooling_param { unpool: TILE kernel_size: 2 stride: 2 unpool_size: 8 } }
layer { name: "interp" type: "Interp" bottom: "pool" top: "interp" interp_param { height: 8 width: 8 } }
layer { name: "sum" type: "Eltwise" bottom: "up" bottom: "unpool" bottom: "interp" top: "sum" }
layer { name: "norm" type: "LayerNorm" bottom: "sum" top: "norm" layer_norm_param { elementwise_affine: true } }
layer { name: "gate" type: "Pooling" bottom: "norm" top: "gate" pooling_param { pool: AVE global_pooling: true } }
layer { name: "hard" type: "HardSigmoid" bottom: "gate" top: "gate" }
layer { name: "axpy" type: "Axpy" bottom: "gate" bottom: "norm" bottom: "shuffle" top: "axpy" }
layer { name: "relu" type: "ReLU6" bottom: "axpy" top: "axpy" }
layer { name: "ip" type: "InnerProduct" bottom: "axpy" top: "ip"
        inner_product_param { num_output: 6 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "t" top: "loss" }
"""


def test_parts_are_the_whole():
    whole = passes(build(NET, executor=Whole))
    net = build(NET)
    found = passes(net)
    assert {stretch.layers for stretch in net.passes.stretches.values()} == {range(1, len(net.layers) - 1)}
    assert_all_close(found, whole)
