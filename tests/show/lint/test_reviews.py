"""Nets that cannot be built, states, old formats, dialects and what is absent."""

from __future__ import annotations

import pytest

from caffepy.errors import ConfigError
from caffepy.proto import text
from caffepy.show.lint.states import name_of, states_of
from tests.show.lint.conftest import FC, INPUT, LOSS

DATA = """layer { name: "data" type: "Data" top: "x" top: "label"
  transform_param { crop_size: 12 mean_file: "mean.binaryproto" }
  data_param { source: "train_lmdb" batch_size: 5 backend: LMDB } }
"""


def test_all_that_cannot_be_built_is_told(found):
    net = (
        INPUT + FC.replace('bottom: "x"', 'bottom: "y"') + LOSS
        + 'layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param { kernel_size: 3 } }\n'
        + 'layer { name: "behind" type: "ReLU" bottom: "c" top: "behind" }\n'
        + 'layer { name: "u" type: "Convolutoin" bottom: "x" top: "u" }\n'
        + 'layer { name: "f" type: "InnerProduct" bottom: "x" top: "f" inner_product_param { num_output: 2 '
        'weight_filler { type: "xaviar" } } }\n'
    )  # fmt: skip
    assert found(net, remedies=True) == [
        'net.prototxt:2:1: error: layer "fc": unknown bottom "y" [cannot-be-built]\n'
        "No layer before it has a top of this name.",
        'net.prototxt:4:1: error: layer "c": convolution_param.num_output must be at least 1 [cannot-be-built]\n',
        'net.prototxt:6:1: error: layer "u": unknown layer type "Convolutoin" [cannot-be-built]\n'
        'Did you mean "Convolution"?',
        'net.prototxt:7:1: error: layer "f": unknown filler type "xaviar" [cannot-be-built]\nDid you mean "xavier"?',
    ]


def test_a_layer_with_parameters_that_cannot_be_built_is_told_once(found):
    layer = (
        'layer { name: "c" type: "Convolution" bottom: "x" top: "c" param { lr_mult: 1 } param { lr_mult: 2 } '
        "convolution_param { num_output: 3 group: 2 kernel_size: 1 } }\n"
    )
    (line,) = found(INPUT.replace("dim: 4 dim: 6", "dim: 4 dim: 6 dim: 5 dim: 5", 1) + layer)
    assert "group 2 must divide" in line
    python = 'layer { name: "p" type: "Python" bottom: "x" top: "p" param { } python_param { module: "no" } }\n'
    assert [line.split(": ")[1] for line in found(INPUT + python)] == ["absent"]


def test_a_typing_error_ends_the_look_at_a_file(found):
    (line,) = found(INPUT + FC.replace("num_output", "num_outputs"))
    assert line.startswith("net.prototxt:2:")
    assert line.endswith('error: layer "fc": no field "num_outputs" in InnerProductParameter [cannot-be-read]')


def test_absent_data_are_told_and_replaced(found):
    loss = LOSS.replace("fc", "c")
    conv = 'layer { name: "c" type: "InnerProduct" bottom: "x" top: "c" inner_product_param { num_output: 3 } }\n'
    here = "There is no folder"
    lines = found(DATA + conv + loss, remedies=True)
    assert [line.replace(here, "") for line in lines] == [
        'net.prototxt:2:35: absent: layer "data": "mean.binaryproto" does not exist [mean-file-is-absent]\n',
        'net.prototxt:3:16: absent: layer "data": "train_lmdb" does not exist [source-is-absent]\n'
        "Built with x 5x3x12x12, label 5, as told by the definition.",
    ]


def test_shapes_come_from_a_deploy_net_or_the_user(found, tmp_path):
    conv = 'layer { name: "c" type: "InnerProduct" bottom: "x" top: "c" inner_product_param { num_output: 3 } }\n'
    net = DATA.replace("crop_size: 12", "") + conv + LOSS.replace("fc", "c")
    assert (
        "Built with a guess, x 5x3x224x224, label 5: give what it is with --shape x=N,C,H,W."
        in (found(net, remedies=True)[1])
    )
    (tmp_path / "deploy.prototxt").write_text('input: "x" input_shape { dim: 1 dim: 1 dim: 7 dim: 9 }\n' + conv)
    assert "Built with x 5x1x7x9, label 5, as told by deploy.prototxt." in found(net, remedies=True)[1]
    assert "Built with x 2x8, label 2, as told by --shape." in found(net, remedies=True, shapes={"x": (2, 8)})[1]
    with pytest.raises(ConfigError, match="--shape y: no source of data has a top of this name\n  There are: label, x"):
        found(net, shapes={"y": (2, 8)})


def test_what_does_not_fit_a_guess_is_no_error(found):
    net = (
        'layer { name: "h" type: "HDF5Data" top: "a" top: "b" hdf5_data_param { source: "none.txt" batch_size: 2 } }\n'
        'layer { name: "s" type: "Slice" bottom: "a" top: "p" top: "q" slice_param { axis: 1 slice_point: 9 } }\n'
        'layer { name: "e" type: "Silence" bottom: "b" bottom: "p" bottom: "q" }\n'
    )
    lines = found(net)
    assert [line.split(": ")[1] for line in lines] == ["absent", "warning"]
    assert "[does-not-fit-a-guess]" in lines[1]


def test_shared_parameters_that_do_not_fit_a_guess(found):
    half = (
        'layer { name: "NAME" type: "Convolution" bottom: "NAME_x" top: "NAME" param { name: "w" } '
        "convolution_param { num_output: 2 kernel_size: 3 } }\n"
    )
    net = (
        'layer { name: "d" type: "Data" top: "pair" data_param { source: "no" batch_size: 2 } }\n'
        'layer { name: "s" type: "Slice" bottom: "pair" top: "a_x" top: "b_x" slice_param { slice_point: 1 } }\n'
        + half.replace("NAME", "a")
        + half.replace("NAME", "b")
        + 'layer { name: "e" type: "EuclideanLoss" bottom: "a" bottom: "b" top: "e" }\n'
    )
    assert [line.split(": ")[1] for line in found(net)] == ["absent", "warning"]


def test_a_path_that_is_right_elsewhere(found, tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "mean.binaryproto").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    from caffepy.show.lint.paths import elsewhere

    assert elsewhere("mean.binaryproto", str(tmp_path / "deep" / "net.prototxt")) == (
        f"It is there for commands that are started in {tmp_path / 'deep'}: paths are relative to that."
    )


def test_python_layers_of_others(found):
    net = """
layer { name: "d" type: "Python" top: "data" top: "im_info" top: "gt_boxes"
  python_param { module: "roi_data_layer.layer" layer: "RoIDataLayer" param_str: "'num_classes': 21" } }
layer { name: "c" type: "Convolution" bottom: "data" top: "s"
  convolution_param { num_output: 18 kernel_size: 16 stride: 16 } }
layer { name: "b" type: "Convolution" bottom: "data" top: "b"
  convolution_param { num_output: 36 kernel_size: 16 stride: 16 } }
layer { name: "t" type: "Python" bottom: "s" bottom: "gt_boxes" bottom: "im_info" bottom: "data"
  top: "l" top: "bt" top: "bi" top: "bo" python_param { module: "rpn.anchor_target_layer" layer: "AnchorTargetLayer" } }
layer { name: "r" type: "SmoothL1Loss" bottom: "b" bottom: "bt" bottom: "bi" bottom: "bo" top: "r" loss_weight: 1 }
layer { name: "re" type: "Reshape" bottom: "s" top: "re" reshape_param { shape { dim: 0 dim: 2 dim: -1 dim: 0 } } }
layer { name: "rc" type: "SoftmaxWithLoss" bottom: "re" bottom: "l" top: "rc" propagate_down: 1 propagate_down: 0 }
layer { name: "p" type: "Python" bottom: "s" bottom: "b" bottom: "im_info" top: "rois"
  python_param { module: "rpn.proposal_layer" layer: "ProposalLayer" } }
layer { name: "pt" type: "Python" bottom: "rois" bottom: "gt_boxes" top: "roi" top: "labels" top: "x" top: "y" top: "z"
  python_param { module: "rpn.proposal_target_layer" layer: "ProposalTargetLayer" param_str: "'num_classes': 21" } }
layer { name: "pool" type: "ROIPooling" bottom: "s" bottom: "roi" top: "pool"
  roi_pooling_param { pooled_w: 2 pooled_h: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param { num_output: 84 } }
layer { name: "l1" type: "SmoothL1Loss" bottom: "fc" bottom: "x" bottom: "y" bottom: "z" top: "l1" loss_weight: 1 }
layer { name: "ohem" type: "SoftmaxWithLossOHEM" bottom: "fc" bottom: "labels" top: "s1" top: "s2" top: "each"
  loss_weight: 0 loss_weight: 0 loss_weight: 0 propagate_down: false propagate_down: false }
layer { name: "ohem2" type: "SmoothL1LossOHEM" bottom: "fc" bottom: "x" bottom: "y" top: "s3" top: "each2"
  loss_weight: 0 loss_weight: 0 propagate_down: false propagate_down: false propagate_down: false }
layer { name: "sum" type: "Eltwise" bottom: "each" bottom: "each2" top: "sum" }
layer { name: "quiet" type: "Silence" bottom: "s1" bottom: "s2" bottom: "s3" bottom: "sum" }
layer { name: "acc" type: "Accuracy" bottom: "fc" bottom: "labels" top: "acc" }
"""
    lines = found(net)
    assert [line.split(": ")[1] for line in lines] == ["absent"] * 4
    assert lines[0] == (
        'net.prototxt:3:18: absent: layer "d": the module "roi_data_layer.layer" is not on the Python path '
        "[module-is-absent]"
    )


def test_states_are_phases_stages_and_levels():
    net = text.parse(
        'layer { name: "a" include { phase: TRAIN stage: "s" } } layer { name: "b" include { min_level: 2 } }'
        'layer { name: "c" exclude { phase: TEST } }',
        text.caffe_pb2.NetParameter(),
    )
    assert [name_of(state) for state in states_of(net)] == [
        "TRAIN", 'TRAIN, stage "s"', "TRAIN, level 2", 'TRAIN, level 2, stage "s"', "TEST", "TEST, level 2",
    ]  # fmt: skip


def test_states_that_nobody_means_are_a_note(found):
    staged = INPUT.replace("input_param", 'include { phase: TEST stage: "deploy" } input_param')
    data = INPUT.replace("input_param", 'include { phase: TRAIN not_stage: "deploy" } input_param')
    loss = LOSS.replace("top", 'exclude { stage: "deploy" } top')
    quiet = 'layer { name: "q" type: "Silence" bottom: "label" include { stage: "deploy" } }\n'
    lines = found(staged + data + FC + loss + quiet)
    assert [line.split(": ")[1:3] for line in lines] == [
        ["note", 'not built in TRAIN, stage "deploy"'],
        ["note", "not built in TEST"],
    ]


def test_a_state_of_which_no_other_says_more_is_an_error(found):
    (line,) = found(INPUT.replace("input_param", "include { stage: \"s\" } input_param").replace('"x"', '"w"', 1) + FC
                    .replace('bottom: "x"', 'bottom: "z"') + LOSS)  # fmt: skip
    assert 'error: layer "fc": unknown bottom "z"' in line


def test_old_formats_and_dialects_are_notes(found):
    old = 'layers { name: "x" type: DUMMY_DATA top: "x" dummy_data_param { num: 1 channels: 2 height: 3 width: 3 } }'
    assert found(old) == ["net.prototxt: note: written for an older Caffe, read as it is meant: V1 layers [old-format]"]
    assert found(INPUT + FC.replace("bottom", "freeze_learning: true bottom", 1) + LOSS) == [
        "net.prototxt:2:41: note: LayerParameter.freeze_learning is of another Caffe, and changes nothing here "
        "[foreign-field]"
    ]


def test_what_another_caffe_would_change_is_an_error(found):
    (line,) = found(INPUT + FC.replace("num_output: 3", "num_output: 3 enable_noise: True") + LOSS)
    assert 'error: layer "fc": InnerProductParameter.enable_noise is of another Caffe, and not supported' in line
    assert line.startswith("net.prototxt:2:")
