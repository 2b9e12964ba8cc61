"""python -m tests.campaign --seconds 600 --seed 1 [--only kill,faults,mutants,leaks]: what may go wrong does, and
nothing may be lost.

The seed of each turn is printed; a case that fails is kept, minimal, in tests/campaign/failures.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice

from tests.campaign import faults, kill, leaks, limits, rivals, trial
from tests.campaign.all_kinds import KINDS
from tests.campaign.turns import Turn

PARTS = "kill", "faults", "mutants", "leaks"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long (the last turn is finished)")
    parser.add_argument("--seed", type=int, default=1, help="of the first turns")
    parser.add_argument("--only", type=parts, default=PARTS, help="these parts: " + ",".join(PARTS))
    parser.add_argument("--kind", action="append", choices=sorted(KINDS), help="mutants of this kind (default: all)")
    parser.add_argument("--mutants", type=int, default=500, help="how many a turn")
    parser.add_argument("--turns", type=int, help="no more than so many turns")
    options = parser.parse_args()
    end, failed = time.monotonic() + options.seconds, []
    with closing(_by_turns([_turns(part, options) for part in options.only])) as turns:
        for turn in islice(turns, options.turns):
            if time.monotonic() > end:
                break
            try:
                print(f"{turn.name}: seed {turn.seed}: {turn.run()}", flush=True)
            except AssertionError as error:
                failed.append(f"{turn.name}: seed {turn.seed}")
                print(f"{failed[-1]}: FAILED\n{error}", flush=True)
    if failed:
        sys.exit(f"{len(failed)} failed:\n" + "\n".join(failed))


def parts(text: str) -> list[str]:
    """Names of parts, separated by commas."""
    chosen = text.split(",")
    if unknown := set(chosen) - set(PARTS):
        raise argparse.ArgumentTypeError(f"there is no part {min(unknown)!r}: {', '.join(PARTS)}")
    return chosen


def _turns(part: str, options: argparse.Namespace) -> Iterator[Turn]:
    if part == "mutants":
        return trial.turns(options.seed, options.kind or (), options.mutants)
    if part == "faults":
        return _by_turns([faults.turns(options.seed), limits.turns(options.seed)])
    if part == "kill":
        return _by_turns([kill.turns(options.seed), rivals.turns(options.seed)])
    return leaks.turns(options.seed)


def _by_turns(all_turns: list[Iterator[Turn]]) -> Iterator[Turn]:
    """The next of each, again and again."""
    try:
        while True:
            yield from map(next, all_turns)
    finally:
        for turns in all_turns:
            turns.close()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
