"""What a search leaves: a table of all trials, the best definition with its weights, and pictures."""

from __future__ import annotations

import csv
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from caffepy.errors import CaffeError, ConfigError
from caffepy.files import atomic_write, read_file
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import NetParameter, SearchParameter
from caffepy.search.coordinator import DEFINITION
from caffepy.search.definition import SearchDefinition
from caffepy.search.model import write
from caffepy.search.space import shown
from caffepy.search.study import RESULT, open_study, storage_errors, url_of
from caffepy.solver import snapshot

log = logging.getLogger(__name__)

PICTURES = {
    "history": "plot_optimization_history",
    "parallel_coordinates": "plot_parallel_coordinate",
    "importance": "plot_param_importances",
    "slices": "plot_slice",
}


def again(folder: Path) -> list[Path]:
    """Make the report of a search's folder, also while it runs; the files."""
    file = folder / DEFINITION
    if not file.is_file():
        raise ConfigError("there is no search in this folder", where=str(folder), hint="caffepy search makes one.")
    definition = SearchDefinition(text.read(file, SearchParameter()), str(file))
    with storage_errors(url_of(definition.param, folder)):
        return report(definition, open_study(definition, folder, None), folder)


def report(definition: SearchDefinition, study: Any, folder: Path) -> list[Path]:
    """Write all; the files."""
    made = [_table(definition, study, folder / "search.csv")]
    if complete(study):
        made += _best(study, folder)
        made += _pictures(definition, study, folder)
    return made


def check_any(study: Any, definition: SearchDefinition) -> None:
    """Raises ConfigError if no trial was trained to the end."""
    if not complete(study):
        failures = (result_of(trial).get("failure") for trial in study.get_trials(deepcopy=False))
        first = next(filter(None, failures), "all were ended early")
        raise ConfigError(f"no trial was trained to the end: {first}", where=definition.file)


def best_line(definition: SearchDefinition, study: Any) -> str:
    """The best trial in a line."""
    best = study.best_trial
    found = ", ".join(f"{name} = {shown(value)}" for name, value in best.params.items()) or "as it stands"
    deviation = f" +- {spread:.4g}" if (spread := result_of(best).get("deviation")) is not None else ""
    return f"Best: trial {best.number}, {definition.param.metric} = {best.value:.6g}{deviation} ({found})"


def result_of(trial: Any) -> dict[str, Any]:
    """What is known of a trial that has ended, besides its value."""
    return trial.user_attrs.get(RESULT, {})


def complete(study: Any) -> list[Any]:
    """The trials that were trained to the end."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]


def _table(definition: SearchDefinition, study: Any, path: Path) -> Path:
    paths = [searched.path for searched in definition.param.param]
    with atomic_write(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file)
        attributes = ("deviation", "iter", "seconds", "folder", "failure")
        writer.writerow(["trial", "state", definition.param.metric, *paths, *attributes])
        for trial in study.get_trials(deepcopy=False):
            values = [shown(trial.params.get(name, "")) for name in paths]
            more = [result_of(trial).get(name, "") for name in attributes]
            writer.writerow(
                [trial.number, trial.state.name, "" if trial.value is None else trial.value, *values, *more]
            )
    return path


def _best(study: Any, folder: Path) -> list[Path]:
    """The definition of the best trial, and its weights where it was trained on all records."""
    trial = folder / f"trial_{study.best_trial.number:04d}"
    if not (trial / "solver.prototxt").is_file():
        log.warning("The best trial %d ran elsewhere: its definition and weights are there", study.best_trial.number)
        return []
    solver = text.read_solver(trial / "solver.prototxt")
    made = []
    for field in ("net", "train_net"):
        if solver.HasField(field):  # type: ignore[arg-type]
            made.append(_copied(getattr(solver, field), folder / "best_net.prototxt"))
            setattr(solver, field, "best_net.prototxt")
    for i, name in enumerate(solver.test_net):
        made.append(_copied(name, folder / f"best_test_net_{i}.prototxt"))
        solver.test_net[i] = made[-1].name
    made.append(folder / "best_solver.prototxt")
    write(made[-1], solver)
    weights = _weights(trial, solver)
    if weights is not None:
        made.append(folder / f"best.caffemodel{'.h5' if weights.suffix == '.h5' else ''}")
        with atomic_write(made[-1]) as temporary:
            Path(temporary).write_bytes(read_file(weights))
    return made


def _copied(name: str, path: Path) -> Path:
    write(path, text.read(name, NetParameter()))
    return path


def _weights(trial: Path, solver: Any) -> Path | None:
    """Those that the trial's metric was measured with."""
    prefix = trial / "solver"
    for suffix in ("caffemodel", "caffemodel.h5"):
        if solver.snapshot_best and (best := Path(f"{prefix}_best.{suffix}")).is_file():
            return best
    try:
        newest = snapshot.newest(str(prefix))
    except CaffeError:
        return None
    return Path(newest.replace(".solverstate", ".caffemodel")) if newest else None


def _pictures(definition: SearchDefinition, study: Any, folder: Path) -> list[Path]:
    try:
        import matplotlib
    except ModuleNotFoundError:
        log.warning('No pictures: they need the package matplotlib: pip install "caffepy[plot]"')
        return []
    matplotlib.use("Agg")
    made = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, draw in _drawings(definition, study):
            path = folder / f"{name}.png"
            axes = draw()
            figure = (axes.flat[0] if hasattr(axes, "flat") else axes).figure
            with atomic_write(path) as temporary:
                figure.savefig(temporary, format="png", dpi=100, bbox_inches="tight")
            matplotlib.pyplot.close(figure)
            made.append(path)
    return made


def _drawings(definition: SearchDefinition, study: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The pictures that there are enough trials for."""
    from optuna.importance import PedAnovaImportanceEvaluator
    from optuna.visualization import matplotlib as plots

    metric = definition.param.metric
    for name, function in PICTURES.items():
        draw, options = getattr(plots, function), {"target_name": metric}
        if name == "importance":
            if len(complete(study)) < 4:
                continue
            options["evaluator"] = PedAnovaImportanceEvaluator()
        yield name, lambda draw=draw, options=options: draw(study, **options)  # type: ignore[misc]
