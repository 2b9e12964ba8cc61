"""The short form: some faults of some programs. `python -m tests.campaign --only faults` tries all of all."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("processes are forked and limited as Linux does it", allow_module_level=True)

from tests.campaign import failures, faults, limits
from tests.campaign.careless import Careless
from tests.campaign.child import Child
from tests.campaign.operations import Fault
from tests.campaign.programs import PROGRAMS

TRAINING = "train-dummy-BINARYPROTO"


@pytest.mark.parametrize(
    ("operation", "stride"), [("open", 4), ("write", 1), ("fsync", 2), ("rename", 1), ("unlink", 1)]
)
def test_a_file_is_whole_or_as_it_was(operation, stride):
    assert "calls" in faults.try_operation("upgrade", operation, stride)


@pytest.mark.parametrize(("operation", "stride"), [("rename", 17), ("fsync", 29), ("write", 23), ("unlink", 37)])
def test_training_survives_or_resumes(operation, stride):
    faults.try_operation(TRAINING, operation, stride)


def test_a_refused_thread_stops_no_training():
    for fault in (Fault("thread", 1, "EAGAIN"), Fault("thread", 1, "EAGAIN", lasting=True)):
        assert faults.try_fault("train-lmdb-BINARYPROTO", fault) == 0


@pytest.mark.parametrize("name", ["imageset-lmdb", "features"])
def test_a_database_is_whole_or_absent(name):
    faults.try_operation(name, "rename", 4)


def test_an_end_of_the_disk_anywhere_in_a_snapshot():
    try:
        assert {limits.try_disk(TRAINING, pages * limits.PAGE) for pages in (1, 4, 7)} <= {0, 1}
    except PermissionError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("name", "limit", "amount"),
    [
        ("imageset-lmdb", "FSIZE", 4096),
        ("imageset-lmdb", "AS", 4 << 20),
        ("mean", "NOFILE", 9),
        ("train-hdf5-HDF5", "AS", 16 << 20),
    ],
)
def test_less_than_it_needs(name, limit, amount):
    assert limits.try_limit(name, limit, amount) in (0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_every_fault(name):
    for operation in faults.OPERATIONS:
        faults.try_operation(name, operation)


# The campaign itself must not be blind


@pytest.mark.parametrize(
    ("way", "fault", "found"),
    [
        ("in place", Fault("write", 1, "ENOSPC"), "made is neither whole nor as it was"),
        ("in place", Fault("write", 1, "kill"), "made is neither whole nor as it was"),
        ("well", Fault("write", 1, "EIO"), "it ends well with another result"),
        ("silent", Fault("write", 1, "EIO"), "it fails without a word"),
        ("raises", Fault("rename", 1, "EIO"), "Traceback"),
    ],
)
def test_a_careless_program_is_found_out(tmp_path, monkeypatch, way, fault, found):
    monkeypatch.setattr(failures, "FAILURES", tmp_path)
    monkeypatch.setitem(PROGRAMS, way, Careless(way))
    with pytest.raises(AssertionError, match=found):
        faults.try_fault(way, fault)
    assert list(tmp_path.glob("*/case.txt"))


def _operations() -> None:
    Path("a").write_text("x")
    Path("a").rename("b")
    with open("b", "rb+") as file:
        os.fsync(file.fileno())
    os.replace("b", "c")
    Path("c").unlink()
    Path("d").mkdir()
    os.close(os.pipe()[0])
    thread = threading.Thread(target=print)
    thread.start()
    thread.join()


def test_operations_are_counted(tmp_path):
    calls = Child(_operations, tmp_path).wait().calls
    assert calls == {"open": 2, "write": 1, "rename": 2, "fsync": 1, "unlink": 1, "mkdir": 1, "pipe": 1, "thread": 1}


def test_the_operation_that_is_named_fails(tmp_path):
    outcome = Child(_operations, tmp_path, Fault("rename", 2, "EIO")).wait()
    assert outcome.status == 1 and "os.replace" in outcome.said and "Input/output error" in outcome.said
    assert (tmp_path / "b").exists()
