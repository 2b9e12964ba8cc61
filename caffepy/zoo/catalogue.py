"""What is in the zoo: `index.json` in its folder, an entry a net."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from caffepy.errors import ConfigError, did_you_mean
from caffepy.files import read_text

INDEX = "index.json"


@dataclass(frozen=True)
class ZooEntry:
    """A net of the zoo. `python -m models.definitions` counts `input`, `parameters` and `gflop` from `deploy`."""

    name: str
    folder: str
    """Below the zoo's folder."""
    task: str
    net: str
    solver: str
    deploy: str = ""
    input: str = ""
    """Of one item, as `3 x 224 x 224`."""
    parameters: int = 0
    gflop: float = 0
    """Of a forward pass of one item; a multiply-add is two operations."""
    classes: int = 0
    heads: str = ""
    """Names of the layers whose outputs are several for each class, a regular expression; else their number tells."""
    records: int = 0
    """How many records the training data has that `solver` is made for."""


def zoo_folder() -> Path:
    """The folder of the zoo: `models` beside the package in a checkout, in the package once installed."""
    package = Path(__file__).parents[1]
    beside = package.parent / "models"
    return beside if (beside / INDEX).is_file() else package / "models"


def entries() -> list[ZooEntry]:
    """All nets, in the order of the index."""
    return [ZooEntry(**item) for item in json.loads(read_text(zoo_folder() / INDEX))]


def find(name: str) -> ZooEntry:
    """The net of this name, or of this folder. Raises ConfigError with the nearest name."""
    known = {key: entry for entry in entries() for key in (entry.folder, entry.name)}
    if name not in known:
        hint = did_you_mean(name, known) or "caffepy zoo lists them."
        raise ConfigError(f'the zoo has no net "{name}"', hint=hint)
    return known[name]
