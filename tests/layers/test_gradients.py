"""Every layer's gradients against central differences of its own forward pass.

A bottom is a shape (normal values) or a pair of a kind and a shape. `spaced` values differ by 0.1 and stay 0.05 away
from multiples of 0.1, where kinks are; of the other kinds only `positive` gets a gradient.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from caffepy import rng
from caffepy.net.gradient import numerical_gradient
from caffepy.net.layer import layer_class, layer_types
from tests.layers import detection
from tests.support import ENGINES, Built, assert_close

IMAGE, MATRIX, VECTOR = (2, 3, 4, 5), (4, 3), (7,)
SPACED = [[("spaced", IMAGE)], [("spaced", VECTOR)]]
ANY = [[IMAGE], [MATRIX], [VECTOR]]
POSITIVE = [[("positive", IMAGE)], [("positive", VECTOR)]]
SEQUENCE = [(4, 3, 2), ("marker", (4, 3))]
STATIC = [(3, 2, 2), ("marker", (3, 2)), (2, 3)]
STATE = ("state", (1, 2, 3))


# type: [(fields, lists of bottoms, number of tops: 1 without, 0 as many as bottoms, -1 one fewer, None none)]
CASES = {
    "AbsVal": [("", SPACED)],
    "Attention": [
        ("attention_param { num_heads: 2 }", [[(4, 2, 12)], [(3, 2, 4), (5, 2, 4), (5, 2, 6)]]),
        ("attention_param { num_heads: 2 causal: true scale: 0.7 }", [[(4, 2, 12)], [(3, 2, 4), (5, 2, 4), (5, 2, 6)]]),
        ("attention_param { causal: true axis: 1 }", [[(2, 4, 6), ("index 5", (2,))]]),
        (
            "attention_param { axis: 1 dropout_ratio: 0.4 num_heads: 3 }",
            [[(2, 3, 6), (2, 4, 6), (2, 4, 3), ("index 2", (2, 4))]],
        ),
    ],
    "Axpy": [
        ("", [[(2, 3), IMAGE, IMAGE], [(2, 3, 1, 1), IMAGE, IMAGE], [(4, 3), MATRIX, MATRIX]]),
    ],
    "BN": [
        ("", [[IMAGE], [(6, 3)], [(4, 2, 5)]]),
        ("bn_param { frozen: true }", [[IMAGE]]),
        ("bn_param { bn_mode: LEARN }", [[IMAGE], [(6, 3)]]),
        ("bn_param { bn_mode: INFERENCE }", [[IMAGE]]),
    ],
    "BNLL": [("", ANY)],
    "BatchNorm": [
        ("", [[IMAGE], [(6, 3)], [(4, 2, 5)]]),
        ("batch_norm_param { use_global_stats: true eps: 0.01 }", [[IMAGE]]),
        ("batch_norm_param { eps: 0.5 moving_average_fraction: 0.9 }", [[(2, 2, 3)]]),
        ("batch_norm_param { scale_bias: true eps: 0.01 }", [[IMAGE], [(6, 3)], [(4, 2, 5)]]),
        ("batch_norm_param { scale_bias: true use_global_stats: true }", [[IMAGE]]),
    ],
    "BatchReindex": [("", [[(4, 3, 2), ("index 4", (6,))], [(4, 2, 2, 3), ("index 4", (3,))]])],
    "Bias": [
        ("", [[IMAGE], [MATRIX]]),
        ("bias_param { axis: 0 num_axes: 2 }", [[IMAGE]]),
        ("bias_param { axis: -2 num_axes: -1 }", [[IMAGE]]),
        ("bias_param { num_axes: 0 }", [[IMAGE]]),
        ("", [[IMAGE, (3, 4)], [IMAGE, (3,)]]),
        ("bias_param { axis: 0 }", [[IMAGE, IMAGE], [MATRIX, (4,)], [MATRIX, ()]]),
    ],
    "BinaryCrossEntropy": [
        ("", [[("probability", (4, 3)), ("target", (4, 3))]]),
        (
            "binary_cross_entropy_param { logits: true }",
            [
                [IMAGE, ("target", IMAGE)],
                [MATRIX, ("index 2", MATRIX), ("index 2", MATRIX)],
                [MATRIX, ("target", MATRIX), ("index 2", MATRIX), ("target", MATRIX)],
            ],
        ),
        (
            "loss_param { normalization: BATCH_SIZE }",
            [[("probability", (5, 2)), ("target", (5, 2)), ("index 2", (5, 2))]],
        ),
    ],
    "CTCLoss": [
        ("", [[(5, 3, 4), ("index 4", (3, 2))], [(8, 2, 4, 1), ("index 4", (2, 3))]]),
        ("ctc_loss_param { blank_label: 2 time_step: 4 zero_infinity: true }", [[(5, 3, 3), ("index 3", (3, 4))]]),
    ],
    "CenterLoss": [("center_loss_param { num_output: 3 }", [[(5, 4), ("index 3", (5,))], [IMAGE, ("index 3", (2,))]])],
    "Clip": [("clip_param { min: -0.5 max: 0.3 }", SPACED)],
    "Concat": [
        ("", [[IMAGE, (2, 1, 4, 5), (2, 2, 4, 5)], [IMAGE]]),
        ("concat_param { axis: 0 }", [[MATRIX, (2, 3)], [VECTOR, (2,)]]),
        ("concat_param { axis: -1 }", [[IMAGE, (2, 3, 4, 1)], [(2, 3, 4), (2, 3, 2)]]),
    ],
    "ContrastiveLoss": [
        ("contrastive_loss_param { margin: 3 }", [[(8, 4), (8, 4), ("index 2", (8,))]]),
        (
            "contrastive_loss_param { margin: 9 legacy_version: true }",
            [[(8, 3, 1, 1), (8, 3, 1, 1), ("index 2", (8,))]],
        ),
    ],
    "Convolution": [
        ("convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 2 }", [[IMAGE], [IMAGE, IMAGE]], 0),
        (
            "convolution_param { num_output: 4 kernel_h: 2 kernel_w: 3 group: 2 bias_term: false }",
            [[(3, 2, 3, 5)]],
        ),
        (
            "convolution_param { num_output: 2 kernel_size: 2 dilation: 2 }",
            [[IMAGE], [(2, 3, 5), (2, 3, 5)]],
            0,
        ),
        ("convolution_param { num_output: 2 kernel_size: 2 axis: 2 }", [[(2, 3, 2, 5)]]),
        ("convolution_param { num_output: 2 kernel_size: [1, 2, 1] pad: 1 }", [[(1, 2, 2, 2, 2)]]),
        ("convolution_param { num_output: 2 }", [[MATRIX]]),
    ],
    "ConvolutionDepthwise": [
        ("convolution_param { kernel_size: 3 pad: 1 stride: 2 }", [[IMAGE], [IMAGE, IMAGE]], 0),
        ("convolution_param { kernel_h: 2 kernel_w: 3 bias_term: false dilation: 2 pad: 2 }", [[(2, 4, 3, 5)]]),
    ],
    "Crop": [
        ("", [[IMAGE, ("reference", (1, 1, 3, 2))]]),
        ("crop_param { axis: 1 offset: 1 offset: 0 offset: 2 }", [[IMAGE, ("reference", (2, 2, 3, 1))]]),
        ("crop_param { axis: -1 offset: 2 }", [[(2, 3, 7), ("reference", (1, 1, 4))]]),
    ],
    "Cross": [
        ("", [[MATRIX, MATRIX], [MATRIX], [(2, 3, 2)]]),
        ("cross_param { rank: 2 bias_term: false }", [[MATRIX, MATRIX], [MATRIX]]),
    ],
    "Deconvolution": [
        ("convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 2 }", [[(2, 2, 3, 2)]]),
        ("convolution_param { num_output: 4 kernel_size: 2 group: 2 bias_term: false }", [[(2, 4, 2, 3)]]),
        (
            "convolution_param { num_output: 2 kernel_size: 3 dilation: 2 pad: 2 }",
            [[(1, 2, 4)], [(1, 2, 3, 2)]],
        ),
    ],
    "DepthwiseConvolution": [
        ("convolution_param { num_output: 3 group: 3 kernel_size: 2 stride_h: 3 stride_w: 2 }", [[IMAGE]]),
    ],
    "Dice": [("", [[(6, 3)], [(3, 2, 4)]])],
    "Dropout": [
        ("dropout_param { dropout_ratio: 0.3 }", ANY),
        ("dropout_param { dropout_ratio: 0.3 scale_train: false }", [[IMAGE]]),
    ],
    "ELU": [("", SPACED), ("elu_param { alpha: 0.4 }", SPACED)],
    "Eltwise": [
        ("", [[IMAGE, IMAGE], [VECTOR, VECTOR, VECTOR]]),
        ("eltwise_param { operation: SUM coeff: [0.5, -2, 1] }", [[MATRIX] * 3]),
        ("eltwise_param { operation: PROD }", [[IMAGE, IMAGE], [MATRIX] * 3]),
        ("eltwise_param { operation: PROD stable_prod_grad: false }", [[("positive", MATRIX)] * 3]),
        (
            "eltwise_param { operation: MAX }",
            [
                [("spaced", IMAGE), ("spaced 3", IMAGE)],
                [("spaced", VECTOR), ("spaced 3", VECTOR), ("spaced 7", VECTOR)],
            ],
        ),
    ],
    "Embed": [
        ("embed_param { num_output: 3 input_dim: 5 }", [[("index 5", (4, 3))], [("index 5", (7,))]]),
        ("embed_param { num_output: 2 input_dim: 3 bias_term: false }", [[("index 3", (2, 1, 3, 2))]]),
        ("embed_param { num_output: 2 input_dim: 4 combine: SUM }", [[("list 4", (3, 5))], [("list 4", (2, 3, 2))]]),
        ("embed_param { num_output: 2 input_dim: 4 combine: MEAN bias_term: false }", [[("list 4", (4, 3))]]),
    ],
    "EuclideanLoss": [("", [[IMAGE, IMAGE], [(4, 6), (4, 2, 3)], [VECTOR, VECTOR]])],
    "Exp": [("", ANY), ("exp_param { base: 2 scale: 0.5 shift: 1 }", ANY)],
    "Experts": [
        ("experts_param { num_experts: 3 num_output: 4 num_output: 2 activation: TANH }", [[(5, 3)], [(2, 3, 4)]]),
        ("experts_param { num_experts: 2 num_output: 3 activation: SIGMOID bias_term: false }", [[MATRIX], [IMAGE]]),
        ("experts_param { num_experts: 2 num_output: 3 activation: NONE }", [[MATRIX]]),
        ("experts_param { num_experts: 2 num_output: 3 num_output: 3 num_output: 2 activation: TANH }", [[(3, 2, 4)]]),
    ],
    "FactorizationMachine": [("", [[(3, 4, 2)], [(2, 1, 3)]])],
    "Filter": [
        (
            "",
            [
                [(4, 3), ("selector", (4,))],
                [(4, 2, 3, 2), ("selector", (4, 1))],
                [(4, 2), (4, 3, 1, 2), ("selector", (4,))],
            ],
            -1,
        )
    ],
    "Flatten": [
        ("", [[IMAGE], [MATRIX]]),
        ("flatten_param { axis: 1 end_axis: -2 }", [[IMAGE]]),
        ("flatten_param { axis: 0 }", [[IMAGE]]),
    ],
    "GRU": [
        ("recurrent_param { num_output: 3 }", [SEQUENCE, STATIC, [(3, 2, 4)], [(4, 3, 2), ("index 5", (3,))]]),
        ("recurrent_param { num_output: 2 direction: BIDIRECTIONAL num_layers: 2 dropout: 0.3 }", [SEQUENCE, STATIC]),
        (
            "recurrent_param { num_output: 3 expose_hidden: true }",
            [[(3, 2, 2), ("marker", (3, 2)), STATE], [*STATIC, STATE]],
            2,
        ),
        (
            "recurrent_param { num_output: 3 expose_hidden: true state_gradient: true }",
            [[(3, 2, 2), (1, 2, 3)], [(3, 2, 2), ("index 4", (2,)), (1, 2, 3)]],
            2,
        ),
    ],
    "Gate": [
        ("", [[MATRIX, (4, 3, 2)], [MATRIX, (4, 3, 2), (4, 1, 2), (4, 2, 2)], [(2, 3, 2), (2, 2, 3)]]),
        ("gate_param { bias_term: true }", [[MATRIX, (4, 3, 2)]]),
    ],
    "GELU": [("", ANY), ("gelu_param { enable_bert_version: false }", ANY)],
    "HardSigmoid": [("", SPACED), ("hard_sigmoid_param { alpha: 0.3 beta: 0.4 }", SPACED)],
    "HardSwish": [("", SPACED)],
    "HingeLoss": [
        ("", [[("spaced", (5, 3)), ("index 3", (5,))]]),
        ("hinge_loss_param { norm: L2 }", [[("spaced", (2, 3, 2, 2)), ("index 12", (2,))]]),
    ],
    "Im2col": [
        ("convolution_param { kernel_size: 3 stride: 2 pad: 1 }", [[IMAGE]]),
        ("convolution_param { kernel_size: 2 dilation: 2 }", [[(2, 3, 6)]]),
    ],
    "InfogainLoss": [
        ("", [[(5, 3), ("index 3", (5,)), ("matrix", (1, 1, 3, 3))]]),
        (
            "infogain_loss_param { axis: 2 } loss_param { ignore_label: 1 normalization: FULL }",
            [[(2, 3, 4), ("index 4", (2, 3)), ("matrix", (1, 1, 4, 4))]],
        ),
    ],
    "InnerProduct": [
        ("inner_product_param { num_output: 3 }", [[IMAGE], [MATRIX]]),
        ("inner_product_param { num_output: 3 axis: 2 transpose: true }", [[IMAGE]]),
        ("inner_product_param { num_output: 2 axis: -1 bias_term: false }", [[(2, 3, 4)]]),
    ],
    "Interp": [
        ("interp_param { height: 7 width: 3 }", [[IMAGE]]),
        ("interp_param { zoom_factor: 2 pad_beg: -1 pad_end: -2 }", [[(2, 2, 5, 6)]]),
        ("interp_param { shrink_factor: 2 }", [[IMAGE]]),
        ("interp_param { use_blob_size: true }", [[IMAGE, ("reference", (1, 1, 6, 2))]]),
    ],
    "LRN": [
        ("lrn_param { local_size: 3 alpha: 2 beta: 0.75 k: 1.5 }", [[(2, 5, 2, 3)]]),
        ("lrn_param { local_size: 5 alpha: 1 beta: 0.6 }", [[(1, 3, 3, 2)]]),
        ("lrn_param { local_size: 3 alpha: 2 beta: 0.75 norm_region: WITHIN_CHANNEL }", [[IMAGE]]),
    ],
    "LSTM": [
        ("recurrent_param { num_output: 2 peephole: true }", [SEQUENCE, STATIC, [(4, 3, 2), ("index 5", (3,))]]),
        ("recurrent_param { num_output: 3 layer_norm: true }", [SEQUENCE, STATIC, [(4, 3, 2), ("index 5", (3,))]]),
        ("recurrent_param { num_output: 2 peephole: true direction: BIDIRECTIONAL }", [SEQUENCE]),
        ("recurrent_param { num_output: 5 layer_norm: true direction: REVERSE num_layers: 2 }", [SEQUENCE]),
        ("recurrent_param { num_output: 2 direction: REVERSE }", [SEQUENCE, [(4, 3, 2), ("index 5", (3,))]]),
        ("recurrent_param { num_output: 2 direction: BIDIRECTIONAL num_layers: 2 dropout: 0.3 }", [SEQUENCE, STATIC]),
        (
            "recurrent_param { num_output: 3 expose_hidden: true state_gradient: true }",
            [[(3, 2, 2), (1, 2, 3), (1, 2, 3)], [(3, 2, 2), ("index 4", (2,)), (1, 2, 3), (1, 2, 3)]],
            3,
        ),
        ("recurrent_param { num_output: 3 }", [SEQUENCE, STATIC]),
        (
            "recurrent_param { num_output: 3 expose_hidden: true }",
            [[(3, 2, 2), ("marker", (3, 2)), STATE, STATE], [*STATIC, STATE, STATE]],
            3,
        ),
    ],
    "LSTMUnit": [("", [[(1, 4, 3), (1, 4, 12), ("marker", (1, 4))]], 2)],
    "LayerNorm": [
        ("", [[IMAGE], [MATRIX]]),
        ("layer_norm_param { elementwise_affine: true }", [[IMAGE], [(4, 6)]]),
        ("layer_norm_param { axis: -1 eps: 0.1 }", [[IMAGE]]),
    ],
    "LastStep": [
        ("", [[(4, 3, 2)], [(4, 3, 2), ("index 5", (3,))], [(4, 3), ("index 2", (4, 3))]]),
        ("select_step_param { axis: 1 }", [[IMAGE], [IMAGE, ("index 4", (2,))]]),
    ],
    "Log": [("", POSITIVE), ("log_param { base: 2 scale: 0.5 shift: 1 }", POSITIVE)],
    "MVN": [
        ("", [[IMAGE], [(3, 2, 5)]]),
        ("mvn_param { normalize_variance: false }", [[IMAGE]]),
        ("mvn_param { across_channels: true eps: 0.001 }", [[IMAGE], [MATRIX]]),
    ],
    "Mixup": [("mixup_param { classes: 3 alpha: 1 }", [[IMAGE, ("index 3", (2,))], [MATRIX, ("index 3", (4,))]], 2)],
    "Mish": [("", ANY)],
    "MultinomialLogisticLoss": [("", [[("positive", (5, 3)), ("index 3", (5,))]])],
    "PReLU": [
        ("", [[("spaced", IMAGE)], [("spaced", MATRIX)], [("spaced", (2, 3, 4))]]),
        ("prelu_param { channel_shared: true }", [[("spaced", IMAGE)]]),
    ],
    "Parameter": [("parameter_param { shape { dim: 2 dim: 3 } }", [[]])],
    "Pooling": [
        ("pooling_param { kernel_size: 3 stride: 2 }", [[("spaced", (2, 3, 6, 5))]]),
        ("pooling_param { kernel_size: 3 stride: 2 pad: 1 }", [[("spaced", (1, 50, 4, 3))]]),
        ("pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }", [[IMAGE]]),
        ("pooling_param { pool: AVE global_pooling: true }", [[IMAGE]]),
    ],
    "PositionalEmbedding": [
        ("positional_embedding_param { max_length: 5 }", [[(4, 2, 3)]]),
        ("positional_embedding_param { max_length: 4 axis: 1 }", [[(2, 4, 3)]]),
        ("positional_embedding_param { mode: SINUSOIDAL }", [[(4, 2, 3)]]),
        ("positional_embedding_param { mode: ROTARY num_heads: 2 }", [[(4, 2, 8)], [(3, 2, 8), (3, 2, 4)]], 0),
        ("positional_embedding_param { mode: ROTARY interleaved: true axis: 1 }", [[(2, 4, 6)]]),
    ],
    "Power": [
        ("power_param { power: 2 scale: 0.5 shift: 1 }", ANY),
        ("power_param { power: -0.5 scale: 2 shift: 1 }", POSITIVE),
        ("power_param { power: 3 }", ANY),
        ("power_param { scale: 2 shift: 1 }", ANY),
        ("power_param { power: 0 }", ANY),
        ("power_param { scale: 0 power: 2 shift: 2 }", ANY),
    ],
    "RNN": [
        ("recurrent_param { num_output: 2 direction: BIDIRECTIONAL num_layers: 2 }", [SEQUENCE, STATIC]),
        ("recurrent_param { num_output: 3 hidden_top: true }", [SEQUENCE]),
        ("recurrent_param { num_output: 3 }", [SEQUENCE, STATIC]),
        (
            "recurrent_param { num_output: 3 expose_hidden: true }",
            [[(3, 2, 2), ("marker", (3, 2)), STATE], [*STATIC, STATE]],
            2,
        ),
    ],
    "ReLU6": [("", SPACED)],
    "ReLU": [("", SPACED), ("relu_param { negative_slope: 0.3 }", SPACED)],
    "Reduction": [
        ("reduction_param { axis: 1 }", ANY[:2]),
        ("reduction_param { operation: ASUM axis: -1 coeff: 2 }", SPACED),
        ("reduction_param { operation: SUMSQ coeff: 0.5 }", ANY),
        ("reduction_param { operation: MEAN axis: 2 coeff: 3 }", [[IMAGE]]),
    ],
    "Reshape": [
        ("reshape_param { shape { dim: 0 dim: -1 } }", [[IMAGE]]),
        ("reshape_param { shape { dim: 2 dim: -1 } axis: 1 num_axes: 2 }", [[(2, 4, 3, 5)]]),
    ],
    "Reverse": [
        ("", [[IMAGE], [VECTOR], [(4, 3, 2), ("index 5", (3,))]]),
        ("reverse_param { axis: 1 }", [[IMAGE], [(2, 4, 3), ("index 5", (2,))]]),
        ("reverse_param { axis: -1 }", [[IMAGE]]),
    ],
    "SNR": [
        ("snr_param { num_routes: 2 num_output: 3 }", [[(4, 3, 2)]]),
        ("snr_param { num_routes: 2 num_output: 3 }", [[(4, 3, 2)]], 2),
        ("snr_param { num_routes: 3 connection: AVERAGE }", [[(4, 2, 3)]], 2),
    ],
    "SelectStep": [
        ("", [[(4, 3, 2)], [(4, 3, 2), ("index 4", (3,))]]),
        ("select_step_param { axis: 1 step: 0 }", [[IMAGE], [MATRIX, ("index 3", (4,))]]),
    ],
    "SequenceLoss": [
        ("", [[(4, 3, 5), ("index 5", (4, 3))], [(4, 3, 5), ("index 5", (4, 3)), ("index 5", (3,))]]),
        (
            "sequence_loss_param { axis: 1 } loss_param { ignore_label: 1 label_smoothing: 0.3 normalization: FULL }",
            [[(2, 4, 3), ("index 3", (2, 4)), ("index 2", (2, 4))]],
        ),
        ("loss_param { normalization: BATCH_SIZE }", [[(4, 3, 5), ("index 5", (4, 3))]]),
    ],
    "SPP": [
        ("spp_param { pyramid_height: 2 }", [[("spaced", (2, 3, 4, 6))]]),
        ("spp_param { pyramid_height: 3 pool: AVE }", [[(1, 2, 7, 8)]]),
        ("spp_param { pyramid_height: 1 }", [[("spaced", IMAGE)]]),
    ],
    "Scale": [
        ("", [[IMAGE], [MATRIX]]),
        ("scale_param { bias_term: true }", [[IMAGE], [(2, 4, 3)]]),
        ("scale_param { axis: 0 num_axes: 2 bias_term: true }", [[IMAGE]]),
        ("scale_param { axis: -1 num_axes: -1 }", [[IMAGE]]),
        ("scale_param { num_axes: 0 bias_term: true }", [[IMAGE]]),
        ("scale_param { axis: 0 num_axes: -1 }", [[MATRIX]]),
        ("", [[IMAGE, (3, 4)], [IMAGE, (3,)]]),
        ("scale_param { axis: 0 }", [[IMAGE, IMAGE], [MATRIX, (4,)], [MATRIX, ()]]),
        ("scale_param { bias_term: true }", [[IMAGE, (3,)]]),
    ],
    "SeLu": [("", SPACED)],
    "SeLuDropout": [("selu_dropout_param { dropout_ratio: 0.3 }", ANY)],
    "ShuffleChannel": [("shuffle_channel_param { group: 2 }", [[(2, 6, 2, 3)], [(3, 4)]])],
    "Sigmoid": [("", ANY)],
    "SigmoidCrossEntropyLoss": [
        ("", [[IMAGE, ("target", IMAGE)], [(4, 6), ("target", (4, 6))]]),
        ("loss_param { normalization: VALID ignore_label: 1 }", [[MATRIX, ("index 2", MATRIX)]]),
    ],
    "Silence": [("", [[IMAGE], [MATRIX, VECTOR]], None)],
    "Slice": [
        ("", [[(2, 4, 3, 2)]], 2),
        ("slice_param { axis: 0 slice_point: 1 slice_point: 3 }", [[(4, 3)], [(5,)]], 3),
        ("slice_param { axis: -1 slice_point: 4 }", [[IMAGE]], 2),
    ],
    "Softmax": [("", [[IMAGE], [MATRIX]]), ("softmax_param { axis: -1 }", [[IMAGE], [VECTOR]])],
    "SoftTargetLoss": [("", [[IMAGE, ("target", IMAGE)], [MATRIX, ("target", MATRIX)]])],
    "SoftmaxWithLoss": [
        ("", [[IMAGE, ("index 3", (2, 4, 5))], [MATRIX, ("index 3", (4,))]]),
        (
            "softmax_param { axis: -1 } loss_param { ignore_label: 1 normalization: FULL }",
            [[IMAGE, ("index 5", (2, 3, 4))]],
        ),
        ("loss_param { label_smoothing: 0.3 ignore_label: 1 }", [[IMAGE, ("index 3", (2, 4, 5))]]),
        ("loss_param { weight_by_label_freqs: true ignore_label: 0 }", [[IMAGE, ("index 3", (2, 4, 5))]]),
        ("loss_param { normalization: PRE_FIXED pre_fixed_normalizer: 3 }", [[MATRIX, ("index 3", (4,))]]),
    ],
    "Split": [("", [[IMAGE], [VECTOR]], 3)],
    "Swish": [("", ANY), ("swish_param { beta: 1.5 }", ANY)],
    "TanH": [("", ANY)],
    "Tile": [
        ("tile_param { tiles: 3 }", [[IMAGE], [MATRIX]]),
        ("tile_param { axis: -1 tiles: 2 }", [[(2, 3, 4)]]),
    ],
    "TripletLoss": [
        ("triplet_loss_param { margin: 3 }", [[(6, 4), (6, 4), (6, 4)], [IMAGE, IMAGE, IMAGE]]),
        ("triplet_loss_param { alpha: 2 }", [[(6, 4), (6, 4), (6, 4), ("index 3", (6,))]]),
    ],
    "UnPooling": [("unpooling_param { kernel_size: 2 stride: 2 }", [[IMAGE]])],
    "Unpooling": [
        ("unpooling_param { kernel_size: 3 stride: 2 }", [[IMAGE]]),
        ("unpooling_param { kernel_size: 3 stride: 2 unpool: AVE unpool_h: 8 unpool_w: 10 }", [[IMAGE]]),
        ("unpooling_param { kernel_size: 2 stride: 1 unpool: TILE }", [[IMAGE]]),
        ("unpooling_param { kernel_size: 2 unpool_size: 5 }", [[IMAGE, ("places 25", IMAGE)]]),
    ],
    "Upsample": [
        ("", [[IMAGE, ("places 80", IMAGE)]]),
        ("upsample_param { upsample_h: 5 upsample_w: 7 }", [[IMAGE, ("places 35", IMAGE)]]),
        ("upsample_param { scale_h: 3 scale_w: 2 }", [[IMAGE]]),
    ],
}

# Accuracy, ArgMax, Threshold, scores and indices are steps; the others make data or take it. The user writes Python's
# backward.
WITHOUT_GRADIENT = {
    "AUC", "Accuracy", "AllItems", "ArgMax", "AutoRec", "AveragePrecision", "Baseline", "Blend", "Bucketize",
    "ConfusionMatrix", "Data", "DenseImageData", "DummyData", "Factors", "GAUC", "HDF5Data", "HDF5Output", "HashIds",
    "ImageData", "ImageSegData", "ImplicitFactors", "Input", "LogLoss", "MAE", "MeanIoU", "MemoryData", "Neighbors",
    "NonNegativeFactors", "Perplexity", "PrecisionRecall", "Python", "RMSE", "Ranking", "RatingRBM", "SegAccuracy",
    "SlopeOne", "TableData", "TextData", "Threshold", "Time", "WindowData",
}  # fmt: skip

CASES |= detection.CASES
WITHOUT_GRADIENT |= detection.WITHOUT_GRADIENT
# Parameters that are statistics, or that move by a rule of their own. SegNet's BN has but the first two.
UNTRAINED = {"BatchNorm": (0, 1, 2), "BN": (2, 3), "CenterLoss": (0,), "Dice": (1, 2)}


def values(spec, random) -> tuple[np.ndarray, bool]:
    """Values for a bottom, and whether it has a gradient."""
    kind, shape = spec if spec and isinstance(spec[0], str) else ("normal", spec)
    kind, _, number = kind.partition(" ")
    count = int(np.prod(shape))
    made = {
        "normal": lambda: random.standard_normal(shape),
        "spaced": lambda: (random.permutation(count).reshape(shape) - count // 2) / 10 + 0.05 + int(number or 0) / 100,
        "positive": lambda: random.uniform(0.5, 2, shape),
        "index": lambda: random.integers(0, int(number), shape),
        # As a mask of Pooling: no position twice in a plane.
        "places": lambda: np.stack(
            [random.permutation(int(number))[: count // (shape[0] * shape[1])] for _ in range(shape[0] * shape[1])]
        ).reshape(shape),
        "marker": lambda: (random.random(shape) < 0.7) * (np.arange(shape[0]) > 0).reshape(-1, *[1] * (len(shape) - 1)),
        "selector": lambda: (np.arange(count) != 1).reshape(shape) * 1.5,
        "target": lambda: random.random(shape),
        "probability": lambda: random.uniform(0.2, 0.8, shape),
        "list": lambda: random.integers(-2, int(number), shape),
        "matrix": lambda: random.random(shape),
        "state": lambda: random.standard_normal(shape),
        "reference": lambda: np.zeros(shape),
        **{name: partial(make, random, shape) for name, make in detection.VALUES.items()},
    }[kind]()
    return np.asarray(made, np.float32), kind in ("normal", "spaced", "positive", "probability")


def table():
    for layer_type, entries in CASES.items():
        for fields, lists, *tops in entries:
            for bottoms in lists:
                number = {0: len(bottoms), -1: len(bottoms) - 1, None: 0}.get(tops[0], tops[0]) if tops else 1
                yield pytest.param(layer_type, fields, bottoms, number, id=f"{layer_type}-{fields}-{bottoms}")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("layer_type, fields, bottoms, tops", list(table()))
def test_gradient(layer_type, fields, bottoms, tops, engine):
    random = np.random.default_rng(1)
    made = [values(spec, random) for spec in bottoms]
    hosts, wanted = [m[0] for m in made], [m[1] for m in made]
    built = Built(f'type: "{layer_type}" {fields}', *hosts, engine=engine, tops=tops)
    blobs = [*built.bottom, *built.layer.blobs]
    for i, blob in enumerate(built.layer.blobs):
        trained = i not in UNTRAINED.get(layer_type, ()) and "frozen" not in fields
        wanted.append(trained)
        made = random.standard_normal(blob.shape) if trained else random.uniform(0.5, 2, blob.shape)
        hosts.append(made.astype("f4"))

    def forward():
        rng.seed(1)
        for blob, host in zip(blobs, hosts):
            blob.data[...] = built.engine.asarray(host)
        built.layer.forward(built.bottom, built.top)
        return [built.host(top.data).astype(float) for top in built.top]

    weights = [random.standard_normal(y.shape).astype("f4") for y in forward()]
    if "expose_hidden" in fields and "state_gradient" not in fields:
        weights[1:] = [0 * w for w in weights[1:]]  # final states pass no gradient
    for blob in built.bottom:
        blob.diff[...] = 9  # overwritten, unlike parameters'
    ours = built.backward(*weights, propagate_down=wanted[: len(bottoms)])
    ours += [built.host(blob.diff) for blob in built.layer.blobs]
    for gradient, host, needed in zip(ours, hosts, wanted):
        if needed:
            expected = numerical_gradient(lambda: sum(np.sum(w * y) for w, y in zip(weights, forward())), host)
            assert_close(gradient, expected, 1e-2, floor=0.1)


def test_every_layer_type_is_here():
    own = {name for name in layer_types() if layer_class(name).__module__.startswith("caffepy.")}
    assert own - set(CASES) - WITHOUT_GRADIENT == set()
    assert set(CASES) & WITHOUT_GRADIENT == set()
