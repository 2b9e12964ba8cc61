"""Pictures of a net's insides, and of a test's mistakes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffepy.cli import main
from caffepy.data.pictures import image
from caffepy.data.pictures.tiles import joined, tiles
from caffepy.net import weights
from caffepy.net.net import Net
from caffepy.proto.caffe_pb2 import TEST
from caffepy.show import insides
from tests.data.databases import database

NET = """layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "deep" type: "Convolution" bottom: "conv" top: "deep"
  convolution_param { num_output: 2 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 2 } }
"""
TESTED = """layer { name: "data" type: "Data" top: "data" top: "label" data_param { source: "db" batch_size: 2 } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 2 } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" }
"""


def named(net: Net, name: str):
    return next(layer for layer in net.layers if layer.name == name)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET)
    net = Net("net.prototxt", TEST)
    ip = np.zeros((2, 3, 8, 8), np.float32)
    ip[1, :, 5:, 5:] = 0.1  # class 1 sees a corner alone
    named(net, "ip").blobs[0].fill(ip.reshape(2, -1))
    weights.save(net, "w.caffemodel")
    random = np.random.default_rng(0)
    Path("a.png").write_bytes(image.encode(random.integers(100, 256, (3, 8, 8)).astype(np.uint8), "png"))


def draw(*words: str) -> np.ndarray:
    main(["draw-filters", "--model", "net.prototxt", "--weights", "w.caffemodel", "out.png", *words])
    return image.read("out.png")


def test_tiles_and_rows():
    values = np.arange(16.0).reshape(4, 1, 2, 2)
    expected = (np.arange(4).reshape(2, 2) * 255 / 3).astype(np.uint8)
    found = tiles(values)
    assert found.shape == (3, 5, 5) and (found[:, 2] == 255).all()
    for top, left in ((0, 0), (0, 3), (3, 0), (3, 3)):
        assert (found[:, top : top + 2, left : left + 2] == expected).all()
    assert tiles(values, least=4).shape == (3, 9, 9)
    assert joined([np.zeros((3, 2, 4), np.uint8)] * 5).shape == (3, 8, 9)


def test_filters():
    filters = Net("net.prototxt", TEST, weights="w.caffemodel")
    filters = named(filters, "conv").blobs[0].host()
    found = draw()
    assert found.shape == (3, 67, 67)
    first = filters[0]
    shades = ((first - first.min()) / (first.max() - first.min()) * 255).astype(np.uint8)
    np.testing.assert_allclose(found[:, :33:11, :33:11], shades, atol=1)  # rounded otherwise
    assert draw("--layer", "deep").shape[0] == 3


def test_feature_maps():
    net = Net("net.prototxt", TEST, weights="w.caffemodel")
    picture = image.read("a.png").astype(np.float32)
    expected = insides.feature_maps(net, picture, "conv")
    np.testing.assert_array_equal(draw("--picture", "a.png"), expected)
    assert expected.shape[1] > 90


def test_what_an_answer_depends_on():
    net = Net("net.prototxt", TEST, weights="w.caffemodel")
    picture = np.zeros((3, 8, 8), np.float32)
    picture[:, 5:, 5:] = 64
    heat = insides.occlusion(net, picture, 2, 1, "ip")
    assert heat[6, 6] > 1 and np.abs(heat[:4, :4]).max() < 1e-3
    assert np.abs(insides.occlusion(net, picture, 2, 1, "ip", 0)).max() == 0
    assert draw("--picture", "a.png", "--occlusion", "--size", "2", "--stride", "1").shape == (3, 128, 256)


def test_the_confusion_matrix_and_the_worst(capsys):
    pytest.importorskip("matplotlib")
    database(Path("db"), [np.full((3, 8, 8), 30 + 30 * i, np.uint8) for i in range(2)])
    Path("test.prototxt").write_text(TESTED)
    Path("labels.txt").write_text("cat\ndog\n")
    main(["test", "--model", "test.prototxt", "--weights", "w.caffemodel", "--iterations", "2",
          "--confusion", "c.png", "--gallery", "g.png", "--labels", "labels.txt"])  # fmt: skip
    drawn = image.read("c.png")
    assert drawn.shape[0] == 3 and len(np.unique(drawn)) > 10
    assert image.read("g.png").shape[1] > 96


@pytest.mark.parametrize(
    "words, message",
    [
        ("--layer convv", 'no layer with filters is called "convv"\n  Did you mean "conv"?'),
        ("--occlusion", "--occlusion is missing --picture"),
        ("--picture b.png", "b.png"),
        ("--picture a.png --layer ip", 'the blob "ip" is (2,) for a picture: it has no maps'),
        ("--picture a.png --occlusion --layer ip --class 7", '"ip" has values 0 .. 1, not 7'),
    ],
)
def test_mistakes(words, message, capsys):
    with pytest.raises(SystemExit):
        draw(*words.split())
    assert message in capsys.readouterr().err
    assert not Path("out.png").exists()


def test_a_net_without_classes(capsys):
    Path("test.prototxt").write_text(TESTED[: TESTED.index('layer { name: "accuracy"')])
    database(Path("db"), [np.full((3, 8, 8), i, np.uint8) for i in range(8)])
    with pytest.raises(SystemExit):
        main(["test", "--model", "test.prototxt", "--weights", "w.caffemodel", "--gallery", "g.png"])
    assert "no layer of the net compares classes" in capsys.readouterr().err
