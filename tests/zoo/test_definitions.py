"""Nets written by functions: the files are fresh, every net builds, computes and passes gradients to what it learns."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import caffepy
from caffepy.cli import main
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import NetParameter
from caffepy.zoo.catalogue import find, zoo_folder
from models.definitions.catalogue import ALL

MADE = {made.name: made for made in ALL}
SMALL = {
    "nin": 67, "squeezenet": 48, "ssd": 96, "fcn": 96, "mnist_siamese": 28,
    "mnist_triplet": 28, "mnist_autoencoder": 28, "mobilenet_v1": 32, "mobilenet_v2": 32, "shufflenet": 32,
    "resnet18": 32,
}  # fmt: skip
"""Sides of the pictures; other nets take some time."""
LARGE = {name: 32 for name in MADE if name not in SMALL} | {
    "caffenet": 67, "zfnet": 67, "ssd300_vgg16": 300, "ssd300_mobilenet": 300, "segnet": 0,
    "faster_rcnn_vgg16": 224,  # an anchor fits in
}  # fmt: skip
SINGLE = [name for name in LARGE if not name.startswith(("resnet", "se_resnet", "ssd300_m"))]
"""A picture a batch; BatchNorm of maps of one pixel needs two."""
CASES = [*SMALL.items(), *(pytest.param(*item, marks=pytest.mark.slow) for item in LARGE.items())]
RANDOM = np.random.default_rng(2)


@pytest.mark.parametrize("name", MADE)
def test_files_are_as_they_would_be_written(name):
    folder = zoo_folder() / name
    for file, content in MADE[name].files().items():
        assert (folder / file).read_text() == content, f"{folder / file}: run python -m models.definitions"
    assert (folder / "README.md").read_text() == MADE[name].readme(find(name))


def on_input(name: str, side: int, batch: int) -> NetParameter:
    """The net to train, with inputs for its data."""
    param = text.parse((zoo_folder() / name / "train_val.prototxt").read_text(), NetParameter())
    readers = [layer for layer in param.layer if not layer.bottom]
    height, width = (side, side) if side else (360, 480)
    channels = {"mnist_siamese": 2, "mnist_triplet": 3, "mnist_autoencoder": 1}.get(name, 3)
    shapes = [(batch, channels, height, width)]
    if len(readers[0].top) > 1:
        task = MADE[name].task
        shapes += [{"detection": (1, 1, 40, 8), "segmentation": (batch, 1, height, width)}.get(task, (batch,))]
    data = caffepy.proto.caffe_pb2.LayerParameter(name="data", type="Input", top=readers[0].top)
    for shape in shapes:
        data.input_param.shape.add(dim=shape)
    kept = [layer for layer in param.layer if layer.bottom]
    del param.layer[:]
    param.layer.extend([data, *kept])
    return param


def fill(net: caffepy.Net, name: str) -> None:
    for layer in net.layers:
        if layer.type == "BatchNorm":  # as if trained on unit variance
            layer.blobs[1].data[...], layer.blobs[2].data[...] = 1, 1
    data, *labels = (net.blobs[top].data for top in net.inputs)
    data[...] = RANDOM.uniform(0, 1, data.shape)
    classes = MADE[name].classes or 2
    for label in labels:
        label[...] = RANDOM.integers(classes, size=label.shape)
        if MADE[name].task == "detection":  # boxes of all sizes, for the priors of all maps
            for side, row in zip(np.linspace(0.08, 0.95, label.shape[2]), label[0, 0]):
                x, y = RANDOM.uniform(0, 1 - side, 2)
                row[...] = 0, RANDOM.integers(1, classes), 0, x, y, x + side, y + side, 0


@pytest.mark.parametrize(("name", "side"), CASES)
def test_every_learnt_parameter_gets_a_gradient(name, side, monkeypatch):
    monkeypatch.chdir(zoo_folder().parent)
    caffepy.set_random_seed(1)
    net = caffepy.Net(on_input(name, side, 1 if name in SINGLE else 2), caffepy.TRAIN)
    for layer, blobs in net.params.items():
        if layer.startswith("score") and not blobs[0].data.any():  # FCN's scores begin at 0
            blobs[0].data[...] = RANDOM.normal(0, 0.01, blobs[0].shape)
    fill(net, name)
    net.forward()
    net.backward()
    assert all(np.isfinite(blob.data).all() for blob in net.blobs.values())
    rates = {layer.name: [spec.lr_mult for spec in layer.param] for layer in net.param.layer}
    for layer, blobs in net.params.items():
        for i, blob in enumerate(blobs):
            if rates[layer][i : i + 1] != [0]:
                assert np.isfinite(blob.diff).all()
                # ReLUs of nothing, and a bias before BatchNorm, may leave some without.
                assert i > 0 or blob.diff.any(), f"{layer} gets no gradient"


@pytest.mark.parametrize(("name", "side"), CASES)
def test_both_phases_and_deploy_share_their_weights(name, side, monkeypatch):
    monkeypatch.chdir(zoo_folder().parent)
    net = caffepy.Net(on_input(name, side, 1), caffepy.TEST)
    fill(net, name)
    net.forward()
    deploy = caffepy.Net(str(Path("models", name, "deploy.prototxt")), caffepy.TEST)
    trained = {(layer, i): blob.shape for layer, blobs in net.params.items() for i, blob in enumerate(blobs)}
    for layer, blobs in deploy.params.items():
        if not re.search("^(fc6|ip1|fc1000)", layer):  # of the size of the pictures
            assert [blob.shape for blob in blobs] == [trained[layer, i] for i in range(len(blobs))]
        else:
            assert layer in net.params


def test_figures_are_the_published_ones():
    """Parameters and millions of multiply-adds as papers and other implementations have them."""
    for name, parameters, multiply_adds in (
        ("vgg16", 138_357_544, 15_470), ("vgg19", 143_667_240, 19_632), ("resnet18", 11_689_512, 1_814),
        ("resnet50", 25_557_032, 3_858), ("resnet101", 44_549_160, 7_570), ("resnet152", 60_192_808, 11_282),
        ("se_resnet50", 28_088_024, 3_860), ("squeezenet", 1_235_496, 388), ("mobilenet_v1", 4_231_976, 569),
        ("mobilenet_v2", 3_504_872, 301), ("shufflenet", 1_865_728, 137), ("ssd300_vgg16", 26_285_486, 31_374),
        ("caffenet", 60_965_224, 724), ("nin", 7_595_176, 1_100), ("alexnet", 60_965_224, 724),
    ):  # fmt: skip
        entry = find(name)
        assert entry.parameters == parameters
        assert entry.gflop * 500 == pytest.approx(multiply_adds, rel=0.004)


@pytest.mark.parametrize("name", [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)])
def test_caffepy_check_finds_no_error(name, monkeypatch, capsys):
    monkeypatch.chdir(zoo_folder().parent)
    main(["check", f"models/{name}/solver.prototxt"])
    assert f'solver "{MADE[name].title}"' in capsys.readouterr().out
