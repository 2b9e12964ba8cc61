"""What Optuna does in a search: it keeps the trials, proposes parameters, and says which trials end early."""

from __future__ import annotations

import copy
import math
import time
import warnings
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffepy.errors import CaffeError, ConfigError, DataError, MissingExtraError
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import PrunerParameter, SearchParameter, SolverParameter
from caffepy.search.definition import SearchDefinition
from caffepy.search.model import Model, lines_apart
from caffepy.search.space import Dimension, Value, grid
from caffepy.solver import watch

if TYPE_CHECKING:
    import optuna

SEARCH, MODEL, OWNER, DECIDED, RESULT = "search", "model", "owner", "decided", "result"
_MAY_CHANGE = ("trials", "seconds", "jobs", "storage", "name")
"""What another call of the same search may have otherwise."""


_RUNG = "completed_rung"
_FILE = "sqlite:///"


def load_optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError:
        raise MissingExtraError("optuna", "search", "A search for hyper-parameters") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """What is wrong with a storage as one of the family: a full disk, a file of another kind, no such server."""
    optuna = load_optuna()
    import sqlite3

    from sqlalchemy.exc import SQLAlchemyError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (SQLAlchemyError, sqlite3.Error, optuna.exceptions.StorageInternalError) as error:
        reason = error
        while reason.__cause__ is not None and not isinstance(reason.__cause__, CaffeError):
            reason = reason.__cause__  # type: ignore[assignment]
        hint = "Start the same command again when that is mended: the search goes on."
        raise DataError(f"the storage cannot be used: {str(reason).splitlines()[0]}", where=url, hint=hint) from None
    except ImportError as error:
        package = error.name or getattr(error.__cause__, "name", None) or "that its URL names"
        raise ConfigError(f"the storage {url} needs the package {package}", hint="Install it with pip.") from None


def url_of(param: SearchParameter, folder: Path) -> str:
    """The storage as a URL: a file lies in the search's folder."""
    if "://" in param.storage:
        return param.storage
    return f"{_FILE}{(folder / param.storage).absolute()}"


def open_study(definition: SearchDefinition, folder: Path, model: Model | None) -> optuna.Study:
    """The search's study, made where there is none yet. Raises ConfigError where the storage has another search's.

    Without a `model` it must be there.
    """
    optuna = load_optuna()
    p, url = definition.param, url_of(definition.param, folder)
    direction = "minimize" if watch.lower_is_better(p.metric, p.mode) else "maximize"
    if not p.storage:
        return optuna.create_study(direction=direction)  # in memory
    with storage_errors(url):
        if model is None:
            try:
                return optuna.load_study(study_name=definition.name, storage=url)
            except KeyError:
                raise ConfigError(f'there is no search "{definition.name}" in it', where=url) from None
        _many_readers(url)
        study = _made(study_name=definition.name, storage=url, direction=direction, load_if_exists=True)
        marks = {SEARCH: _mark(p), MODEL: model.digest()}
        found = study.user_attrs
        if SEARCH not in found and not study.get_trials(deepcopy=False):
            for key, mark in marks.items():
                study.set_user_attr(key, mark)
        elif problem := _other(marks, found):
            raise ConfigError(
                f"it holds another search: {problem}",
                where=url,
                hint="Set another storage, name or --folder, or remove the old one.",
            )
    return study


def _made(**options: Any) -> optuna.Study:
    """The study; a second and third try where another machine makes the tables at this moment."""
    from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

    for seconds in (0.5, 1.0):
        try:
            return load_optuna().create_study(**options)
        except (IntegrityError, OperationalError, ProgrammingError):
            time.sleep(seconds)
    return load_optuna().create_study(**options)


def _many_readers(url: str) -> None:
    """An SQLite file as one that may be read while it is written, which also costs fewer flushes."""
    if url.startswith(_FILE):
        import sqlite3

        with closing(sqlite3.connect(url.removeprefix(_FILE))) as connection:
            connection.execute("PRAGMA journal_mode=WAL")


def _mark(param: SearchParameter) -> str:
    """What makes a search this one."""
    p = SearchParameter()
    p.CopyFrom(param)
    for field in _MAY_CHANGE:
        p.ClearField(field)  # type: ignore[arg-type]
    return text.to_text(p)


def _other(marks: dict[str, str], found: dict[str, Any]) -> str:
    for theirs, ours in lines_apart(found.get(SEARCH, ""), marks[SEARCH]):
        return f"`{theirs or 'nothing'}` there, `{ours or 'nothing'}` here"
    return "" if found.get(MODEL) == marks[MODEL] else "the solver or a net was changed since"


class Proposals:
    """Parameters for trial after trial: what is proposed depends on the seed, the trial's number and the trials before.

    So a search that was killed proposes on as if it had not been.
    """

    def __init__(
        self, study: optuna.Study, definition: SearchDefinition, parameters: list[Dimension], solver: SolverParameter
    ):
        self.study, self.param, self.parameters = study, definition.param, parameters
        self.study.pruner = pruner(self.param, solver)
        self.first = 1 if self.param.baseline else 0
        self.grid = grid(parameters) if self.param.sampler == SearchParameter.GRID else []

    @property
    def limit(self) -> int | None:
        """How many trials there are, where that is known."""
        limits = [self.param.trials] if self.param.trials else []
        return min(limits + ([len(self.grid) + self.first] if self.grid else []), default=None)

    @property
    def left(self) -> float:
        """How many trials may still begin."""
        return math.inf if self.limit is None else self.limit - len(self.study.get_trials(deepcopy=False))

    def begin(self, owner: str) -> Any:
        """A new trial."""
        from optuna.samplers import RandomSampler

        self.study.sampler = RandomSampler(0)  # `ask` only numbers it
        asked = self.study.ask()
        asked.set_user_attr(OWNER, owner)
        return self.again(asked._trial_id)

    def again(self, trial_id: int) -> Any:
        """A trial that has begun; what it was proposed before stays."""
        from optuna.trial import Trial

        frozen = self.study._storage.get_trial(trial_id)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial = Trial(self.study, trial_id)
            values = self._values(frozen.number)
            for parameter in self.parameters:
                if values is None:
                    # Each draws from numbers of its own, whether or not those before it were drawn in this process.
                    self.study.sampler = self._sampler(frozen.number, parameter.path)
                elif parameter.path in values:
                    self.study.sampler = fixed(values)
                else:
                    continue
                parameter.suggest(trial)
        return trial

    def is_baseline(self, number: int) -> bool:
        return number < self.first

    def _values(self, number: int) -> dict[str, Value] | None:
        """All parameters of a trial, by path; None where a sampler of Optuna's draws them one by one."""
        if self.is_baseline(number):
            return {q.path: q.standing for q in self.parameters if q.standing is not None}
        if self.grid:
            return self.grid[(number - self.first) % len(self.grid)]
        if self.param.sampler == SearchParameter.QMC:
            _needs("scipy", "QMC")
            return self._quasi_random(number)
        return self._learned(number) if self.param.sampler == SearchParameter.TPE else None

    def _seed(self, number: int, path: str = "") -> int:
        return zlib.crc32(f"{self.param.seed}:{number}:{path}".encode())

    def _sampler(self, number: int, path: str) -> Any:
        from optuna import samplers

        if self.param.sampler == SearchParameter.RANDOM:
            return samplers.RandomSampler(self._seed(number, path))
        _needs("cmaes", "CMAES")
        return samplers.CmaEsSampler(seed=self._seed(number, path), warn_independent_sampling=False)

    def _learned(self, number: int) -> dict[str, Value]:
        """What TPE proposes where it has seen all other trials.

        In the study itself it would learn from those of one bracket of HYPERBAND alone, and nothing from those that
        failed: here they are the worst.
        """
        import optuna

        sampler = optuna.samplers.TPESampler(seed=self._seed(number), constant_liar=True)
        others = optuna.create_study(direction=self.study.direction, sampler=sampler)
        others.add_trials([_seen(trial) for trial in self.study.get_trials(deepcopy=False) if trial.number != number])
        trial = others.ask()
        return {parameter.path: parameter.suggest(trial) for parameter in self.parameters}

    def goes_on(self, trial: Any, value: float, step: int, last: int) -> bool:
        """Take in a value, and decide. Asked again, after a kill, the answer is the same."""
        frozen = self.study._storage.get_trial(trial._trial_id)
        decided, rungs = frozen.user_attrs.get(DECIDED, [0, []])
        if step not in frozen.intermediate_values:
            trial.report(value, step)
            frozen = self.study._storage.get_trial(trial._trial_id)
        if step <= decided or step >= last:
            return True
        # A pruner notes what it has looked at: not what it noted before a kill, of a decision that nobody has heard.
        old = {key: v for key, v in frozen.system_attrs.items() if not key.startswith(_RUNG) or key in rungs}
        known = copy.copy(frozen)
        known.system_attrs = old
        if self.study.pruner.prune(self.study, known):
            return False
        noted = {key for key in self.study._storage.get_trial(trial._trial_id).system_attrs if key.startswith(_RUNG)}
        if noted != set(rungs):
            trial.set_user_attr(DECIDED, [step, sorted(noted)])
        return True

    def _quasi_random(self, number: int) -> dict[str, Value]:
        """A point of Sobol's sequence, scrambled by the seed."""
        from scipy.stats import qmc

        sequence = qmc.Sobol(len(self.parameters), scramble=True, seed=self.param.seed)
        point = sequence.fast_forward(number).random(1)[0]
        return {parameter.path: parameter.at(u) for parameter, u in zip(self.parameters, point)}

    def end(self, trial: Any, value: float | None = None, state: str = "COMPLETE") -> None:
        from optuna.samplers import RandomSampler
        from optuna.trial import TrialState

        self.study.sampler = RandomSampler(0)  # `tell` asks it for nothing
        self.study.tell(trial, value, TrialState[state])


def _seen(trial: Any) -> Any:
    """A trial as TPE sees it: one that failed as one that ended before it had any value."""
    from optuna.trial import TrialState, create_trial

    failed = trial.state == TrialState.FAIL
    return create_trial(
        state=TrialState.PRUNED if failed else trial.state,
        value=trial.value,
        params=trial.params,
        distributions=trial.distributions,
        intermediate_values={} if failed else trial.intermediate_values,
    )


def fixed(values: dict[str, Value]) -> Any:
    """A sampler that proposes these values."""
    from optuna.samplers import BaseSampler

    class Fixed(BaseSampler):
        def infer_relative_search_space(self, study, trial):
            return {}

        def sample_relative(self, study, trial, search_space):
            return {}

        def sample_independent(self, study, trial, param_name, param_distribution):
            return values[param_name]

    return Fixed()


def pruner(param: SearchParameter, solver: SolverParameter) -> Any:
    """What decides at tests; iterations count."""
    from optuna import pruners

    p = param.pruner
    kind = p.type if param.HasField("pruner") else PrunerParameter.NONE
    first, last = max(1, solver.test_interval), max(1, solver.max_iter) * max(1, param.folds)
    if kind == PrunerParameter.MEDIAN:
        least = p.min_iter or solver.max_iter // 10
        return pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=least)
    if kind == PrunerParameter.SUCCESSIVE_HALVING:
        return pruners.SuccessiveHalvingPruner(min_resource=p.min_iter or first, reduction_factor=p.factor)
    if kind == PrunerParameter.HYPERBAND:
        return pruners.HyperbandPruner(min_resource=p.min_iter or first, max_resource=last, reduction_factor=p.factor)
    return pruners.NopPruner()


def _needs(package: str, sampler: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise MissingExtraError(package, "search", f"The sampler {sampler}")
