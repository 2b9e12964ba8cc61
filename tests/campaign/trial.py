"""Many mutants of one kind, read by another process; the one that gets through is made minimal and kept."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from tests.campaign.all_kinds import KINDS
from tests.campaign.failures import FAILURES
from tests.campaign.isolated import Reader
from tests.campaign.mutants import mutated_bytes
from tests.campaign.turns import Turn


def whole_of(kind: str) -> bytes:
    """A whole file of the kind, made in a folder of its own."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            KINDS[kind].prepare(Path(folder))
            return KINDS[kind].whole()
        finally:
            os.chdir(before)


def try_mutants(reader: Reader, kind: str, number: int, seed: int) -> Counter[str]:
    """How many of `number` mutants were read and refused. Raises AssertionError for one that was neither."""
    outcomes: Counter[str] = Counter()

    @seeded(seed)
    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(mutated_bytes(whole_of(kind)))
    def trial(mutant: bytes) -> None:
        try:
            outcomes[reader.outcome(kind, mutant)] += 1
        except AssertionError:
            FAILURES.mkdir(exist_ok=True)
            (FAILURES / f"{kind}-{seed}").write_bytes(mutant)  # the last of them is the minimal one
            raise

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a mutant's text is long
        trial()
    return outcomes


def turns(seed: int, kinds: Sequence[str] = (), number: int = 500) -> Iterator[Turn]:
    """So many mutants of each of these kinds, or of all, again and again."""
    with Reader() as reader:
        for turn in count(seed):
            for kind in kinds or sorted(kind for kind in KINDS if KINDS[kind].available):
                yield Turn(f"mutants {kind}", turn, partial(_said, reader, kind, number, turn))


def _said(reader: Reader, kind: str, number: int, seed: int) -> str:
    found = try_mutants(reader, kind, number, seed)
    return f"{found['read']} read, {found['refused']} refused"
