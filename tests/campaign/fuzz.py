"""python -m tests.campaign.fuzz KIND --seconds 60: damaged files that Atheris makes, by what they reach of our code.

It takes `pip install atheris`, which is not there for every Python. What gets through is kept in
tests/campaign/failures, under a name that begins with the kind.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from tests.campaign.failures import FAILURES

MEMORY = 2048
"""MiB that the process may have."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign.fuzz", description=__doc__)
    parser.add_argument("kind")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    os.environ["CAFFEPY_MAX_MEMORY"] = "512M"
    import atheris

    with atheris.instrument_imports(include=["caffepy"]), tempfile.TemporaryDirectory() as place:
        from caffepy.errors import CaffeError
        from tests.campaign.texts import KINDS

        if options.kind not in KINDS:
            parser.error(f"there is no kind {options.kind}: {', '.join(sorted(KINDS))}")
        kind, folder, corpus = KINDS[options.kind], Path(place, "work"), Path(place, "corpus")
        for made in (folder, corpus):
            made.mkdir()
        FAILURES.mkdir(exist_ok=True)
        os.chdir(folder)
        kind.prepare(folder)
        (corpus / "whole").write_bytes(kind.whole())
        kind.read(kind.write(folder, kind.whole()))  # imports all that it takes

        def read(mutant: bytes) -> None:
            with suppress(CaffeError):
                kind.read(kind.write(folder, mutant))

        until = [f"-max_total_time={options.seconds}", f"-seed={options.seed}"]
        limits = ["-timeout=10", f"-rss_limit_mb={MEMORY}"]
        places = [f"-artifact_prefix={FAILURES}/{options.kind}-", str(corpus)]
        atheris.Setup([sys.argv[0], *until, *limits, *places], read)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
