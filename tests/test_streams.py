"""Devices and pipes that are named as files: what is read without end is refused, what takes bytes is not replaced."""

from __future__ import annotations

import ast
import gzip
import os
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import caffepy
from caffepy import files, limits
from caffepy.cli import main
from caffepy.data.sources.leveldb import LevelDbReader
from caffepy.data.sources.lmdb import LmdbReader
from caffepy.errors import DataError
from tests.support import GOLDEN

PACKAGE = Path(caffepy.__file__).parent
NET = """
layer { name: "x" type: "DummyData" top: "x" top: "l" dummy_data_param { shape { dim: 2 dim: 3 } shape { dim: 2 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 2 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "l" top: "loss" }
"""
SOLVER = 'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 1 snapshot_prefix: "snap"'


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(limits, "_chosen", None)
    Path("net.prototxt").write_text(NET)
    Path("solver.prototxt").write_text(SOLVER)


def device(name: str, minor: int) -> Path:
    """A node of our own like /dev/null (3) or /dev/zero (5)."""
    try:
        os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(1, minor))
        Path(name).open("rb").close()
    except OSError:
        pytest.skip("devices cannot be made here")
    return Path(name)


def fed(name: str, content: bytes) -> str:
    """A pipe that somebody writes `content` into, once."""
    os.mkfifo(name)
    threading.Thread(target=Path(name).write_bytes, args=(content,), daemon=True).start()
    return name


def failure(line: str, capsys) -> str:
    with pytest.raises(SystemExit) as stop:
        main(line.split())
    err = capsys.readouterr().err
    assert stop.value.code == 1 and "Traceback" not in err
    return err[err.index("error: ") :]


@pytest.mark.parametrize("kind", ["S_IFCHR", "S_IFBLK"])
@pytest.mark.parametrize("call", ["stat", "fstat"])
def test_a_device_is_not_read(kind, call, monkeypatch):
    """However it is found out; where we may make one, the next test reads it."""
    found = os.stat_result((getattr(stat, kind) | 0o666, *[0] * 9))
    monkeypatch.setattr(files.os, call, lambda path: found)
    with pytest.raises(OSError, match="It is a device, not a file") as caught:
        files.read_file("net.prototxt")
    assert caught.value.filename == "net.prototxt"


READERS = {
    "show zero": "",
    "draw zero x.svg": "",
    "time --model zero": "",
    "train --solver zero": "",
    "train --solver solver.prototxt --weights zero": "",
    "train --solver solver.prototxt --snapshot zero": "",
    "test --model net.prototxt --weights zero": "",
    "convert-imageset . zero db": " the list of images",
    "convert-mnist zero zero db": "",
    "convert-ratings zero --output out": "",
    "convert-table zero --columns a": "",
    "upgrade-net-proto-text zero x": "",
    "upgrade-net-proto-binary zero x": "",
    "upgrade-solver-proto-text zero x": "",
}


@pytest.mark.parametrize("line", READERS)
def test_no_command_reads_one(line, capsys):
    device("zero", 5)
    assert f"zero: cannot read{READERS[line] or ' the file'}: It is a device, not a file" in failure(line, capsys)


LAYERS = {
    "Data": 'data_param { source: "zero" batch_size: 1 }',
    "ImageData": 'image_data_param { source: "zero" batch_size: 1 }',
    "HDF5Data": 'hdf5_data_param { source: "zero" batch_size: 1 }',
    "WindowData": 'window_data_param { source: "zero" batch_size: 1 } transform_param { crop_size: 9 }',
    "its mean": 'image_data_param { source: "list" batch_size: 1 } transform_param { mean_file: "zero" }',
    "a picture": 'image_data_param { source: "list" batch_size: 1 }',
}


@pytest.mark.parametrize("named", LAYERS)
def test_no_layer_reads_one(named, capsys):
    pytest.importorskip("PIL")
    device("zero", 5)
    Path("list").write_text("zero 0\n")
    kind = named if named.endswith("Data") else "ImageData"
    Path("net.prototxt").write_text(f'layer {{ name: "d" type: "{kind}" top: "d" top: "l" {LAYERS[named]} }}')
    message = failure("time --model net.prototxt --iterations 1", capsys)
    assert "It is a device, not a file" in message or "this is no file: a database is made of files" in message


def test_a_database_of_pipes_is_not_waited_for():
    for folder, reader in (("mnist_lmdb", LmdbReader), ("mnist_leveldb", LevelDbReader)):
        shutil.copytree(GOLDEN / "db" / folder, folder)
        for path in [*Path(folder).glob("data.mdb"), *Path(folder).glob("*.l*")]:
            path.unlink()
            os.mkfifo(path)
        with pytest.raises(DataError, match="this is no file: a database is made of files"):
            reader(folder)


def test_what_comes_through_pipes_is_read(capsys):
    table = b"a,b\n1,2\n3,4\n"
    main(["time", "--iterations", "1", "--model", fed("net", NET.encode())])
    main(["train", "--solver", "solver.prototxt"])
    trained = Path("snap_iter_1.caffemodel").read_bytes()
    Path("net.prototxt").write_text(NET)
    main(["test", "--iterations", "1", "--model", "net.prototxt", "--weights", fed("w", trained)])
    main(["convert-table", fed("plain", table), "--columns", fed("columns", b"a:dense"), "--output", "one"])
    main(["convert-table", fed("packed", gzip.compress(table)), "--columns", "a:dense", "--output", "two"])
    assert Path("one/train.h5").stat().st_size == Path("two/train.h5").stat().st_size


def test_a_pipe_without_end_is_left(capsys):
    command = [sys.executable, "-m", "caffepy", "show", "/dev/stdin", "--max-memory", "8M"]
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as endless:
        done = subprocess.run(command, stdin=endless.stdout, capture_output=True, text=True, check=False, timeout=60)
        endless.kill()
    assert done.returncode == 1
    assert done.stderr.startswith("error: /dev/stdin: what comes through the pipe needs 9 MB; the limit is 8 MB\n")


def test_a_file_above_the_limit_is_not_read(capsys):
    with open("net.prototxt", "wb") as file:
        file.truncate(1 << 40)  # no byte of it is there
    message = failure("time --model net.prototxt --max-memory 1G", capsys)
    assert message.startswith("error: net.prototxt: the file needs 1 TB; the limit is 1 GB\n")


def test_gzipped_tables_cannot_fill_the_memory(capsys):
    Path("table.csv.gz").write_bytes(gzip.compress(b"1,2\n" * (1 << 23)))
    message = failure("convert-table table.csv.gz --columns a,b --max-memory 16M", capsys)
    assert message.startswith("error: table.csv.gz: the gzipped file needs 17 MB; the limit is 16 MB\n")


def test_a_damaged_gzip_is_named(capsys):
    whole = gzip.compress(b"1,2\n" * 1000)
    Path("table.csv.gz").write_bytes(whole[:15] + b"\xff" * 9 + whole[24:])
    assert "table.csv.gz: " in failure("convert-table table.csv.gz --columns a,b", capsys)


def test_a_long_list_of_columns_is_no_name_of_a_file():
    Path("table.csv").write_text("a\n1\n")
    main(["convert-table", "table.csv", "--columns", ",".join(f"n{i}=a:number" for i in range(100))])


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\0\x10\0{'descr'", b"\x80\x04]."])
def test_a_mean_that_is_no_array(content, capsys):
    pytest.importorskip("onnx")
    Path("mean.npy").write_bytes(content)
    line = "export --model net.prototxt --output x.onnx --with-transform --mean mean.npy"
    assert "mean.npy: this is no array of NumPy: " in failure(line, capsys)


# Writing


WRITERS = ["upgrade-net-proto-text net.prototxt {}", "upgrade-solver-proto-text solver.prototxt {}"]


@pytest.mark.parametrize("line", WRITERS)
def test_a_pipe_is_written_through(line, capsys):
    os.mkfifo("out")
    got = []
    reader = threading.Thread(target=lambda: got.append(Path("out").read_text()))
    reader.start()
    main(line.format("out").split())
    reader.join(20)
    main(line.format("file").split())
    assert got == [Path("file").read_text()] and stat.S_ISFIFO(os.stat("out").st_mode)


def test_a_device_stays_one(capsys):
    null = device("null.svg", 3)
    main(["draw", "net.prototxt", "null.svg"])
    main(["upgrade-net-proto-text", "net.prototxt", "null.svg"])
    assert null.is_char_device() and not list(Path().glob(".*"))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files have no names here")
def test_an_open_file_is_written_through(capsys):
    """As /dev/stdout leads to, even where that is a file."""
    with open("out", "wb") as file:
        main(["upgrade-net-proto-text", "net.prototxt", f"/proc/self/fd/{file.fileno()}"])
        assert os.path.samestat(os.stat("out"), os.fstat(file.fileno()))
    assert 'name: "ip"' in Path("out").read_text()


def test_a_disk_is_not_written_over(monkeypatch):
    found = os.stat_result((stat.S_IFBLK | 0o666, *[0] * 9))
    monkeypatch.setattr(files.os, "stat", lambda path: found)
    with pytest.raises(OSError, match="It is a disk, not a file"), files.atomic_write("disk"):
        raise AssertionError("it is refused before")


def test_a_stream_that_may_not_be_written_is_said_before_the_work(monkeypatch):
    os.mkfifo("out")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(DataError, match="there is no permission to write to it"):
        files.check_writable("out")


# All reading goes the one way


def test_nothing_else_opens_files_to_read():
    """`open` that reads, read_bytes and read_text are of files.py alone; limits reads of /proc, page its own page."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and _reads(node) and path.name not in ("files.py", "limits.py", "page.py"):
                found.append(f"{path.relative_to(PACKAGE.parent)}:{node.lineno}")
    assert found == [], "use caffepy.files.open_file, read_file or read_text, which refuse devices"


def _reads(call: ast.Call) -> bool:
    if isinstance(call.func, ast.Attribute):
        module = isinstance(call.func.value, ast.Name) and call.func.value.id in ("files", "text")
        return call.func.attr in ("read_bytes", "read_text") and not module
    if not isinstance(call.func, ast.Name) or call.func.id != "open":
        return False
    mode = call.args[1].value if len(call.args) > 1 and isinstance(call.args[1], ast.Constant) else "r"
    return "r" in mode and "+" not in mode
