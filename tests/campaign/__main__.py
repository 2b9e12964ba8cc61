"""python -m tests.campaign --seconds 600 [--kind Lmdb ...]: mutants of every kind, turn and turn about, for so long.

The seed of each turn is printed; a mutant that gets through is made minimal and kept in tests/campaign/failures.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from itertools import count

from tests.campaign.isolated import Reader
from tests.campaign.kinds import KINDS
from tests.campaign.trial import try_mutants


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long")
    parser.add_argument("--kind", action="append", choices=sorted(KINDS), help="of which kind (default: all)")
    parser.add_argument("--seed", type=int, default=1, help="of the first turn")
    parser.add_argument("--mutants", type=int, default=500, help="how many a turn")
    options = parser.parse_args()
    end, failed = time.monotonic() + options.seconds, 0
    turns = ((kind, seed) for seed in count(options.seed) for kind in options.kind or sorted(KINDS))
    with Reader() as reader:
        while time.monotonic() < end:
            kind, seed = next(turns)
            try:
                found = try_mutants(reader, kind, options.mutants, seed)
                print(f"{kind}: seed {seed}: {found['read']} read, {found['refused']} refused", flush=True)
            except AssertionError:
                failed += 1
                print(f"{kind}: seed {seed}: FAILED\n{traceback.format_exc(limit=0)}", flush=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
