"""Random orders of tasks, the same in all processes, that a resume goes on with."""

from __future__ import annotations

from typing import Any

import numpy as np


def draw(random: np.random.Generator, count: int) -> list[np.ndarray]:
    """For each of the tasks the others in a random order."""
    return [np.array([j for j in random.permutation(count) if j != i], int) for i in range(count)]


def state(random: np.random.Generator) -> dict[str, Any]:
    return {"random": dict(random.bit_generator.state)}


def set_state(random: np.random.Generator, given: dict[str, Any]) -> None:
    random.bit_generator.state = given["random"]
