"""Search files and spaces: what they mean, and what is said of wrong ones, with file and line."""

from __future__ import annotations

import pytest

from caffepy.errors import CaffeError
from caffepy.search import space
from caffepy.search.definition import SearchDefinition, from_fields, read
from caffepy.search.model import Model
from tests.search import small


@pytest.fixture
def folder(tmp_path, monkeypatch):
    small.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parameters(*lines: str, sampler: str = "TPE") -> list[space.Dimension]:
    text = f'solver: "solver.prototxt" metric: "loss" trials: 3 sampler: {sampler}\n' + "\n".join(lines)
    with open("s.prototxt", "w") as file:
        file.write(text)
    return space.build(read("s.prototxt"), Model.read("solver.prototxt"))


BASE = 'solver: "solver.prototxt" metric: "loss" trials: 3\n'
LR = 'param { path: "base_lr" log { min: 1e-4 max: 1 } }\n'
WRONG = {
    BASE: "s.prototxt: there is no param to search for\n"
    '  Write param { path: "base_lr" log { ... } }.',
    'solver: "x" trials: 3\n' + LR: "s.prototxt: metric is not set\n"
    '  It names an output of the test net: metric: "accuracy".',
    'solver: "x" metric: "loss"\n' + LR: "s.prototxt: neither trials nor seconds is set\n"
    "  Say when the search ends: trials: 40.",
    BASE + 'param { choice: "1" }': 's.prototxt:2:1: path is not set\n  It is what --set takes: path: "base_lr".',
    BASE + 'param { path: "base_lr" }': "s.prototxt:2:1: base_lr: neither choice nor range nor log given, one is "
    "needed\n  Write choice: ..., range { min: ... max: ... } or log { min: ... max: ... }.",
    BASE + LR + 'param { path: "momentum" choice: "1" range { min: 0 max: 1 } }': (
        "s.prototxt:3:1: momentum: range and choice given, one is needed\n"
        "  Write choice: ..., range { min: ... max: ... } or log { min: ... max: ... }."
    ),
    BASE + 'param { path: "base_lr" log { min: 1 max: 1 } }': (
        "s.prototxt:2:1: base_lr: the range from 1 to 1 is empty\n  min is below max."
    ),
    BASE + 'param { path: "base_lr" range { min: 2 max: 1 } }': (
        "s.prototxt:2:1: base_lr: the range from 2 to 1 is empty\n  min is below max."
    ),
    BASE + 'param { path: "base_lr" log { min: 0 max: 1 } }': "s.prototxt:2:1: base_lr: log needs a min above 0, got 0",
    BASE + 'param { path: "base_lr" range { min: 0 } }': "s.prototxt:2:1: base_lr: range needs min and max",
    BASE + 'param { path: "base_lr" range { min: 0 max: 1 step: 2 } }': (
        "s.prototxt:2:1: base_lr: step must lie between 0 and max - min, and has no meaning with log"
    ),
    BASE + 'param { path: "type" choice: "Adam" choice: "Adam" }': "s.prototxt:2:1: type: a choice is given twice",
    BASE + "sampler: GRID\n" + LR: (
        "s.prototxt:3:1: base_lr: GRID cannot go through every number of a range\n"
        "  Give choices, or the number of values: steps: 5."
    ),
    BASE + LR + "folds: 1": "s.prototxt:3:1: folds must be at least 2, or 0 for none",
    BASE + LR + 'group: "user"': "s.prototxt:3:1: group is given without folds",
    BASE + LR + "jobs: 0": "s.prototxt:3:1: jobs must be at least 1",
    BASE + LR + "sampler: TPA": "s.prototxt:3:10: no value \"TPA\" in SearchParameter.Sampler\n  Did you mean \"TPE\"?",
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_wrong_files(text, folder):
    (folder / "s.prototxt").write_text(text)
    with pytest.raises(CaffeError) as caught:
        read("s.prototxt")
    assert str(caught.value) == WRONG[text]


SPACES = {
    'param { path: "base_lrr" choice: "1" }': 'no field "base_lrr" in SolverParameter\n  Did you mean "base_lr"?',
    'param { path: "net.layer.ip.type" choice: "1" }': 'no layer is called "ip"\n  Did you mean "ip2"?',
    'param { path: "net.layer.*.lrn_param.alpha" choice: "1" }': 'no layer of "*" has lrn_param.alpha',
    'param { path: "max_iter" choice: "1" choice: "x" }': 'max_iter takes a whole number of 32 bits, got "x"',
    'param { path: "max_iter" range { min: 1 max: 1.5 } }': "max_iter takes whole numbers, got 1.5",
    'param { path: "type" range { min: 1 max: 2 } }': "type is no number, a range needs one\n  Give choices.",
    LR.strip() + ' param { path: "base_lr" choice: "1" }': (
        'two parameters are on one path: "base_lr" and "base_lr" both set base_lr'
    ),
    'param { path: "net.layer.ip1.inner_product_param.axis" choice: "1" }'
    ' param { path: "net.layer.ip*.inner_product_param.axis" choice: "1" }': (
        'two parameters are on one path: "net.layer.ip1.inner_product_param.axis" and '
        '"net.layer.ip*.inner_product_param.axis" both set net.layer.ip1.inner_product_param.axis'
    ),
}


@pytest.mark.parametrize("line", SPACES)
def test_wrong_spaces(line, folder):
    with pytest.raises(CaffeError) as caught:
        parameters(line)
    column = line.rindex("param {") + 1
    assert str(caught.value) == f"s.prototxt:2:{column}: {SPACES[line]}"


def test_what_stands_in_the_definition(folder):
    found = parameters(
        LR,
        'param { path: "net.layer.ip1.inner_product_param.num_output" choice: "2" choice: "4" }',
        'param { path: "net.layer.ip2.inner_product_param.num_output" choice: "3" choice: "4" }',
        'param { path: "momentum" range { min: 0 max: 0.85 } }',
        'param { path: "weight_decay" range { min: 0 max: 1 step: 0.25 } }',
        'param { path: "max_iter" range { min: 2 max: 20 step: 5 } }',
        'param { path: "net.layer.ip*.inner_product_param.axis" choice: "1" }',
        'param { path: "net.layer.*.dropout_param.dropout_ratio" range { min: 0 max: 0.9 } }',
    )
    assert [p.standing for p in found] == [0.05, "4", None, None, 0.0, 12, "1", 0.5]
    assert [p.whole for p in found] == [False] * 5 + [True, False, False]


def test_the_grid(folder):
    found = parameters(
        'param { path: "base_lr" log { min: 0.01 max: 1 steps: 3 } }',
        'param { path: "momentum" range { min: 0 max: 0.9 steps: 2 } }',
        'param { path: "weight_decay" range { min: 0 max: 0.25 step: 0.1 } }',
        'param { path: "max_iter" range { min: 2 max: 12 step: 5 } }',
        'param { path: "type" choice: "SGD" choice: "Adam" }',
        sampler="GRID",
    )
    values = [p.values() for p in found]
    assert values[0] == pytest.approx([0.01, 0.1, 1]) and values[1] == pytest.approx([0, 0.9])
    assert values[2] == pytest.approx([0, 0.1, 0.2])
    assert values[3:] == [[2, 7, 12], ["SGD", "Adam"]]
    points = space.grid(found)
    assert len(points) == 3 * 2 * 3 * 3 * 2 and len({tuple(p.values()) for p in points}) == len(points)


def test_settings_are_what_a_prototxt_has(folder):
    lr, width = parameters(LR, 'param { path: "max_iter" log { min: 2 max: 20 } }')
    assert str(lr.setting(0.1 + 0.2)) == "base_lr=0.3"
    assert str(width.setting(7)) == "max_iter=7"
    changed = Model.read("solver.prototxt").set([lr.setting(0.25), width.setting(7)])
    assert changed.solver.base_lr == 0.25 and changed.solver.max_iter == 7


def test_from_python():
    found = from_fields(
        {
            "metric": "accuracy", "trials": 3, "sampler": "GRID", "pruner": "MEDIAN",
            "param": {"type": ["SGD", "Adam"], "base_lr": {"log": {"min": 0.1, "max": 1, "steps": 4}}},
        }
    )  # fmt: skip
    assert isinstance(found, SearchDefinition) and found.name == "search"
    assert [list(p.choice) for p in found.param.param] == [["SGD", "Adam"], []]
    assert found.param.pruner.type == 1 and found.param.sampler == 1
    for fields, message in (
        ({"trails": 3}, "this is no search"),
        ({"metric": "a", "trials": 1, "param": {"base_lr": {"logg": 1}}}, "base_lr: "),
        ({"metric": "a", "sampler": "GIRD", "trials": 1}, 'Did you mean "GRID"'),
    ):
        with pytest.raises(CaffeError, match=message):
            from_fields(fields)


def test_shares_of_a_space(folder):
    choice, log, span, stepped, whole = parameters(
        'param { path: "type" choice: "a" choice: "b" choice: "c" }',
        'param { path: "base_lr" log { min: 0.01 max: 1 } }',
        'param { path: "momentum" range { min: 0.5 max: 0.9 } }',
        'param { path: "weight_decay" range { min: 0 max: 0.3 step: 0.1 } }',
        'param { path: "max_iter" range { min: 2 max: 5 } }',
    )
    assert [choice.at(u) for u in (0, 0.34, 0.99)] == ["a", "b", "c"]
    assert [log.at(u) for u in (0, 0.5, 1 - 1e-9)] == pytest.approx([0.01, 0.1, 1])
    assert [span.at(u) for u in (0, 0.5, 1 - 1e-9)] == pytest.approx([0.5, 0.7, 0.9])
    assert [stepped.at(u) for u in (0, 0.3, 0.99)] == pytest.approx([0, 0.1, 0.3])
    assert [whole.at(u) for u in (0, 0.25, 0.5, 0.999)] == [2, 3, 4, 5]
