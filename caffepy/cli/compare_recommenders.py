"""caffepy compare-recommenders: models of the zoo side by side."""

from __future__ import annotations

import os

import click

from caffepy import permissions
from caffepy.cli import options
from caffepy.zoo.catalogue import zoo_folder

ZOO = str(zoo_folder() / "recommend")
MODELS = "mean,baseline,item_knn,user_knn,slope_one,nmf,svd,svdpp,rbm"


@click.command()
@click.argument("folder")
@click.option("--folds", default=0, help="Cross-validate: fold1, fold2, ... in FOLDER, or so many made of its ratings.")
@click.option("--models", default=MODELS, show_default=True, help='Which, separated by ",".')
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of folds that are made.")
@click.option("--zoo", default=ZOO, help="The folder of the models.")
@click.option("--plot", default="", help="Also draw them to this file: seconds to train, RMSE.")
@options.max_memory
@options.setting(of_net=False)
@options.no_python_layers
@options.imports
def command(folder, folds, models, seed, zoo, plot):
    """Train and test recommenders on the train.h5 and test.h5 in FOLDER, each in a process of its own."""
    import tempfile

    from caffepy.cli import terminal
    from caffepy.proto import settings
    from caffepy.recommend import comparison, trial
    from caffepy.show import pictures, recommenders

    pictures.check(plot)
    names = [name for name in models.split(",") if name]
    trial.check_models(zoo, names)
    meta = click.get_current_context().meta
    given = meta.get("max_memory")
    passed_on = [
        *(["--max-memory", given] if given else []),
        *(["--path", os.getcwd()] if meta["imports"] else []),
        *(word for name in meta["imports"] for word in ("--import", _anywhere(name))),
        *(word for setting in settings.current().words for word in ("--set", setting)),
        *(["--no-python-layers"] * (not permissions.python_layers())),
    ]
    with tempfile.TemporaryDirectory() as place:
        folders = comparison.folders_of(folder, folds, seed, place)
        found = comparison.compare(
            zoo,
            names,
            folders,
            lambda model, i: terminal.echo(f"{model}, {i + 1} of {len(folders)}", err=True),
            passed_on,
        )
    rows = comparison.rows_of(found)
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        terminal.echo("  ".join(f"{cell:{'<' if i == 0 else '>'}{w}}" for i, (cell, w) in enumerate(zip(row, widths))))
    if plot:
        recommenders.plot(found, plot)


def _anywhere(module: str) -> str:
    """As a process in another folder finds it."""
    return os.path.abspath(module) if module.endswith(".py") else module
