"""caffepy cross-validate: how well a solver's net does on records that it was not trained on."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from caffepy.cli import options

log = logging.getLogger("caffepy.search")


@click.command()
@click.option("--solver", required=True, help="The solver definition (prototxt).")
@click.option("--folds", default=5, show_default=True, help="How many.")
@click.option("--stratify", default="", metavar="NAME", help='Equal shares of these labels in each fold: "label".')
@click.option("--group", default="", metavar="NAME", help="Keep the records of one user, ... in one fold.")
@click.option("--seed", default=0, show_default=True, help="Of the folds, and of trainings without a random_seed.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Folds at a time.")
@click.option("--folder", help="Where the folds' trainings lie (default: SOLVER without its extension, and _folds).")
@options.gpu
@options.engine
@options.precision
@options.imports
@options.setting(of_net=False)
@options.verbose
@options.max_memory
@options.no_python_layers
@options.force
def command(solver, folds, stratify, group, seed, jobs, folder, gpu, engine, precision, verbose):
    """Train once for each fold of the training data, on all other folds, and test on it.

    The folds are sets of records of the one source that the net trains on: Data (LMDB, LevelDB), ImageData, HDF5Data or
    TableData. Shows each fold's test outputs, their mean and deviation. Started again, it goes on.
    """
    from caffepy.cli import terminal
    from caffepy.search.cross_validation import CrossValidation
    from caffepy.search.folds import Folds
    from caffepy.search.model import Model

    handler = terminal.start_logging(verbose)
    place = Path(folder or f"{Path(solver).with_suffix('')}_folds")
    divided = Folds(folds, seed, stratify, group)
    trainings = options.for_trainings(gpu, engine, precision)
    run = CrossValidation(Model.read(solver), divided, place, jobs, trainings)
    try:
        with terminal.progress(handler, "folds", folds) as advance:
            found = run.run(advance)
    except KeyboardInterrupt:
        log.warning("Interrupted: all is kept in %s, the same command goes on", place)
        raise
    terminal.echo(found.table())
