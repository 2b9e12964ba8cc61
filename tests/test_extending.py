"""docs/extending.md: its modules are short, its commands run, and what it shows trains."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from caffepy import plugins
from caffepy.cli import main
from caffepy.data.sources import databases
from caffepy.errors import ConfigError
from caffepy.net import layer as layers
from caffepy.net.blob import Blob
from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.proto.text import read_solver
from caffepy.solver import Solver, meters, policies, rules
from caffepy.solver.objectives.base import objectives

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
FILES = dict(re.findall(r"```(?:python|prototxt)\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = re.findall(r"^    caffepy (.*)$", PAGE, re.MULTILINE)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The page's files, and data for its reader; what they register is forgotten afterwards."""
    layers.layer_types()
    objectives.complete()
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 4))
    np.savez(tmp_path / "numbers.npz", x=x, y=(x[:, :3].argmax(1)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    registries = [layers._registry, rules._rules, policies._policies, databases._readers, meters._registry, objectives]
    kept = [dict(registry) for registry in registries]
    yield tmp_path
    for registry, things in zip(registries, kept):
        for name in set(registry) - set(things):
            del registry[name]
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


def test_each_is_under_thirty_lines():
    assert len(FILES) == 13
    for name, text in FILES.items():
        assert len(text.splitlines()) < 30, name


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_run(command, folder, capsys):
    main(shlex.split(command))
    out, err = capsys.readouterr()
    if command.startswith("check-layer"):
        assert out.endswith("\nnothing failed\n")
    else:
        losses = [float(loss) for loss in re.findall(r"Iteration \d+ .*loss = (\S+)", err)]
        prefix = "tasks" if "tasks" in command else "my"
        assert (folder / f"{prefix}_iter_20.solverstate").exists() and len(losses) == 2


def test_the_rule_and_the_policy_are_their_formulas(folder):
    my_rules, my_policies = plugins.load("my_rules"), plugins.load("my_policies")
    p = SolverParameter(momentum=0.9, momentum2=0.99, base_lr=1, min_lr=0.5, stepsize=4)
    step, (m,) = my_rules.lion(np, np.array([1.0, -2.0]), (np.array([-10.0, 0.0]),), 0.1, p, 1)
    np.testing.assert_allclose(step, [-0.1, -0.1])
    np.testing.assert_allclose(m, [-9.89, -0.02], rtol=1e-6)
    assert [my_policies.sawtooth(p, i, 0) for i in (0, 2, 4)] == [1, 0.75, 1]


def test_the_meter(folder):
    my_meters = plugins.load("my_meters")
    one, other = my_meters.RootMeanSquare(None, 0), my_meters.RootMeanSquare(None, 0)
    for meter, value in ((one, 3.0), (other, 1.0)):
        bottom = [Blob((2, 2)), Blob((2, 2))]
        bottom[0].data[...], bottom[1].data[...] = value, 0
        meter.add(None, bottom, 1)
    one.merge(other)
    assert one.value() == pytest.approx(5**0.5)


def test_the_listener_follows_a_training(folder, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    plugins.load("my_objectives")
    solver = plugins.load("my_training").solver
    patience = solver.listeners[-1]
    assert solver.iter == 20 and 0 < patience.best < float("inf")
    patience.best, rate = 0.0, solver.param.base_lr  # from here on nothing is better
    solver.step(5)
    assert solver.param.base_lr == pytest.approx(rate / 2)
    again = Solver(read_solver("tasks_solver.prototxt"))
    again.restore(solver.snapshot())
    again.listeners.append(type(patience)())
    assert again.listeners[-1].best == 0


def test_the_objective_weighs_the_shared_gradients(folder):
    plugins.load("my_objectives")
    solver = Solver(read_solver("tasks_solver.prototxt"))
    solver.step(1)
    norms = np.sqrt(np.diag(solver.multi_task.seen.gram))
    np.testing.assert_allclose(solver.multi_task.weights, np.sqrt(norms.mean() / norms), rtol=1e-5)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ('objective: "EqualNorm"', 'unknown multi_task method "EqualNorm"\n  Did you mean "EqualNorms"?'),
        ('objective: "EqualNorms" param_str: "powr: 1"', 'EqualNorms has no parameter "powr"\n  Did you mean "power"?'),
        ('objective: "EqualNorms" method: MGDA', "multi_task has a method and an objective\n  Give one of the two."),
        ('method: MGDA param_str: "power: 1"', "param_str is given, but MGDA declares no parameters"),
    ],
)
def test_what_an_objective_refuses(said, message, folder):
    plugins.load("my_objectives")
    text = Path("tasks_solver.prototxt").read_text()
    Path("tasks_solver.prototxt").write_text(re.sub(r"multi_task \{.*\}", f"multi_task {{ {said} }}", text))
    with pytest.raises(ConfigError) as caught:
        Solver(read_solver("tasks_solver.prototxt"))
    assert str(caught.value).endswith(message)
