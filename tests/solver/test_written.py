"""Snapshots write over their own kind alone, and one that fails does not end the training."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from caffepy import files, permissions, temporary
from caffepy.errors import SnapshotError
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.pycaffe.solvers import Solver
from caffepy.solver import snapshot as snapshots

NET = """net_param { layer { name: "w" type: "Parameter" top: "w" parameter_param { shape { dim: 1 dim: 2 } } }
  layer { name: "goal" type: "DummyData" top: "goal"
    dummy_data_param { shape { dim: 1 dim: 2 } data_filler { value: 3 } } }
  layer { name: "loss" type: "EuclideanLoss" bottom: "w" bottom: "goal" top: "loss" } }"""
KEEP = "\n  Move it, set another snapshot_prefix, or train with --force."
FILES = {
    "BINARYPROTO": ["snap_iter_4.caffemodel", "snap_iter_4.solverstate", "snap_iter_4.resume"],
    "HDF5": ["snap_iter_4.caffemodel.h5", "snap_iter_4.solverstate.h5", "snap_iter_4.resume"],
}
OTHERS = {
    "text": b"my thesis, chapter one\nIt was a dark and stormy night.\n",
    "a newline and more": b"\n\nname: x\n",
    "bytes": bytes(range(256)) * 3,
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(50),
    "a message of something else": b"\x0a\x03abc",
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(permissions, "_overwriting", False)


def solver(fields: str = "") -> Solver:
    definition = f'{NET} base_lr: 0.1 lr_policy: "fixed" snapshot_prefix: "snap" max_iter: 12 snapshot: 4 {fields}'
    return Solver(text.parse(definition, SolverParameter()), file="solver.prototxt")


@pytest.mark.parametrize("kind", FILES)
def test_an_older_snapshot_is_written_over(kind):
    for _ in range(2):
        solver(f"snapshot_format: {kind}").solve()
    assert all(Path(name).exists() for name in FILES[kind])


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize(("kind", "i"), [(kind, i) for kind in FILES for i in range(3)])
def test_a_file_of_another_kind_is_not(kind, i, other):
    name = FILES[kind][i]
    Path(name).write_bytes(OTHERS[other])
    what = name.removesuffix(".h5").rpartition(".")[2]
    problem = f"{name}: there is a file of this name that is no {what}: it is not written over{KEEP}"
    with pytest.raises(SnapshotError) as caught:
        solver(f"snapshot_format: {kind}").snapshot("snap_iter_4")
    assert str(caught.value) == problem
    built = solver(f"snapshot_format: {kind}")
    with pytest.raises(SnapshotError) as caught:
        built.solve()
    assert str(caught.value) == f"solver.prototxt: {problem}" and built.iter == 0  # not after hours
    assert [path.name for path in Path().iterdir()] == [name] and Path(name).read_bytes() == OTHERS[other]


def test_a_folder_is_not():
    Path("snap_iter_4.caffemodel").mkdir()
    with pytest.raises(SnapshotError, match="no caffemodel: it is not written over"):
        solver().snapshot("snap_iter_4")


def test_an_empty_file_is(monkeypatch):
    Path("snap_iter_4.caffemodel").touch()
    assert solver().snapshot("snap_iter_4")


def test_all_is_with_force():
    Path("snap_iter_4.caffemodel").write_bytes(b"my thesis")
    permissions.allow_overwriting()
    solver().solve()
    assert b"thesis" not in Path("snap_iter_4.caffemodel").read_bytes()


def test_a_link_is_replaced_not_followed():
    Path("precious").write_bytes(b"")
    Path("snap_iter_4.caffemodel").symlink_to("precious")
    solver().snapshot("snap_iter_4")
    assert Path("precious").read_bytes() == b"" and not Path("snap_iter_4.caffemodel").is_symlink()


def test_other_names_do_not_matter():
    for name in ("snap_iter_x.caffemodel", "snap_iter_4.caffemodel.txt", "snap_iter_4", "snapped_iter_4.caffemodel"):
        Path(name).write_bytes(b"my thesis")
    solver().solve()


def test_keeping_the_last_removes_no_file_of_another_kind():
    solver().step(4)
    Path("snap_iter_4.caffemodel").write_bytes(b"my thesis")
    snapshots.prune("snap", 0)
    assert [path.name for path in Path().iterdir()] == ["snap_iter_4.caffemodel"]


# A snapshot that fails


def failing(monkeypatch, times: int) -> None:
    real, left = snapshots.save, [times]

    def save(solver, name):
        if left[0]:
            left[0] -= 1
            raise OSError(28, "No space left on device", f"{name}.caffemodel")
        return real(solver, name)

    monkeypatch.setattr(snapshots, "save", save)


def test_one_that_fails_is_said_and_the_next_is_written(monkeypatch, caplog):
    failing(monkeypatch, 1)
    built = solver()
    built.solve()
    assert built.iter == 12 and snapshots.snapshots("snap") == ["snap_iter_12.solverstate", "snap_iter_8.solverstate"]
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "Iteration 4: no snapshot was written, training goes on: "
        "[Errno 28] No space left on device: 'snap_iter_4.caffemodel'"
    ]


def test_the_last_is_tried_again_at_the_end(monkeypatch):
    failing(monkeypatch, 3)  # at 4, 8 and 12
    built = solver()
    built.solve()
    assert snapshots.snapshots("snap") == ["snap_iter_12.solverstate"]


def test_the_last_that_fails_ends_in_an_error(monkeypatch):
    failing(monkeypatch, 4)
    with pytest.raises(OSError, match="No space left"):
        solver().solve()


def test_one_that_the_script_asks_for_is_its_own_matter(monkeypatch):
    failing(monkeypatch, 1)
    with pytest.raises(OSError, match="No space left"):
        solver().snapshot()


# What killed ones leave

KILLED = """
import os, signal, sys
from caffepy.files import atomic_write
with atomic_write("snap_iter_3.caffemodel"), atomic_write("snap_best.resume"), atomic_write("other_iter_3.caffemodel"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed():
    subprocess.run([sys.executable, "-c", KILLED], check=False)
    assert len(list(Path().glob(".*.tmp"))) == 3
    solver().snapshot("snap_iter_4")
    (left,) = Path().glob(".*.tmp")
    assert left.name.startswith(".other_iter_3")


def test_what_is_being_written_stays():
    """By this process, by another one, and by one whose number says nothing here but that holds the lock."""
    stranger = Path(".snap_iter_3.caffemodel.999999999.tmp")
    with files.atomic_write("snap_iter_3.caffemodel") as own, open(own, "w"), open(stranger, "w") as held:
        temporary.try_lock(held.fileno())
        other = subprocess.Popen(
            [
                sys.executable,
                "-c",
                KILLED.replace("os.kill(os.getpid(), signal.SIGKILL)", "print('!', flush=True); input()"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert other.stdout and other.stdin and other.stdout.readline()
        temporary.sweep("snap_iter_")
        assert len(list(Path().glob(".snap_iter_3*.tmp"))) == 3
        other.communicate(b"\n")
    temporary.sweep("snap_iter_")
    assert not list(Path().glob(".snap*.tmp"))


@pytest.mark.parametrize(
    "name",
    [
        ".snap_iter_3.tmp",
        ".snap_iter_3.x.tmp",
        "snap_iter_3.99.tmp",
        ".snap_iter_3.999999999.tmpx",
        ".snap_iter_3.9999999999.tmp",
    ],
)
def test_files_of_other_names_stay(name):
    Path(name).touch()
    temporary.sweep("snap_iter_")
    assert Path(name).exists()


def test_a_number_that_this_process_has_now_is_no_owner():
    Path(f".snap_iter_3.caffemodel.{os.getpid()}.tmp").touch()
    temporary.sweep("snap_iter_")
    assert not list(Path().iterdir())


def test_two_that_write_one_file_do_not_mix():
    with files.atomic_write("a") as path, pytest.raises(FileExistsError) as caught:
        Path(path).write_text("first")
        with files.atomic_write("a"):
            pytest.fail("it is being written")
    assert caught.value.filename == "a"
