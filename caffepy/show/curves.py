"""Curves of trainings: a picture, or text where there is no matplotlib."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from os import PathLike
from typing import NamedTuple

from caffepy.errors import MissingExtraError
from caffepy.show.history import LoggedRun, series

WIDTH, HEIGHT = 64, 10
"""Characters of a panel of text."""


class Curve(NamedTuple):
    run: int
    label: str
    x: list[float]
    y: list[float]


def panels(runs: Sequence[LoggedRun]) -> dict[str, list[Curve]]:
    """What is drawn together, by title."""
    found: dict[str, list[Curve]] = {}
    for number, run in enumerate(runs):
        for panel, label, x, y in series(run):
            if y:
                name = f"{run.name}: {label}" if len(runs) > 1 else label
                found.setdefault(panel, []).append(Curve(number, name, x, y))
    return found


def draw(runs: Sequence[LoggedRun], path: str | PathLike[str]) -> None:
    """A panel for each quantity: runs by colour, tests dashed. Needs matplotlib."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise MissingExtraError("matplotlib", "plot", "a picture of curves") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = panels(runs)
    columns = min(3, len(found))
    rows = -(-len(found) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(5 * columns, 3.6 * rows), squeeze=False)
    for axis in axes.flat[len(found) :]:
        axis.remove()
    for axis, (title, curves) in zip(axes.flat, found.items()):
        for k, curve in enumerate(curves):
            color = f"C{curve.run if len(runs) > 1 else k}"
            line = {"linestyle": "--", "marker": "."} if "test " in curve.label else {}
            axis.plot(curve.x, curve.y, color=color, label=curve.label, **line)
        axis.set(title=title, xlabel="iteration")
        axis.grid(alpha=0.3)
        if len(curves) > 1:
            axis.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def text(runs: Sequence[LoggedRun]) -> str:
    """The same panels in characters."""
    return "\n".join(line for title, curves in panels(runs).items() for line in _panel(title, curves))


def _panel(title: str, curves: Sequence[Curve]) -> Iterator[str]:
    finite = [y for curve in curves for y in curve.y if math.isfinite(y)] or [0.0]
    low, high = min(finite), max(finite)
    first, last = (pick(x for curve in curves for x in curve.x) for pick in (min, max))
    cells = [[" "] * WIDTH for _ in range(HEIGHT)]
    for number, curve in enumerate(curves):
        for x, y in zip(curve.x, curve.y):
            if math.isfinite(y):
                column = round((x - first) / ((last - first) or 1) * (WIDTH - 1))
                row = round((high - y) / ((high - low) or 1) * (HEIGHT - 1))
                cells[row][column] = _mark(number)
    yield title
    for i, line in enumerate(cells):
        value = f"{high:.4g}" if i == 0 else f"{low:.4g}" if i == HEIGHT - 1 else ""
        yield f"{value:>10} |{''.join(line).rstrip()}"
    yield f"{'':>10} +{'-' * WIDTH}"
    yield f"{'':>11} {first:<{WIDTH // 2}.0f}{last:>{WIDTH - WIDTH // 2}.0f}"
    for number, curve in enumerate(curves):
        end = f"{curve.y[-1]:.6g}"
        yield f"{'':>11} {_mark(number)} {curve.label}: {end}"
    yield ""


def _mark(number: int) -> str:
    return "*o+x#@%&"[number % 8]
