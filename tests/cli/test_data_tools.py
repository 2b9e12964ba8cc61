"""The tools that make databases, against what Caffe's own made and printed."""

from __future__ import annotations

import gzip
import json
import logging
import shlex
import shutil
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest

from caffepy.cli import cli, main, normalize
from caffepy.cli.terminal import start_logging
from caffepy.data.inspect import look
from caffepy.data.pictures import image
from caffepy.data.pictures.data_transformer import read_mean
from caffepy.data.sources.databases import guess_backend, open_database
from caffepy.errors import ConfigError, DataError
from caffepy.proto.caffe_pb2 import BlobProto, Datum
from caffepy.pycaffe.net import Net
from tests.support import GOLDEN, assert_close

DB = GOLDEN / "db"
COMMANDS = (DB / "commands.txt").read_text().splitlines()
PRINTED = json.loads((DB / "tool_output.json").read_text())
NAMES = {"convert_mnist_data": "convert-mnist", "convert_cifar_data": "convert-cifar"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The inputs of the recorded commands; what these made lies in `DB`."""
    for name in ("images", "cifar10-batches-bin", "color_lmdb"):
        shutil.copytree(DB / name, tmp_path / name)
    for pattern in ("*.txt", "digits-*", "features.*"):
        for path in DB.glob(pattern):
            shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line: str) -> None:
    """A command of Caffe's, run by ours; raises what the command line would print."""
    tool, *args = shlex.split(line)
    cli.main(normalize([NAMES.get(tool, tool.replace("_", "-")), *args]), standalone_mode=False)


def check_database(ours, reference) -> None:
    ours, reference = (open_database(path, guess_backend(path)) for path in (ours, reference))
    assert len(ours) == len(reference)
    for i in range(len(ours)):
        (key, value), (expected_key, expected_value) = ours[i], reference[i]
        assert key == expected_key
        datum, expected = Datum.FromString(value), Datum.FromString(expected_value)
        if expected.float_data:
            assert_close(datum.float_data, expected.float_data, 1e-5)
            datum.ClearField("float_data")
            expected.ClearField("float_data")
        if expected.encoded:
            values = [image.decode(d.data, "").astype(int) for d in (datum, expected)]
            assert np.abs(values[0] - values[1]).max() <= 2
            datum.data = expected.data
        assert datum == expected


@pytest.mark.parametrize("line", COMMANDS)
def test_recorded_command(line, folder, caplog, monkeypatch):
    if "leveldb" in line:
        pytest.importorskip("plyvel")
    words = line.split()
    if words[0] == "compute_image_mean":
        shutil.copytree(DB / words[-2], folder / words[-2], dirs_exist_ok=True)
    elif words[0] == "convert_imageset":
        shutil.rmtree(folder / words[-1], ignore_errors=True)
    start_logging()
    monkeypatch.setattr(logging.getLogger("caffepy"), "propagate", True)
    with caplog.at_level("INFO", "caffepy"):
        run(line)
    if words[0] == "compute_image_mean":
        ours = BlobProto.FromString((folder / words[-1]).read_bytes())
        assert ours == BlobProto.FromString((DB / words[-1]).read_bytes())
    elif words[0] == "extract_features":
        for name in words[4].split(","):
            check_database(name, DB / name)
    else:
        for name in [words[-1]] if "cifar" not in line else ["cifar10_train_lmdb", "cifar10_test_lmdb"]:
            check_database(name, DB / name)
    if line in PRINTED:
        printed = [text.split("] ", 1)[1] for text in PRINTED[line].splitlines() if text[0] == "I"]
        said = [record.getMessage() for record in caplog.records]
        assert [text for text in printed if text not in said] == []


def test_gzipped_mnist(folder):
    for name in ("digits-images-idx3-ubyte", "digits-labels-idx1-ubyte"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
    run("convert_mnist_data digits-images-idx3-ubyte.gz digits-labels-idx1-ubyte.gz mnist_lmdb")
    check_database("mnist_lmdb", DB / "mnist_lmdb")


def test_nothing_is_left_behind_by_a_failure(folder, capsys):
    with pytest.raises(SystemExit):
        main(["convert-imageset", "--max-errors=0", "images/", "list_gap.txt", "out_lmdb"])
    assert "more than 0 file(s) cannot be read" in capsys.readouterr().err
    assert not [path for path in folder.iterdir() if "out_lmdb" in path.name]


def test_sizes_are_checked_where_asked(folder, capsys):
    with pytest.raises(SystemExit):
        main(["convert-imageset", "--check_size=true", "images/", "list_var.txt", "out_lmdb"])
    assert "the picture has shape (3, 25, 11), the first one (3, 13, 20)" in capsys.readouterr().err


def test_shuffle_keeps_every_record(folder):
    run("convert_imageset --shuffle --seed=3 images/ list_same.txt out_lmdb")
    reader = open_database("out_lmdb", "lmdb")
    keys = [reader[i][0].decode() for i in range(9)]
    names = [key[9:] for key in keys]
    expected = json.loads(h5py.File(DB / "records.h5")["color_lmdb"].attrs["keys"])
    assert sorted(names) == sorted(key[9:] for key in expected)
    assert names != sorted(names)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the list of images is empty"),
        ("same/img_00.png\n", 'list.txt:1: no label at the end of "same/img_00.png"'),
        ("a.png 1\nb.png cat\n", 'list.txt:2: no label at the end of "b.png cat"'),
    ],
)
def test_bad_lists(text, message, folder, capsys):
    (folder / "list.txt").write_text(text)
    with pytest.raises(SystemExit) as stop:
        main(["convert-imageset", "images/", "list.txt", "out_lmdb"])
    assert stop.value.code == 1
    assert message in capsys.readouterr().err


def test_a_mean_of_different_sizes(folder, capsys):
    shutil.copytree(DB / "var_lmdb", folder / "var_lmdb")
    with pytest.raises(SystemExit):
        main(["compute-image-mean", "var_lmdb", "mean.binaryproto"])
    error = capsys.readouterr().err
    assert 'var_lmdb, key "00000001_var/v1.png": the picture has shape (3, 25, 11), the first one (3, 13, 20)' in error
    assert not (folder / "mean.binaryproto").exists()


def test_inspect(folder, capsys):
    main(["data", "inspect", "color_lmdb", "--sheet", "sheet.png"])
    out = capsys.readouterr().out
    assert "color_lmdb: 9 records (lmdb)" in out
    assert "shape 3x14x18: 9" in out
    assert "label      5:        1" in out
    sheet = image.read("sheet.png")
    reader = open_database("color_lmdb", "lmdb")
    first = np.frombuffer(Datum.FromString(reader[0][1]).data, np.uint8).reshape(3, 14, 18)
    assert np.array_equal(sheet[:, :14, :18], first)


@pytest.mark.parametrize(("name", "kind"), [("s.jpg", "JPEG"), ("s.bmp", "BMP"), ("s", "PNG")])
def test_a_sheet_is_of_the_type_that_its_name_says(name, kind, folder):
    from PIL import Image

    main(["data", "inspect", "color_lmdb", "--sheet", name])
    with Image.open(name) as sheet:
        assert sheet.format == kind


@pytest.mark.parametrize("no", [True, False])
def test_switches_may_be_taken_back(no, folder):
    run(f"convert_imageset --encoded {'-noencoded --nocheck_size' if no else ''} images/ list_same.txt out_lmdb")
    assert Datum.FromString(open_database("out_lmdb", "lmdb")[0][1]).encoded is not no


def test_inspect_names_damaged_records(folder, capsys):
    from caffepy.data.sources.databases import write_lmdb

    write_lmdb("bad_lmdb", [(b"1", Datum(data=b"no picture", encoded=True).SerializeToString())])
    with pytest.raises(SystemExit):
        main(["data", "inspect", "bad_lmdb"])
    error = capsys.readouterr().err
    assert 'damaged: bad_lmdb, key "1": the picture does not decode' in error
    assert "1 of 1 records are damaged" in error


def test_inspect_counts_records_that_cannot_be_fetched():
    class Reader:
        path = "db"

        def __len__(self):
            return 4

        def __getitem__(self, i):
            if i == 2:
                raise DataError("the LMDB is damaged at record 2")
            return b"%d" % i, Datum(channels=1, height=1, width=1, data=b"x" * (i != 1)).SerializeToString()

    done: list[int] = []
    found = look(Reader(), advance=done.append)
    assert (found.count, sum(found.shapes.values()), len(found.damaged)) == (4, 2, 2)
    assert done == [1, 2, 3, 4]


def test_written_means_are_read_by_the_transformer(folder):
    run("compute_image_mean color_lmdb mean.binaryproto")
    assert np.array_equal(read_mean("mean.binaryproto"), read_mean(str(DB / "mean_color_lmdb.binaryproto")))


def test_a_blob_may_go_into_two_databases(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "data" type: "DummyData" top: "data" dummy_data_param { shape { dim: 2 dim: 3 } } }\n'
        'layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 2 } }\n'
    )
    Net("net.prototxt", 1).save("net.caffemodel")
    run("extract_features net.caffemodel net.prototxt ip,ip a,b 2 lmdb")
    for name in ("a", "b"):
        found = open_database(name, "lmdb")
        assert [found[i][0] for i in range(len(found))] == [b"%010d" % i for i in range(4)]
    with pytest.raises(ConfigError) as caught:
        run("extract_features net.caffemodel net.prototxt prob c 2 lmdb")
    assert str(caught.value) == 'net.prototxt: the net has no blob "prob"\n  There are: data, ip.'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("convert-imageset --max-errors=-1 images/ list_same.txt out", "-1 is not in the range x>=0"),
        ("convert-imageset --encode-type=xyz images/ list_same.txt out", 'cannot encode pictures as "xyz"\n  Use png'),
        (
            "convert-imageset images list_same.txt out",
            "the first is imagessame/img_00.png; no database was made\n  The folder is put in front as it stands: end "
            'it with a slash, "images/".',
        ),
        ("compute-image-mean color_lmdb no/mean", "no/mean: there is no folder no to write into\n  Make it first."),
        ("compute-image-mean color_lmdb images", "images: this is a folder, not a file"),
        ("data inspect color_lmdb --sheet no/sheet.png", "no/sheet.png: there is no folder no to write into"),
        ("data inspect color_lmdb --images 0", "0 is not in the range x>=1"),
        ("extract-features w.caffemodel m.prototxt a,b o,./o 1 lmdb", "the databases o,./o are not all different"),
        ("data inspect color_lmdb --sheet s.txt", 's.txt: cannot encode pictures as ".txt"\n  Use png or jpg.'),
        (
            "compute-image-mean color_lmdb --backend leveldb",
            "color_lmdb: this is an LMDB, not a LevelDB\n  Set --backend lmdb, or leave it out.",
        ),
        ("extract-features w m a o 1 lmdb GPU DEVICE_ID=0", "Invalid value for '[DEVICE]': 'DEVICE_ID=0' is not"),
        ("extract-features w m a o 1 lmdb GPU --engine numpy", "the mode GPU needs the torch engine"),
        ("data inspekt color_lmdb", "Did you mean 'inspect'?"),
    ],
)  # fmt: skip
def test_mistakes_on_the_command_line(line, message, folder, capsys):
    before = sorted(folder.iterdir())
    with pytest.raises(SystemExit) as stop:
        main(line.split())
    assert stop.value.code == 1
    assert message in capsys.readouterr().err
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("command", ["data inspect", "compute-image-mean"])
def test_a_leveldb_that_is_called_an_lmdb(command, capsys):
    path = str(DB / "color_leveldb")
    with pytest.raises(SystemExit):
        main([*command.split(), path, "--backend", "lmdb"])
    message = f"{path}: this is a LevelDB, not an LMDB\n  Set --backend leveldb, or leave it out.\n"
    assert capsys.readouterr().err.endswith(message)


def test_data_alone_shows_its_help(capsys):
    main(["data"])
    shown = capsys.readouterr()
    assert "inspect" in shown.out
    assert not shown.err


def test_leveldb_without_its_library_names_the_extra(folder, monkeypatch, capsys):
    for name in ("plyvel", "plyvel_next"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SystemExit):
        main(["convert-imageset", "--backend=leveldb", "images/", "list_same.txt", "out_leveldb"])
    assert 'pip install "caffepy[leveldb]"' in capsys.readouterr().err
    assert not list(folder.glob("*out_leveldb*"))


def test_the_fork_of_the_leveldb_library_does_too(folder, monkeypatch):
    plyvel = pytest.importorskip("plyvel")
    monkeypatch.setitem(sys.modules, "plyvel", None)
    monkeypatch.setitem(sys.modules, "plyvel_next", plyvel)
    run("convert_imageset --backend=leveldb images/ list_same.txt out_leveldb")
    assert len(open_database("out_leveldb", "leveldb")) == 9


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_conversion_leaves_no_database(stop, tmp_path):
    picture = tmp_path / "a.png"
    picture.write_bytes(image.encode(np.zeros((3, 200, 200), np.uint8), "png"))
    (tmp_path / "list.txt").write_text("a.png 1\n" * 200_000)
    command = [sys.executable, "-m", "caffepy", "convert-imageset", f"{tmp_path}/", "list.txt", "out_lmdb"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        said = iter(process.stderr.readline, "")
        assert any("Opened" in line for line in said)
        process.send_signal(stop)
        error = process.communicate(timeout=20)[1]
    assert process.returncode == (130 if stop == signal.SIGINT else -stop)
    assert "Traceback" not in error
    assert not (tmp_path / "out_lmdb").exists()
    if stop == signal.SIGINT:
        assert not list(tmp_path.glob(".out_lmdb*"))
