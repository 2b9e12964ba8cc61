"""A terminal that is closed, and streams that were never open, end no training."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import caffepy
from caffepy.solver import snapshot as snapshots

SOLVER = """
net_param {
  layer { name: "in" type: "DummyData" top: "x" top: "t"
          dummy_data_param { shape { dim: 4 dim: 3 } shape { dim: 4 dim: 1 } } }
  layer { name: "w" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 1 } }
  layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
}
base_lr: 0.01 lr_policy: "fixed" max_iter: MAX snapshot_prefix: "s" display: 1
"""
COMMAND = [sys.executable, "-m", "caffepy", "train", "--solver", "solver.prototxt"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return tmp_path


def solver(iterations: int) -> None:
    Path("solver.prototxt").write_text(SOLVER.replace("MAX", str(iterations)))


def read_until(terminal: int, word: bytes) -> None:
    seen = b""
    while word not in seen:
        seen += os.read(terminal, 4096)


def test_a_closed_terminal_leaves_the_snapshot_that_was_promised(folder):
    solver(10_000_000)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [*COMMAND, "--sighup-effect", "stop"])
    read_until(terminal, b"Iteration 3")
    os.close(terminal)  # the session's hang-up: SIGHUP, and writing raises from now on
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert snapshots.snapshots("s")


def test_sigterm_snapshots_and_ends(folder):
    solver(10_000_000)
    with subprocess.Popen(COMMAND, stderr=subprocess.PIPE, text=True) as run:
        for line in run.stderr:
            if "Iteration 3" in line:
                break
        run.send_signal(signal.SIGTERM)
        rest = run.stderr.read()
    assert run.returncode == 0 and "stopping after this iteration, then a snapshot" in rest
    assert snapshots.snapshots("s")


def test_closed_stderr_trains(folder):
    solver(5)
    done = subprocess.run(["sh", "-c", 'exec "$@" 2>&-', "sh", *COMMAND], check=False, capture_output=True)
    assert done.returncode == 0
    assert snapshots.snapshots("s") == ["s_iter_5.solverstate"]


def test_ctrl_c_while_modules_are_imported(folder):
    script = (
        "import builtins, os, signal, sys\n"
        "real = builtins.__import__\n"
        "def slow(name, *rest):\n"
        "    if name == 'caffepy.cli': os.kill(os.getpid(), signal.SIGINT)\n"
        "    return real(name, *rest)\n"
        "builtins.__import__ = slow\n"
        "from caffepy.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGINT and not done.stderr


def test_little_is_imported_before_ctrl_c_is_quiet():
    """What is there to be interrupted with a traceback: without `site`, which is Python's own, a few modules."""
    root = Path(caffepy.__file__).parents[1]
    code = f"import sys; sys.path.insert(0, {str(root)!r}); before = set(sys.modules); import caffepy.__main__; "
    code += "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    assert not {"typing", "email", "re", "json", "pathlib", "click", "numpy"} & set(done.stdout.split())
