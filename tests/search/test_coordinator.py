"""A search's trials: begun, pruned, failed, complete, and the same ones after a crash at any moment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

optuna = pytest.importorskip("optuna")

from collections import defaultdict

from google.protobuf import text_format
from optuna.storages import InMemoryStorage

from caffepy.errors import CaffeError
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import SearchParameter
from caffepy.search import coordinator, report, space, study
from caffepy.search.coordinator import Search
from caffepy.search.definition import read
from caffepy.search.processes import result_of
from tests.search import small


class Crash(BaseException):
    """As if the process were killed."""


class Trainings:
    """In place of processes: what a training comes to is a function of its definition."""

    def __init__(self, jobs=1, options=None):
        self.jobs, self.running, self.answers = jobs, [], []

    started: list[str] = []
    messages = 0
    crash_at = -1

    @property
    def free(self):
        return self.jobs - len(self.running)

    def start(self, solver, owner):
        self.started.append(solver.parent.name)
        self.running.append((solver, owner))

    def kill(self):
        self.running.clear()

    def poll(self, seconds):
        solver, owner = self.running.pop(0)
        process = Answers()
        process.owner = owner
        for message in self.training(solver, process):
            type(self).messages += 1
            if self.messages == self.crash_at:
                raise Crash
            yield process, message
        yield process, {"over": True}

    def training(self, solver, process):
        p = text.read_solver(solver)
        width = text.read_net(p.net or p.train_net).param.layer[2].inner_product_param.num_output
        loss = abs(p.base_lr - 0.1) + 1 / width + p.weight_decay
        if p.base_lr > 0.5:
            yield {"failed": "it diverged", "fatal": False}
            return
        for step in range(4, p.max_iter + 1, 4):
            yield {"iter": step, "scores": {"loss": loss + 1 / step, "accuracy": width / 10}}
            if not process.go:
                yield {"pruned": step}
                return
        found = {"iter": p.max_iter, "scores": {"loss": loss, "accuracy": width / 10}}
        (solver.parent / "result.json").write_text(json.dumps(found))
        yield {"done": found}


@pytest.fixture
def on_disk(folder, monkeypatch):
    monkeypatch.setattr(coordinator, "open_study", study.open_study)


class Answers:
    def answer(self, go):
        self.go = go


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    small.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(coordinator, "Pool", Trainings)
    storages = defaultdict(InMemoryStorage)

    def remembered(definition, folder, model):
        """As open_study, without a disk."""
        return optuna.create_study(storage=storages[folder], study_name=definition.name, load_if_exists=True)

    monkeypatch.setattr(coordinator, "open_study", remembered)
    Trainings.started, Trainings.messages, Trainings.crash_at = [], 0, -1
    return tmp_path


def run(more="", place="found", file="s.prototxt"):
    """The small search with some fields otherwise."""
    definition = text_format.Merge(more, text.parse(small.SEARCH, SearchParameter()))
    Path(file).write_text(text.to_text(definition))
    return Search(read(file), Path(place)).run()


def facts(study):
    return [(t.number, t.state.name, t.value, t.params, t.intermediate_values) for t in study.trials]


SAMPLERS = ["TPE", "RANDOM", "CMAES", "QMC"]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_seed_gives_the_same_trials(sampler):
    more = f"sampler: {sampler} pruner {{ type: HYPERBAND }} trials: 14"
    one, two = run(more, "one"), run(more, "two")
    assert facts(one) == facts(two)
    assert len({str(t.params) for t in one.trials}) == 14
    other = run(more + " seed: 2", "three")
    assert facts(other)[1:] != facts(one)[1:]


@pytest.mark.parametrize("sampler", SAMPLERS[:3])
@pytest.mark.parametrize("crash_at", range(1, 12))
def test_nothing_is_lost_and_nothing_run_twice(sampler, crash_at, monkeypatch):
    more = f"sampler: {sampler} pruner {{ type: HYPERBAND }} trials: 5"
    expected = facts(run(more, "whole"))
    Trainings.started, Trainings.messages, Trainings.crash_at = [], 0, crash_at
    with pytest.raises(Crash):
        run(more)
    complete = {path.parent.name for path in Path("found").glob("*/result.json")}
    before = list(Trainings.started)
    assert facts(run(more)) == expected
    again = Trainings.started[len(before) :]
    assert not complete & set(again) and len(set(again)) == len(again)


STEPS = [(coordinator.Proposals, name) for name in ("begin", "again", "goes_on", "end")] + [
    (space.Dimension, "suggest")
]


@pytest.mark.parametrize(("owner", "step"), STEPS)
@pytest.mark.parametrize("when", ["before", "behind"])
@pytest.mark.parametrize("sampler", ["TPE", "QMC"])
def test_a_crash_around_each_step_of_the_storage(owner, step, when, sampler, monkeypatch):
    more = f"sampler: {sampler} pruner {{ type: HYPERBAND }} trials: 5"
    expected = facts(run(more, "whole"))
    original = getattr(owner, step)
    calls = []
    at = 8 if step == "suggest" else 3

    def crashing(*args, **options):
        calls.append(step)
        if len(calls) == at and when == "before":
            raise Crash
        found = original(*args, **options)
        if len(calls) == at:
            raise Crash
        return found

    with monkeypatch.context() as patched, pytest.raises(Crash):
        patched.setattr(owner, step, crashing)
        run(more)
    assert facts(run(more)) == expected


def test_a_crash_between_a_pruners_look_and_its_decision(monkeypatch):
    from optuna.pruners import HyperbandPruner

    more = "pruner { type: HYPERBAND } trials: 7"
    expected = facts(run(more, "whole"))
    assert any(state == "PRUNED" for _, state, *_ in expected)
    original = HyperbandPruner.prune

    def crashing(self, study, trial):
        if original(self, study, trial):
            raise Crash
        return False

    for _ in range(2):
        with monkeypatch.context() as patched, pytest.raises(Crash):
            patched.setattr(HyperbandPruner, "prune", crashing)
            run(more)
    assert facts(run(more)) == expected


def test_a_grid_is_gone_through_once():
    Path("s.prototxt").write_text(
        'solver: "solver.prototxt" metric: "loss" sampler: GRID baseline: false\n'
        'param { path: "base_lr" choice: "0.1" choice: "0.2" }\n'
        'param { path: "net.layer.ip1.inner_product_param.num_output" choice: "2" choice: "4" choice: "8" }\n'
    )
    found = Search(read("s.prototxt"), Path("found")).run()
    assert len({str(t.params) for t in found.trials}) == len(found.trials) == 6
    best = {"base_lr": "0.1", "net.layer.ip1.inner_product_param.num_output": "8"}
    assert found.best_params == best and found.best_value == pytest.approx(0.125)


def test_the_first_trial_is_the_definition_as_it_stands():
    found = run('param { path: "momentum" choice: "0.5" choice: "0.6" }')
    assert found.trials[0].params == {
        "base_lr": 0.05, "net.layer.ip1.inner_product_param.num_output": "4", "weight_decay": 0.0,
    }  # fmt: skip
    written = text.read_solver("found/trial_0000/solver.prototxt")
    assert written.momentum == pytest.approx(0.9) and written.random_seed == 1
    assert run("baseline: false", "other").trials[0].params["base_lr"] != 0.05


def test_a_trial_that_diverges_fails_and_the_search_goes_on(caplog):
    caplog.set_level("INFO", "caffepy")
    Path("s.prototxt").write_text(
        'solver: "solver.prototxt" metric: "loss" sampler: GRID\nparam { path: "base_lr" choice: "0.9" choice: "0.1" }'
    )
    found = Search(read("s.prototxt"), Path("found")).run()
    assert [t.state.name for t in found.trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert "Trial 1 failed: it diverged" in caplog.text
    report.report(read("s.prototxt"), found, Path("found"))
    assert "it diverged" in Path("found/search.csv").read_text().splitlines()[2]


def test_tpe_keeps_away_from_what_failed(monkeypatch):
    training = Trainings.training

    def failing_above(self, solver, process):
        if text.read_solver(solver).base_lr > 0.02:  # more than half of the space
            yield {"failed": "it diverged", "fatal": False}
        else:
            yield from training(self, solver, process)

    monkeypatch.setattr(Trainings, "training", failing_above)
    states = [t.state.name for t in run("trials: 40").trials]
    assert states[:20].count("FAIL") > 4
    assert states[20:].count("FAIL") <= 4


def test_tpe_learns_from_the_trials_of_all_brackets(monkeypatch):
    seen = []
    original = study._seen
    monkeypatch.setattr(study, "_seen", lambda trial: (seen.append(trial.number), original(trial))[1])
    found = run("trials: 8 pruner { type: HYPERBAND min_iter: 1 }")
    brackets = {found.pruner._get_bracket_id(found, trial) for trial in found.trials}
    assert len(brackets) > 1
    assert seen == [k for number in range(1, 8) for k in range(number)]


def test_a_full_disk_ends_the_search_which_goes_on_later(monkeypatch):
    expected = facts(run("trials: 3", "whole"))

    def full(self, solver, process):
        yield {"failed": "[Errno 28] No space left on device: 'x'", "fatal": True}

    with monkeypatch.context() as patched, pytest.raises(CaffeError) as caught:
        patched.setattr(Trainings, "training", full)
        run("trials: 3")
    assert str(caught.value) == (
        "found/trial_0000: trial 0 cannot go on: [Errno 28] No space left on device: 'x'\n"
        "  Make room, then start the same command again: the search goes on, nothing is lost."
    )
    assert facts(run("trials: 3")) == expected


def test_no_trial_to_the_end():
    Path("s.prototxt").write_text(
        'solver: "solver.prototxt" metric: "loss" sampler: GRID baseline: false param { path: "base_lr" choice: "0.9" }'
    )
    found = Search(read("s.prototxt"), Path("found")).run()
    with pytest.raises(CaffeError, match=r"^s\.prototxt: no trial was trained to the end: it diverged$"):
        report.check_any(found, read("s.prototxt"))


def test_a_search_may_be_made_longer():
    run("trials: 3")
    assert len(run("trials: 5").trials) == 5
    assert len(Trainings.started) == 5


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("seed: 2", "it holds another search: `seed: 1` there, `seed: 2` here"),
        ("folds: 3", "it holds another search: `seed: 1` there, `folds: 3` here"),
    ],
)
def test_a_storage_of_another_search(more, message, on_disk):
    run()
    with pytest.raises(CaffeError) as caught:
        run(more)
    assert str(caught.value).endswith(
        f"search.db: {message}\n  Set another storage, name or --folder, or remove the old one."
    )
    Path("net.prototxt").write_text(small.NET.replace("num_output: 4", "num_output: 5"))
    with pytest.raises(CaffeError, match="it holds another search: the solver or a net was changed since"):
        run()


def test_a_storage_that_is_none(on_disk):
    Path("found").mkdir()
    Path("found/search.db").write_text("no database at all, but long enough to look at " * 99)
    with pytest.raises(CaffeError, match=r"search\.db: the storage cannot be used: .*not a database\n  Start the same"):
        run()
    with pytest.raises(CaffeError, match=r"the storage postgresql://nobody/there needs the package"):
        run('storage: "postgresql://nobody/there"', "other")


def test_trials_that_another_search_has_left(on_disk):
    run("trials: 2")
    Path("found/search.db").unlink()
    assert len(run("trials: 2").trials) == 2  # the same ones: they are not run again
    assert Trainings.started == ["trial_0000", "trial_0001"]
    Path("found/search.db").unlink()
    with pytest.raises(
        CaffeError, match=r"^found/trial_0001/.*\.prototxt: it is of another search\n  Remove its folder"
    ):
        run('trials: 2 param { path: "gamma" choice: "0" }')


def test_several_machines_share_a_search(on_disk, monkeypatch):
    shared = 'storage: "sqlite:///shared.db" trials: 3'
    run(shared, "here")
    found = run(shared.replace("3", "6"), "there")
    assert len(found.trials) == 6
    assert Trainings.started == [f"trial_{i:04d}" for i in range(6)]
    # A trial that runs on another machine is left to it.
    found._storage.create_new_trial(found._study_id)
    assert len(run(shared.replace("3", "8"), "there").trials) == 8
    assert Trainings.started[6:] == ["trial_0007"]


def test_one_search_a_folder():
    Path("found").mkdir()
    with coordinator.alone_in(Path("found")), pytest.raises(CaffeError, match="another search runs in this folder"):
        run()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("metric: \"loss\"", "metric: \"los\""), 's.prototxt:2:1: no test net has the output "los"\n'
         '  Did you mean "loss"?'),
        (("solver.prototxt", "solvr.prototxt"), 'solvr.prototxt: cannot read the file: No such file or directory\n'
         '  Did you mean "solver.prototxt"?'),
    ],
)  # fmt: skip
def test_what_no_trial_could_do(change, message):
    Path("s.prototxt").write_text(small.SEARCH.replace(*change))
    with pytest.raises(CaffeError) as caught:
        Search(read("s.prototxt"), Path("found"))
    assert str(caught.value) == message
    assert not Path("found").exists()


def test_a_solver_without_tests():
    Path("solver.prototxt").write_text(small.SOLVER.replace("test_iter: 4 test_interval: 4", ""))
    with pytest.raises(CaffeError, match=r"^s\.prototxt:2:1: solver\.prototxt has no tests: set test_iter"):
        run()


def test_folds_are_trained_one_behind_the_other():
    found = run("folds: 3 trials: 2")
    first = [f"fold_{i}" for i in range(3)]
    assert Trainings.started == first * 2
    trial = found.trials[0]
    assert trial.user_attrs["result"]["deviation"] == 0 and len(trial.user_attrs["result"]["folds"]) == 3
    assert sorted(trial.intermediate_values) == [4, 8, 12, 16, 20, 24, 28, 32, 36]
    fold = text.read_net("found/trial_0001/fold_2/train_net.prototxt").param.layer[0].fold_param
    assert (fold.source, fold.fold, fold.held_out) == ("found/folds.npy", 2, False)
    assert result_of(Path("found/trial_0001/fold_2"))["iter"] == 12


def test_seconds_end_a_search(monkeypatch):
    found = run("trials: 400 seconds: 0.3")
    assert 0 < len(found.trials) < 400


def test_the_report_is_made_again(on_disk, monkeypatch):
    monkeypatch.setattr(report, "_pictures", lambda *args: [])
    found = run("trials: 6")
    first = report.report(read("s.prototxt"), found, Path("found"))
    texts = {path: path.read_bytes() for path in first}
    for path in first:
        path.unlink()
    assert report.again(Path("found")) == first
    assert all(path.read_bytes() == content for path, content in texts.items())
    assert [path.name for path in first] == ["search.csv", "best_net.prototxt", "best_solver.prototxt"]
    best = text.read_solver("found/best_solver.prototxt")
    assert best.base_lr == pytest.approx(found.best_params["base_lr"])
    assert best.net == "found/best_net.prototxt"  # it lies beside the solver
    with pytest.raises(CaffeError, match="there is no search in this folder"):
        report.again(Path("found/trial_0000"))


def test_pictures():
    pytest.importorskip("matplotlib")
    found = run("trials: 6")
    made = report.report(read("s.prototxt"), found, Path("found"))
    names = [path.name for path in made if path.suffix == ".png"]
    assert names == ["history.png", "parallel_coordinates.png", "importance.png", "slices.png"]
    assert all(Path("found", name).read_bytes().startswith(b"\x89PNG") for name in names)
