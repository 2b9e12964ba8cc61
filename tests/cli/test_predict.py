"""caffepy predict on a net of one's own: pictures prepared as for training, tables and HDF5 files, a CSV of it all."""

from __future__ import annotations

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest

from caffepy import passes, rng
from caffepy.arrays.predict import predict as of_arrays
from caffepy.cli import main
from caffepy.data.pictures import image
from caffepy.net import weights
from caffepy.net.net import Net
from caffepy.proto.caffe_pb2 import TEST

BODY = """
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 3
  weight_filler { type: "gaussian" std: 0.01 } } }
"""
DEPLOY = """layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 6 dim: 6 } } }
%s layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }"""
TRAIN_VAL = """layer { name: "data" type: "Data" top: "data" top: "label" %s
  transform_param { crop_size: 6 mean_value: 10 mean_value: 20 mean_value: 30 scale: 0.02 mirror: true }
  data_param { source: "db/train_lmdb" batch_size: 5 } }
%s layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Five pictures of a database, a net for use and its weights, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    Path("pets/cat").mkdir(parents=True)
    Path("net").mkdir()
    for i in range(5):
        picture = random.integers(0, 256, (3, 12 + i, 10)).astype(np.uint8)
        Path("pets/cat", f"{i}.png").write_bytes(image.encode(picture, "png"))
    Path("labels.txt").write_text("cat\ndog\nbird\n")
    main(["convert-imageset", "pets", "db", "--resize", "8"])
    Path("net/deploy.prototxt").write_text(DEPLOY % BODY)
    rng.seed(1)
    weights.save(Net("net/deploy.prototxt", TEST), "w.caffemodel")


def predict(*words: str) -> list[list[str]]:
    main(["predict", "--model", "net/deploy.prototxt", "--weights", "w.caffemodel", *words, "--output", "out.csv"])
    with open("out.csv", newline="") as file:
        return list(csv.reader(file))


def scores(*words: str) -> np.ndarray:
    """Those of the three classes, in their order."""
    _, *rows = predict(*words)
    return np.array([[float(dict(zip(row[1::2], row[2::2]))[str(k)]) for k in range(3)] for row in rows])


def test_pictures_are_prepared_as_the_data_layer_beside_does(capsys):
    Path("net/train_val.prototxt").write_text(TRAIN_VAL % ("", BODY))
    net = Net("net/train_val.prototxt", TEST, weights="w.caffemodel")
    net.param.layer[0].transform_param.mirror = False
    net = Net(net.param, TEST, weights="w.caffemodel")
    passes.of(net).forward()
    logits = net.engine_blobs["ip"].host()
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = scores("pets")
    assert "Pictures are prepared as in net/train_val.prototxt" in capsys.readouterr().err
    np.testing.assert_allclose(np.sort(found[:, 0]), np.sort(expected[:, 0]), rtol=1e-4)
    assert found.std(axis=0).min() > 1e-3
    options = ["--resize", "8", "--crop-size", "6", "--mean-value", "10,20,30", "--scale", "0.02"]
    np.testing.assert_array_equal(scores("pets", *options), found)
    Path("net/train_val.prototxt").rename("other.prototxt")
    np.testing.assert_array_equal(scores("pets", "--like", "other.prototxt"), found)
    assert np.abs(scores("pets", *options, "--rgb") - found).max() > 1e-3
    assert np.abs(scores("pets") - found).max() > 1e-3  # as they are, with a warning
    assert "see --like, --mean-value" in capsys.readouterr().err


def test_labels_and_the_best(capsys):
    header, *rows = predict("pets", "--labels", "labels.txt", "--top", "2")
    assert header == ["input", "label_1", "score_1", "label_2", "score_2"]
    assert [row[0] for row in rows] == [f"pets/cat/{i}.png" for i in range(5)]
    shown = capsys.readouterr().out.splitlines()
    name, first, p, second, q = rows[3]
    assert shown[3] == f"{name}: {first} {float(p):.4f}, {second} {float(q):.4f}" and float(p) >= float(q)
    assert predict("pets/*/[12].png")[1:] == [[*row[:1], *predict("pets/*/[12].png")[1 + i][1:]]
                                              for i, row in enumerate(rows[1:3])]  # fmt: skip


def test_values_of_a_blob():
    header, row = predict("pets/cat/0.png", "--blob", "ip")
    assert header == ["input", "value_1", "value_2", "value_3"] and len(row) == 4


def test_hdf5_and_tables(capsys):
    x = np.random.default_rng(0).normal(size=(3, 3, 6, 6)).astype("f4")
    with h5py.File("x.h5", "w") as file:
        file["data"] = x
    np.savetxt("x.csv", x.reshape(3, -1), delimiter=",", fmt="%.9g")
    expected = of_arrays(Net("net/deploy.prototxt", TEST, weights="w.caffemodel"), x)
    np.testing.assert_allclose(scores("x.h5"), expected, rtol=1e-4)
    np.testing.assert_allclose(scores("x.csv"), expected, rtol=1e-4)
    assert predict("x.h5")[1][0] == "x.h5:0"


def test_a_picture_that_does_not_decode_is_left_out(capsys):
    Path("pets/cat/9.png").write_bytes(b"no picture")
    assert len(predict("pets")) == 6
    assert "pets/cat/9.png: the picture does not decode" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, message",
    [
        ("--weights w.caffemodel pats", 'pats: there is no such file or folder\n  Did you mean "pets"?'),
        ("pets", "--weights is missing: the net's weights, or --server HOST:PORT to ask a server"),
        ("--weights w.caffemodel net", "net: no pictures lie in it"),
        ("--weights w.caffemodel w.h5", 'w.h5: there is nothing for the net\'s input "data"\n  Did you mean "date"?'),
        ("--weights w.caffemodel w.csv", 'w.csv:2: "x" in the column '),
        ("--weights w.caffemodel pets --labels two.txt", "two.txt: 2 names for 3 classes"),
        ("--weights w.caffemodel pets --resize 4 --crop-size 6", "crop_size 6 is larger than the picture, 4x4"),
        ("--weights w.caffemodel pets --resize 8", "pictures of 8x8 become (3, 8, 8), the net's input takes (3, 6, 6)"),
        ("--weights w.caffemodel pets --resize big", '"big" is no size: give 256, or HEIGHTxWIDTH such as 256x320'),
        ("--weights w.caffemodel pets --mean-value a", '--mean-value takes numbers, got "a"'),
        ("--weights w.caffemodel pets --output no/out.csv", "no/out.csv: there is no folder no to write into"),
        ("--weights w.caffemodel pets --server a:1", "--server and --weights are both given: keep one of the two"),
        ("--weights w.caffemodel bad.png", "none of the inputs can be read\n  The files are named above."),
    ],
)
def test_mistakes(words, message, capsys):
    Path("two.txt").write_text("a\nb\n")
    Path("bad.png").write_bytes(b"bad")
    with h5py.File("w.h5", "w") as file:
        file["date"] = np.zeros((2, 3))
    Path("w.csv").write_text("1," * 107 + "2\n" + "1," * 107 + "x\n")
    before = sorted(Path().iterdir())
    with pytest.raises(SystemExit) as stop:
        main(["predict", "--model", "net/deploy.prototxt", *words.split()])
    assert stop.value.code
    assert message in capsys.readouterr().err
    assert sorted(Path().iterdir()) == before
