"""Which GPU a trial gets, and how many cores: processes in turn."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path

import pytest

from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.search import processes
from caffepy.search.processes import Pool, ProcessOptions, on_all_gpus

FAKE = """
    import json, os, sys
    solver = sys.argv[sys.argv.index("--solver") + 1]
    gpu = sys.argv[sys.argv.index("--gpu") + 1] if "--gpu" in sys.argv else None
    threads = os.environ.get("CAFFEPY_THREADS")
    with open(os.path.join(os.path.dirname(solver), "seen.json"), "w") as file:
        json.dump([gpu, threads], file)
    theirs, ours = map(int, os.environ["CAFFEPY_SEARCH"].split(","))
    os.write(ours, b'{"done": {}}\\n')
"""


@pytest.fixture
def trainings(tmp_path, monkeypatch):
    """In place of `python -m caffepy train` a program that writes which GPU and how many threads it was given."""
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(FAKE).replace("CAFFEPY_SEARCH", processes.PIPES))
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nshift 3\nexec "{sys.executable}" "{script}" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(processes.sys, "executable", str(python))
    return tmp_path


def seen(pool: Pool, folder: Path, trials: int) -> list[list]:
    """Run so many trials, as many at a time as may; what each was given."""
    started = 0
    while started < trials or pool.running:
        while pool.free and started < trials:
            (inner := folder / f"{started}").mkdir()
            pool.start(inner / "solver.prototxt", started)
            started += 1
        list(pool.poll(1))
    return [json.loads((folder / f"{i}" / "seen.json").read_text()) for i in range(trials)]


@pytest.fixture
def four_gpus(monkeypatch):
    import caffepy.engine

    monkeypatch.setattr(caffepy.engine, "gpu_count", lambda: 4)


ASKS = SolverParameter(solver_mode=SolverParameter.GPU)


def test_trials_go_round_the_gpus_that_were_named(trainings):
    pool = Pool(3, ProcessOptions(gpus=[5, 7]))
    first = [gpu for gpu, _ in seen(pool, trainings, 3)]
    assert first == ["5", "7", "5"]


def test_trials_go_round_all_gpus_where_the_solver_asks_for_them(trainings, four_gpus):
    pool = Pool(6, on_all_gpus(ProcessOptions(), ASKS))
    assert [gpu for gpu, _ in seen(pool, trainings, 6)] == ["0", "1", "2", "3", "0", "1"]


def test_a_trial_takes_the_gpu_that_has_become_free(trainings, four_gpus):
    pool = Pool(2, on_all_gpus(ProcessOptions(), ASKS))
    assert {gpu for gpu, _ in seen(pool, trainings, 6)} == {"0", "1"}  # never two on one, never a third


@pytest.mark.parametrize("options", [ProcessOptions(words=["--engine", "numpy"]), ProcessOptions(gpus=[2])])
def test_what_was_asked_for_stays(options, four_gpus):
    assert on_all_gpus(options, ASKS) is options


def test_a_solver_for_the_cpu_gets_no_gpu(trainings, four_gpus):
    for solver in (SolverParameter(), SolverParameter(solver_mode=SolverParameter.CPU)):
        assert on_all_gpus(ProcessOptions(), solver).gpus == ()


def test_cores_are_divided_among_jobs(trainings, monkeypatch):
    monkeypatch.setattr(processes, "available_cores", lambda: 8)
    assert [threads for _, threads in seen(Pool(3, ProcessOptions()), trainings, 3)] == ["2"] * 3
