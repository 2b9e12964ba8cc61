"""Prototxts of Caffe's forks: read, renamed, named in a warning once, or refused with their place."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy import TEST, TRAIN
from caffepy.errors import ConfigError
from caffepy.net.layer import layer_class
from caffepy.proto import foreign, text, upgrade
from caffepy.proto.caffe_pb2 import TEST as TEST_PHASE
from caffepy.proto.caffe_pb2 import ConvolutionParameter, DataParameter, NetParameter, SolverParameter
from caffepy.pycaffe.net import Net

INPUT = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 6 dim: 6 } } }\n'


def net(body: str) -> NetParameter:
    return text.parse(INPUT + body, NetParameter(), "n.prototxt")


def refused(body: str, kind=NetParameter) -> str:
    with pytest.raises(ConfigError) as caught:
        text.parse(body, kind(), "n.prototxt")
    return str(caught.value)


@pytest.fixture
def warnings(caplog, monkeypatch):
    monkeypatch.setattr(foreign, "_named", set())
    return lambda: [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_a_field_that_changes_nothing_is_named_once(warnings):
    body = """
layer { name: "a" type: "ReLU" bottom: "x" top: "x" freeze_learning: True }
layer { name: "b" type: "Convolution" bottom: "x" top: "y" freeze_learning: False
        convolution_param { num_output: 3 kernel_size: 2 cudnn_workspace_limit: 1024 } }
"""
    for _ in range(2):
        found = net(body)
    assert [layer.type for layer in found.layer] == ["Input", "ReLU", "Convolution"]
    assert found.layer[2].convolution_param.num_output == 3
    assert warnings() == [
        "n.prototxt: fields of other Caffes, which change nothing here: LayerParameter.freeze_learning (2 times), "
        "ConvolutionParameter.cudnn_workspace_limit"
    ]


def test_a_file_of_caffes_own_is_not_searched(warnings, monkeypatch):
    monkeypatch.setattr(foreign, "read", None)
    net('layer { name: "a" type: "ReLU" bottom: "x" top: "x" relu_param { engine: CAFFE } }')
    assert not warnings()


@pytest.mark.parametrize(
    "value, harmless", [("1", True), ("2", False), ('"1"', True), ("[1]", False), ("{ a: 1 }", False)]
)
def test_some_values_change_nothing(value, harmless, warnings):
    body = f'layer {{ name: "l" type: "HingeLoss"\n  loss_param {{ normalize: true loss_scale: {value} }} }}'
    if harmless:
        assert net(body).layer[1].loss_param.normalize
        assert len(warnings()) == 1
    else:
        assert refused(body) == (
            'n.prototxt:2:32: layer "l": LossParameter.loss_scale is of another Caffe, and not supported: '
            "it scales the loss: use loss_weight\n  Leave it out if the net can do without."
        )


def test_a_mistake_beside_it_is_found_where_it_is():
    body = 'layer { name: "a"\n  freeze_learning: true\n  type: "ReLU" bottum: "x" }'
    assert refused(body) == (
        'n.prototxt:3:16: layer "a": no field "bottum" in LayerParameter\n  Did you mean "bottom"?'
    )


def test_a_typing_error_stays_one():
    assert "no field" in refused('layer { name: "a" freeze_leraning: true }')


def test_the_third_phase_is_the_second():
    body = """
layer { name: "a" type: "ReLU" bottom: "x" top: "a" include { phase: RUN } }
layer { name: "b" type: "ReLU" bottom: "x" top: "b" exclude { phase: RUN } }
layer { name: "c" type: "ReLU" bottom: "x" top: "c" phase: RUN }
"""
    found = net(body)
    assert found.layer[1].include[0].phase == found.layer[2].exclude[0].phase == found.layer[3].phase == TEST_PHASE
    assert "a" in Net(found, TEST).layer_dict and "b" not in Net(found, TEST).layer_dict
    assert "b" in Net(found, TRAIN).layer_dict and "a" not in Net(found, TRAIN).layer_dict


def test_other_names():
    assert text.parse("hole: 2 num_output: 3", ConvolutionParameter()).dilation == [2]
    assert text.parse("enable_random_selection: True", DataParameter()).shuffle
    unpooling = net('layer { type: "UnPooling" unpooling_param { kernel_size: 2 pool: AVE } }').layer[1].unpooling_param
    assert unpooling.unpool == unpooling.AVE


def test_engines_of_others(warnings):
    assert text.parse("engine: MKL2017 num_output: 3", ConvolutionParameter()).engine == ConvolutionParameter.DEFAULT
    net('layer { name: "a" type: "ReLU" engine: "MKLDNN:CPU" }')
    assert len(warnings()) == 2


SWITCHED = """
layer { name: "d" type: "Data" top: "d" transform_param { scale: 2
  mask_param { option { active: %s } boundary_left: 1 } mirror: true } }
"""


def test_what_is_switched_off_is_not_there(warnings):
    transform = net(SWITCHED % "False").layer[1].transform_param
    assert (transform.scale, transform.mirror) == (2, True)
    assert refused(SWITCHED % "True").startswith('n.prototxt:3:3: layer "d": TransformationParameter.mask_param')


def test_a_known_message_that_is_switched_off():
    body = 'layer { name: "d" type: "ReLU" relu_param { negative_slope: 3 option { active: %s } } }'
    assert not net(body % "false").layer[1].HasField("relu_param")
    assert net(body % "true").layer[1].relu_param.negative_slope == 3


BOTH_PHASES = (
    INPUT
    + """
layer { name: "d" type: "Data" top: "d" include { phase: TRAIN }
        transform_param { use_imagedb_mean: True } data_param { source: "s" batch_size: 2 } }
layer { name: "a" type: "ReLU" bottom: "x" top: "a" }
"""
)


def test_a_layer_is_refused_where_it_is_built(tmp_path):
    path = tmp_path / "n.prototxt"
    path.write_text(BOTH_PHASES)
    assert Net(path, TEST).layer_names == ["x", "a"]
    with pytest.raises(ConfigError) as caught:
        Net(path, TRAIN)
    assert str(caught.value) == (
        f'{path}:4:27: layer "d": TransformationParameter.use_imagedb_mean is of another Caffe, and not supported: it '
        "subtracts a mean from MyCaffe's database: use mean_file or mean_value\n"
        "  Leave it out if the net can do without."
    )


def test_a_database_of_mycaffes(warnings):
    body = 'layer { name: "d" type: "Data" top: "d" data_param { source: "s" backend: IMAGEDB } }'
    assert net(body).layer[1].data_param.backend == DataParameter.LMDB
    assert warnings() == [
        "n.prototxt: fields of other Caffes, which change nothing here: DataParameter.backend: IMAGEDB (read as LMDB)"
    ]


def test_a_layer_without_a_layer_here_is_refused_by_its_type(warnings):
    found = net('layer { name: "g" type: "GRN" bottom: "x" top: "y" grn_param { input_dim: 3 fc { a: [1, 2] } } }')
    with pytest.raises(ConfigError) as caught:
        Net(found, TEST)
    assert str(caught.value) == (
        'layer "g": unknown layer type "GRN"\n  It is a layer of MyCaffe, which is not supported.'
    )


def test_a_layer_under_another_name():
    assert layer_class("Lstm") is layer_class("LSTM")


def test_solvers(tmp_path, warnings):
    path = tmp_path / "s.prototxt"
    path.write_text('net: "n"\nsnapshot_include_weights: True\nadamw_decay: 0\n')
    assert text.read_solver(path).net == "n"
    assert len(warnings()) == 1
    path.write_text('net: "n"\ncustom_trainer: "Dual.Trainer"\n')
    with pytest.raises(ConfigError, match=r"s.prototxt:2:1: SolverParameter.custom_trainer is of another Caffe"):
        text.read_solver(path)


@pytest.mark.parametrize(
    "body",
    [
        'layer < name: "a" type: "ReLU" freeze_learning: true, >',
        "layer { name: 'a' type: 'Re' 'LU' # freeze_learning: { \n freeze_learning: true; }",
        'layer: { name: "a" type: "ReLU" freeze_learning: true bottom: ["x", "y"] }',
        'layer [{ name: "a" type: "ReLU" freeze_learning: true }]',
        'layer { name: "a" freeze_learning: { deep < x: [1, 2] s: "}" > } type: "ReLU" }',
        'freeze_learning: 1 layer { name: "a" type: "ReLU" freeze_learning: true }'.replace("freeze_learning: 1 ", ""),
    ],
)
def test_all_ways_to_write_it(body, warnings):
    layer = text.parse(body, NetParameter()).layer[0]
    assert (layer.name, layer.type) == ("a", "ReLU")


@pytest.mark.parametrize(
    "body", ["layer { freeze_learning: true", 'layer { freeze_learning: "a }', "layer { : 3 }", "}"]
)
def test_what_is_no_prototxt_is_said_by_the_parser(body):
    assert refused(body).startswith("n.prototxt:1:")


def test_lines_stay_where_they_are():
    given = 'layer {\n  name: "a"\n  freeze_learning: {\n    x: 1\n  }\n  type: "ReLU"\n}\n'
    read = foreign.read(given, NetParameter.DESCRIPTOR)
    assert read.text.count("\n") == given.count("\n") and read.text.splitlines()[5] == '  type: "ReLU"'
    assert len(read.text) == len(given)


def test_what_was_in_the_message_before_stays():
    param = SolverParameter(base_lr=0.5)
    text.parse("max_iter: 3 enable_clip_gradient_status: False", param)
    assert (param.base_lr, param.max_iter) == (0.5, 3)


def test_a_net_of_soeaver():
    """The words of its segmentation nets, and what becomes of them."""
    body = """
layer { name: "dw" type: "ConvolutionDepthwise" bottom: "x" top: "dw"
        convolution_param { num_output: 2 kernel_size: 3 pad: 1 bias_term: false weight_filler { type: "msra" } } }
layer { name: "pool" type: "Pooling" bottom: "dw" top: "pool"
        pooling_param { pool: MAX kernel_size: 3 stride: 2 ceil_mode: false } }
layer { name: "up" type: "Interp" bottom: "pool" bottom: "x" top: "up" interp_param { use_blob_size: true } }
"""
    built = Net(net(body), TEST)
    assert built.engine_blobs["pool"].shape == (1, 2, 2, 2) and built.engine_blobs["up"].shape == (1, 2, 6, 6)
    assert np.isfinite(built.forward(x=np.ones((1, 2, 6, 6), "f4"))["up"]).all()


def test_old_layers_of_forks_are_read(warnings):
    found = NetParameter()
    text.parse(
        """
layers { name: "rois" type: DUMMY_DATA top: "rois" dummy_data_param { num: 1 channels: 5 height: 1 width: 1 } }
layers { name: "pool" type: ROI_POOLING bottom: "rois" bottom: "rois" top: "pool" blobs_lr: 2
  roi_pooling_param { pooled_w: 6 pooled_h: 7 } }
layers { name: "up" type: INTERP bottom: "pool" top: "up" interp_param { height: 9 width: 8 } }
""",
        found,
    )
    upgrade.upgrade_net(found)
    assert [layer.type for layer in found.layer] == ["DummyData", "ROIPooling", "Interp"]
    _, pool, up = found.layer
    assert (pool.roi_pooling_param.pooled_w, pool.roi_pooling_param.pooled_h) == (6, 7)
    assert up.interp_param.height == 9 and [spec.lr_mult for spec in pool.param] == [2]
    assert not warnings()


def test_a_misspelt_old_type_offers_the_nearest():
    assert refused('layers { name: "c" type: CONVOLUTOIN bottom: "x" top: "c" }') == (
        'n.prototxt:1:26: layer "c": no value "CONVOLUTOIN" in V1LayerParameter.LayerType\n'
        '  Did you mean "CONVOLUTION"?'
    )
