"""A search as it runs, on a terminal: a table of its trials, how far it is, and the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

from caffepy.search.coordinator import Search
from caffepy.search.space import shown as text_of
from caffepy.show.logs import Deaf, Lines, printable

_ROWS = 15
"""Trials that are shown: the last."""


@contextmanager
def shown(handler: Lines, search: Search) -> Iterator[None]:
    """Within the block the search is drawn where stderr is a terminal; its log is there in any case."""
    stream = Deaf(sys.stderr)
    if not stream.isatty():
        yield
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(file=cast(IO[str], stream))
    with Live(console=console, auto_refresh=False, transient=False) as live:
        search.watch = _drawn(live)
        handler.write = lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True)
        try:
            yield
        finally:
            del handler.write


def _drawn(live: Any) -> Callable[[Search], None]:
    last = [0.0]

    def draw(search: Search) -> None:
        if time.monotonic() - last[0] > 0.2:
            live.update(_picture(search), refresh=True)
            last[0] = time.monotonic()

    return draw


def _picture(search: Search) -> Any:
    from rich.console import Group
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    trials = search.study.get_trials(deepcopy=False)
    ended = sum(trial.state.is_finished() for trial in trials)
    limit = search.proposals.limit
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}")]
    bar = Progress(*columns)
    bar.add_task("trials", total=limit, completed=ended, left=_left(search, ended, limit))
    return Group(_table(search, trials), bar)


def _left(search: Search, ended: int, limit: int | None) -> str:
    """The time left, as far as it can be told from the trials that have ended in this call."""
    seconds = time.monotonic() - search.began
    bounds = [search.param.seconds - seconds] if search.param.seconds else []
    done = ended - search.ended_before
    if limit and done > 0:
        bounds.append((limit - ended) * seconds / done)
    if not bounds:
        return ""
    minutes, rest = divmod(max(0, round(min(bounds))), 60)
    return f"{minutes}:{rest:02d} left"


def _table(search: Search, trials: list[Any]) -> Any:
    from rich.table import Table

    table = Table(title=printable(search.definition.name))
    paths = [parameter.path for parameter in search.parameters]
    for name in ("trial", *short(paths), search.param.metric, "state", "best"):
        table.add_column(printable(name), justify="right")
    for row in rows(trials, paths, search.study.direction.name == "MINIMIZE")[-_ROWS:]:
        table.add_row(*map(printable, row))
    return table


def rows(trials: list[Any], paths: list[str], lower: bool) -> list[list[str]]:
    """Number, parameters, value so far, state, and the best value up to there."""
    out, best = [], None
    for trial in trials:
        steps = trial.intermediate_values
        value = trial.value if trial.value is not None else steps[max(steps)] if steps else None
        if trial.state.name == "COMPLETE" and (best is None or (value < best) == lower):
            best = value
        cells = [text_of(trial.params[path]) if path in trial.params else "as it is" for path in paths]
        numbers = ["" if x is None else f"{x:.5g}" for x in (value, best)]
        out.append([str(trial.number), *cells, numbers[0], trial.state.name.lower(), numbers[1]])
    return out


def short(paths: list[str]) -> list[str]:
    """Names for columns: the last step, with the layer where that is the same of several."""
    ends = [path.rpartition(".")[2] for path in paths]
    return [
        end if ends.count(end) == 1 else path.removeprefix("net.layer.").replace(f".{path.split('.')[-2]}.", ".")
        for path, end in zip(paths, ends)
    ]
