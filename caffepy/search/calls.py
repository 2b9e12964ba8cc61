"""`caffepy.search(...)` and `caffepy.cross_validate(...)`: of definitions in files, or of a net and arrays."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from caffepy.errors import ConfigError
from caffepy.proto.caffe_pb2 import SearchParameter
from caffepy.search import arrays
from caffepy.search.coordinator import Search
from caffepy.search.cross_validation import CrossValidation, Result
from caffepy.search.definition import SearchDefinition, checked, from_fields, read
from caffepy.search.folds import Folds
from caffepy.search.model import Model
from caffepy.search.report import report


def search(
    what: str | PathLike[str] | SearchParameter | Any = None,
    x: Any = None,
    y: Any = None,
    *,
    folder: str | PathLike[str] = "",
    fit: dict[str, Any] | None = None,
    **fields: Any,
) -> Any:
    """Search for hyper-parameters; the study, as Optuna has it (`best_params`, `best_value`, `trials_dataframe()`).

        study = caffepy.search("search.prototxt")
        study = caffepy.search(solver="solver.prototxt", metric="accuracy", trials=40,
                               param={"base_lr": {"log": {"min": 1e-4, "max": 1}}}, folder="found")
        study = caffepy.search(lenet, images, labels, metric="accuracy", sampler="GRID", solver={"base_lr": 0.01},
                               param={"net.layer.ip1.inner_product_param.num_output": [64, 128]},
                               fit={"epochs": 3, "validation_split": 0.2})

    `what` is a file, a message, or left out where `fields` are those of a `SearchParameter`. Trials are processes, all
    files lie in `folder` (default: the file's name without extension). Raises KeyboardInterrupt where it was
    interrupted; called again, it goes on.

    Or `what` is a Sequence, a net or a net's definition, trained here on the arrays `x` and `y`: `fit` are options of
    `net.fit`; the metric is that of validation, or of `folds`. With a `storage` a search that was killed goes on.
    """
    if x is not None:
        return arrays.search(what, x, y, fit or {}, fields)
    if isinstance(what, SearchParameter):
        definition = checked(SearchDefinition(what))
    elif what is None:
        definition = from_fields(fields)
    else:
        definition = read(what)
        if fields:
            raise ConfigError("a search of a file takes no fields", hint="Write them into the file.")
    place = Path(folder) if folder else Path(definition.file or "search").with_suffix("")
    study = Search(definition, place).run()
    report(definition, study, place)
    return study


def cross_validate(
    what: str | PathLike[str] | Any,
    x: Any = None,
    y: Any = None,
    *,
    folds: int = 5,
    stratify: Any = None,
    group: Any = None,
    seed: int = 0,
    jobs: int = 1,
    folder: str | PathLike[str] = "",
    solver: Any = None,
    fit: dict[str, Any] | None = None,
) -> Result:
    """Train once for each fold, on all others, and test on it: `folds` of scores, their `mean` and `deviation`.

        found = caffepy.cross_validate("solver.prototxt", folds=5, stratify="label", jobs=2)
        found = caffepy.cross_validate(lenet, images, labels, solver={"base_lr": 0.01}, fit={"epochs": 3})
        print(found.mean["accuracy"], found.deviation["accuracy"])

    Of a solver's file, each fold is a process with files in `folder`; `stratify` and `group` name what a record has.
    Of a Sequence, a net or a net's definition with arrays, `stratify` and `group` are arrays (N,).
    """
    if x is not None:
        return arrays.cross_validate(what, x, y, Folds(folds, seed), stratify, group, solver, fit or {})
    place = Path(folder or f"{Path(what).with_suffix('')}_folds")
    divided = Folds(folds, seed, stratify or "", group or "")
    return CrossValidation(Model.read(str(what)), divided, place, jobs).run()
