"""caffepy zoo: the nets that come with caffepy."""

from __future__ import annotations

import click


@click.command()
def command():
    """List the nets that come with caffepy; caffepy new NAME copies one.

    GFLOP are those of a forward pass of one item, a multiply-add counted as two.
    """
    from caffepy.cli.terminal import echo
    from caffepy.zoo.catalogue import entries

    rows = [("name", "task", "input", "parameters", "GFLOP")]
    for entry in entries():
        counted = (f"{entry.parameters:,}", f"{entry.gflop:.3g}") if entry.parameters else ("-", "-")
        rows.append((entry.name, entry.task, entry.input or "-", *counted))
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        cells = [f"{cell:{'<' if i < 3 else '>'}{width}}" for i, (cell, width) in enumerate(zip(row, widths))]
        echo("  ".join(cells))
