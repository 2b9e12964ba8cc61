"""The nets of models/multitask on 150 rows of Census-Income (KDD, UCI, CC BY 4.0): trained a little, tested by task."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from caffepy.cli import cli
from caffepy.proto import text
from caffepy.solver import Solver

ZOO = Path(__file__).parents[2] / "models" / "multitask"
ROWS = Path(__file__).parent / "census" / "rows.csv.gz"
FOLDER = Path("models") / "multitask"
BOTH = {f"{task}_{score}" for task in ("income", "never_married") for score in ("auc", "log_loss")}
SCORES = {
    "esmm": {"both_auc", "income_auc", "never_married_auc"},
    **{single: {"income_auc", "income_log_loss"} for single in ("wide_deep", "deepfm", "dcn")},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("census")
    shutil.copytree(ZOO, path / FOLDER, ignore=shutil.ignore_patterns("census", "*.caffemodel", "*.solverstate"))
    columns, output = str(path / FOLDER / "census.columns"), str(path / FOLDER / "census")
    args = ["convert-table", str(ROWS), "--columns", columns, "--output", output, "--split", "60,20,20"]
    result = CliRunner().invoke(cli, args)
    assert result.exit_code == 0, result.output
    return path


@pytest.mark.parametrize("name", sorted(path.parent.name for path in ZOO.glob("*/solver.prototxt")))
def test_a_net_trains_and_its_scores_carry_the_names_of_tasks(folder, name, monkeypatch, caplog):
    monkeypatch.chdir(folder)
    caplog.set_level(logging.INFO, "caffepy")
    param = text.read_solver(FOLDER / name / "solver.prototxt")
    param.max_iter = param.test_interval = 2
    param.snapshot_after_train = False
    solver = Solver(param)
    solver.solve()
    expected = SCORES.get(name, BOTH)
    assert expected <= solver.scores.keys()
    assert all(np.isfinite(value) for value in solver.scores.values())
    for score in expected:
        assert f": {score} = " in caplog.text
