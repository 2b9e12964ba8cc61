"""caffepy search: hyper-parameters, from a prototxt."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from caffepy.cli import options

log = logging.getLogger("caffepy.search")


@click.command()
@click.argument("search", required=False)
@click.option("--report", metavar="FOLDER", help="Only make the report of a search's folder again, also while it runs.")
@click.option("--folder", help="Where trials and results lie (default: SEARCH without its extension).")
@click.option("--jobs", type=click.IntRange(min=1), help="Trials at a time (default: the definition's).")
@options.gpu
@options.engine
@options.precision
@options.imports
@options.setting(of_net=False)
@options.verbose
@options.max_memory
@options.no_python_layers
@options.force
def command(search, report, folder, jobs, gpu, engine, precision, verbose):
    """Search for the hyper-parameters that SEARCH (prototxt) describes. Needs the extra `search`.

    Each trial is a training in a folder of its own. Started again, an interrupted search goes on. At the end there are
    best_solver.prototxt, best_net.prototxt, best.caffemodel, search.csv and, with the extra `plot`, pictures.
    """
    from caffepy.cli import terminal
    from caffepy.search import report as reports
    from caffepy.search.coordinator import Search
    from caffepy.search.definition import read
    from caffepy.search.study import load_optuna
    from caffepy.show.trials import shown

    if bool(search) == bool(report):
        raise click.UsageError("give a SEARCH, or --report FOLDER")
    handler = terminal.start_logging(verbose)
    load_optuna()
    if report:
        for path in reports.again(Path(report)):
            terminal.echo(f"Wrote {path}")
        return
    definition = read(search)
    if jobs:
        definition.param.jobs = jobs
    place = Path(folder or Path(search).with_suffix(""))
    run = Search(definition, place, options.for_trainings(gpu, engine, precision))
    try:
        with shown(handler, run):
            study = run.run()
    except KeyboardInterrupt:
        log.warning("Interrupted: all is kept in %s, the same command goes on", place)
        raise
    for path in reports.report(definition, study, place):
        log.info("Wrote %s", path)
    reports.check_any(study, definition)
    terminal.echo(reports.best_line(definition, study))
