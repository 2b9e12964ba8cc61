"""Sequences of layers: built in Python, run, saved as prototxt and loaded again."""

from __future__ import annotations

import numpy as np
import pytest

import caffepy as caffe
from caffepy.errors import ConfigError, DataError
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import LayerParameter, NetParameter
from tests.support import ENGINES, assert_close

LAYERS = [
    'type: "Convolution" convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } }',
    'type: "ReLU"',
    'name: "pool" type: "Pooling" pooling_param { kernel_size: 2 stride: 2 }',
    'type: "Convolution" convolution_param { num_output: 5 kernel_size: 1 weight_filler { type: "xavier" } }',
    'name: "score" type: "InnerProduct" inner_product_param { num_output: 2 weight_filler { type: "xavier" } }',
    'type: "Accuracy" include { phase: TEST }',
    'type: "SoftmaxWithLoss"',
    'name: "prob" type: "Softmax"',
]


def layer(line: str) -> LayerParameter:
    return text.parse(line, LayerParameter())


def small() -> caffe.Sequence:
    return caffe.Sequence([layer(line) for line in LAYERS], input=(8, 1, 6, 6), name="small")


def wiring(net: NetParameter) -> list[tuple[str, list[str], list[str]]]:
    return [(found.name, list(found.bottom), list(found.top)) for found in net.layer]


def test_each_layer_takes_the_output_of_the_one_before():
    net = small().to_proto()
    assert net.name == "small"
    assert wiring(net) == [
        ("data", [], ["data"]),
        ("label", [], ["label"]),
        ("Convolution1", ["data"], ["Convolution1"]),
        ("ReLU1", ["Convolution1"], ["ReLU1"]),
        ("pool", ["ReLU1"], ["pool"]),
        ("Convolution2", ["pool"], ["Convolution2"]),
        ("score", ["Convolution2"], ["score"]),
        ("Accuracy1", ["score", "label"], ["Accuracy1"]),
        ("SoftmaxWithLoss1", ["score", "label"], ["SoftmaxWithLoss1"]),
        ("prob", ["score"], ["prob"]),
    ]
    assert [list(found.input_param.shape[0].dim) for found in net.layer[:2]] == [[8, 1, 6, 6], [8]]
    assert net.layer[2].convolution_param.num_output == 4


def test_without_a_loss_there_is_no_label():
    sequence = caffe.Sequence(input=[2, 3])
    sequence.add(layer('type: "TanH"'))
    assert wiring(sequence.to_proto()) == [("data", [], ["data"]), ("TanH1", ["data"], ["TanH1"])]
    assert not sequence.to_proto().HasField("name")
    assert (
        len(sequence) == 1
        and sequence[0].name == sequence[-1].name == "TanH1"
        and [found.name for found in sequence] == ["TanH1"]
    )
    assert repr(sequence) == "Sequence((2, 3): TanH1)"


def test_the_label_may_have_another_shape():
    sequence = caffe.Sequence([layer('type: "EuclideanLoss"')], input=(2, 3), label=(2, 3))
    assert sequence.net().blobs["label"].shape == (2, 3)


@pytest.mark.parametrize("engine", ENGINES)
def test_it_trains(engine):
    caffe.set_random_seed(1)
    x = np.random.default_rng(0).normal(size=(100, 1, 6, 6))
    y = x[:, 0, :3].sum((1, 2)) > x[:, 0, 3:].sum((1, 2))
    net = small().net(engine=caffe.engine.get_engine(engine))
    history = net.fit(x, y, epochs=20, batch_size=10, solver={"type": "Adam", "base_lr": 0.01})
    assert history["loss"][-1] < history["loss"][0] / 2
    probabilities = net.predict(x)
    assert probabilities.shape == (100, 2)
    accuracy = (probabilities.argmax(1) == y).mean()
    assert accuracy > 0.9 and accuracy == pytest.approx(net.evaluate(x, y)["Accuracy1"])


def test_saved_and_loaded_it_is_the_same(tmp_path):
    sequence = small()
    path = tmp_path / "small.prototxt"
    sequence.save(path)
    loaded = caffe.Sequence.load(path)
    assert loaded.to_proto() == sequence.to_proto()
    assert caffe.Sequence.load(str(path)).input == (8, 1, 6, 6)
    net = sequence.net(caffe.TEST)
    net.save(tmp_path / "w.caffemodel")
    other = loaded.net(caffe.TEST, weights=tmp_path / "w.caffemodel")
    x = np.random.default_rng(0).normal(size=(3, 1, 6, 6))
    assert_close(other.predict(x), net.predict(x))
    assert caffe.Net(str(path), caffe.TEST, weights=str(tmp_path / "w.caffemodel")).predict(x).shape == (3, 2)


def test_a_definition_with_layers_in_place_and_names_of_its_own(tmp_path):
    path = tmp_path / "n.prototxt"
    path.write_text(
        'layer { name: "in" type: "Input" top: "x" top: "t"\n'
        "  input_param { shape { dim: 2 dim: 3 } shape { dim: 2 } } }\n"
        'layer { name: "TanH1" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 3 } }\n'
        'layer { name: "TanH2" type: "ReLU" bottom: "ip" top: "ip" }\n'
        'layer { name: "TanH3" type: "TanH" bottom: "ip" top: "h" }\n'
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "h" bottom: "t" top: "l" }\n'
    )
    sequence = caffe.Sequence.load(path)
    assert wiring(sequence.to_proto())[2:] == wiring(text.read_net(path).param)[1:]
    assert sequence.names == ("x", "t") and sequence.label == (2,)
    assert caffe.Sequence.load(sequence.to_proto()).to_proto() == sequence.to_proto()
    assert sequence.net().outputs == ["l"]


def test_layers_of_netspec_in_place(tmp_path):
    from caffepy import layers as L

    sequence = caffe.Sequence(
        [
            L.InnerProduct(num_output=3),
            L.ReLU(in_place=True),
            L.Accuracy(),
            L.SoftmaxWithLoss(),
            L.InnerProduct(name="score", num_output=2),
            L.Dropout(name="drop", in_place=True),
            L.TanH(),
        ],
        input=(2, 3),
    )
    found = wiring(sequence.to_proto())[2:]
    assert [*found[:2], *found[4:]] == [
        ("InnerProduct1", ["data"], ["InnerProduct1"]),
        ("ReLU1", ["InnerProduct1"], ["InnerProduct1"]),
        ("score", ["InnerProduct1"], ["score"]),
        ("drop", ["score"], ["score"]),
        ("TanH1", ["score"], ["TanH1"]),
    ]
    assert sequence.net().blobs["TanH1"].shape == (2, 2)
    sequence.save(tmp_path / "n.prototxt")
    assert caffe.Sequence.load(tmp_path / "n.prototxt").to_proto() == sequence.to_proto()


def refused(function) -> str:
    with pytest.raises(ConfigError) as caught:
        function()
    return str(caught.value)


def test_a_folder_that_is_missing(tmp_path):
    for save in (small().save, small().net().save, small().net().save_hdf5):
        with pytest.raises(DataError, match="there is no folder"):
            save(tmp_path / "absent" / "file")


def test_what_is_no_row(tmp_path):
    x = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 } } }\n'
    path = tmp_path / "n.prototxt"
    path.write_text(
        x
        + 'layer { name: "a" type: "TanH" bottom: "x" top: "a" }\nlayer { name: "b" type: "TanH" bottom: "x" top: "b" }'
    )
    assert refused(lambda: caffe.Sequence.load(path)) == (
        f'{path}: layer "b": the layer takes x, in a row it would take a\n'
        "  A net that branches is no sequence: use caffepy.Net."
    )
    path.write_text('layer { name: "d" type: "DummyData" top: "x" dummy_data_param { shape { dim: 2 } } }')
    assert refused(lambda: caffe.Sequence.load(path)) == (
        f"{path}: a sequence has an input and perhaps a label, this net has 0 inputs\n"
        "  Its data must come from Input layers."
    )

    def of(*lines):
        return lambda: caffe.Sequence([layer(line) for line in lines], input=(1, 2))

    assert refused(of('type: "Eltwise"')) == (
        "a layer of type Eltwise does not fit into a row: it takes 2 bottom(s)\n"
        "  Write the net with caffepy.NetSpec, or as prototxt."
    )
    assert refused(of('type: "DummyData"')).startswith("a layer of type DummyData does not fit into a row")
    assert refused(of('type: "Relu"')) == 'unknown layer type "Relu"\n  Did you mean "ReLU"?'
    assert refused(of('type: "ReLU" name: "a"', 'type: "TanH" name: "a"')) == ('the sequence has two layers called "a"')
    assert refused(lambda: caffe.Sequence(["ReLU"], input=(1, 2))) == (
        "a sequence consists of layers, got 'ReLU'\n  Write, for example: caffepy.layers.ReLU()."
    )


def test_layers_of_netspec():
    from caffepy import layers as L

    sequence = caffe.Sequence(
        [
            L.Convolution(num_output=4, kernel_size=3, weight_filler={"type": "xavier"}),
            L.ReLU(),
            L.Convolution(num_output=2, kernel_size=1),
            L.InnerProduct(name="score", num_output=2),
            L.SoftmaxWithLoss(),
        ],
        input=(8, 1, 6, 6),
    )
    assert [found.name for found in sequence] == ["Convolution1", "ReLU1", "Convolution2", "score", "SoftmaxWithLoss1"]
    net = sequence.net()
    assert net.params["Convolution1"][0].shape == (4, 1, 3, 3)
    assert net.inputs == ["data", "label"]
    with pytest.raises(ConfigError, match=r"^a layer of type ReLU is given with its bottoms"):
        caffe.Sequence([L.ReLU(L.TanH())], input=(1, 2))
