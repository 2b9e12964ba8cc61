"""What the campaign has found is kept, with all that it takes to see it again."""

from __future__ import annotations

import shutil
from pathlib import Path

FAILURES = Path(__file__).parent / "failures"


def keep(name: str, folder: Path, story: str) -> Path:
    """A copy of the folder, and in `case.txt` what was done there; replaces an older one of this name."""
    place = FAILURES / name
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder, place, symlinks=True)
    (place / "case.txt").write_text(story)
    return place
