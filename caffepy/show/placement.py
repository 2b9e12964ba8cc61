"""Places for the nodes of a directed graph in rows, every node below all that lead to it (after Sugiyama 1981).

An edge over several rows takes a place in each that it passes, so that it runs beside the nodes and not behind them;
edges of one origin share it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

GAP = 24
_PASS_WIDTH = 2
_PASS_WEIGHT = 8  # long edges run straight rather than nodes stand centred
_SWEEPS = 12


class Placement(NamedTuple):
    """Where everything is; x is a centre, rows count from 0 at the top."""

    x: dict[Hashable, float]
    row: dict[Hashable, int]
    routes: dict[tuple[str, str], list[Hashable]]
    """The keys, from start to end, that an edge passes: one in each row."""


def layered(width: Mapping[str, float], edges: Iterable[tuple[str, str]]) -> Placement:
    """Places for nodes of these widths; an edge's start comes before its end in `width`."""
    edges = list(dict.fromkeys(edges))
    row = _rows(width, edges)
    routes: dict[tuple[str, str], list[Hashable]] = {}
    for start, end in edges:
        passes = [(start, r) for r in range(row[start] + 1, row[end])]
        row.update({key: key[1] for key in passes})
        routes[start, end] = [start, *passes, end]
    # Ordered sets: the order of a sum tells in its last bits.
    above: dict[Hashable, dict[Hashable, None]] = defaultdict(dict)
    below: dict[Hashable, dict[Hashable, None]] = defaultdict(dict)
    for route in routes.values():
        for one, next_ in pairwise(route):
            above[next_][one] = None
            below[one][next_] = None
    rows: dict[int, list[Hashable]] = defaultdict(list)
    for key, r in row.items():
        rows[r].append(key)
    x: dict[Hashable, float] = dict.fromkeys(row, 0.0)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for r in sorted(rows, reverse=not down):
            near = above if down else below
            wanted = {key: _mean([x[other] for other in near[key]], x[key]) for key in rows[r]}
            if sweep < _SWEEPS // 2:
                rows[r].sort(key=wanted.__getitem__)
            sizes = [width[key] if isinstance(key, str) else _PASS_WIDTH for key in rows[r]]
            weights = [1 if isinstance(key, str) else _PASS_WEIGHT for key in rows[r]]
            x.update(zip(rows[r], spread([wanted[key] for key in rows[r]], sizes, weights)))
    return Placement(x, row, routes)


def _rows(width: Mapping[str, float], edges: Iterable[tuple[str, str]]) -> dict[Hashable, int]:
    """For each node the length of the longest way to it."""
    above = defaultdict(list)
    for start, end in edges:
        above[end].append(start)
    row: dict[Hashable, int] = {}
    for key in width:
        row[key] = 1 + max((row[start] for start in above[key]), default=-1)
    return row


def spread(wanted: Sequence[float], sizes: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Centres in this order, GAP apart, that minimize sum of weight (centre - wanted)^2.

    With what lies to the left subtracted this is a monotone regression: neighbours out of order share their mean.
    """
    offsets, left = [], 0.0
    for size in sizes:
        offsets.append(left + size / 2)
        left += size + GAP
    blocks: list[tuple[float, float, int]] = []  # mean, weight, number of members
    for want, offset, weight in zip(wanted, offsets, weights):
        mean, total, count = want - offset, float(weight), 1
        while blocks and blocks[-1][0] > mean:
            other, other_weight, members = blocks.pop()
            mean = (mean * total + other * other_weight) / (total + other_weight)
            total, count = total + other_weight, count + members
        blocks.append((mean, total, count))
    means = [mean for mean, _, count in blocks for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets)]


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default
