"""coord_map: where the pixels of one top lie on another, and the Crop that follows."""

from __future__ import annotations

import numpy as np
import pytest

import caffepy as caffe
from caffepy import layers as L
from caffepy.errors import ConfigError
from caffepy.net.layer import layer_class, layer_types
from caffepy.pycaffe.coord_map import (
    AxisMismatchException,
    CropError,
    UnconnectedError,
    UndefinedMapException,
    compose,
    coord_map,
    coord_map_from_to,
    crop,
    inverse,
)


def data():
    return L.Input(shape={"dim": [1, 1, 50, 60]})


def conv(bottom, kernel_size=3, **more):
    return L.Convolution(bottom, num_output=1, kernel_size=kernel_size, **more)


def deconv(bottom, **p):
    return L.Deconvolution(bottom, convolution_param={"num_output": 1, **p})


def offset(top) -> list[int]:
    return list(top.fn.params["crop_param"]["offset"])


def fcn(x, pad: int):
    """The chain of fully convolutional nets (Long et al. 2015): five stages of VGG, fc6, and upsampling by 32."""
    top = x
    for stage in range(5):
        for i in range(2 if stage < 2 else 3):
            top = conv(top, 3, pad=pad if not stage and not i else 1)
            top = L.ReLU(top, in_place=True)
        top = L.Pooling(top, kernel_size=2, stride=2, pool=0)
    score = conv(L.Dropout(conv(top, 7), in_place=True), 1)
    return deconv(score, kernel_size=64, stride=32, bias_term=False)


def test_fcn_32s_crops_by_19():
    x = L.Input(shape={"dim": [1, 3, 100, 100]})
    top = crop(fcn(x, pad=100), x)
    assert (top.fn.type_name, top.fn.inputs[1]) == ("Crop", x)
    assert top.fn.params == {"crop_param": {"axis": 2, "offset": [19]}}


@pytest.mark.parametrize(
    ("make", "a", "b"),
    [
        (lambda x: conv(x, 3), 1, -1),
        (lambda x: conv(x, 3, pad=1), 1, 0),
        (lambda x: conv(x, 3, pad=2, dilation=2), 1, 0),
        (lambda x: conv(x, 3, dilation=4), 1, -4),
        (lambda x: conv(x, 5, stride=4, pad=1), 0.25, -0.25),
        (lambda x: L.Pooling(x, kernel_size=2, stride=2), 0.5, -0.25),
        (lambda x: L.Pooling(x, pooling_param={"kernel_size": 3, "stride": 2, "pad": 1}), 0.5, 0),
        (lambda x: L.Im2col(x, kernel_size=3), 1, -1),
        (lambda x: L.DepthwiseConvolution(x, kernel_size=3, stride=2), 0.5, -0.5),
        (lambda x: L.Axpy(data(), x, data()), 1, 0),
        (lambda x: deconv(x, kernel_size=4, stride=2, pad=1), 2, 0.5),
        (lambda x: L.Crop(x, data(), axis=2, offset=3), 1, -3),
        (lambda x: L.Crop(x, data(), crop_param={"offset": [3]}), 1, -3),
        (lambda x: L.ReLU(x), 1, 0),
        (lambda x: L.Eltwise(data(), x), 1, 0),
        (lambda x: L.Scale(L.BatchNorm(L.LRN(L.Dropout(x)))), 1, 0),
    ],
)
def test_maps_of_layers(make, a, b):
    x = data()
    _, ours_a, ours_b = coord_map_from_to(x, make(x))
    np.testing.assert_allclose([np.ravel(ours_a)[0], np.ravel(ours_b)[0]], [a, b])
    _, back_a, back_b = inverse((1, a, b))
    np.testing.assert_allclose([back_a * (7 * a + b) + back_b], [7])


def test_what_passes_pixels_through_is_what_pycaffe_says():
    pycaffe = {
        "AbsVal", "ReLU", "PReLU", "Dropout", "LRN", "Eltwise", "BatchNorm", "BNLL", "Log", "Exp", "MVN", "Power",
        "Sigmoid", "Split", "TanH", "Threshold",
    }  # fmt: skip
    later = {"Bias", "Bucketize", "Clip", "ELU", "HashIds", "Scale", "Swish"}
    forks = {
        "BN", "GELU", "HardSigmoid", "HardSwish", "LayerNorm", "Mish", "Normalize", "ReLU6", "SeLu", "SeLuDropout",
        "ShuffleChannel",
    }  # fmt: skip
    ours = {name for name in layer_types() if layer_class(name).__module__.startswith("caffepy.")}
    assert {name for name in ours if layer_class(name).pixelwise} == pycaffe | later | forks


def test_axes_of_their_own():
    x = data()
    axis, a, b = coord_map_from_to(x, conv(x, (3, 5), stride=[1, 2]))
    assert axis == 1
    np.testing.assert_array_equal(a, [1, 0.5])
    np.testing.assert_array_equal(b, [-1, -1])
    up = deconv(conv(x, [3, 7]), kernel_size=1)
    assert offset(crop(x, up)) == [1, 3]


def test_maps_compose_from_the_outside_in():
    axis, a, b = compose((None, 2, 1), (1, 3, 5))  # 2 (3 x + 5) + 1
    assert (axis, a, b) == (1, 6, 11)
    assert compose((1, 2, 1), (None, 1, 0)) == (1, 2, 1)
    with pytest.raises(AxisMismatchException, match="behind axis 1 in one layer and 2 in another"):
        compose((1, 1, 0), (2, 1, 0))


def test_rounding_errors_are_no_mismatch():
    x = data()
    up = deconv(conv(x, 49, stride=49), kernel_size=51, stride=49)
    assert coord_map_from_to(up, x)[1] != 1  # 49 * (1 / 49)
    assert offset(crop(up, x)) == [1]


def test_a_crop_in_a_net_cuts_what_lies_there():
    n = caffe.NetSpec()
    n.data = data()
    n.conv = conv(n.data, 5, weight_filler={"type": "constant", "value": 1})
    n.crop = crop(n.data, n.conv)
    assert offset(n.crop) == [2]
    net = caffe.Net(n.to_proto(), caffe.TEST)
    x = np.random.default_rng(0).random((1, 1, 50, 60))
    np.testing.assert_array_equal(net.forward(data=x)["crop"], x[:, :, 2:-2, 2:-2].astype("f4"))


def test_by_a_common_input_but_not_by_the_size_of_a_crop():
    x = data()
    a, b = conv(x, 3, pad=1), conv(x, 5)
    assert offset(crop(a, b)) == [2]
    cut = L.Crop(data(), x, axis=2, offset=0)
    with pytest.raises(UnconnectedError):
        coord_map_from_to(cut, x)


def test_from_the_same_top_nothing_is_cut():
    x = data()
    assert crop(x, L.ReLU(x)).fn.params["crop_param"] == {"axis": 2, "offset": [0]}


@pytest.mark.parametrize(
    ("error", "message", "pair"),
    [
        (AssertionError, r"scale mismatch on crop: \[0\.5\]", lambda x: (x, conv(x, 1, stride=2))),
        (AssertionError, r"cannot crop a negative offset: \[-1\.0\]", lambda x: (conv(x, 3), x)),
        (AssertionError, r"an offset that is no integer: \[0\.5\]", lambda x: (x, conv(x, 2))),
        (RuntimeError, "not connected by spatial layers", lambda x: (conv(x), conv(data()))),
        (RuntimeError, "not connected by spatial layers", lambda x: (L.InnerProduct(x, num_output=1), conv(x))),
        (UnconnectedError, "not connected", lambda x: (L.Convolution(x, kernel_h=3, kernel_w=3, num_output=1), x)),
        (AxisMismatchException, "spatial axes begin", lambda x: (conv(conv(x), axis=2), x)),
    ],
)
def test_what_cannot_be_cropped_is_refused(error, message, pair):
    x = data()
    with pytest.raises(error, match=message) as caught:
        crop(*pair(x))
    assert isinstance(caught.value, (ConfigError, CropError))


@pytest.mark.parametrize(
    ("top", "message"),
    [
        (lambda x: L.Softmax(x), "a layer of type Softmax maps no coordinates"),
        (lambda x: conv(x, 3, pad_h=1, pad_w=0), "Convolution: pad_h is given\n  Write kernel_size"),
        (lambda x: L.Pooling(x, global_pooling=True), "Pooling: kernel_size is not set"),
    ],
)
def test_layers_without_a_map(top, message):
    with pytest.raises(UndefinedMapException, match=message):
        coord_map(top(data()).fn)
