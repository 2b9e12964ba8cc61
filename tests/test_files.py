"""Files that are whole or absent, and names near a missing one."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from caffepy.files import atomic_write, near_names, new_hdf5

KILLED = """
import os, signal, sys
from caffepy.files import atomic_write
with atomic_write(sys.argv[1]) as temporary:
    with open(temporary, "w") as file:
        file.write("half of the ne")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "state"
    with atomic_write(path) as temporary, open(temporary, "w") as file:
        file.write("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_the_temporary_name_is_in_the_same_folder(tmp_path):
    with atomic_write(tmp_path / "state") as temporary:  # else the rename would be a copy
        assert temporary.startswith(str(tmp_path))
        open(temporary, "w").close()


def test_an_error_leaves_the_old_file(tmp_path):
    path = tmp_path / "state"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as temporary, open(temporary, "w") as file:
        file.write("half of the ne")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_of_the_disk_names_the_file(tmp_path):
    path = tmp_path / "state"
    with pytest.raises(OSError, match="No space left") as caught, atomic_write(path):
        raise OSError(28, "No space left on device")
    assert caught.value.filename == str(path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_hdf5_on_a_full_disk_is_an_error_of_the_disk():
    with pytest.raises(OSError, match="No space left"), new_hdf5("/dev/full") as file:
        file["x"] = np.zeros(1000)


def test_new_hdf5(tmp_path):
    with new_hdf5(tmp_path / "x.h5") as file:
        file["x"] = np.arange(1000)
    with h5py.File(tmp_path / "x.h5") as file:
        assert (file["x"][()] == np.arange(1000)).all()


def test_a_kill_leaves_the_old_file(tmp_path):
    path = tmp_path / "state"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lenet_slover.prototxt", "lenet_solver.prototxt"),
        ("lenet_solver.prototext", "lenet_solver.prototxt"),
        ("trian_lmdb", "train_lmdb"),
        ("q.prototxt", ""),  # the extension alone is no likeness
    ],
)
def test_near_names(tmp_path, name, expected):
    for existing in ("lenet_solver.prototxt", "alexnet.prototxt", "train_lmdb"):
        (tmp_path / existing).touch()
    assert near_names(tmp_path / name) == (f'Did you mean "{expected}"?' if expected else "")


def test_nothing_is_near_a_name_that_is_right(tmp_path):
    for existing in ("train_lmdb1", "train_lmdb2"):
        (tmp_path / existing).touch()
    assert near_names(tmp_path / "train_lmdb1") == ""


def test_a_folder_that_may_not_be_looked_into_has_no_near_names(tmp_path, monkeypatch):
    def forbidden(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", forbidden)
    assert near_names(tmp_path / "a") == ""


def test_a_missing_folder_is_said(tmp_path):
    assert near_names(tmp_path / "a" / "b") == f"There is no folder {tmp_path}/a."


def test_no_memory_for_hdf5_is_an_error_of_memory(tmp_path):
    """libhdf5 says that with an OSError without a number, which nobody could tell from a mistake of ours."""
    with pytest.raises(MemoryError, match="HDF5"), new_hdf5(tmp_path / "x.h5"):
        raise OSError("Unable to synchronously create file (memory allocation failed)")


def test_what_a_killed_process_was_writing_is_removed_by_the_next(tmp_path):
    path = tmp_path / "state"
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    with atomic_write(path) as temporary:
        Path(temporary).write_text("new")
    assert list(tmp_path.iterdir()) == [path]
