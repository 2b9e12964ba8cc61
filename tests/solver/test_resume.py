"""A run that is stopped and resumed ends in the bits of a run that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from caffepy import rng
from caffepy.data.sources.databases import write_lmdb
from caffepy.data.sources.datum import from_image
from caffepy.errors import SnapshotError
from caffepy.pycaffe.solvers import Solver
from caffepy.solver import Listener
from caffepy.solver import snapshot as snapshots

NET = """
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  data_param { source: "db" backend: LMDB batch_size: 3 }
  transform_param { crop_size: 6 mirror: true scale: 0.01 } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
  data_param { source: "db" backend: LMDB batch_size: 2 } transform_param { crop_size: 6 scale: 0.01 } }
layer { name: "noise" type: "DummyData" top: "noise"
  dummy_data_param { shape { dim: 1 } data_filler { type: "uniform" min: -0.1 max: 0.1 } } }
layer { name: "quiet" type: "Silence" bottom: "noise" }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "drop" type: "Dropout" bottom: "conv" top: "drop" }
layer { name: "fc" type: "InnerProduct" bottom: "drop" top: "fc"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
SOLVER = """
net: "net.prototxt" base_lr: 0.01 lr_policy: "multistep" gamma: 0.5 stepvalue: 3 stepvalue: 8 weight_decay: 0.01
max_iter: 12 snapshot: 5 snapshot_prefix: "snap" random_seed: 11 average_loss: 4 iter_size: 2
test_iter: 1 test_interval: 4 display: 1 solver_mode: CPU
"""
RULES = ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam", "AdamW", "LAMB"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (10, 1, 8, 8), np.uint8)
    write_lmdb("db", ((b"%08d" % i, from_image(p, i % 5).SerializeToString()) for i, p in enumerate(pictures)))
    Path("net.prototxt").write_text(NET)
    return tmp_path


def make(rule: str, extra: str = "") -> Solver:
    momentum = "" if rule in ("AdaGrad", "RMSProp") else "momentum: 0.9"
    Path("solver.prototxt").write_text(f'{SOLVER} type: "{rule}" {momentum} {extra}')
    return Solver("solver.prototxt")


def bits(solver: Solver) -> list[bytes]:
    blobs = [blob for layer in solver.net.layers for blob in layer.blobs] + solver.history
    return [np.ascontiguousarray(blob.data).tobytes() for blob in blobs]


class Losses(Listener):
    """The loss of each iteration's last pass."""

    def __init__(self):
        self.seen = []

    def update(self, solver):
        self.seen.append(float(solver.net.blobs["loss"].data))


def displayed(caplog) -> list[str]:
    wanted = ("net output", "lr =")
    return [r.getMessage() for r in caplog.records if any(w in r.getMessage() for w in wanted)]


@pytest.mark.parametrize("extra", ["", "snapshot_format: HDF5"])
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_resumes_to_the_bit(rule, extra, folder, caplog):
    whole = make(rule, extra)
    whole.step(5)
    with caplog.at_level("INFO", "caffepy"):
        whole.step(0)
        caplog.clear()
        losses = Losses()
        whole.listeners.append(losses)
        whole.step(7)
        lines = displayed(caplog)
    rng.seed(99)  # a new process would not have the old one's generator
    resumed = make(rule, extra)
    resumed.restore(f"snap_iter_5.solverstate{'.h5' if extra else ''}")
    assert (resumed.iter, resumed.current_step) == (5, 1)
    again = Losses()
    resumed.listeners.append(again)
    with caplog.at_level("INFO", "caffepy"):
        caplog.clear()
        resumed.step(7)
        assert displayed(caplog) == lines
    assert bits(resumed) == bits(whole) and again.seen == losses.seen and len(again.seen) == 7


def test_the_loss_window_goes_on(folder):
    whole = make("SGD")
    whole.step(12)
    resumed = make("SGD")
    resumed.restore("snap_iter_5.solverstate")
    resumed.step(7)
    assert resumed.smoothed_loss.state() == whole.smoothed_loss.state()


def test_a_state_of_caffes_resumes_without_our_file(folder):
    make("SGD").step(5)
    Path("snap_iter_5.resume").unlink()
    resumed = make("SGD")
    resumed.restore("snap_iter_5.solverstate")
    assert resumed.iter == 5 and resumed.smoothed_loss.losses == []
    resumed.step(1)


@pytest.mark.parametrize("name", ["snap_iter_5.caffemodel", "snap_iter_5.solverstate", "snap_iter_5.resume"])
@pytest.mark.parametrize("with_ours", [True, False])
def test_truncated_files_are_refused_by_name(name, with_ours, folder):
    make("SGD").step(5)
    path = Path(name)
    path.write_bytes(path.read_bytes()[:-7])
    if not with_ours and name != "snap_iter_5.resume":
        Path("snap_iter_5.resume").unlink()
    with pytest.raises(SnapshotError, match=name):
        make("SGD").restore("snap_iter_5.solverstate")


def test_another_rules_state_is_refused(folder):
    make("SGD").step(5)
    with pytest.raises(SnapshotError, match="this solver has"):
        make("Adam").restore("snap_iter_5.solverstate")


def test_newest_passes_over_incomplete_snapshots(folder, caplog):
    assert snapshots.newest("snap") is None
    make("SGD").step(10)
    assert snapshots.newest("snap") == "snap_iter_10.solverstate"
    Path("snap_iter_10.caffemodel").write_bytes(b"torn")
    assert snapshots.newest("snap") == "snap_iter_5.solverstate"
    assert "Passing over an incomplete snapshot" in caplog.text


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "caffepy", "train", "--solver", "solver.prototxt", *arguments]


@pytest.mark.parametrize("after", [0.0, 0.03, 0.15])
def test_killed_and_resumed(after, folder):
    text = SOLVER.replace("max_iter: 12 snapshot: 5", "max_iter: 60 snapshot: 1").replace("display: 1", "display: 20")
    Path("solver.prototxt").write_text(text + 'type: "Adam" momentum: 0.9')
    subprocess.run(command(), check=True, capture_output=True)
    expected = Path("snap_iter_60.caffemodel").read_bytes()
    for path in Path().glob("snap_iter_*"):
        path.unlink()
    run = subprocess.Popen(command(), stderr=subprocess.DEVNULL)
    while not snapshots.snapshots("snap"):
        time.sleep(0.002)
    time.sleep(after)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    subprocess.run(command("--resume"), check=True, capture_output=True)
    assert Path("snap_iter_60.caffemodel").read_bytes() == expected


@pytest.mark.parametrize("effect", ["stop", "snapshot", "none"])
def test_interrupt(effect, folder):
    text = SOLVER.replace("max_iter: 12 snapshot: 5", "max_iter: 100000").replace("display: 1", "display: 0")
    Path("solver.prototxt").write_text(text.replace("test_interval: 4", "test_interval: 100000"))
    run = subprocess.Popen(
        command("--sigint_effect", effect, "--sighup_effect=stop"), stderr=subprocess.PIPE, text=True
    )
    for line in run.stderr:
        if "Solving" in line:
            break
    time.sleep(0.5)
    run.send_signal(signal.SIGINT)
    if effect != "stop":
        time.sleep(0.5)
        assert run.poll() is None
        assert bool(snapshots.snapshots("snap")) == (effect == "snapshot")
        run.send_signal(signal.SIGHUP)
    with run.stderr:
        log = run.stderr.read()
    assert run.wait(20) == 0
    assert "Optimization stopped early." in log
    assert snapshots.snapshots("snap")
