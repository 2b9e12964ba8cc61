"""The short form: a few runs are killed and resumed. `python -m tests.campaign --only kill` kills others."""

from __future__ import annotations

import sys

import pytest

if sys.platform != "linux":
    pytest.skip("processes are forked and watched as Linux does it", allow_module_level=True)

from tests.campaign import failures, kill, rivals
from tests.campaign.trainings import TRAININGS


@pytest.mark.parametrize("name", ["train-lmdb-BINARYPROTO", "train-table-HDF5", "train-memory-BINARYPROTO"])
def test_a_killed_run_is_resumed_to_the_bit(name):
    assert kill.try_kills(name, seed=1).endswith(" 0 lost")


def test_a_stopped_run_leaves_a_whole_snapshot_and_goes_on():
    assert kill.try_stop("train-hdf5-HDF5", seed=1) == "1 stop, 0 lost"


def test_a_rival_is_refused_and_changes_nothing():
    assert rivals.try_second("train-dummy-HDF5") == "2 refused"


def test_a_run_that_starts_over_another_keeps_its_snapshots():
    assert rivals.try_anew("train-dummy-BINARYPROTO", seed=1).endswith(" files kept")


def test_another_end_is_found_and_kept(tmp_path, monkeypatch):
    """The campaign itself must not be blind."""
    monkeypatch.setattr(failures, "FAILURES", tmp_path)
    monkeypatch.setattr(kill, "undisturbed", lambda training: {"resume": "another"})
    with pytest.raises(AssertionError, match="it ends with other bits"):
        kill.try_kills("train-dummy-BINARYPROTO", seed=1)
    assert "--resume" in (tmp_path / "kill-train-dummy-BINARYPROTO-1/case.txt").read_text()


def test_a_lost_snapshot_is_found(tmp_path):
    training = TRAININGS["train-dummy-BINARYPROTO"]
    victim = kill.Victim(training, kill.prepared(training, str(tmp_path)), kill.Random(1))
    with pytest.raises(AssertionError, match="iteration 7 was begun, 0 is the newest"):
        victim.check("Iteration 6, lr = 0.01\nIteration 7, lr = 0.01\n")


@pytest.mark.slow
def test_two_hundred_kills():
    kills, turns = 0, kill.turns(seed=100)
    while kills < 200:
        turn = next(turns)
        kills += int(turn.run().split()[0]) if turn.name.startswith("kill") else 0
