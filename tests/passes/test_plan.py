"""Backward passes from some losses to some parameters."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.errors import ConfigError
from caffepy.passes import Divided, Executor, Observer, Whole
from tests.passes.nets import build, gradients
from tests.support import assert_close

TWO = """
layer { name: "in" type: "Input" top: "x" top: "t"
        input_param { shape { dim: 6 dim: 5 } shape { dim: 6 } } }
layer { name: "trunk" type: "InnerProduct" bottom: "x" top: "trunk"
        inner_product_param { num_output: 7 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "trunk" top: "trunk" }
layer { name: "top" type: "InnerProduct" bottom: "trunk" top: "top"
        inner_product_param { num_output: 7 weight_filler { type: "xavier" } } }
layer { name: "a" type: "InnerProduct" bottom: "top" top: "a"
        inner_product_param { num_output: 6 weight_filler { type: "xavier" } } }
layer { name: "b" type: "InnerProduct" bottom: "top" top: "b"
        inner_product_param { num_output: 6 weight_filler { type: "xavier" } } }
layer { name: "loss_a" type: "SoftmaxWithLoss" bottom: "a" bottom: "t" top: "loss_a" }
layer { name: "loss_b" type: "SoftmaxWithLoss" bottom: "b" bottom: "t" top: "loss_b" loss_weight: 3 }
"""

EXECUTORS = [Whole, Divided]


class Ran(Observer):
    """Notes the names of layers that run."""

    def __init__(self, net):
        self.net, self.names = net, []

    def after_layers(self, layers, backward):
        self.names += [self.net.nodes[i].layer.name for i in layers]


def after(net, **options) -> list[np.ndarray]:
    net.clear_param_diffs()
    net.passes.backward(**options)
    return gradients(net)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_one_forward_pass_and_a_backward_pass_from_each_loss(executor: type[Executor]):
    net = build(TWO, executor=executor)
    net.forward()
    whole = after(net)
    first, second = after(net, losses=["loss_a"]), after(net, losses=["loss_b"])
    for total, a, b in zip(whole, first, second, strict=True):
        assert_close(a + b, total, tolerance=1e-6)
    assert not any(values.any() for values in first[6:]) and all(values.any() for values in first[:6])
    assert not any(values.any() for values in second[4:6])
    for again, values in zip(after(net), whole):
        np.testing.assert_array_equal(again, values)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_backward_pass_stops_at_the_parameters_given(executor: type[Executor]):
    net = build(TWO, executor=executor)
    net.forward()
    whole = after(net)
    ran = Ran(net)
    net.observers.append(ran)
    wanted = net.layer_dict["top"].blobs
    found = after(net, params=wanted)
    assert "trunk" not in ran.names and "relu" not in ran.names and "top" in ran.names
    for i, (values, expected) in enumerate(zip(found, whole)):
        if i in (2, 3):
            np.testing.assert_array_equal(values, expected)
        else:
            assert not values.any()


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_loss_and_a_parameter_in_one_layers_way(executor: type[Executor]):
    net = build(TWO, executor=executor)
    net.forward()
    expected = after(net, losses="loss_b")  # a name alone is one loss
    found = after(net, losses=["loss_b"], params=[net.layer_dict["trunk"].blobs[1]])
    np.testing.assert_array_equal(found[1], expected[1])
    assert not any(values.any() for i, values in enumerate(found) if i != 1)
    assert all(all(layer.param_propagate_down) for layer in net.layers)


def test_a_blob_that_is_no_loss():
    net = build(TWO)
    net.forward()
    with pytest.raises(ConfigError) as caught:
        net.passes.backward(losses=["loss_c"])
    assert str(caught.value) == 'the net has no loss "loss_c"\n  Did you mean "loss_b"?'


def test_a_layer_with_two_losses_of_which_one_is_named():
    text = """
    layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 4 dim: 6 } } }
    layer { name: "w" type: "Scale" bottom: "x" top: "w" scale_param { axis: 1 } }
    layer { name: "cut" type: "Slice" bottom: "w" top: "left" top: "right" loss_weight: 1 loss_weight: 2 }
    """
    net = build(text)
    net.forward()
    found = after(net, losses=["right"])[0]
    assert not found[:3].any()
    assert_close(found[3:], 2 * net.blobs["x"].data.sum(axis=0)[3:])
    assert (net.blobs["left"].diff == 1).all()


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_loss_that_others_read_too(executor: type[Executor]):
    text = """
    layer { name: "in" type: "Input" top: "x" top: "t"
            input_param { shape { dim: 6 dim: 5 } shape { dim: 6 } } }
    layer { name: "a" type: "InnerProduct" bottom: "x" top: "a"
            inner_product_param { num_output: 6 weight_filler { type: "xavier" } } }
    layer { name: "loss" type: "SoftmaxWithLoss" bottom: "a" bottom: "t" top: "loss" loss_weight: 3 }
    layer { name: "more" type: "Power" bottom: "loss" top: "more" }
    """
    net = build(text, executor=executor)
    net.forward()
    named = after(net, losses=["loss"])
    for ours, whole, again in zip(named, after(net), after(net, losses=["loss"]), strict=True):
        np.testing.assert_array_equal(ours, whole)
        np.testing.assert_array_equal(again, whole)
