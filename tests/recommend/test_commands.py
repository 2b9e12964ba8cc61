"""The zoo's models trained in a folder with train.h5 and test.h5; recommend and compare-recommenders on them."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from caffepy import limits
from caffepy.cli import cli
from caffepy.data.tables.table import Column, open_table
from caffepy.data.tables.writer import write_table
from caffepy.errors import DataError
from caffepy.recommend import comparison, trial
from tests.recommend import small

ZOO = Path(__file__).parents[2] / "models" / "recommend"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("ratings")
    small.write(path)
    return path


@pytest.fixture
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


def run(*args):
    result = CliRunner().invoke(cli, [str(arg) for arg in args])
    assert result.exit_code == 0, result.output + str(result.exception)
    return result.stdout


def train(name):
    """Two iterations of a model of the zoo; its weights."""
    text = (ZOO / name / "solver.prototxt").read_text()
    net = ZOO / name / "net.prototxt"
    changed = {"net": f'"{net}"', "max_iter": 2, "test_interval": 2, "test_iter": 1, "display": 0}
    for field, value in changed.items():
        text = re.sub(rf"^{field}: .*$", f"{field}: {value}", text, flags=re.MULTILINE)
    solver = Path(f"{name}_short.prototxt")
    solver.write_text(text)
    run("train", "--solver", solver)
    return Path(f"{name}_iter_2.caffemodel")


@pytest.mark.parametrize("name", sorted(path.parent.name for path in ZOO.glob("*/net.prototxt")))
def test_every_model_trains_and_recommends(inside, name):
    weights = train(name)
    shown = run(
        "recommend", "--model", ZOO / name / "deploy.prototxt", "--weights", weights, "--user", "u3", "--top", 4
    )
    items = [line.split("\t")[1] for line in shown.splitlines()]
    assert len(set(items)) == 4


def test_lists(inside):
    model = ("--model", ZOO / "item_knn" / "deploy.prototxt", "--weights", train("item_knn"))
    assert 'user "nobody" is not known: the baseline ranks' in run("recommend", *model, "--user", "nobody")
    assert f'user "u{small.USERS - 1}" has no ratings' in run("recommend", *model, "--user", f"u{small.USERS - 1}")
    assert "Title " in run("recommend", *model, "--user", "u1", "--titles", "--explain", "--exclude-seen")
    assert "i3\t" not in run("recommend", *model, "--similar-to", "i3", "--top", 3)
    assert len(run("recommend", *model, "--ratings", "i1:5,i2:1", "--top", 3).splitlines()) == 3
    assert "ndcg@5 = " in run("recommend", *model, "--test", "test.h5", "--top", 5)
    run("recommend", *model, "--output", "lists.csv", "--top", 2, "--titles")
    rows = list(csv.DictReader(Path("lists.csv").read_text().splitlines()))
    assert len(rows) == 2 * (small.USERS - 1)
    assert set(rows[0]) == {"user", "rank", "item", "score", "title"}


def test_titles_cannot_write_to_the_terminal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small.write(tmp_path)
    table = open_table("train.h5")
    table.features["item"]["title"] = Column(np.array(["\x1b[2J\x07Title\n"] * small.ITEMS, object))
    words = {**table.vocabularies, "item": [f"i\x9b{i}\r" for i in range(small.ITEMS)]}
    write_table(Path("train.h5"), table.columns, words, table.features)
    model = ("--model", ZOO / "item_knn" / "deploy.prototxt", "--weights", train("item_knn"))
    for args in (["--user", "u1", "--explain"], ["--similar-to", "i\x9b3\r"]):
        shown = run("recommend", *model, *args, "--titles", "--top", 3)
        assert "Title" in shown
        assert not any((ord(c) < 32 and c not in "\t\n") or 127 <= ord(c) < 160 for c in shown)


def test_ranking_in_caffepy_test(inside):
    args = ["--model", ZOO / "svd" / "net.prototxt", "--weights", train("svd"), "--stage", "ranking", "--iterations", 1]
    assert "ranking/ndcg@10 = " in CliRunner().invoke(cli, ["test", *map(str, args)]).output


def test_questions_that_are_none(inside):
    weights = train("mean")
    model = ["recommend", "--model", str(ZOO / "mean" / "deploy.prototxt"), "--weights", str(weights)]
    for args, message in (([], "nothing is asked"), (["--user", "u1", "--similar-to", "i1"], "2 questions at once")):
        assert message in str(CliRunner().invoke(cli, [*model, *args]).exception)
    assert 'the item "i99" is not known' in str(CliRunner().invoke(cli, [*model, "--similar-to", "i99"]).exception)


def test_compare(inside):
    shown = run("compare-recommenders", inside, "--models", "mean,baseline", "--folds", 2)
    rows = [line.split() for line in shown.splitlines() if line.startswith(("mean ", "baseline "))]
    assert [row[0] for row in rows] == ["mean", "baseline"]
    assert all(0.5 < float(row[1]) < 2 for row in rows)


def test_models_are_known_before_anything_is_trained(inside, monkeypatch):
    monkeypatch.setattr(trial, "run", lambda *args: pytest.fail("trained"))
    result = CliRunner().invoke(cli, ["compare-recommenders", str(inside), "--models", "mean,svdp"])
    assert str(result.exception).endswith('there is no model "svdp" in ' + f'{ZOO}\n  Did you mean "svdpp"?')


def test_folds_are_in_the_order_of_their_numbers(tmp_path):
    for i in (1, 2, 10):
        (tmp_path / f"fold{i}").mkdir()
        small.write(tmp_path / f"fold{i}")
    found = comparison.folders_of(str(tmp_path), 0, 0, "")
    assert [Path(path).name for path in found] == ["fold1", "fold2", "fold10"]


def test_memory_is_that_of_the_trial_and_limited(inside, monkeypatch):
    monkeypatch.setattr(limits, "_chosen", None)  # which the command changes
    ballast = np.ones(400 << 20, np.uint8)  # which a child of this process would have in its own count
    figures = trial.run(str(ZOO), "mean", str(inside))
    assert ballast.all() and 10e6 < figures["memory"] < 400e6
    with pytest.raises(DataError, match="the limit is 1 KB"):
        trial.run(str(ZOO), "mean", str(inside), ["--max-memory", "1K"])
    args = ["compare-recommenders", str(inside), "--models", "mean", "--max-memory", "1K"]
    assert "the limit is 1 KB" in str(CliRunner().invoke(cli, args).exception)
