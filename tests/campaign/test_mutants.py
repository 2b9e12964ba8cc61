"""The short form of the campaign: a few mutants of every kind of file, the same ones in every run.

`python -m tests.campaign --seconds 600` tries others, for as long as one likes.
"""

from __future__ import annotations

import sys

import pytest

pytest.importorskip("hypothesis")
if sys.platform != "linux":
    pytest.skip("limits of memory are Linux's", allow_module_level=True)

from tests.campaign.all_kinds import KINDS
from tests.campaign.isolated import Reader
from tests.campaign.trial import try_mutants, whole_of


@pytest.fixture(scope="module")
def reader():
    with Reader() as reader:
        yield reader


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_mutants_are_read_or_refused(reader, kind):
    pytest.importorskip(KINDS[kind].needs)
    assert try_mutants(reader, kind, 40, seed=1)["refused"] > 0


def test_a_thousand_databases_are_read_or_refused(reader):
    outcomes = try_mutants(reader, "Lmdb", 1000, seed=2)
    assert outcomes["refused"] > 500 and outcomes["read"] > 10


@pytest.mark.slow
def test_nine_thousand_databases_are_read_or_refused(reader):
    for seed in range(10, 20):
        try_mutants(reader, "Lmdb", 940, seed)


def test_what_kills_or_fills_or_hangs_the_reader_is_found(reader, monkeypatch):
    """The campaign itself must not be blind."""
    assert reader.outcome("SelfTest", b"fine") == "read"
    monkeypatch.setattr("tests.campaign.isolated.PATIENCE", 2.0)
    for mutant, found in {
        b"crash": "ended with status -",
        b"hang": "takes more than 2 s",
        b"fill": "MemoryError",
        b"raise": "ZeroDivisionError",
    }.items():
        with pytest.raises(AssertionError, match=found):
            reader.outcome("SelfTest", mutant)
    assert reader.outcome("SelfTest", b"refuse") == "refused"


def test_whole_files_are_the_same_in_every_run():
    assert all(whole_of(kind) == whole_of(kind) for kind in ("Lmdb", "Hdf5", "Jpeg", "IdxPacked"))
