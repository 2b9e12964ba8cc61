import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from google.protobuf import text_format

from caffepy.errors import ConfigError
from caffepy.proto import upgrade
from caffepy.proto.caffe_pb2 import (
    LayerParameter,
    NetParameter,
    SolverParameter,
    V0LayerParameter,
    V1LayerParameter,
)
from caffepy.proto.upgrade import Upgrade, upgrade_net, upgrade_solver

GOLDEN = Path(__file__).parents[1] / "golden" / "upgrade"
INDEX = json.loads((GOLDEN / "index.json").read_text())
NETS = [name for name in INDEX if not name.startswith("solver")]
SOLVERS = [name for name in INDEX if name.startswith("solver")]

# What Caffe logs when it attempts a step.
STEP_LOGS = {
    "V0 layers": "using deprecated V0LayerParameter",
    "transformation fields": "using deprecated transformation parameters",
    "V1 layers": "using deprecated V1LayerParameter",
    "input fields": "using deprecated input fields",
    "BatchNorm parameters": "batch norm layers using deprecated params",
}


def golden(name, side, message_type):
    if "model" in name:
        return message_type.FromString((GOLDEN / f"{name}.{side}.caffemodel").read_bytes())
    return text_format.Parse((GOLDEN / f"{name}.{side}.prototxt").read_text(), message_type())


def net(text):
    return text_format.Parse(text, NetParameter())


def v0_layer(text, around='bottom: "x" top: "y"'):
    """The V1 layer made of one V0 layer, and what was lost."""
    param = net(f'input: "x" layers {{ layer {{ {text} }} {around} }}')
    result = upgrade_net(param)
    return param.layer[0], result.lost


def assert_error(function, message, expected):
    with pytest.raises(ConfigError) as error:
        function(message)
    assert str(error.value) == expected


# Caffe's own results


@pytest.mark.parametrize("name", NETS)
def test_nets_become_what_caffe_makes_of_them(name):
    param = golden(name, "in", NetParameter)
    result = upgrade_net(param)
    assert param == golden(name, "out", NetParameter)

    log = [line for line in INDEX[name]["log"] if "Attempting" in line]
    assert result.steps == tuple(step for step, text in STEP_LOGS.items() if any(text in line for line in log))
    assert result.changed == (not any("already in latest proto format" in line for line in INDEX[name]["log"]))
    assert bool(result.lost) == (INDEX[name]["exit_code"] == 1)
    # "Unknown parameter num_output for layer type relu"
    unknown = [line.split() for line in INDEX[name]["log"] if "Unknown parameter" in line]
    assert len(result.lost) == len(unknown)
    for sentence, words in zip(result.lost, unknown, strict=True):
        assert f'the type "{words[-1]}" takes no field "{words[-5]}"' in sentence


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_become_what_caffe_makes_of_them(name):
    param = golden(name, "in", SolverParameter)
    changed = upgrade_solver(param)
    assert param == golden(name, "out", SolverParameter)
    assert changed == any("Successfully upgraded" in line for line in INDEX[name]["log"])
    assert not upgrade_solver(param)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("side", ["in", "out"])
def test_a_second_upgrade_changes_nothing(name, side):
    param = golden(name, side, NetParameter)
    upgrade_net(param)
    once = param.SerializeToString(deterministic=True)
    assert upgrade_net(param) == Upgrade()
    assert param.SerializeToString(deterministic=True) == once


@pytest.mark.parametrize("version", ["v0", "v1"])
def test_weights_of_old_models(version):
    param = golden(f"{version}_model", "in", NetParameter)
    upgrade_net(param)
    blobs = {layer.name: layer.blobs for layer in param.layer if layer.blobs}
    with h5py.File(GOLDEN / "old_models_loaded.h5") as file:
        loaded = file[version]["params"]
        assert set(blobs) == set(loaded)
        for layer, arrays in loaded.items():
            assert len(blobs[layer]) == len(arrays)
            for i, blob in enumerate(blobs[layer]):
                np.testing.assert_array_equal(np.array(blob.data, "f4"), arrays[str(i)][()].ravel())


# Tables against the schema


def test_every_v1_type_is_a_distinct_known_name():
    types = list(upgrade._V1_TYPES.values())
    assert len(types) == len(set(types)) == len(V1LayerParameter.LayerType.keys()) == 40
    seen = {layer.type for name in NETS for layer in golden(name, "out", NetParameter).layer}
    assert set(types) <= seen


def test_every_v1_field_has_a_place():
    current = LayerParameter.DESCRIPTOR.fields_by_name
    for field in V1LayerParameter.DESCRIPTOR.fields:
        if field.name not in (*upgrade._V1_PARAM_LISTS, "type", "layer", "fork_type", "fork_param"):
            assert current[field.name].message_type == field.message_type
            assert current[field.name].type == field.type


def test_every_v0_field_is_in_a_table():
    own = {field for _, fields in upgrade._V0_TYPES.values() for field in fields.split()}
    tables = own | {*upgrade._V0_TRANSFORM, *upgrade._V0_KEPT, *upgrade._V0_IGNORED, "hdf5_output_param"}
    assert tables == set(V0LayerParameter.DESCRIPTOR.fields_by_name)


# V0


@pytest.mark.parametrize("type_", upgrade._V0_TYPES)
def test_every_v0_type_takes_exactly_its_own_fields(type_):
    """Sets every field at once; those of the table arrive, the others are reported."""
    param = net(f'layers {{ layer {{ type: "{type_}" }} }}')
    old = param.layers[0].layer
    for field in V0LayerParameter.DESCRIPTOR.fields:
        if field.message_type:
            if field.name != "blobs":
                getattr(old, field.name).SetInParent()
        elif field.name in ("blobs_lr", "weight_decay"):
            getattr(old, field.name).append(2)
        elif field.name != "type":
            string = field.cpp_type == field.CPPTYPE_STRING
            setattr(old, field.name, field.name if string else True if field.cpp_type == field.CPPTYPE_BOOL else 2)
    takes = upgrade._V0_TYPES[type_][1].split() + (["hdf5_output_param"] if type_ == "hdf5_output" else [])

    result = upgrade_net(param)
    layer = param.layer[0]
    lost = {sentence.split('"')[-2] for sentence in result.lost}
    everywhere = {*upgrade._V0_KEPT, *upgrade._V0_TRANSFORM, *upgrade._V0_IGNORED}
    assert lost == {field.name for field in V0LayerParameter.DESCRIPTOR.fields} - everywhere - set(takes)
    assert len(layer.transform_param.ListFields()) == len(upgrade._V0_TRANSFORM)
    assert layer.param[0].lr_mult == layer.param[0].decay_mult == 2
    own = {upgrade._V0_TYPES[type_][0].lower() + "_param"} if takes else set()
    params = {field.name for field, _ in layer.ListFields() if field.name.endswith("_param")}
    assert params == {"transform_param"} | own


def test_v0_explicit_defaults_are_kept():
    layer, lost = v0_layer('name: "c" type: "conv" pad: 0 stride: 1 group: 1 biasterm: true kernelsize: 3')
    own = text_format.Parse("bias_term: true pad: 0 kernel_size: 3 group: 1 stride: 1", type(layer.convolution_param)())
    assert layer.convolution_param == own
    assert not lost


def test_v0_scale_is_taken_by_any_type():
    layer, lost = v0_layer('type: "relu" scale: 2')
    assert layer.transform_param.scale == 2
    assert not lost


def test_v0_layer_without_type():
    layer, lost = v0_layer('name: "a" num_output: 3')
    assert not layer.HasField("type")
    assert lost == ('layer "a": the type "" takes no field "num_output"; it is dropped',)


def test_v0_new_num_and_new_channels_are_dropped_silently():
    layer, lost = v0_layer('name: "i" type: "images" new_num: 1 new_channels: 3 new_height: 5')
    assert layer.image_data_param.new_height == 5
    assert not lost


def test_v0_unnamed_layers_are_reported_by_number():
    _, lost = v0_layer('type: "relu" alpha: 1')
    assert lost == ('layers[0]: the type "relu" takes no field "alpha"; it is dropped',)


def test_v0_keeps_only_its_own_fields_of_net_and_layer():
    param = net(
        'name: "n" force_backward: true debug_info: true state { phase: TEST } '
        'layers { layer { name: "a" type: "relu" } include { phase: TRAIN } } '
        'layers { name: "b" type: SOFTMAX bottom: "x" }'
    )
    result = upgrade_net(param)
    assert param == net('name: "n" force_backward: true layer { name: "a" type: "ReLU" } layer { bottom: "x" }')
    assert result.lost == (
        'the net: the field "state" has no place among V0 layers; it is dropped',
        'the net: the field "debug_info" has no place among V0 layers; it is dropped',
        'layer "a": the field "include" has no place among V0 layers; it is dropped',
        'layers[1]: the field "name" has no place among V0 layers; it is dropped',
        'layers[1]: the field "type" has no place among V0 layers; it is dropped',
    )


def test_v0_unknown_type():
    assert_error(
        upgrade_net,
        net('layers { layer { name: "c" type: "convv" } }'),
        'layer "c": unknown type "convv"\n  Did you mean "conv"?',
    )


PADDING = 'layers { layer { name: "p" type: "padding" pad: 2 } bottom: "x" top: "px" }'


def test_padding_serves_every_reader_of_it():
    conv = 'layers { layer { name: "%s" type: "conv" } bottom: "px" top: "%s" }'
    param = net(PADDING + conv % ("a", "a") + conv % ("b", "b"))
    upgrade_net(param)
    assert [(layer.name, *layer.bottom, *layer.convolution_param.pad) for layer in param.layer] == [
        ("a", "x", 2),
        ("b", "x", 2),
    ]


def test_padding_without_pad_sets_zero():
    param = net(PADDING.replace("pad: 2", "") + 'layers { layer { type: "conv" pad: 3 } bottom: "px" top: "c" }')
    upgrade_net(param)
    assert list(param.layer[0].convolution_param.pad) == [0]


def test_a_top_that_replaces_the_padded_one_counts():
    param = net(
        PADDING
        + 'layers { layer { name: "c" type: "conv" } bottom: "px" top: "px" }'
        + 'layers { layer { name: "r" type: "relu" } bottom: "px" top: "px" }'
    )
    upgrade_net(param)
    assert [(layer.name, *layer.bottom) for layer in param.layer] == [("c", "x"), ("r", "px")]


@pytest.mark.parametrize(
    "layers",
    [
        PADDING + 'layers { layer { name: "c" type: "relu" } bottom: "px" top: "c" }',
        PADDING + 'layers { layer { name: "c" type: "padding" } bottom: "px" top: "c" }',
        PADDING + 'layers { layer { name: "c" type: "conv" } bottom: "px" bottom: "x" top: "c" }',
        PADDING.replace('top: "px"', 'top: "px" top: "q"')
        + 'layers { layer { name: "c" type: "conv" } bottom: "px" top: "c" }',
        PADDING.replace('bottom: "x"', 'bottom: "x" bottom: "y"')
        + 'layers { layer { name: "c" type: "conv" } bottom: "px" top: "c" }',
    ],
    ids=["reader of another type", "padding of padding", "reader of two", "two tops", "two bottoms"],
)
def test_padding_that_no_layer_can_take_over(layers):
    assert_error(
        upgrade_net,
        net(layers),
        'layer "c": "c" cannot take over the padding of "p"\n'
        "  It needs one bottom and one top, for a conv or pool layer with no other bottom.",
    )


# Transformation fields


def test_transforms_are_left_alone_where_no_layer_needs_them():
    param = net('layers { type: DATA data_param { source: "a" } }')
    assert upgrade_net(param).steps == ("V1 layers",)
    assert not param.layer[0].HasField("transform_param")


def test_transform_fields_at_their_default_move_too():
    param = net("layers { type: WINDOW_DATA window_data_param { scale: 1 mirror: false } } layers { type: DATA }")
    upgrade_net(param)
    assert param == net(
        'layer { type: "WindowData" window_data_param { } transform_param { scale: 1 mirror: false } }'
        'layer { type: "Data" data_param { } transform_param { } }'
    )


def test_transform_fields_of_another_type_stay():
    param = net("layers { type: HDF5_DATA data_param { scale: 2 } }")
    assert upgrade_net(param).steps == ("V1 layers",)
    assert param.layer[0].data_param.scale == 2


# V1


def test_layer_and_layers_in_one_file():
    for layers in ("layers { type: RELU }", 'layers { layer { type: "relu" } }'):
        assert_error(
            upgrade_net,
            net(f'layer {{ type: "ReLU" }} {layers}'),
            'the net has both "layer" and "layers" entries, which are of different formats\n'
            '  Rewrite each "layers { type: CONVOLUTION ... }" as "layer { type: "Convolution" ... }".',
        )


def test_layer_order_and_empty_messages_survive():
    param = net('layers { name: "b" relu_param { } } layers { name: "a" include { } exclude { stage: "s" } }')
    upgrade_net(param)
    assert param == net('layer { name: "b" relu_param { } } layer { name: "a" include { } exclude { stage: "s" } }')


@pytest.mark.parametrize("wrap", ["layers { %s }", 'layers { layer { type: "conv" %s } }'], ids=["V1", "V0"])
def test_blobs_of_every_kind_survive(wrap):
    blobs = (
        "blobs { num: 1 channels: 2 height: 1 width: 1 data: [1, nan] diff: [3, 4] }"
        "blobs { shape { dim: [2, 1] } double_data: [1e300, -0.0] double_diff: [1, 2] }"
        "blobs { shape { } }"
        "blobs { }"
    )
    param = net(wrap % blobs)
    upgrade_net(param)
    expected = net(f"layer {{ {blobs} }}")
    param.layer[0].ClearField("type")
    assert param.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


# Inputs


def test_input_shape_wins_over_input_dim():
    param = net('input: "x" input_shape { dim: 7 } input_dim: [1, 2, 3, 4]')
    upgrade_net(param)
    assert param == net('layer { name: "input" type: "Input" top: "x" input_param { shape { dim: 7 } } }')


def test_shapes_beyond_the_inputs_are_dropped():
    for shapes in (
        "input_dim: [1, 2, 3, 4, 5, 6]",
        "input_shape { dim: [1, 2, 3, 4] } input_shape { dim: 5 }",
    ):
        param = net(f'input: "x" {shapes}')
        upgrade_net(param)
        assert param == net(
            'layer { name: "input" type: "Input" top: "x" input_param { shape { dim: [1, 2, 3, 4] } } }'
        )


@pytest.mark.parametrize("shapes", ["input_dim: [1, 2, 3, 4, 5, 6, 7]", "input_shape { dim: [1, 2, 3, 4] }"])
def test_inputs_without_shape(shapes):
    assert_error(
        upgrade_net,
        net(f'input: "x" input: "y" {shapes}'),
        'input "y": the net has 2 "input" but the shapes of only 1\n'
        "  Give each input an input_shape { dim: ... }, or four input_dim (N, C, H, W).",
    )


def test_dimensions_without_input_stay():
    param = net('input_dim: 3 layer { name: "a" }')
    assert upgrade_net(param) == Upgrade()
    assert list(param.input_dim) == [3]


# BatchNorm


def test_batch_norm_whose_parameters_are_fixed_already():
    text = 'layer { type: "BatchNorm" ' + "param { lr_mult: 0 decay_mult: 0 }" * 3 + " }"
    param = net(text)
    assert upgrade_net(param) == Upgrade()
    assert param == net(text)


def test_three_parameters_of_another_type_stay():
    assert upgrade_net(net('layer { type: "Scale" param { } param { } param { } }')) == Upgrade()


# Solvers


def test_two_solver_types():
    assert_error(
        upgrade_solver,
        SolverParameter(type="Adam", solver_type=SolverParameter.NESTEROV),
        'the solver has both "type" and the old "solver_type"\n'
        '  Keep one of them: type: "Adam", or type: "Nesterov" for the old one.',
    )


@pytest.mark.parametrize("name, number", SolverParameter.SolverType.items())
def test_every_solver_type(name, number):
    param = SolverParameter(solver_type=number)
    assert upgrade_solver(param)
    assert param.type.upper() == name
    assert not param.HasField("solver_type")
