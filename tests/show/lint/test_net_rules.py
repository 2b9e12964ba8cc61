"""What is found in nets: each rule where it holds, and not where it does not."""

from __future__ import annotations

from tests.show.lint.conftest import FC, INPUT, LOSS

NET = INPUT + FC + LOSS


def test_a_right_net_has_no_findings(found):
    assert found(NET) == []


def test_parameters_never_updated(found):
    side = 'layer { name: "side" type: "InnerProduct" bottom: "x" top: "side" inner_product_param { num_output: 2 } }\n'
    quiet = 'layer { name: "quiet" type: "Silence" bottom: "side" }\n'
    assert found(NET + side + quiet, remedies=True) == [
        'net.prototxt:4:1: warning: layer "side": its parameters are never updated: no loss depends on what it makes '
        "(TRAIN) [parameters-never-updated]\n"
        "Let a loss read it, or leave it out of TRAIN with include { phase: TEST }."
    ]
    assert found(NET + side.replace("bottom", "include { phase: TEST } bottom", 1) + quiet.replace(
        "bottom", "include { phase: TEST } bottom")) == []  # fmt: skip


def test_what_holds_in_all_states_is_told_once(found):
    wide = NET.replace("dim: 4 dim: 6", "dim: 4")  # InnerProduct needs an axis 1
    (line,) = found(wide)
    assert "TRAIN" not in line


def test_gradient_is_lost(found):
    net = INPUT + FC + LOSS.replace("top", "propagate_down: false propagate_down: false top")
    assert found(net, remedies=True) == [
        'net.prototxt:2:1: warning: layer "fc": its gradient is lost, so its parameters are never updated: '
        'layer "loss" passes none on (TRAIN) [gradient-is-lost]\n'
        'Remove propagate_down: false of layer "loss", or set lr_mult: 0 here.'
    ]


def test_layer_has_no_gradient(found):
    arg = 'layer { name: "arg" type: "ArgMax" bottom: "fc" top: "arg" }\n'
    loss = 'layer { name: "loss" type: "EuclideanLoss" bottom: "arg" bottom: "arg" top: "loss" }\n'
    lines = found(INPUT.replace('top: "label"', "").replace("shape { dim: 4 } ", "") + FC + arg + loss)
    assert lines == [
        'net.prototxt:3:1: error: layer "arg": ArgMax has no gradient, and the layers below it want one: training '
        "would stop here (TRAIN) [layer-has-no-gradient]"
    ]


def test_a_label_that_is_learned(found):
    net = INPUT.replace("label", "other") + FC + FC.replace('"fc"', '"label"').replace("num_output: 3", "num_output: 1")
    assert found(net.replace('top: "other"', "").replace("shape { dim: 4 } ", "") + LOSS) == [
        'net.prototxt:4:1: warning: layer "loss": SoftmaxWithLoss has no gradient for "label", which comes from layers '
        "that learn: Caffe would stop here (TRAIN) [layer-has-no-gradient]"
    ]


def test_gradient_needs_the_bottom(found):
    power = 'layer { name: "p" type: "Power" bottom: "fc" top: "fc" power_param { power: 2 } }\n'
    assert found(INPUT + FC + power + LOSS) == [
        'net.prototxt:3:1: warning: layer "p": Power runs in place, but its gradient needs the bottom that it '
        "overwrites: what lies below gets a wrong one (TRAIN) [gradient-needs-the-bottom]"
    ]
    assert found(INPUT + FC + power.replace("Power", "ReLU").replace("power_param { power: 2 }", "") + LOSS) == []


def test_softmax_twice(found):
    softmax = 'layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }\n'
    assert found(INPUT + FC + softmax + LOSS.replace('"fc"', '"prob"'), remedies=True) == [
        'net.prototxt:4:1: warning: layer "loss": SoftmaxWithLoss takes the softmax itself, and reads that of layer '
        '"prob" [softmax-twice]\nLet it read "fc", or use type: "MultinomialLogisticLoss".'
    ]


def test_layers_are_frozen(found):
    frozen = FC.replace("inner", "param { lr_mult: 0 } param { lr_mult: 0 } inner")
    more = LOSS.replace('"fc"', '"fc2"')
    two = FC.replace('"fc"', '"fc2"').replace('bottom: "x"', 'bottom: "fc"')
    (line,) = found(INPUT + frozen + two + more)
    assert line.startswith('net.prototxt:2:1: note: layer "fc": lr_mult: 0 keeps parameters as they are loaded or ')
    (line,) = found(INPUT + frozen + LOSS)
    assert "warning" in line and "all parameters of the net" in line


def test_statistics_and_interpolation_are_not_called_frozen(found):
    up = (
        'layer { name: "y" type: "Input" top: "y" input_param { shape { dim: 4 dim: 2 dim: 5 dim: 5 } } }\n'
        'layer { name: "bn" type: "BatchNorm" bottom: "y" top: "bn" }\n'
        'layer { name: "up" type: "Deconvolution" bottom: "bn" top: "up" param { lr_mult: 0 } convolution_param '
        '{ num_output: 2 group: 2 kernel_size: 4 stride: 2 bias_term: false weight_filler { type: "bilinear" } } }\n'
        'layer { name: "sum" type: "Reduction" bottom: "up" top: "sum" loss_weight: 1 }\n'
    )
    assert found(NET + up) == []


def test_blob_is_dead(found):
    relu = 'layer { name: "relu" type: "ReLU" bottom: "fc" top: "relu" }\n'
    assert found(INPUT + FC + relu + LOSS) == [
        'net.prototxt:3:1: warning: layer "relu": nobody reads its top "relu" [blob-is-dead]'
    ]
    in_test = 'layer { name: "look" type: "Silence" bottom: "relu" include { phase: TEST } }\n'
    assert found(INPUT + FC + relu + LOSS + in_test) == []
    in_place = 'layer { name: "again" type: "ReLU" bottom: "relu" top: "relu" }\n'
    assert [line.split()[3] for line in found(INPUT + FC + relu + LOSS + in_place)] == ['"relu":', '"again":']


def test_scores_and_deploy_nets_have_no_dead_blobs(found):
    accuracy = 'layer { name: "acc" type: "Accuracy" bottom: "fc" bottom: "label" top: "acc" }\n'
    assert found(NET + accuracy) == []
    assert found(INPUT.replace('top: "label"', "").replace("shape { dim: 4 } ", "") + FC) == []


def test_an_unread_label_is_dead(found):
    data = 'layer { name: "d" type: "DummyData" top: "x" top: "l" dummy_data_param { shape { dim: 4 dim: 6 } } }\n'
    loss = 'layer { name: "sum" type: "Reduction" bottom: "fc" top: "sum" loss_weight: 1 }\n'
    assert found(data + FC + loss) == ['net.prototxt:1:1: warning: layer "d": nobody reads its top "l" [blob-is-dead]']
