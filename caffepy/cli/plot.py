"""caffepy plot: the curves of trainings."""

from __future__ import annotations

import click

from caffepy.cli import options


@click.command()
@click.argument("logs", nargs=-1, required=True, metavar="LOG_OR_FOLDER...")
@click.option("--output", default="curves.png", show_default=True, help="The picture, .png, .svg or .pdf.")
@click.option("--text", is_flag=True, help="Draw with characters; the default without matplotlib.")
@click.option("--live", is_flag=True, help="Draw anew whenever a log has grown, until Ctrl-C.")
@options.max_memory
def command(logs, output, text, live):
    """Draw loss, learning rate and test outputs over iterations, of several runs in one picture."""
    import time
    from importlib.util import find_spec

    from caffepy.cli import terminal
    from caffepy.files import check_writable
    from caffepy.show import curves, history

    text = text or find_spec("matplotlib") is None
    if not text:
        check_writable(output)
    seen = None
    while True:
        paths = [path for log in logs for path in history.logs_in(log)]
        sizes = [path.stat().st_size if path.exists() else 0 for path in paths]
        if sizes != seen:
            seen, runs = sizes, list(_runs(paths, live))
            if not runs:
                pass  # none has got so far
            elif text:
                if live:
                    click.clear()
                terminal.echo(curves.text(runs).rstrip())
            else:
                curves.draw(runs, output)
                terminal.echo(f"drawn to {output}")
        if not live:
            return
        time.sleep(1)


def _runs(paths, live):
    """What the logs tell; while they grow, without those that tell of no iteration yet."""
    from caffepy.errors import DataError
    from caffepy.show.history import read_log

    for path in paths:
        try:
            yield read_log(path)
        except DataError:
            if not live:
                raise
