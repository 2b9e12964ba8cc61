"""python -m tests.campaign --seconds 600 [--kind Lmdb ...]: mutants of every kind, turn and turn about, for so long.

The seed of each turn is printed; a mutant that gets through is made minimal and kept in tests/campaign/failures.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from tests.campaign.kinds import KINDS
from tests.campaign.trial import try_mutants


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long")
    parser.add_argument("--kind", action="append", choices=sorted(KINDS), help="of which kind (default: all)")
    parser.add_argument("--seed", type=int, default=1, help="of the first turn")
    parser.add_argument("--mutants", type=int, default=500, help="how many a turn")
    options = parser.parse_args()
    end, seed, failed = time.monotonic() + options.seconds, options.seed, 0
    while time.monotonic() < end:
        for kind in options.kind or sorted(KINDS):
            if time.monotonic() >= end:
                break
            try:
                outcomes = try_mutants(kind, options.mutants, seed)
                print(f"{kind}: seed {seed}: {outcomes['read']} read, {outcomes['refused']} refused", flush=True)
            except AssertionError:
                failed += 1
                print(f"{kind}: seed {seed}: FAILED\n{traceback.format_exc(limit=0)}", flush=True)
        seed += 1
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
