"""Files that are not where a definition says."""

from __future__ import annotations

from pathlib import Path

from caffepy.files import near_names


def elsewhere(path: str, file: str) -> str:
    """Where a missing path is: seen from a folder above the definition's own, or under a similar name."""
    for folder in Path(file).absolute().parents:
        if folder != Path.cwd() and (folder / path).exists():
            return f"It is there for commands that are started in {folder}: paths are relative to that."
    return near_names(path)
