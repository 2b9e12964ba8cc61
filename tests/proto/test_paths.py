"""Paths to fields: what they mean, which values they take, and what is said of wrong ones."""

from __future__ import annotations

import pytest
from google.protobuf import text_format

from caffepy.errors import ConfigError
from caffepy.proto import paths
from caffepy.proto.caffe_pb2 import NetParameter, SolverParameter

NET = text_format.Parse(
    """
    layer { name: "conv1" type: "Convolution" param { lr_mult: 1 } param { lr_mult: 2 } }
    layer { name: "conv1.b" type: "Convolution" convolution_param { num_output: 2 kernel_size: 3 kernel_size: 5 } }
    layer { name: "drop" type: "Dropout" }
    layer { name: "pool" type: "Pooling" pooling_param { pool: MAX } }
    layer { name: "twice" type: "Data" include { phase: TRAIN } }
    layer { name: "twice" type: "Data" include { phase: TEST } }
    """,
    NetParameter(),
)


def changed(path: str, value: str, start=NET):
    """The lines that setting a path adds to and takes from a definition."""
    message = type(start)()
    message.CopyFrom(start)
    found = paths.find(message, path)
    for target in found:
        target.set(target.parse(value))
    before, after = (text_format.MessageToString(m).split("\n") for m in (start, message))
    return [target.name for target in found], [line.strip() for line in after if line not in before]


@pytest.mark.parametrize(
    ("path", "value", "names", "lines"),
    [
        ("layer.conv1.param.1.lr_mult", "7", ["layer.conv1.param.1.lr_mult"], ["lr_mult: 7.0"]),
        ("layer.conv1.param.*.lr_mult", "7", ["layer.conv1.param.0.lr_mult", "layer.conv1.param.1.lr_mult"], None),
        ("layer.conv1.b.convolution_param.num_output", "8", None, ["num_output: 8"]),
        ("layer.conv1.b.convolution_param.kernel_size.1", "9", None, ["kernel_size: 9"]),
        ("layer.conv1.b.convolution_param.kernel_size", "1,1", None, ["kernel_size: 1", "kernel_size: 1"]),
        ("layer.conv*.convolution_param.bias_term", "false", ["layer.conv1.convolution_param.bias_term",
                                                            "layer.conv1.b.convolution_param.bias_term"], None),
        ("layer.*.dropout_param.dropout_ratio", "0.3", ["layer.drop.dropout_param.dropout_ratio"], None),
        ("layer.*.param.1.decay_mult", "0", ["layer.conv1.param.1.decay_mult"], ["decay_mult: 0.0"]),
        ("layer.pool.pooling_param.pool", "AVE", None, ["pool: AVE"]),
        ("layer.twice.data_param.source", '"a, b"', ["layer.twice.data_param.source"] * 2, None),
        ("layer.conv1.convolution_param.weight_filler", '{ type: "msra" }', None, None),
    ],
)  # fmt: skip
def test_what_a_path_of_a_net_means(path, value, names, lines):
    found, more = changed(path, value)
    assert found == (names or [path])
    assert lines is None or more == lines


def test_the_value_stands_where_it_was_set():
    _, lines = changed("layer.twice.data_param.source", '"a, b"')
    assert lines.count('source: "a, b"') == 2
    _, lines = changed("layer.conv1.convolution_param.weight_filler", '{ type: "msra" }')
    assert 'type: "msra"' in lines


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("base_lr", "1e-3", "base_lr: 0.001"),
        ("type", "Adam", 'type: "Adam"'),
        ("stepvalue", "10,20", "stepvalue: 20"),
        ("solver_mode", "GPU", "solver_mode: GPU"),
        ("early_stop.metric", "accuracy", 'metric: "accuracy"'),
        ("snapshot_diff", "true", "snapshot_diff: true"),
        ("max_iter", "0x10", "max_iter: 16"),
    ],
)
def test_what_a_path_of_a_solver_means(path, value, line):
    found, lines = changed(path, value, SolverParameter())
    assert found == [path] and line in lines


def test_layers_that_are_not_there_are_nothing():
    assert paths.find(NET, "layer.conv9.convolution_param.num_output") == []
    assert paths.find(NET, "layer.*.lrn_param.alpha") == []


@pytest.mark.parametrize(
    ("start", "path", "value", "message"),
    [
        (SolverParameter(), "base_lrr", "1", 'no field "base_lrr" in SolverParameter\n  Did you mean "base_lr"?'),
        (SolverParameter(), "base_lr.x", "1", '"base_lr" is a number, nothing can stand behind it: "x"'),
        (SolverParameter(), "base_lr", "fast", 'base_lr takes a number, got "fast"'),
        (SolverParameter(), "base_lr", "nan", 'base_lr takes a number, got "nan"'),
        (SolverParameter(), "max_iter", "9999999999", 'max_iter takes a whole number of 32 bits, got "9999999999"'),
        (SolverParameter(), "max_iter", "1.5", 'max_iter takes a whole number of 32 bits, got "1.5"'),
        (SolverParameter(), "snapshot_diff", "maybe", 'snapshot_diff takes true or false, got "maybe"'),
        (SolverParameter(), "solver_mode", "CPV",
         'solver_mode: no value "CPV" in SolverMode\n  Did you mean "CPU"?'),
        (SolverParameter(), "early_stop", "3", 'early_stop takes a block { }, got "3"'),
        (NET, "layer", "3", '"layer" is a list of blocks\n  Name one of them and a field: layer.0.NAME'),
        (NET, "layer.conv1.param.2.lr_mult", "3", '"layer.conv1.param" has 2 entries, 0 to 1: there is no "2"'),
        (NET, "layer.*.dropout_param.dropout_rati", "3",
         'no field "dropout_rati" in DropoutParameter (layer.*.dropout_param)\n'
         '  Did you mean "dropout_ratio"?'),
        (NET, "layer.pool.pooling_param.stride", "-1",
         'layer.pool.pooling_param.stride takes a whole number of 32 bits, at least 0, got "-1"'),
    ],
)  # fmt: skip
def test_wrong_paths_and_values(start, path, value, message):
    with pytest.raises(ConfigError) as caught:
        changed(path, value, start)
    assert str(caught.value) == message
