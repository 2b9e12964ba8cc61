"""Engines and devices on the command line: what is missing is named, with what to install, and exit status 1."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from caffepy.cli import main, options
from caffepy.distributed import launch
from caffepy.engine import _engine, gpu_count
from caffepy.errors import CaffeError, ConfigError, MissingExtraError
from caffepy.proto.caffe_pb2 import SolverParameter

NET = """
layer { name: "data" type: "DummyData" top: "data" top: "label"
  dummy_data_param { shape { dim: 2 dim: 3 } shape { dim: 2 dim: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 1 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
INSTALL = 'pip install "caffepy[torch]"'
LINES = {
    "train": "train --solver solver.prototxt --gpu 0",
    "two": "train --solver solver.prototxt --gpu 0,1",
    "all": "train --solver solver.prototxt --gpu all",
    "test": "test --model net.prototxt --weights none.caffemodel --gpu 0",
    "time": "time --model net.prototxt --gpu 0",
    "extract": "extract-features none.caffemodel net.prototxt ip out 1 lmdb GPU 0",
    "query": "device-query --gpu 0",
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CAFFEPY_ENGINE", raising=False)
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text('net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 2')


def failure(line: str, capsys) -> str:
    with pytest.raises(SystemExit) as stop:
        main(line.split())
    err = capsys.readouterr().err
    assert stop.value.code == 1 and "Traceback" not in err
    return err[err.index("error: ") :].removeprefix("error: ")


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_without_torch(line, monkeypatch, capsys):
    for place in ("importlib.util.find_spec", "caffepy.engine.find_spec", "caffepy.engine.gpus.find_spec"):
        monkeypatch.setattr(place, lambda name: None)
    message = "computing on a GPU needs the package torch, which is not installed\n"
    assert failure(line, capsys) == f"{message}  Install it with: {INSTALL}\n"


def test_the_engine_without_torch(monkeypatch):
    monkeypatch.setattr("caffepy.engine.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as caught:
        _engine.__wrapped__("torch", "cpu", "float32")
    assert str(caught.value).endswith(f"Install it with: {INSTALL}")


@pytest.mark.skipif(gpu_count() > 0, reason="there is a GPU")
@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_without_a_gpu(line, capsys):
    pytest.importorskip("torch")
    first, hint = failure(line, capsys).splitlines()
    assert first == "PyTorch finds no GPU on this machine" and ("pytorch.org" in hint or "nvidia-smi" in hint)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("--gpu x", '--gpu takes numbers separated by ",", or "all", got "x"\n'),
        ("--gpu 1,1", "--gpu 1,1 names a GPU twice\n  Each GPU gets one process.\n"),
        ("--gpu 0 --engine numpy", "--gpu needs the torch engine, but --engine numpy is given\n  Leave out one"),
        ("--precision bf16", "the numpy engine knows no bf16\n  Add --engine torch, or --gpu.\n"),
    ],
)
def test_options_that_cannot_be(given, says, capsys):
    assert failure(f"time --model net.prototxt {given}", capsys).startswith(says)


@pytest.fixture
def two_gpus(monkeypatch):
    """PyTorch as it is where there are two."""
    torch = pytest.importorskip("torch")
    facts = SimpleNamespace(name="Accelerator", multi_processor_count=108, major=8, minor=0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: facts)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda i: (30 << 30, 40 << 30))
    monkeypatch.setattr("caffepy.engine.get_engine", lambda name, device, precision: f"{name} on {device}, {precision}")


def test_query_lists_devices(two_gpus, capsys):
    main(["device-query"])
    line = "GPU {}: Accelerator, 40.0 GiB memory (30.0 free), 108 multiprocessors, capability 8.0\n"
    assert capsys.readouterr().out.endswith("\n" + line.format(0) + line.format(1))
    main(["device-query", "--gpu", "1"])
    assert capsys.readouterr().out == line.format(1)


def test_query_tells_of_the_processor_without_pytorch(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    main(["device-query"])
    cpu, *blas, simd, gpu = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"CPU: \S+, \d+ threads compute, [\d.]+ [GM]B memory", cpu)
    assert (
        all(line.startswith("BLAS: ") for line in blas)
        and blas
        and simd.startswith("SIMD: ")
        and simd.endswith(f"(NumPy {np.__version__})")
    )
    assert gpu == f"GPU: needs PyTorch ({INSTALL})"


def test_query_of_one_that_is_not_there(two_gpus, capsys):
    assert failure("device-query --gpu 2", capsys) == "there is no GPU 2\n  This machine has 2, numbered from 0.\n"


def test_each_process_takes_its_gpu(two_gpus, monkeypatch):
    assert options.choose_engine(None, "1,0") == "torch on cuda:1, float32"
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert options.choose_engine(None, "1,0", precision="tf32") == "torch on cuda:0, tf32"


@pytest.mark.parametrize("gpu", ["0,1", "all", ""])
def test_more_processes_than_gpus(gpu, two_gpus, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match="process 2 of this machine has no GPU left: there are 2\n"):
        options.choose_engine(None, gpu, SolverParameter())


def test_several_gpus_start_several_processes(two_gpus, monkeypatch):
    started, arguments = [], ["train", "--solver", "solver.prototxt", "--gpu", "all"]
    monkeypatch.setattr(launch, "launch", lambda count, arguments: started.append((count, arguments)))
    # The process that starts the others computes nothing: an engine would take memory of each GPU.
    monkeypatch.setattr("caffepy.engine.get_engine", None)
    monkeypatch.setattr(sys, "argv", ["caffepy", *arguments])
    main()
    monkeypatch.setattr(sys, "argv", ["a_script.py"])
    main(arguments)
    assert started == [(2, arguments)] * 2


def test_a_lost_process_ends_the_command(two_gpus, monkeypatch, capsys):
    def lose(count, arguments):
        raise CaffeError("process 1 of 2 was killed by SIGKILL")

    monkeypatch.setattr(launch, "launch", lose)
    assert failure("train --solver solver.prototxt --gpu all", capsys) == "process 1 of 2 was killed by SIGKILL\n"


def test_a_gpu_without_memory_left(monkeypatch, capsys):
    torch = pytest.importorskip("torch")

    def fill(*args):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee documentation")

    monkeypatch.setattr("caffepy.show.timing.time_layers", fill)
    message = "not enough memory: CUDA out of memory. Tried to allocate 2.00 GiB.\n  Reduce batch_size"
    assert failure("time --model net.prototxt", capsys).startswith(message)


def test_one_of_several_that_does_not_know_where_the_others_are(monkeypatch, capsys):
    pytest.importorskip("torch")
    for name, value in {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    first, hint = failure("train --solver solver.prototxt", capsys).splitlines()
    assert first.startswith("this process is to train with others, but cannot find them: ") and "MASTER_ADDR" in first
    assert "unset LOCAL_RANK and WORLD_SIZE" in hint


@pytest.mark.gpu
@pytest.mark.skipif(not gpu_count(), reason="no GPU")
def test_on_a_gpu(capsys):
    main(["device-query", "--gpu", "0"])
    assert capsys.readouterr().out.startswith("GPU 0: ")
    for precision in ("float32", "tf32", "bf16"):
        main(["time", "--model", "net.prototxt", "--gpu", "0", "--iterations", "2", "--precision", precision])
