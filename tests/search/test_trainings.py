"""Trials and folds as they are: processes that train, write, answer and are killed."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import caffepy
from caffepy.cli import main
from caffepy.errors import CaffeError
from caffepy.proto import text
from caffepy.search import reporter
from caffepy.solver import Solver
from tests.search import small


@pytest.fixture
def folder(tmp_path, monkeypatch):
    small.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def test_a_search_of_two_jobs(folder, capfd):
    pytest.importorskip("optuna")
    (folder / "search.prototxt").write_text(small.SEARCH.replace("trials: 4", "trials: 2"))
    main(["search", "search.prototxt", "--jobs", "2", "--set", "momentum=0.8"])
    out, err = capfd.readouterr()
    assert out.startswith("Best: trial ") and "Trial 0: base_lr = 0.05" in err
    rows = table("search/search.csv")
    assert [row["state"] for row in rows] == ["COMPLETE"] * 2
    assert text.read_solver("search/trial_0000/solver.prototxt").momentum == pytest.approx(0.8)
    for row in rows:
        trial = Path(row["folder"])
        assert "Iteration 12, Testing net (#0)" in (trial / "train.log").read_text()
        assert sorted(p.name for p in trial.glob("*_iter_*")) == [
            f"solver_iter_12.{kind}" for kind in ("caffemodel", "resume", "solverstate")
        ]
    best = min(rows, key=lambda row: float(row["loss"]))
    weights = (Path(best["folder"]) / "solver_iter_12.caffemodel").read_bytes()
    assert (folder / "search/best.caffemodel").read_bytes() == weights
    capfd.readouterr()
    # The best definition, trained as it stands, comes to the same bits.
    main(["train", "--solver", "search/best_solver.prototxt"])
    assert (folder / "search/best_solver_iter_12.caffemodel").read_bytes() == weights


def test_a_trial_whose_net_cannot_be_built_fails(folder, capfd):
    pytest.importorskip("optuna")
    (folder / "search.prototxt").write_text(
        'solver: "solver.prototxt" metric: "loss" sampler: GRID baseline: false '
        'param { path: "net.layer.ip2.inner_product_param.num_output" choice: "0" }'
    )
    with pytest.raises(SystemExit):
        main(["search", "search.prototxt"])
    said = "error: search.prototxt: no trial was trained to the end: search/trial_0000/net.prototxt:"
    assert said in capfd.readouterr().err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(28, "No space left on device", "x"),
            {"failed": "[Errno 28] No space left on device: 'x'", "fatal": True},
        ),
        (CaffeError("iteration 3: loss = nan"), {"failed": "iteration 3: loss = nan", "fatal": False}),
    ],
)
def test_what_a_training_says_at_its_end(error, said, folder, monkeypatch):
    # `_answers` stays open: a training ends its process when there is nobody to answer.
    (incoming, _answers), (messages, outgoing) = os.pipe(), os.pipe()
    monkeypatch.setenv(reporter.PIPES, f"{incoming},{outgoing}")
    with pytest.raises(type(error)), reporter.reported(Solver("solver.prototxt"), "solver.prototxt"):
        raise error
    assert json.loads(os.read(messages, 1000)) == said


def test_cross_validation(folder, capfd):
    main(["cross-validate", "--solver", "solver.prototxt", "--folds", "2", "--jobs", "2", "--group", "user"])
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].split() == ["output", "mean", "deviation", "fold", "0", "fold", "1"]
    name, mean, deviation, *folds = lines[1].split()
    values = [float(fold) for fold in folds]
    assert name == "accuracy" and float(mean) == pytest.approx(np.mean(values), rel=1e-5)
    assert float(deviation) == pytest.approx(np.std(values), rel=1e-4, abs=1e-6)
    found = np.load("solver_folds/folds.npy")
    assert all(len(set(found[user * 5 : user * 5 + 5])) == 1 for user in range(12))
    before = {path: path.stat().st_mtime_ns for path in Path("solver_folds").glob("*/solver_iter*")}
    main(["cross-validate", "--solver", "solver.prototxt", "--folds", "2", "--group", "user"])
    assert capfd.readouterr().out.splitlines() == lines
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with pytest.raises(SystemExit):
        main(["cross-validate", "--solver", "solver.prototxt", "--folds", "3"])
    assert capfd.readouterr().err == (
        "error: solver_folds: it holds another cross-validation\n  Set another --folder, or remove it.\n"
    )
    assert not Path("solver_folds/fold_2").exists()


def test_a_fold_that_fails(folder):
    (folder / "solver.prototxt").write_text(small.SOLVER.replace("base_lr: 0.05", "base_lr: 1e30"))
    with pytest.raises(caffepy.errors.CaffeError, match=r"^solver_folds: fold_0 failed: .*loss = (nan|inf)"):
        caffepy.cross_validate("solver.prototxt", folds=2)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--stratify", "lable"], 'points.h5: there is no dataset "lable"'),
        (["--folds", "99"], "99 folds cannot be made of 60 records"),
    ],
)
def test_folds_that_cannot_be(args, message, folder, capfd):
    with pytest.raises(SystemExit):
        main(["cross-validate", "--solver", "solver.prototxt", *args])
    assert message in capfd.readouterr().err


def test_a_net_without_records(folder, capfd):
    net = small.NET.replace('type: "HDF5Data"', 'type: "DummyData"').replace(
        'hdf5_data_param { source: "list.txt" batch_size: 10 shuffle: true }',
        "dummy_data_param { shape { dim: 2 dim: 3 } shape { dim: 2 } }",
    )
    (folder / "net.prototxt").write_text(net)
    with pytest.raises(SystemExit):
        main(["cross-validate", "--solver", "solver.prototxt"])
    assert "the training net has no data layer whose records can be divided" in capfd.readouterr().err


def search(*args):
    command = [sys.executable, "-m", "caffepy", "search", "search.prototxt", *args]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen) -> int:
    process.communicate()
    return process.returncode


def wait_for(*paths: Path) -> None:
    end = time.monotonic() + 60
    while not any(path.exists() for path in paths):
        assert time.monotonic() < end
        time.sleep(0.02)


LONG = small.SOLVER.replace("max_iter: 12", "max_iter: 20000 display: 1000").replace(
    "test_interval: 4", "test_interval: 100"
)


def test_ctrl_c_keeps_what_runs(folder):
    pytest.importorskip("optuna")
    small.write(folder, solver=LONG)
    process = search()
    wait_for(folder / "search/trial_0000/solver_iter_100.solverstate")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopping: what runs writes a snapshot" in err and "the same command goes on" in err
    log = (folder / "search/trial_0000/train.log").read_text()
    assert "Optimization stopped early." in log
    states = list(Path("search/trial_0000").glob("*.solverstate"))
    assert len(states) == 1 and not Path("search/trial_0000/result.json").exists()


def test_a_killed_search_leaves_no_training_behind(folder):
    pytest.importorskip("optuna")
    small.write(folder, solver=LONG)
    process = search()
    wait_for(folder / "search/trial_0000/solver_iter_100.solverstate")
    process.kill()
    process.communicate()
    marker = str(folder).encode()
    end = time.monotonic() + 20
    while any(marker in _cwd(pid) for pid in filter(str.isdigit, os.listdir("/proc")) if int(pid) != os.getpid()):
        assert time.monotonic() < end
        time.sleep(0.05)


def _cwd(pid: str) -> bytes:
    try:
        return os.readlink(f"/proc/{pid}/cwd").encode()
    except OSError:
        return b""


@pytest.mark.slow
def test_kills_at_any_moment_change_nothing(folder):
    pytest.importorskip("optuna")
    (folder / "search.prototxt").write_text(small.SEARCH + "pruner { type: HYPERBAND }")
    assert ended(search("--folder", "whole")) == 0
    random = np.random.default_rng()
    for _ in range(100):
        process = search("--folder", "killed")
        try:
            process.communicate(timeout=random.uniform(1, 6))
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
    else:
        assert ended(search("--folder", "killed")) == 0
    whole, killed = (table(f"{name}/search.csv") for name in ("whole", "killed"))
    for a, b in zip(whole, killed, strict=True):
        assert {**a, "seconds": "", "folder": ""} == {**b, "seconds": "", "folder": ""}
    assert Path("whole/best.caffemodel").read_bytes() == Path("killed/best.caffemodel").read_bytes()
