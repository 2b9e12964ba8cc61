"""Reading prototxt: places of layers, and the whole message of every kind of mistake."""

from __future__ import annotations

import pytest

from caffepy.errors import ConfigError
from caffepy.proto import caffe_pb2, text

NET = """name: "n"  # a comment with layer { in it
layer {
  name: "conv1"
  type: "Convolution"
  convolution_param {
    num_output: 3
  }
}
  layer { name: 'two' type: "ReLU" include { phase: TEST } }
layers < name: "old" type: RELU >
layer { type: "Silence" }
"""


def message(source: str, kind=caffe_pb2.NetParameter) -> str:
    with pytest.raises(ConfigError) as caught:
        text.parse(source, kind(), "n.prototxt")
    return str(caught.value)


def test_layers_are_found_where_they_begin():
    assert text.layer_places(NET) == [(2, 1, "conv1"), (9, 3, "two"), (10, 1, "old"), (11, 1, "")]


def test_layers_of_one_name_keep_their_order(tmp_path):
    path = tmp_path / "n.prototxt"
    path.write_text('layer { name: "d" type: "Input" }\nlayer { name: "d" type: "Silence" }\n')
    assert text.read_net(path).places == {"d": [f"{path}:1:1", f"{path}:2:1"]}


SOLVER = """# multi_task { a comment
net: "multi_task {" multi_task {
  method: PCGRAD
  task { loss: "a" } task { loss: "b"
         min_weight: 2 }
  gradnorm < layer : "fc" > }
"""


def test_fields_are_found_by_the_way_to_them():
    places = text.field_places(SOLVER)
    assert places["multi_task"] == (2, 21)
    assert places["multi_task.task.loss"] == (4, 10)
    assert places["multi_task.task[1].min_weight"] == (5, 10)
    assert places["multi_task.gradnorm.layer"] == (6, 14)


def test_a_field_that_is_not_set_is_at_the_block_around_it(tmp_path):
    path = tmp_path / "s.prototxt"
    path.write_text(SOLVER)
    assert text.place_of(path, "multi_task.dwa.period") == f"{path}:2:21"
    assert text.place_of(path, "snapshot_format") == str(path)
    assert text.place_of(tmp_path / "gone", "net") == str(tmp_path / "gone")


MISTAKES = {
    # field: in the layer, in a message of it, in a message of that
    "num_output: 3": (
        "bottum: 3",
        'n.prototxt:6:5: layer "conv1": no field "bottum" in ConvolutionParameter',
    ),
    "num_output": (
        "num_outptu",
        'n.prototxt:6:5: layer "conv1": no field "num_outptu" in ConvolutionParameter\n  Did you mean "num_output"?',
    ),
    'type: "Convolution"': (
        'tpye: "Convolution"',
        'n.prototxt:4:3: layer "conv1": no field "tpye" in LayerParameter\n  Did you mean "type"?',
    ),
    "num_output: 3\n": (
        "weight_filler { typ: 1 }\n",
        'n.prototxt:6:21: layer "conv1": no field "typ" in FillerParameter\n  Did you mean "type"?',
    ),
    'name: "n"': (
        'nmae: "n"',
        'n.prototxt:1:1: no field "nmae" in NetParameter\n  Did you mean "name"?',
    ),
    # a field of another message
    "  convolution_param": (
        "  crop_size: 2\n  convolution_param",
        'n.prototxt:5:3: layer "conv1": no field "crop_size" in LayerParameter\n  '
        '"crop_size" belongs inside transform_param { } or data_param { } or image_data_param { } '
        "or window_data_param { }.",
    ),
    # enums
    "TEST": (
        "TETS",
        'n.prototxt:9:53: layer "two": no value "TETS" in Phase\n  Did you mean "TEST"?',
    ),
    "phase: TEST": (
        "phase: XX",
        'n.prototxt:9:53: layer "two": no value "XX" in Phase\n  Known values: TRAIN, TEST.',
    ),
    "{ phase: TEST": (
        '{ phase: "TEST"',
        'n.prototxt:9:53: layer "two": "TEST" is a string, not a value\n  Write it without quotes: TEST.',
    ),
    "RELU": (
        "RELV",
        'n.prototxt:10:28: layer "old": no value "RELV" in V1LayerParameter.LayerType\n  Did you mean "RELU"?',
    ),
    # values and syntax
    ": 3": (": 3.5", 'n.prototxt:6:17: layer "conv1": Couldn\'t parse integer: 3.5'),
    ': "Convolution"': (
        ": Convolution",
        "n.prototxt:4:9: layer \"conv1\": Expected string but found: 'Convolution'",
    ),
    "  type": (
        '  name: "a"\n  type',
        'n.prototxt:4:9: layer "conv1": field "name" is given twice in LayerParameter',
    ),
    '{ type: "Silence" }': ('{ type: "Silence"', 'n.prototxt:11:15: Expected "}".'),
}


@pytest.mark.parametrize("before", MISTAKES)
def test_mistakes_are_located_and_explained(before):
    after, expected = MISTAKES[before]
    assert before in NET
    assert message(NET.replace(before, after, 1)) == expected


@pytest.mark.parametrize(
    ("source", "kind", "hint"),
    [
        ("net: 'a'", caffe_pb2.NetParameter, "This looks like a solver definition, a net's is expected."),
        ("layer { }", caffe_pb2.SolverParameter, "This looks like a net definition, a solver's is expected."),
    ],
)
def test_a_solver_and_a_net_are_told_apart(source, kind, hint):
    assert message(source, kind).endswith(f"\n  {hint}")


def test_a_required_field_must_be_set():
    assert message("min: 1", caffe_pb2.ClipParameter) == "n.prototxt: required field max is not set"


def test_files_of_old_editors_are_read(tmp_path):
    path = tmp_path / "n.prototxt"
    path.write_bytes('name: "n"  # Größe\r\nlayer { name: "a" type: "Input" }\r\n'.encode("latin-1"))
    assert text.read_net(path).param.name == "n"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\xf6\xdf", b"oess"))
    assert text.read_net(path).places == {"a": [f"{path}:2:1"]}


@pytest.mark.parametrize("read", [text.read_net, text.read_solver])
def test_a_missing_file_offers_the_nearest_name(tmp_path, read):
    (tmp_path / "solver.prototxt").write_text("")
    (tmp_path / "train.prototxt").write_text("")
    with pytest.raises(ConfigError) as caught:
        read(tmp_path / "slover.prototxt")
    assert str(caught.value) == (
        f"{tmp_path}/slover.prototxt: cannot read the file: No such file or directory\n"
        '  Did you mean "solver.prototxt"?'
    )


def test_a_missing_folder_is_named_with_where_one_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        text.read_net("models/n.prototxt")
    assert caught.value.hint == f"There is no folder models in {tmp_path}, where the command was started."


def test_binary_files_are_no_prototxt(tmp_path):
    path = tmp_path / "a.caffemodel"
    path.write_bytes(b"\x0a\x00\xff\xfe")
    with pytest.raises(ConfigError) as caught:
        text.read_net(path)
    assert str(caught.value) == (
        f"{path}: this is a binary file, a prototxt is expected\n"
        "  Weights (.caffemodel) are given with --weights, definitions with --model or --solver."
    )


def test_an_empty_file_is_no_net(tmp_path):
    path = tmp_path / "n.prototxt"
    path.write_text("# later\n")
    with pytest.raises(ConfigError) as caught:
        text.read_net(path)
    assert str(caught.value) == f"{path}: the definition has no layer\n  Add layer {{ ... }} blocks."


def test_text_reads_back_as_it_was_written():
    param = text.parse(NET, caffe_pb2.NetParameter())
    assert text.parse(text.to_text(param), caffe_pb2.NetParameter()) == param


def test_floats_are_printed_in_their_shortest_form():
    assert text.to_text(caffe_pb2.SolverParameter(base_lr=0.1, momentum=1e-10)) == "base_lr: 0.1\nmomentum: 1e-10\n"
