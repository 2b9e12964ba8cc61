"""Files from strangers on the command line: what may be refused, limited, written over, and how it is shown."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from caffepy import limits, permissions
from caffepy.cli import main
from caffepy.cli.terminal import printable
from caffepy.data.sources.databases import write_lmdb
from caffepy.data.sources.datum import from_image
from caffepy.data.sources.lmdb import LmdbReader
from tests.support import GOLDEN

PYTHON = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 } } }
layer { name: "theirs" type: "Python" bottom: "x" top: "y" python_param { module: "stranger" layer: "Layer" } }
"""
MODULE = """
import pathlib, caffepy
pathlib.Path("it_ran").touch()
class Layer(caffepy.Layer):
    def reshape(self, bottom, top): top[0].reshape(1)
    def forward(self, bottom, top): pass
"""
SOLVER = 'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 1 snapshot_prefix: "snap" display: 1'
LEARNS = """
layer { name: "x" type: "DummyData" top: "x" top: "l" dummy_data_param { shape { dim: 2 dim: 3 } shape { dim: 2 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 2 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "l" top: "loss" }
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    for module, name in ((limits, "_chosen"), (permissions, "_python_layers"), (permissions, "_overwriting")):
        monkeypatch.setattr(module, name, getattr(module, name))
    monkeypatch.delitem(sys.modules, "stranger", raising=False)
    Path("solver.prototxt").write_text(SOLVER)
    Path("net.prototxt").write_text(LEARNS)
    Path("stranger.py").write_text(MODULE)


def run(line: str) -> None:
    main(line.split())


def failure(line: str, capsys) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(line.split())
    err = capsys.readouterr().err
    assert stop.value.code == 1 and "Traceback" not in err
    return err[err.index("error: ") :].rstrip("\n").removeprefix("error: ")


@pytest.mark.parametrize("how", ["option", "environment"])
@pytest.mark.parametrize("command", ["time --model net.prototxt --iterations 1", "train --solver solver.prototxt"])
def test_python_layers_are_refused(command, how, capsys, monkeypatch):
    Path("net.prototxt").write_text(PYTHON)
    if how == "environment":
        monkeypatch.setenv("CAFFEPY_NO_PYTHON_LAYERS", "1")
    assert failure(command + " --no-python-layers" * (how == "option"), capsys) == (
        'net.prototxt:3:1: layer "theirs": the layer runs Python code, stranger.Layer, '
        "which --no-python-layers refuses\n"
        "  Without it, and CAFFEPY_NO_PYTHON_LAYERS, the code of nets that you trust runs."
    )
    assert not Path("it_ran").exists()


def test_python_layers_run_otherwise(monkeypatch):
    Path("net.prototxt").write_text(PYTHON)
    monkeypatch.setenv("CAFFEPY_NO_PYTHON_LAYERS", "0")
    run("time --model net.prototxt --iterations 1")
    assert Path("it_ran").exists()


def test_a_net_above_max_memory(capsys):
    Path("net.prototxt").write_text(LEARNS.replace("num_output: 2", "num_output: 1000000"))
    for command in ("train --solver solver.prototxt", "time --model net.prototxt --iterations 1"):
        assert failure(f"{command} --max-memory 8M", capsys) == (
            'net.prototxt:3:1: layer "ip": a blob of shape (1000000, 3) needs 11.4 MB besides 32 B for the layers '
            "before it; the limit is 8 MB\n"
            "  Allow more with --max-memory, or CAFFEPY_MAX_MEMORY, if the machine has it."
        )


def test_a_gigantic_layer_is_refused_on_any_machine(capsys, monkeypatch):
    monkeypatch.setenv("CAFFEPY_MAX_MEMORY", "2G")
    Path("net.prototxt").write_text(
        LEARNS.replace("num_output: 2", "num_output: 1000000000").replace("dim: 3", "dim: 1")
    )
    message = failure("train --solver solver.prototxt", capsys)
    assert message.startswith('net.prototxt:3:1: layer "ip": a blob of shape (1000000000, 1) needs 3.73 GB')


@pytest.mark.parametrize("value", ["much", "-3G", "0"])
def test_what_is_no_amount_of_memory(value, capsys):
    assert failure(f"show net.prototxt --max-memory={value}", capsys) == (
        f'--max-memory: "{value}" is no amount of memory\n  Write it as 4G, 512M or in bytes.'
    )


def test_the_option_lasts_for_one_command(capsys):
    run("show net.prototxt --max-memory 1G")
    assert limits.max_memory() == 1 << 30
    run("show net.prototxt")
    assert limits.max_memory() == limits.machine_memory()


def test_files_of_others_are_not_written_over_without_force(capsys):
    Path("snap_iter_1.caffemodel").write_text("my thesis")
    assert failure("train --solver solver.prototxt", capsys) == (
        "solver.prototxt: snap_iter_1.caffemodel: there is a file of this name that is no caffemodel: it is not "
        "written over\n  Move it, set another snapshot_prefix, or train with --force."
    )
    assert Path("snap_iter_1.caffemodel").read_text() == "my thesis"
    run("train --solver solver.prototxt --force")
    assert "thesis" not in Path("snap_iter_1.caffemodel").read_text("latin-1")


def test_outputs_go_over_outputs_alone(capsys):
    out = 'layer { name: "out" type: "HDF5Output" bottom: "x" bottom: "l" hdf5_output_param { file_name: "out.h5" } }'
    Path("net.prototxt").write_text(LEARNS + out)
    with h5py.File("out.h5", "w") as file:  # data to train on, with the very names
        file["data"], file["label"] = np.zeros((2, 3, 1, 1), "f4"), np.zeros((2, 1, 1, 1), "f4")
    Path("solver.prototxt").write_text(SOLVER.replace("display: 1", ""))  # which would run it twice
    before = Path("out.h5").read_bytes()
    command = "test --model net.prototxt --weights w.caffemodel --iterations 1"
    run("train --solver solver.prototxt --force")
    Path("snap_iter_1.caffemodel").rename("w.caffemodel")
    assert Path("out.h5").read_bytes() != before
    run(command)  # over what the layer itself has written
    Path("out.h5").write_bytes(before)
    assert failure(command, capsys) == (
        'net.prototxt:5:1: layer "out": out.h5: there is a file of this name that is no output of HDF5Output: it is '
        "not written over\n  Move it, or add --force."
    )
    assert Path("out.h5").read_bytes() == before


# What is shown

STEERING = "\x1b]0;owned\x07\x1b[2J\u202etxt.\x9b1m\udcff\r"


def test_what_steers_a_terminal_is_shown():
    assert printable(STEERING) == "\\x1b]0;owned\\x07\\x1b[2J\\u202etxt.\\x9b1m\\xff\\x0d"
    assert printable("Ünïcode 漢字, tab\tand\nnewline") == "Ünïcode 漢字, tab\tand\nnewline"


def test_names_are_shown_so(capsys):
    """In an error, in the log and in a table."""
    name = STEERING.encode("utf-8", "surrogateescape").decode("latin-1").replace("\r", "\\r")
    Path("net.prototxt").write_text(LEARNS.replace('"ip"', f'"{name}"'))
    run("show net.prototxt")
    run("time --model net.prototxt --iterations 1 --verbose")
    shown = capsys.readouterr()
    message = failure("test --model net.prototxt --weights nothing\x1b[31m.caffemodel --iterations 1", capsys)
    with pytest.raises(SystemExit):
        main(["data", "inspect", os.fsdecode(b"not-utf-8-\xff\x1b")])
    for text in (shown.out, shown.err, message, capsys.readouterr().err):
        assert "\\x1b" in text and not set(text) & set("\x1b\x07\r\x9b\u202e")


# Databases where the address space is limited


@pytest.mark.skipif(sys.platform != "linux", reason="ulimit -v of Linux")
@pytest.mark.parametrize("backend", ["lmdb"])
def test_databases_are_made_within_a_limit_of_addresses(backend):
    """LMDB would map a terabyte."""
    images, labels = (GOLDEN / "db" / f"digits-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1"))
    command = [sys.executable, "-m", "caffepy", "convert-mnist", str(images), str(labels), "db"]
    script = f"ulimit -v {2 << 20} && exec {' '.join(command)}"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(LmdbReader("db"))


def test_what_does_not_fit_into_the_addresses_is_said(monkeypatch, capsys):
    from caffepy.data.sources import lmdb
    from caffepy.errors import DataError

    monkeypatch.setattr(lmdb, "_LARGEST", 1 << 16)
    with pytest.raises(DataError) as caught:
        write_lmdb(
            "db", ((b"%d" % i, from_image(np.zeros((1, 99, 99), np.uint8), 0).SerializeToString()) for i in range(9))
        )
    assert str(caught.value) == (
        "db: the LMDB becomes larger than the address space that this process may use (ulimit -v)"
    )
    assert not Path("db").exists() and not list(Path().glob(".db*"))
