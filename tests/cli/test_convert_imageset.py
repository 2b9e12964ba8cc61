"""A folder for each class becomes databases to train, validate and test on."""

from __future__ import annotations

import gzip
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from caffepy.cli import main
from caffepy.data.pictures import image
from caffepy.data.pictures.data_transformer import read_mean
from caffepy.data.pictures.folders import parted
from caffepy.data.sources.databases import open_database
from caffepy.data.sources.lists import ListEntry
from caffepy.proto.caffe_pb2 import Datum
from tests.support import GOLDEN

CLASSES = {"cat": 10, "dog": 20, "zebra fish": 5}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for name, count in CLASSES.items():
        Path("pets", name).mkdir(parents=True)
        for i in range(count):
            picture = random.integers(0, 256, (3, 12 + i % 3, 10)).astype(np.uint8)
            Path("pets", name, f"{i}.png").write_bytes(image.encode(picture, "png"))
    Path("pets/cat/notes.txt").write_text("no picture")
    Path("pets/.cache").mkdir()
    return tmp_path


def labels(db: str) -> Counter:
    reader = open_database(db, "lmdb")
    return Counter(Datum.FromString(reader[i][1]).label for i in range(len(reader)))


def fails(capsys, *words: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    assert stop.value.code
    return capsys.readouterr().err


def test_a_folder_a_class(capsys):
    main(["convert-imageset", "pets", "db", "--split", "0.8,0.1,0.1", "--resize", "8"])
    assert capsys.readouterr().out == "db is made. A net for it: caffepy new alexnet my_net --data db\n"
    assert sorted(path.name for path in Path("db").iterdir()) == [
        "labels.txt", "mean.binaryproto", "test_lmdb", "train_lmdb", "val_lmdb"
    ]  # fmt: skip
    assert Path("db/labels.txt").read_text() == "cat\ndog\nzebra fish\n"
    assert labels("db/train_lmdb") == {0: 8, 1: 16, 2: 4}
    assert labels("db/val_lmdb") == {0: 1, 1: 2, 2: 1} and labels("db/test_lmdb") == {0: 1, 1: 2}
    train = open_database("db/train_lmdb", "lmdb")
    pictures = [np.frombuffer(Datum.FromString(train[i][1]).data, np.uint8).reshape(3, 8, 8) for i in range(len(train))]
    np.testing.assert_allclose(read_mean("db/mean.binaryproto"), np.mean(pictures, axis=0), rtol=1e-5)
    order = [Datum.FromString(train[i][1]).label for i in range(len(train))]
    assert order != sorted(order)
    names = [db[i][0][9:] for db in (train, *(open_database(f"db/{n}_lmdb", "lmdb") for n in ("val", "test")))
             for i in range(len(db))]  # fmt: skip
    assert len(set(names)) == len(names) == 35
    main(["convert-imageset", "pets", "again", "--split", "0.8,0.1,0.1", "--resize", "8"])
    assert [open_database("again/train_lmdb", "lmdb")[i] for i in range(28)] == [train[i] for i in range(28)]


def test_what_new_makes_of_it_trains(capsys):
    main(["convert-imageset", "pets", "db", "--split", "0.7,0.3", "--resize", "36"])
    main(["new", "cifar10_quick", "my_net", "--data", "db"])
    main(["train", "--solver", "my_net/cifar10_quick_solver.prototxt", "--set", "max_iter=1"])
    assert Path("my_net/cifar10_quick_iter_1.caffemodel").is_file()


def test_pictures_of_several_sizes_have_no_mean(capsys):
    main(["convert-imageset", "pets", "db"])
    said = capsys.readouterr().err
    assert "No mean.binaryproto: the pictures have several sizes. --resize 256 gives them one." in said
    assert sorted(path.name for path in Path("db").iterdir()) == ["labels.txt", "train_lmdb"]
    assert labels("db/train_lmdb") == {0: 10, 1: 20, 2: 5}


def test_shares_of_every_class_add_up():
    entries = [ListEntry(f"{label}/{i}", label, 0) for label, n in enumerate((1, 2, 3, 7, 100)) for i in range(n)]
    parts = parted(entries, [0.5, 0.3, 0.2])
    assert sorted(entry for part in parts for entry in part) == sorted(entries)
    counts = [[sum(entry.label == label for entry in part) for part in parts] for label in range(5)]
    assert counts == [[1, 0, 0], [1, 1, 0], [1, 1, 1], [4, 2, 1], [50, 30, 20]]
    assert parted(entries, [0.5, 0.5], 1) == parted(entries, [0.5, 0.5], 1) != parted(entries, [0.5, 0.5], 2)


@pytest.mark.parametrize("line", ["pets/cat/0.png 1", "pets/cat/0.png\t1", "pets/cat/0.png,1", "pets/cat/0.png, 1"])
def test_lists_with_blanks_tabs_and_commas(line):
    Path("list.txt").write_text(f"{line}\n{line.replace('cat', 'zebra fish')}\n")
    main(["convert-imageset", "./", "list.txt", "out"])
    assert open_database("out", "lmdb")[1][0] == b"00000001_pets/zebra fish/0.png" and labels("out") == {1: 2}


def test_one_error_for_one_mistake(capsys):
    Path("list.txt").write_text("".join(f"cat/{i}.png 0\n" for i in range(10)))
    said = fails(capsys, "convert-imageset", "pets", "list.txt", "out")
    assert said.count("cat/") == 1
    assert "list.txt: none of the files is there, the first is petscat/0.png; no database was made\n" in said
    assert 'end it with a slash, "pets/".' in said
    Path("list.txt").write_text("pets/cat/0.png 0\n" + "".join(f"gone/{i}.png 0\n" for i in range(100)))
    main(["convert-imageset", "", "list.txt", "out"])
    said = capsys.readouterr().err
    assert said.count("gone/") == 10 and "Skipped 100 of 101 files." in said


@pytest.mark.parametrize(
    "words, message",
    [
        ("pets db --split 0.8,0.1", '"0.8,0.1" is no split: give one to three shares that add up to 1, such as 0.8,'),
        ("pets db --split a", '"a" is no split'),
        ("pats db", 'pats: there is no such folder\n  Did you mean "pets"?'),
        ("pets/cat db", "pets/cat: there are no folders in it\n  Make a folder of pictures for each class."),
        ("empty db", "empty/one: no pictures lie in it\n  Each folder is a class, its files end with .avif, .bmp"),
        ("pets pets", "pets: there is something of this name already\n  Choose another name, or remove it."),
        ("pets db --resize 8 --resize-width 8 --resize-height 8", "--resize is the width and the height"),
        ("few db --split 0.8,0.1,0.1", "few: no picture is left for db/val_lmdb\n  Give more pictures, or no --split."),
        ("./ list.txt out --split 0.5,0.5", "--split is for a folder of classes"),
    ],
)
def test_mistakes(words, message, capsys):
    Path("empty/one").mkdir(parents=True)
    Path("few/one").mkdir(parents=True)
    shutil.copy("pets/cat/0.png", "few/one")
    Path("list.txt").write_text("pets/cat/0.png 0\n")
    before = sorted(Path().iterdir())
    assert message in fails(capsys, "convert-imageset", *words.split())
    assert sorted(Path().iterdir()) == before


def test_cifar_gzipped_and_a_subset(capsys):
    Path("in").mkdir()
    for name in ("data_batch_2.bin", "test_batch.bin"):
        packed = gzip.compress((GOLDEN / "db/cifar10-batches-bin" / name).read_bytes())
        Path("in", f"{name}.gz").write_bytes(packed)
    main(["convert-cifar", "in", "out"])
    said = capsys.readouterr().err
    assert "Not there, left out: data_batch_1.bin, data_batch_3.bin, data_batch_4.bin, data_batch_5.bin" in said
    ours, all_ = (open_database(path, "lmdb") for path in ("out/cifar10_train_lmdb", GOLDEN / "db/cifar10_train_lmdb"))
    assert [ours[i] for i in range(len(ours))] == [
        r for r in map(all_.__getitem__, range(len(all_))) if r[0][:1] == b"1"
    ]
    Path("in/test_batch.bin.gz").write_bytes(packed[:-9])
    assert "in/test_batch.bin.gz: the gzipped file is damaged" in fails(capsys, "convert-cifar", "in", "out2")
    Path("none").mkdir()
    assert "none/data_batch_1.bin: cannot read the batch" in fails(capsys, "convert-cifar", "none", "out3")
