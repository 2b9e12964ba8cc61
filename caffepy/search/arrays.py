"""Search and cross-validation of a net on arrays, in this process, with `fit`."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from caffepy.arrays.definition import solver_parameter
from caffepy.arrays.evaluate import evaluate
from caffepy.arrays.fit import fit_solver
from caffepy.arrays.inputs import inference_net, input_arrays, length_of
from caffepy.data.folds import divide
from caffepy.errors import CaffeError, ConfigError, did_you_mean
from caffepy.net.net import Net
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import SearchParameter, SolverParameter
from caffepy.search.coordinator import quiet
from caffepy.search.cross_validation import Result
from caffepy.search.definition import from_fields
from caffepy.search.folds import Folds
from caffepy.search.model import Model
from caffepy.search.space import build, shown
from caffepy.search.study import RESULT, Proposals, open_study
from caffepy.solver.solver import Solver
from caffepy.solver.testing import Scores
from caffepy.solver.watch import names_output

log = logging.getLogger(__name__)


def search(net: Any, x: Any, y: Any, fit: Mapping[str, Any], fields: Mapping[str, Any]) -> Any:
    """The study of a search; each trial is a `fit`, and ends early at an epoch's end."""
    given = dict(fields)
    model = _model(net, given.pop("solver", None), given.get("seed", 0))
    definition = from_fields({"storage": "", **given})
    p = definition.param
    epochs = int(fit.get("epochs", 1))
    if not p.folds and not fit.get("validation_split") and fit.get("validation_data") is None:
        raise ConfigError("there is no validation", hint='Give fit={"validation_split": 0.2}, or folds=5.')
    parameters = build(definition, model)
    outputs = [*inference_net(_solver(model).net).outputs, "loss"]
    if not names_output(p.metric, outputs):
        hint = did_you_mean(p.metric, outputs) or f"There are: {', '.join(outputs)}."
        raise ConfigError(f'no output is called "{p.metric}"', hint=hint)
    study = open_study(definition, Path(), model)
    proposals = Proposals(study, definition, parameters, SolverParameter(test_interval=1, max_iter=epochs))
    begun = [trial._trial_id for trial in study.get_trials(deepcopy=False) if not trial.state.is_finished()]
    end = time.monotonic() + (p.seconds or math.inf)
    while begun or (proposals.left and time.monotonic() < end):
        trial = proposals.again(begun.pop(0)) if begun else proposals.begin("")
        settings = [q.setting(trial.params[q.path]) for q in parameters if q.path in trial.params]
        changed = model if proposals.is_baseline(trial.number) else model.set(settings)
        described = ", ".join(f"{name} = {shown(value)}" for name, value in trial.params.items())
        log.info("Trial %d: %s", trial.number, described or "the definition as it stands")
        try:
            value = _value(changed, x, y, fit, p, partial(proposals.goes_on, trial, last=epochs))
        except CaffeError as error:
            trial.set_user_attr(RESULT, {"failure": str(error)})
            log.warning("Trial %d failed: %s", trial.number, error)
            proposals.end(trial, None, "FAIL")
            continue
        proposals.end(trial, value, "COMPLETE" if value is not None else "PRUNED")
    return study


def _value(
    model: Model, x: Any, y: Any, fit: Mapping[str, Any], p: SearchParameter, goes_on: Callable[..., bool]
) -> float | None:
    """The metric of a trial; None where it was ended early."""
    if not p.folds:
        return _validated(model, x, y, fit, p.metric, goes_on)
    found = _folds(model, x, y, Folds(p.folds, p.seed), None, None, fit)
    return float(np.mean([_score(fold, p.metric) for fold in found]))


def cross_validate(
    net: Any, x: Any, y: Any, folds: Folds, stratify: Any, group: Any, solver: Any, fit: Mapping[str, Any]
) -> Result:
    return Result(_folds(_model(net, solver, folds.seed), x, y, folds, stratify, group, fit))


def _model(net: Any, solver: Any, seed: int) -> Model:
    """The solver with the net written in it."""
    p = solver_parameter(solver)
    for field in ("net", "train_net", "train_net_param", "test_net", "test_net_param", "test_iter", "test_interval"):
        p.ClearField(field)  # type: ignore[arg-type]
    if isinstance(net, Net):
        param = net.param
    else:
        param = net.to_proto() if hasattr(net, "to_proto") else text.definition(net).param
    p.net_param.CopyFrom(param)
    p.net_param.state.ClearField("phase")
    if p.random_seed < 0:
        p.random_seed = seed
    return Model(p, {})


def _solver(model: Model) -> Solver:
    with quiet():
        return Solver(model.solver)


def _validated(
    model: Model, x: Any, y: Any, fit: Mapping[str, Any], metric: str, goes_on: Callable[..., bool]
) -> float | None:
    """The metric of validation at the end; None where the trial was ended early."""
    seen: list[float] = []
    ended: list[int] = []

    def decide(epoch: int, logs: Scores) -> bool:
        validation = {name[4:]: value for name, value in logs.items() if name.startswith("val_")}
        seen.append(_score(validation, metric))
        if not goes_on(seen[-1], step=epoch + 1):
            ended.append(epoch)
        return bool(ended)

    callbacks = [*fit.get("callbacks", ()), decide]
    fit_solver(_solver(model), x, y, **{"progress": False, **fit, "callbacks": callbacks})
    return None if ended else seen[-1]


def _folds(
    model: Model, x: Any, y: Any, folds: Folds, stratify: Any, group: Any, fit: Mapping[str, Any]
) -> list[Scores]:
    """The scores of each fold of arrays."""
    arrays = input_arrays(_solver(model).net, x, y)
    strata, groups = (None if values is None else np.asarray(values).reshape(-1) for values in (stratify, group))
    fold_of = divide(length_of(arrays), folds.count, folds.seed, strata, groups)
    return [_fold(model, arrays, fold_of == fold, fit) for fold in range(folds.count)]


def _fold(model: Model, arrays: Mapping[str, np.ndarray], held: np.ndarray, fit: Mapping[str, Any]) -> Scores:
    solver = _solver(model)
    fit_solver(solver, {name: values[~held] for name, values in arrays.items()}, **{"progress": False, **fit})
    return evaluate(solver.net, {name: v[held] for name, v in arrays.items()}, batch_size=fit.get("batch_size"))


def _score(scores: Scores, metric: str) -> float:
    if metric not in scores:
        raise ConfigError(f'"{metric}" is no single number', hint=f"These are: {', '.join(scores)}.")
    if not math.isfinite(scores[metric]):
        raise ConfigError(f"{metric} is {scores[metric]}")
    return scores[metric]
