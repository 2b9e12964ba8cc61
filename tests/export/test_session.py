"""Forward passes by onnxruntime: the numbers of the plain ones, whatever is asked of the net in between."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import caffepy
from caffepy import passes
from caffepy.cli import main
from caffepy.errors import ConfigError
from caffepy.export.session import OnnxRuntime
from caffepy.net.observer import Observer
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import NetParameter
from tests.export.support import noise
from tests.export.test_dialects import FASTER_RCNN
from tests.support import assert_close

LENET = Path(__file__).parents[2] / "models" / "lenet"
DEFINITION = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 9 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc"
        inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "power" type: "Power" bottom: "fc" top: "fc" power_param { scale: 2 shift: 1 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


def pair(definition: str = DEFINITION):
    """A net that onnxruntime runs, and one with the same weights that does not."""
    param = text.parse(definition, NetParameter())
    ours = caffepy.Net(param, caffepy.TEST)
    random = np.random.default_rng(2)
    for layer in ours.layers:
        for blob in layer.blobs:
            blob.fill(random.uniform(0.1, 0.5, blob.shape) * random.choice([1, 1, -1] if blob.count > 9 else [1]))
    net = caffepy.Net(param, caffepy.TEST, engine="onnxruntime")
    copy(ours, net)
    return net, ours


def copy(source, target) -> None:
    for mine, theirs in zip(target.layers, source.layers):
        for blob, other in zip(mine.blobs, theirs.blobs):
            blob.fill(other.host())


def sessions(net) -> int:
    return len(net.executor._sessions)


def test_forward():
    net, ours = pair()
    x = noise(2, 3, 9, 8)
    assert_close(net.forward(x=x)["prob"], ours.forward(x=x)["prob"], 1e-5)
    assert sessions(net) == 1


@pytest.mark.parametrize("name", ["conv", "pool", "fc"])
def test_blobs_between_are_computed_when_they_are_read(name):
    """Also where layers run in place, and however often they are read."""
    net, ours = pair()
    for seed in (0, 1):
        x = noise(2, 3, 9, 8, seed=seed)
        net.forward(x=x)
        ours.forward(x=x)
        for _ in range(2):
            assert_close(net.blobs[name].data, ours.blobs[name].data, 1e-5)
        assert_close(net.blobs["prob"].data, ours.blobs["prob"].data, 1e-5)


def test_other_shapes():
    net, ours = pair()
    for items in (2, 5, 2):
        for each in (net, ours):
            each.blobs["x"].reshape(items, 3, 9, 8)
        x = noise(items, 3, 9, 8)
        assert_close(net.forward(x=x)["prob"], ours.forward(x=x)["prob"], 1e-5)
    assert sessions(net) == 2


def test_predict():
    net, ours = pair()
    x = noise(5, 3, 9, 8)
    assert_close(net.predict(x), ours.predict(x), 1e-5)
    assert_close(net.predict(x, output="fc"), ours.predict(x, output="fc"), 1e-5)


def test_new_weights_are_noticed(tmp_path):
    net, ours = pair()
    x = noise(2, 3, 9, 8)
    net.forward(x=x)
    ours.params["conv"][0].data[...] *= -2
    ours.save(tmp_path / "w.caffemodel")
    net.copy_from(tmp_path / "w.caffemodel")
    assert_close(net.forward(x=x)["prob"], ours.forward(x=x)["prob"], 1e-5)
    for each in (net, ours):  # one value alone
        each.params["fc"][0].data[3, 5] = 7
    assert_close(net.forward(x=x)["prob"], ours.forward(x=x)["prob"], 1e-5)


def test_parts_of_a_pass():
    net, ours = pair()
    x = noise(2, 3, 9, 8)
    for each in (net, ours):
        each.forward(x=x)
        each.forward(start="pool", end="fc")
        each.forward(start="power")
    assert_close(net.blobs["prob"].data, ours.blobs["prob"].data, 1e-5)


def test_observers_of_every_layer_see_them():
    seen: list[int] = []

    class Sees(Observer):
        every_layer = True

        def after_layers(self, layers, backward):
            seen.extend(layers)

    net, ours = pair()
    net.observers.append(Sees())
    x = noise(2, 3, 9, 8)
    assert_close(net.forward(x=x)["prob"], ours.forward(x=x)["prob"], 1e-5)
    assert seen == list(range(len(net.layers))) and sessions(net) == 0


def test_layers_that_are_not_exported_run_between_others():
    between = """
    layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 2 } } }
    layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
    layer { name: "score" type: "Accuracy" bottom: "fc" bottom: "label" top: "score" }
    layer { name: "abs" type: "AbsVal" bottom: "fc" top: "abs" }
    """
    net, ours = pair(DEFINITION + between)
    x, label = noise(2, 3, 9, 8), np.float32([1, 2])
    found, expected = net.forward(x=x, label=label), ours.forward(x=x, label=label)
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert_close(found[name], values, 1e-5)
    assert_close(net.forward_from_to(), ours.forward_from_to(), 1e-5)


def test_regions_whose_number_is_found():
    net, ours = pair(FASTER_RCNN)
    for seed in (0, 1):
        inputs = {"data": noise(1, 3, 64, 80, seed=seed), "info": np.float32([[64, 80, 1]])}
        found, expected = net.forward(**inputs), ours.forward(**inputs)
        for name, values in expected.items():
            assert_close(found[name], values, 1e-5)


def test_what_it_refuses():
    net, _ = pair()
    with pytest.raises(ConfigError, match="onnxruntime computes no gradients"):
        net.backward()
    with pytest.raises(ConfigError, match="this one is of the TRAIN phase"):
        caffepy.Net(text.parse(DEFINITION, NetParameter()), caffepy.TRAIN, engine="onnxruntime")
    with pytest.raises(ConfigError, match='no engine "onyx"'):
        caffepy.Net(text.parse(DEFINITION, NetParameter()), caffepy.TEST, engine="onyx")


def test_classifier(tmp_path):
    definition = tmp_path / "net.prototxt"
    definition.write_text(DEFINITION.replace("dim: 2 dim: 3", "dim: 10 dim: 3"))
    caffepy.Net(str(definition), caffepy.TEST).save(tmp_path / "w.caffemodel")
    pictures = [np.random.default_rng(0).random((12, 12, 3), np.float32)]
    found = [
        caffepy.Classifier(str(definition), str(tmp_path / "w.caffemodel"), image_dims=(10, 10), engine=engine)
        for engine in ("numpy", "onnxruntime")
    ]
    assert isinstance(passes.of(found[1]), OnnxRuntime)
    assert_close(found[1].predict(pictures), found[0].predict(pictures), 1e-5)


def test_commands(tmp_path, capsys):
    definition = tmp_path / "net.prototxt"
    data = 'type: "DummyData" top: "x" dummy_data_param { shape'
    definition.write_text(DEFINITION.replace('type: "Input" top: "x" input_param { shape', data))
    caffepy.Net(str(definition), caffepy.TEST).save(tmp_path / "w.caffemodel")
    given = ["--model", str(definition), "--weights", str(tmp_path / "w.caffemodel"), "--iterations", "2"]
    said = {}
    for engine in ("numpy", "onnxruntime"):
        main(["test", *given, "--engine", engine])
        said[engine] = [line.split("] ")[1] for line in capsys.readouterr().err.splitlines() if "prob" in line]
    assert said["numpy"] == said["onnxruntime"] and said["numpy"]
    main(["time", *given, "--phase", "TEST", "--engine", "onnxruntime"])
    shown = capsys.readouterr()
    assert "conv to prob" in shown.out and "Average Forward pass" in shown.err and "Backward" not in shown.err
    for wrong in (["--phase", "TRAIN"], ["--phase", "TEST", "--gpu", "0"], ["--phase", "TEST", "--precision", "bf16"]):
        with pytest.raises(SystemExit):
            main(["time", *given, *wrong, "--engine", "onnxruntime"])
