"""caffepy new: a net of the zoo as one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import caffepy
from caffepy.cli import main
from caffepy.data.sources.databases import write_lmdb
from caffepy.data.sources.datum import from_image
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import NetParameter
from caffepy.zoo.catalogue import entries, find
from caffepy.zoo.copying import Wishes, written

RANDOM = np.random.default_rng(3)


def database(path: Path, count: int, shape=(1, 28, 28)) -> None:
    """Squares on the left or on the right."""
    path.parent.mkdir(exist_ok=True)
    records = []
    for i in range(count):
        picture = RANDOM.integers(0, 60, shape, dtype=np.uint8)
        side = slice(0, shape[2] // 2) if i % 2 else slice(shape[2] // 2, None)
        picture[:, :, side] += 150
        records.append((f"{i:05}".encode(), from_image(picture, i % 2).SerializeToString()))
    write_lmdb(path, records)


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    database(tmp_path / "own" / "train_lmdb", 200)
    database(tmp_path / "own" / "val_lmdb", 60)
    return tmp_path


def fails(capsys, *args: str) -> str:
    with pytest.raises(SystemExit):
        main(["new", *args])
    return capsys.readouterr().err


@pytest.mark.parametrize("name", [entry.name for entry in entries()])
def test_every_net_is_copied_as_it_is_with_paths_of_its_own(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["new", name, "mine"])
    entry = find(name)
    assert capsys.readouterr().out == f"mine is made. To train it: caffepy train --solver mine/{entry.solver}\n"
    for path in Path("mine").iterdir():
        assert f"models/{entry.folder}/" not in path.read_text()
    assert Path(text.read_solver(f"mine/{entry.solver}").net).is_file()


def test_own_data_is_trained_on_as_it_is(own, capfd):
    Path("own/labels.txt").write_text("left\nright\n")
    main(["new", "lenet", "mine", "--data", "own"])
    solver = text.read_solver("mine/lenet_solver.prototxt")
    assert (solver.max_iter, solver.test_iter, solver.test_interval) == (160, [1], 25)  # 25 batches of 8 an epoch
    assert solver.base_lr == pytest.approx(0.01 * 8 / 64, rel=1e-4)
    assert not Path("mine/lenet_full_solver.prototxt").exists()
    main(["train", "--solver", "mine/lenet_solver.prototxt"])
    assert "accuracy = 1\n" in capfd.readouterr().err
    assert caffepy.Net("mine/lenet.prototxt", caffepy.TEST).blobs["prob"].shape[1] == 2

    main(["new", "lenet", "tuned", "--data", "own", "--finetune", "mine/lenet_iter_160.caffemodel"])
    solver = caffepy.get_solver("tuned/lenet_solver.prototxt")
    before = {name: [blob.data.copy() for blob in blobs] for name, blobs in solver.net.params.items()}
    trained = caffepy.Net("mine/lenet.prototxt", caffepy.TEST, weights="mine/lenet_iter_160.caffemodel")
    np.testing.assert_array_equal(before["conv2"][0], trained.params["conv2"][0].data)
    solver.step(3)
    moved = {name for name, blobs in solver.net.params.items() if (blobs[0].data != before[name][0]).any()}
    assert moved == {"ip2_tuned"}


def test_the_input_of_deploy_is_as_the_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    database(tmp_path / "own", 4, (3, 40, 32))
    main(["new", "lenet", "mine", "--data", "own", "--classes", "2", "--batch-size", "3", "--base-lr", "0.5"])
    assert caffepy.Net("mine/lenet.prototxt", caffepy.TEST).blobs["data"].shape == (64, 3, 40, 32)
    assert caffepy.Net("mine/lenet_train_test.prototxt", caffepy.TRAIN).blobs["data"].shape == (3, 3, 40, 32)
    assert text.read_solver("mine/lenet_solver.prototxt").base_lr == 0.5


def test_classes_reach_all_last_layers_of_googlenet():
    files = written(find("googlenet"), "mine", Wishes(classes=4))
    assert files["train_val.prototxt"].count("num_output: 4\n") == 3
    assert "num_output: 1000" not in files["train_val.prototxt"] + files["deploy.prototxt"]
    assert "top_k: 5" not in files["train_val.prototxt"], "one of four classes is always among the best five"


@pytest.mark.parametrize(("name", "outputs"), [("ssd", [6] * 3), ("faster_rcnn_vgg16", [3, 12]), ("fcn", [3] * 6)])
def test_classes_reach_all_boxes_of_a_detector_and_all_maps_of_a_segmenter(name, outputs):
    for file in ("train_val.prototxt", "deploy.prototxt"):
        net = text.parse(written(find(name), "mine", Wishes(classes=3))[file], NetParameter())
        found = [layer.convolution_param.num_output or layer.inner_product_param.num_output for layer in net.layer]
        assert [n for n in found if n in (3, 6, 12)] == outputs


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["lenett"], 'the zoo has no net "lenett"\n  Did you mean "lenet"?'),
        (["lenet", "own"], "own: there is such a file or folder already\n  Choose another name."),
        (["lenet", "a/b"], "a/b: there is no folder a to write into\n  Make it first."),
        (
            ["recommend/svd", "--classes", "3"],
            "recommend/svd has no last layer with an output a class\n  Leave out --classes.",
        ),
        (
            ["alexnet", "--data", "own"],
            "own/train_lmdb: the pictures are 28 x 28, and the net takes 227 x 227 of them\n"
            "  Convert them again, larger.",
        ),
        (
            ["lenet", "--data", "owm"],
            "owm: there is no such file or folder\n"
            "  --data takes a database, or databases train and val, as the convert commands write them.",
        ),
        (
            ["char_rnn", "--data", "own"],
            "char_rnn reads a text of its own vocabulary\n"
            "  Leave out --data; then caffepy convert-text FILES FOLDER/text writes what the copy in FOLDER reads.",
        ),
        (
            ["recommend/svd", "--data", "own"],
            "own: no data to train on lies there\n"
            "  --data takes tables train.h5 and test.h5, as caffepy convert-ratings writes them.",
        ),
        (
            ["lenet", "--finetune", "absent.caffemodel"],
            "absent.caffemodel: cannot read the file: No such file or directory",
        ),
    ],
)
def test_wishes_that_cannot_be_met_leave_nothing(args, message, own, capsys):
    before = sorted(own.rglob("*"))
    assert fails(capsys, *args) == f"error: {message}\n"
    assert sorted(own.rglob("*")) == before


def test_weights_of_another_net(own, capsys):
    caffepy.Net(str(Path(caffepy.__file__).parents[1] / "models/lenet/lenet.prototxt"), caffepy.TEST).save(
        "w.caffemodel"
    )
    assert fails(capsys, "cifar10_quick", "--finetune", "w.caffemodel") == (
        'error: these are weights of another net: layer "conv1": parameter 0 has shape (32, 3, 5, 5) here and '
        "(20, 1, 5, 5) in w.caffemodel\n  --finetune takes weights of this net.\n"
    )
    assert fails(capsys, "googlenet", "--finetune", "w.caffemodel") == (
        "error: w.caffemodel: no layer of it has a name that the net has\n  --finetune takes weights of this net.\n"
    )
    assert not Path("cifar10_quick").exists()
