"""A convolution and what follows it in one pass over its outputs: the numbers of the layers one by one."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy import passes
from caffepy.engine import get_engine
from caffepy.net.net import Net
from caffepy.net.observer import Observer
from caffepy.passes.fused import groups
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import TEST, NetParameter
from tests.support import ENGINES, assert_close

INPUT = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 8 dim: 12 dim: 10 } } }'
CONVOLUTIONS = {
    "3x3": "num_output: 8 kernel_size: 3 pad: 1",  # filtered, in NumPy
    "1x1": "num_output: 8 kernel_size: 1 bias_term: false",
    "stride": "num_output: 8 kernel_size: 3 stride: 2",
    "group": "num_output: 8 kernel_size: 3 group: 2 pad: 1",
    "depthwise": "num_output: 8 kernel_size: 3 group: 8 pad: 1",
    "few_outputs": "num_output: 128 kernel_size: 5 stride: 3",  # fewer than weights
    "few_outputs_filtered": "num_output: 128 kernel_h: 3 kernel_w: 10",
}
BEHIND = """
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "norm" }
layer { name: "scale" type: "Scale" bottom: "norm" top: "norm" scale_param { bias_term: true } }
layer { name: "bias" type: "Bias" bottom: "norm" top: "norm" }
layer { name: "relu" type: "ReLU" bottom: "norm" top: "y" }
"""


def build(definition: str, engine: str = "numpy") -> Net:
    net = Net(text.parse(definition, NetParameter()), TEST, engine=get_engine(engine))
    random = np.random.default_rng(0)
    for layer in net.layers:
        for blob in layer.blobs:
            blob.fill(
                random.uniform(0.2, 1, blob.shape) if layer.type == "BatchNorm" else random.normal(0, 1, blob.shape)
            )
    net.engine_blobs["x"].fill(random.normal(0, 1, net.engine_blobs["x"].shape))
    return net


def plain(net: Net) -> dict[str, np.ndarray]:
    """What the layers leave one by one, by blob."""
    passes.Whole(net).forward()
    return {name: blob.host().copy() for name, blob in net.engine_blobs.items()}


def convolution(name: str) -> str:
    p = CONVOLUTIONS[name]
    return f'layer {{ name: "conv" type: "Convolution" bottom: "x" top: "conv" convolution_param {{ {p} }} }}'


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("behind", ["all", "relu", "bn", "scale"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_forward(name, behind, parts, monkeypatch):
    """Whole and in parts of the batch; the blobs between have their values, too."""
    if parts:
        monkeypatch.setattr("caffepy.passes.divided.LEAST_ELEMENTS", 1)
    layers = BEHIND
    if behind != "all":
        kind = {"relu": "ReLU", "bn": "BatchNorm", "scale": "Scale"}[behind]
        layers = f'layer {{ name: "{behind}" type: "{kind}" bottom: "conv" top: "y" }}'
    net = build(INPUT + convolution(name) + layers)
    expected = plain(net)
    assert [len(group) for group in groups(net, range(len(net.nodes)))] == [1, len(net.nodes) - 1]
    for blob in net.engine_blobs.values():
        blob.flat()[...] *= blob.name == "x"
    passes.of(net).forward()
    for each in ("y", "conv", "y"):
        assert_close(net.engine_blobs[each].host(), expected[each], 2e-5)


def test_reading_a_blob_leaves_what_later_layers_did_in_place():
    more = """
    layer { name: "power" type: "Power" bottom: "y" top: "y" power_param { shift: 3 } }
    """
    net = build(INPUT + convolution("3x3") + BEHIND + more)
    expected = plain(net)
    passes.of(net).forward()
    for each in ("conv", "norm", "y"):
        assert_close(net.engine_blobs[each].host(), expected[each], 2e-5)


RESIDUAL = """
layer { name: "short" type: "Convolution" bottom: "x" top: "short"
        convolution_param { num_output: 8 kernel_size: 1 } }
layer { name: "relu_a" type: "ReLU" bottom: "short" top: "short" }
layer { name: "conv" type: "Convolution" bottom: "short" top: "conv"
        convolution_param { num_output: 8 kernel_size: 3 pad: 1 } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "sum" type: "Eltwise" bottom: "short" bottom: "conv" top: "sum" }
layer { name: "relu" type: "ReLU" bottom: "sum" top: "sum" }
layer { name: "last" type: "Convolution" bottom: "sum" top: "last"
        convolution_param { num_output: 4 kernel_size: 1 } }
"""


@pytest.mark.parametrize("parts", [False, True])
def test_sum_with_what_is_there(parts, monkeypatch):
    if parts:
        monkeypatch.setattr("caffepy.passes.divided.LEAST_ELEMENTS", 1)
    net = build(INPUT + RESIDUAL)
    expected = plain(net)
    names = [[net.layer_names[i] for i in group] for group in groups(net, range(len(net.nodes)))]
    assert names[-2:] == [["conv", "bn", "sum", "relu"], ["last"]]
    for _ in range(2):
        passes.of(net).forward()
        for each in ("last", "sum", "conv", "short"):
            assert_close(net.engine_blobs[each].host(), expected[each], 2e-5)


@pytest.mark.parametrize(
    "more",
    [
        'layer { name: "sum" type: "Eltwise" bottom: "conv" bottom: "x" top: "conv" }',
        'layer { name: "sum" type: "Eltwise" bottom: "x" bottom: "conv" top: "s" eltwise_param { operation: PROD } }',
        'layer { name: "sum" type: "Eltwise" bottom: "x" bottom: "conv" top: "s" eltwise_param { coeff: 1 coeff: 2 } }',
        'layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" relu_param { negative_slope: 0.1 } }',
        'layer { name: "scale" type: "Scale" bottom: "conv" bottom: "x" top: "conv" scale_param { axis: 0 } }',
    ],
)
def test_others_that_follow(more):
    """In place, and what looks like what can be done at once and cannot."""
    net = build(INPUT + convolution("3x3") + more)
    x = net.engine_blobs["x"]
    x.fill(np.random.default_rng(0).normal(0, 1, x.shape))
    expected = build_again(net)
    passes.of(net).forward()
    for name in net.outputs:
        assert_close(net.engine_blobs[name].host(), expected[name], 2e-5)


def build_again(net: Net) -> dict[str, np.ndarray]:
    """What the layers of a net with the same values leave one by one."""
    other = Net(net.param, TEST)
    for mine, theirs in zip(other.layers, net.layers):
        for blob, source in zip(mine.blobs, theirs.blobs):
            blob.fill(source.host())
    other.engine_blobs["x"].fill(net.engine_blobs["x"].host())
    return plain(other)


def test_weights_that_change_count():
    net = build(INPUT + convolution("1x1") + BEHIND)
    passes.of(net).forward()
    net.layer_dict["bn"].blobs[0].data[...] += 1
    net.layer_dict["conv"].blobs[0].data[...] *= 2
    passes.of(net).forward()
    found = net.engine_blobs["y"].host().copy()
    assert_close(found, plain(net)["y"], 2e-5)


def test_backward_runs_the_layers_once_more():
    net = build("force_backward: true " + INPUT + convolution("3x3") + BEHIND)
    gradients = []
    for executor in (passes.Whole(net), passes.of(net)):
        executor.forward()
        net.engine_blobs["y"].diff[...] = np.random.default_rng(1).normal(0, 1, net.engine_blobs["y"].shape)
        executor.backward()
        gradients.append(net.engine_blobs["x"].host("diff").copy())
    assert_close(gradients[1], gradients[0], 2e-5)


def test_observers_of_every_layer_see_every_layer():
    seen: list[tuple[int, float]] = []
    net = build(INPUT + convolution("3x3") + BEHIND)

    class Sees(Observer):
        every_layer = True

        def after_layers(self, layers, backward):
            seen.extend((i, float(net.nodes[i].top[0].host().sum())) for i in layers)

    expected = build_again(net)
    net.observers.append(Sees())
    passes.of(net).forward()
    assert [i for i, _ in seen] == list(range(len(net.nodes)))
    assert seen[1][1] == pytest.approx(float(expected["conv"].sum()), rel=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_kernel(name, engine):
    """Each of what may follow, on both engines."""
    from caffepy.engine.after import After

    net = build(INPUT + convolution(name), engine)
    layer, x, y = net.layer_dict["conv"], net.engine_blobs["x"], net.engine_blobs["conv"]
    passes.Whole(net).forward()
    alone = y.host().copy()
    random, shape = np.random.default_rng(3), (1, -1, 1, 1)
    factor, offset = (random.normal(0, 1, alone.shape[1]).astype(np.float32) for _ in range(2))
    add = random.normal(0, 1, alone.shape).astype(np.float32)
    asarray = net.engine.asarray
    for a in (None, factor):
        for b in (None, offset):
            for c in (None, add):
                for relu in (False, True):
                    given = (None if v is None else asarray(v) for v in (a, b, c))
                    layer.forward_with(x, y, After(*given, relu))
                    expected = alone if a is None else alone * a.reshape(shape)
                    expected = expected if b is None else expected + b.reshape(shape)
                    expected = expected if c is None else expected + c
                    assert_close(y.host(), np.maximum(expected, 0) if relu else expected, 2e-5)
