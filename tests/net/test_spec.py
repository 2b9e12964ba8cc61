"""NetSpec: the layers, names and order of pycaffe, and what wrong calls say."""

# ruff: noqa: C408  (scripts for pycaffe write dict())

from __future__ import annotations

import numpy as np
import pytest

import caffepy as caffe
from caffepy import layers as L
from caffepy import params as P
from caffepy.errors import ConfigError
from caffepy.net.spec import Function, NoTopError, Top
from caffepy.proto import caffe_pb2, text


def parsed(prototxt: str) -> caffe_pb2.NetParameter:
    return text.parse(prototxt, caffe_pb2.NetParameter())


def data() -> Top:
    return L.Input(shape=dict(dim=[2, 3, 8, 8]))


def own(top: Top | Function) -> caffe_pb2.LayerParameter:
    """The last layer of the net that leads to `top`."""
    return top.to_proto().layer[-1]


def test_lenet_as_the_tutorial_writes_it():
    n = caffe.NetSpec()
    n.data, n.label = L.Data(
        batch_size=64, backend=P.Data.LMDB, source="train_lmdb", transform_param=dict(scale=1.0 / 256), ntop=2
    )
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=20, weight_filler=dict(type="xavier"))
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.fc1 = L.InnerProduct(n.pool1, num_output=500, weight_filler=dict(type="xavier"))
    n.relu1 = L.ReLU(n.fc1, in_place=True)
    n.score = L.InnerProduct(n.relu1, num_output=10, param=[dict(lr_mult=1, decay_mult=0), dict(lr_mult=2)])
    n.loss = L.SoftmaxWithLoss(n.score, n.label)
    assert n.to_proto() == parsed("""
layer { name: "data" type: "Data" top: "data" top: "label" transform_param { scale: 0.00390625 }
  data_param { source: "train_lmdb" batch_size: 64 backend: LMDB } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 20 kernel_size: 5 weight_filler { type: "xavier" } } }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "fc1" type: "InnerProduct" bottom: "pool1" top: "fc1"
  inner_product_param { num_output: 500 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "fc1" top: "fc1" }
layer { name: "score" type: "InnerProduct" bottom: "fc1" top: "score"
  param { lr_mult: 1 decay_mult: 0 } param { lr_mult: 2 } inner_product_param { num_output: 10 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
""")


def test_what_nobody_names_is_numbered_by_type():
    n = caffe.NetSpec()
    n.Convolution1 = L.Convolution(data(), num_output=1, kernel_size=1)
    n.out = L.Convolution(L.Convolution(n.Convolution1, num_output=1, kernel_size=1), num_output=1, kernel_size=1)
    # Convolution1 is taken: pycaffe would make a second one.
    assert [layer.name for layer in n.to_proto().layer] == ["Input1", "Convolution1", "Convolution2", "out"]


def test_to_proto_of_tops_holds_what_leads_to_them():
    x = data()
    a, b, _ = L.ReLU(x), L.TanH(x), L.Sigmoid(x)
    both = caffe.to_proto(b, a)
    assert [(e.name, list(e.bottom), list(e.top)) for e in both.layer] == [
        ("Input1", [], ["Input1"]),
        ("TanH1", ["Input1"], ["TanH1"]),
        ("ReLU1", ["Input1"], ["ReLU1"]),
    ]
    assert [layer.type for layer in a.to_proto().layer] == ["Input", "ReLU"]
    assert caffe.to_proto(L.Slice(x, ntop=3)).layer[1].top == ["Slice1", "Slice2", "Slice3"]


def test_several_tops_none_and_names_of_any_kind():
    n = caffe.NetSpec()
    n["a/data"] = data()
    n.left, n.right = L.Slice(n["a/data"], ntop=2, axis=1, slice_point=[1])
    n.silence = L.Silence(n.left, ntop=0)
    n.sum = L.Eltwise(n.right, n.right, operation=P.Eltwise.SUM, coeff=[1, -1], name="called")
    slice_, silence, eltwise = n.to_proto().layer[1:]
    assert (slice_.name, slice_.top, slice_.slice_param.slice_point) == ("left", ["left", "right"], [1])
    assert slice_.bottom == ["a/data"]
    assert (silence.name, silence.bottom, silence.top) == ("silence", ["left"], [])
    assert (eltwise.name, eltwise.top, eltwise.eltwise_param.coeff) == ("called", ["sum"], [1, -1])
    assert isinstance(n.silence, Function) and L.Silence(n.left, ntop=0).to_proto().layer[-1].name == "Silence1"


def test_in_place_layers_share_the_name_and_their_readers_follow():
    x = data()
    relu = L.ReLU(x, in_place=True)
    drop = L.Dropout(relu, in_place=True)
    layers = L.TanH(drop).to_proto().layer
    assert [(e.name, *e.bottom, *e.top) for e in layers[1:]] == [
        ("ReLU1", "Input1", "Input1"),
        ("Dropout1", "Input1", "Input1"),
        ("TanH1", "Input1", "TanH1"),
    ]


@pytest.mark.parametrize(
    ("top", "expected"),
    [
        (lambda x: L.Pooling(x, pool="AVE"), "pooling_param { pool: AVE }"),
        (lambda x: L.Pooling(x, pool=P.Pooling.STOCHASTIC), "pooling_param { pool: STOCHASTIC }"),
        (lambda x: L.Pooling(x, pooling_param=dict(pool=1, kernel_size=3)), "pooling_param { pool: 1 kernel_size: 3 }"),
        (lambda x: L.Convolution(x, kernel_size=(3, 5)), "convolution_param { kernel_size: 3 kernel_size: 5 }"),
        (lambda x: L.Convolution(x, kernel_size=np.int64(3)), "convolution_param { kernel_size: 3 }"),
        (lambda x: L.Convolution(x, stride=np.array([1, 2])), "convolution_param { stride: 1 stride: 2 }"),
        (lambda x: L.Convolution(x, param={"lr_mult": 0}), "param { lr_mult: 0 }"),
        (lambda x: L.Convolution(x, param=caffe_pb2.ParamSpec(name="w")), 'param { name: "w" }'),
        (lambda x: L.Deconvolution(x, num_output=2), "convolution_param { num_output: 2 }"),
        (lambda x: L.LSTM(x, num_output=2), "recurrent_param { num_output: 2 }"),
        (lambda x: L.LRN(x, local_size=3, norm_region="WITHIN_CHANNEL"),
         "lrn_param { local_size: 3 norm_region: WITHIN_CHANNEL }"),
        (lambda x: L.ReLU(x, relu_param={}), "relu_param { }"),
        (lambda x: L.ReLU(x, include=dict(phase=caffe.TEST)), "include { phase: TEST }"),
        (lambda x: L.ReLU(x, include=[dict(phase="TRAIN"), dict(stage=["a", "b"], min_level=1)]),
         'include { phase: TRAIN } include { stage: "a" stage: "b" min_level: 1 }'),
        (lambda x: L.SoftmaxWithLoss(x, x, loss_weight=0.5, ignore_label=255),
         'bottom: "Input1" loss_weight: 0.5 loss_param { ignore_label: 255 }'),
        (lambda x: L.SoftmaxWithLoss(x, x, loss_param=dict(normalization=P.Loss.VALID)),
         'bottom: "Input1" loss_param { normalization: VALID }'),
        (lambda x: L.Python(x, module="m", layer="Mine", param_str="{}"),
         'python_param { module: "m" layer: "Mine" param_str: "{}" }'),
        (lambda x: L.Data(x, backend="LMDB", transform_param=dict(mean_value=[1, 2])),
         "data_param { backend: LMDB } transform_param { mean_value: 1 mean_value: 2 }"),
        (lambda x: L.Normalize(x, scale_filler=dict(value=20)), "norm_param { scale_filler { value: 20 } }"),
        (lambda x: L.DetectionOutput(x, num_classes=3, nms_param=dict(top_k=9)),
         "detection_output_param { num_classes: 3 nms_param { top_k: 9 } }"),
        (lambda x: L.DummyData(x, shape=[dict(dim=[1]), dict(dim=[2, 3])], data_filler=dict(type="constant")),
         'dummy_data_param { shape { dim: 1 } shape { dim: 2 dim: 3 } data_filler { type: "constant" } }'),
    ],
)  # fmt: skip
def test_keywords_find_their_message(top, expected):
    layer = own(top(data()))
    wanted = f'name: "{layer.name}" type: "{layer.type}" bottom: "Input1" top: "{layer.top[0]}" {expected}'
    assert layer == text.parse(wanted, caffe_pb2.LayerParameter())


def test_a_net_of_net_spec_runs():
    n = caffe.NetSpec()
    n.data = data()
    n.conv = L.Convolution(n.data, num_output=2, kernel_size=3, weight_filler=dict(type="constant", value=1))
    n.relu = L.ReLU(n.conv, in_place=True)
    n.train_only = L.Power(n.relu, scale=2, include=dict(phase=caffe.TRAIN))
    n.pool = L.Pooling(n.relu, global_pooling=True, pool=P.Pooling.AVE)
    net = caffe.Net(n.to_proto(), caffe.TEST)
    out = net.forward(data=np.ones((2, 3, 8, 8)))
    assert list(out) == ["pool"]
    np.testing.assert_array_equal(out["pool"], np.full((2, 2, 1, 1), 27))


def test_layers_come_in_the_order_of_assignment_after_what_they_need():
    n = caffe.NetSpec()
    x = data()
    n.second = L.ReLU(x)
    n.first = x
    n.third = L.TanH(n.second)
    del n.third
    n["third"] = L.Sigmoid(n.first)
    assert [layer.name for layer in n.to_proto().layer] == ["first", "second", "third"]
    assert "first" in n and "fourth" not in n and hasattr(n, "first") and not hasattr(n, "fourth")
    assert {"first", "second", "third", "to_proto"} <= set(dir(n)) and n["second"] is n.second is n.tops["second"]


def test_bottoms_come_in_their_order():
    layers = L.Concat(L.ReLU(data()), L.TanH(data())).to_proto().layer
    assert [layer.name for layer in layers] == ["Input1", "ReLU1", "Input2", "TanH1", "Concat1"]
    assert layers[-1].bottom == ["ReLU1", "TanH1"]


def test_update_changes_a_layer_that_is_written():
    n = caffe.NetSpec()
    n.conv = L.Convolution(data(), num_output=2, kernel_size=3)
    n.update("conv", dict(num_output=4, pad=1))
    p = n.to_proto().layer[-1].convolution_param
    assert (p.num_output, p.kernel_size, p.pad) == (4, [3], [1])


def test_deep_nets_need_no_deep_stack():
    x = data()
    for _ in range(3000):
        x = L.ReLU(x)
    assert len(x.to_proto().layer) == 3001


def test_values_are_numbers():
    assert (P.Pooling.MAX, P.Pooling.AVE, P.Eltwise.PROD, P.Data.LMDB) == (0, 1, 0, 1)
    assert P.Pooling.PoolMethod.Value("AVE") == 1


WRONG = {
    "keyword": (
        lambda: L.Convolution(data(), num_outputs=3),
        ConfigError,
        'L.Convolution: Convolution has no parameter "num_outputs"\n  Did you mean "num_output"?',
    ),
    "keyword of a layer without any": (
        lambda: L.AbsVal(data(), qqqq=3),
        ConfigError,
        'L.AbsVal: AbsVal has no parameter "qqqq"\n  It has no parameters of its own.',
    ),
    "keyword far from all": (
        lambda: L.ELU(data(), qqqq=3),
        ConfigError,
        'L.ELU: ELU has no parameter "qqqq"\n  Those of elu_param are: alpha.',
    ),
    "type": (lambda: L.Convolutoin, AttributeError, 'unknown layer type "Convolutoin"\n  Did you mean "Convolution"?'),
    "message": (lambda: P.Poling, AttributeError, 'P.Poling: no message "PolingParameter"\n  Did you mean "Pooling"?'),
    "value": (lambda: P.Pooling.MAXX, AttributeError, 'no value "MAXX" in PoolingParameter\n  Did you mean "MAX"?'),
    "value by name": (
        lambda: L.Pooling(data(), pool="MEAN"),
        ConfigError,
        'L.Pooling: pool: no value "MEAN"\n  Known values: MAX, AVE, STOCHASTIC.',
    ),
    "nested field": (
        lambda: L.Convolution(data(), weight_filler=dict(typ="xavier")),
        ConfigError,
        'L.Convolution: weight_filler: no field "typ" in FillerParameter\n  Did you mean "type"?',
    ),
    "kind of value": (lambda: L.Convolution(data(), num_output="3"), ConfigError, "L.Convolution: num_output: '3' "),
    "no dict": (
        lambda: L.Convolution(data(), weight_filler="xavier"),
        ConfigError,
        "L.Convolution: weight_filler: got 'xavier', a dict of FillerParameter's fields is expected\n"
        "  For example: dict(type=...).",
    ),
    "bottom": (
        lambda: L.Convolution(data(), 3),
        TypeError,
        "Convolution input 1 is not a Top (type is <class 'int'>)",
    ),
    "bottoms of a tuple": (
        lambda: L.ReLU(L.Slice(data(), ntop=2)),
        NoTopError,
        "ReLU input 0 is not a Top (type is <class 'tuple'>)",
    ),
    "in place": (
        lambda: L.Concat(data(), data(), in_place=True),
        ConfigError,
        "L.Concat: in place a layer has as many tops as bottoms, not 1 and 2",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_layers_are_named(what):
    call, kind, message = WRONG[what]
    with pytest.raises(kind) as caught:
        call()
    assert isinstance(caught.value, ConfigError) and message in str(caught.value)


def test_what_is_no_top_is_said_in_pycaffes_words_and_the_remedy_in_a_note():
    tops = L.Slice(data(), ntop=2)
    with pytest.raises(TypeError) as caught:
        L.Silence(tops, ntop=0)
    assert str(caught.value) == "Silence input 0 is not a Top (type is <class 'tuple'>)"
    assert caught.value.__notes__ == ["A layer with several tops returns a tuple: name one of them."]
    L.Silence(*tops, ntop=0)
    with pytest.raises(TypeError) as caught:
        L.Convolution(data(), 3)
    assert caught.value.__notes__ == ["Parameters are given by keyword."]


def test_in_place_of_nothing():
    with pytest.raises(ConfigError, match=r"L.ReLU: in place a layer needs a bottom"):
        caffe.to_proto(L.ReLU(in_place=True))


def test_wrong_tops_are_named():
    n = caffe.NetSpec()
    n.data = data()
    for kind, look in ((AttributeError, lambda: n.dat), (KeyError, lambda: n["dat"]), (KeyError, lambda: n.dat)):
        with pytest.raises(kind) as caught:
            look()
        assert str(caught.value) == 'NetSpec: the net has no top "dat"\n  Did you mean "data"?'
    with pytest.raises(ConfigError, match=r"The layer has 2 tops, each needs a name: n\.a, n\.b = L\.\.\."):
        n.both = L.Slice(n.data, ntop=2)
    with pytest.raises(ConfigError, match='"x" is to be a top of a layer, not 3'):
        n.x = 3
