"""The zoo's models trained in a folder with train.h5 and test.h5; recommend and compare-recommenders on them."""

import csv
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from caffepy import limits
from caffepy.cli import cli
from caffepy.data.tables.table import Column, open_table
from caffepy.data.tables.writer import write_table
from caffepy.errors import ConfigError, DataError
from caffepy.net.net import Net
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import TEST
from caffepy.recommend import comparison, trial
from caffepy.recommend.metrics import Rankings
from caffepy.recommend.scorer import Scorer
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
    solver_text = (ZOO / name / "solver.prototxt").read_text()
    net = ZOO / name / "net.prototxt"
    changed = {"net": f'"{net}"', "max_iter": 2, "test_interval": 2, "test_iter": 1, "display": 0}
    for field, value in changed.items():
        solver_text = re.sub(rf"^{field}: .*$", f"{field}: {value}", solver_text, flags=re.MULTILINE)
    solver = Path(f"{name}_short.prototxt")
    solver.write_text(solver_text)
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
    shown = run("recommend", *model, "--output", "lists.csv", "--top", 2, "--titles")
    assert shown == f"lists.csv: lists of {small.USERS} users, 1 without ratings by the baseline\n"
    rows = list(csv.DictReader(Path("lists.csv").read_text().splitlines()))
    assert len(rows) == 2 * small.USERS
    assert set(rows[0]) == {"user", "rank", "item", "score", "title", "by"}
    assert [row["user"] for row in rows if row["by"] == "baseline"] == [f"u{small.USERS - 1}"] * 2
    listed = [line.split("\t")[1] for line in run("recommend", *model, "--user", "nobody", "--top", 2).splitlines()[1:]]
    assert [row["item"] for row in rows[-2:]] == listed


def test_reasons_for_somebody_new(inside):
    model = ("--model", ZOO / "item_knn" / "deploy.prototxt", "--weights", train("item_knn"))
    lines = run("recommend", *model, "--ratings", "i1:5,i2:5,i3:1", "--top", 9, "--explain").splitlines()
    reasons = [line for line in lines if line.startswith("\t\tbecause of ")]
    assert reasons and all(re.fullmatch(r"\t\tbecause of i[12] Title \d rated 5", line) for line in reasons)


def test_a_blend_answers_with_all_its_members(inside):
    weights = train("blend")
    model = ("--model", ZOO / "blend" / "deploy.prototxt", "--weights", weights)
    scorer = Scorer(Net(str(ZOO / "blend" / "deploy.prototxt"), TEST, weights=str(weights)))
    layers = scorer.net.layer_dict
    bias, *shares = layers["blend"].blobs[0].host().tolist()
    items, ratings = np.array([1, 2]), np.array([5.0, 1.0])
    base = scorer.baseline[0] + ((ratings - scorer.baseline[0][items]) / 17).sum()
    members = [layers[name] for name in ("svd", "svdpp", "item_knn", "user_knn", "rbm")]
    found = [m.fold_in([blob.host() for blob in m.blobs], items, ratings) for m in members]
    expected = bias + sum(w * (base if f is None else f) for w, f in zip(shares, found))
    np.testing.assert_allclose(scorer.fold_in(items, ratings)[0], expected, rtol=1e-5)
    lines = run("recommend", *model, "--ratings", "i1:5,i2:1", "--top", 20).splitlines()
    assert lines[0] == "user_knn, rbm cannot take in a new user without training: the baseline stands in"
    expected[items] = -np.inf
    assert [line.split("\t")[1] for line in lines[1:]] == [f"i{i}" for i in np.argsort(-expected)[:-2]]

    shares = [0.3, 0.2, 0.4, 0.1, -0.2]
    layers["blend"].blobs[0].data[1:] = shares
    alike = [m.alike([blob.host() for blob in m.blobs], np.array([3])) for m in members]
    said = [(w, a) for w, a in zip(shares, alike) if a is not None and w > 0]
    together = sum(w * a for w, a in said)[0] / sum(w for w, _ in said)
    together[3] = -np.inf
    np.testing.assert_allclose(scorer.alike(np.array([3]))[0], together, rtol=1e-5)
    assert len(said) == 3
    assert len(run("recommend", *model, "--similar-to", "i3", "--top", 4).splitlines()) == 4


def test_models_that_nothing_joins_do_not_answer(inside):
    net = text.read_net(ZOO / "blend" / "deploy.prototxt").param
    del net.layer[-1:]
    scorer = Scorer(Net(net, TEST))
    with pytest.raises(ConfigError, match="the models svd, svdpp, item_knn, user_knn, rbm have no Blend"):
        scorer.alike(np.array([0]))


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


@pytest.mark.parametrize("name", sorted(path.parent.name for path in ZOO.glob("*/net.prototxt")))
def test_ranking_in_caffepy_test(inside, name):
    """As the scores of all pairs have it, each user of the test once, however often the test goes round."""
    weights = str(train(name))
    args = ["--model", ZOO / name / "net.prototxt", "--weights", weights, "--stage", "ranking", "--iterations", 7]
    shown = CliRunner().invoke(cli, ["test", *map(str, args)]).output
    found = {key: float(value) for key, value in re.findall(r"ranking/(\w+@10) = ([\d.e-]+)", shown)}
    scorer, table = Scorer(Net(str(ZOO / name / "deploy.prototxt"), TEST, weights=weights)), open_table("test.h5")
    pairs = np.meshgrid(np.arange(small.USERS), np.arange(small.ITEMS), indexing="ij")
    with scorer._unclipped():
        scores = scorer.scores(*(ids.ravel() for ids in pairs)).reshape(small.USERS, small.ITEMS)
    scores[scorer.history.user, scorer.history.item] = -np.inf
    relevant = np.zeros(scores.shape, bool)
    relevant[table["user"], table["item"]] = True
    rankings, users = Rankings(10), relevant.any(axis=1)
    rankings.add(scores[users], relevant[users])
    assert found == pytest.approx(rankings.value(), abs=1e-4)


@pytest.mark.parametrize(
    "path", sorted(ZOO.glob("*/*net.prototxt")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_rankings_are_made_for_some_users_at_a_time(path):
    """All users times all items, of ten million ratings, are gigabytes."""
    layers = [layer for layer in text.read_net(path).param.layer if layer.table_data_param.group_by]
    staged = [layer for layer in layers if any("ranking" in rule.stage for rule in layer.include)]
    assert all(0 < layer.table_data_param.batch_size <= 64 for layer in staged)
    assert staged or path.parent.name == "wrmf"  # whose only test is a ranking


def test_questions_that_are_none(inside):
    weights = train("mean")
    model = ["recommend", "--model", str(ZOO / "mean" / "deploy.prototxt"), "--weights", str(weights)]
    for args, message in (
        ([], "nothing is asked"),
        (["--user", "u1", "--similar-to", "i1"], "2 questions at once"),
        (["--ratings", "i1:nan"], '--ratings "i1:nan" is no rating of an item'),
        (["--ratings", "i1:9"], "--ratings i1:9 is outside the ratings' scale, 1 .. 5"),
        (["--similar-to", "i1", "--explain"], "--explain is about a user's list"),
        (["--output", "o.csv", "--explain"], "--explain is about a user's list"),
    ):
        assert message in str(CliRunner().invoke(cli, [*model, *args]).exception)
    assert 'the item "i99" is not known' in str(CliRunner().invoke(cli, [*model, "--similar-to", "i99"]).exception)


def test_compare(inside):
    shown = run("compare-recommenders", inside, "--models", "mean,baseline", "--folds", 2)
    rows = [line.split() for line in shown.splitlines() if line.startswith(("mean ", "baseline "))]
    assert [row[0] for row in rows] == ["mean", "baseline"]
    assert all(0.5 < float(row[1]) < 2 for row in rows)


def test_compare_with_what_is_set(inside):
    asked = ["compare-recommenders", str(inside), "--models", "baseline", "--set"]
    assert "baseline" in run(*asked, "max_iter=1")
    assert 'no field "max_iters" in SolverParameter' in str(CliRunner().invoke(cli, [*asked, "max_iters=1"]).exception)


def test_compare_with_a_layer_of_ones_own(inside, tmp_path):
    """It runs in another process, in another folder."""
    (tmp_path / "of_compared.py").write_text("""
import caffepy
from caffepy.net.layer import Layer

@caffepy.register_layer("Same")
class Same(Layer):
    def reshape(self, bottom, top):
        top[0].reshape_like(bottom[0])

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data
""")
    shutil.copytree(ZOO / "mean", tmp_path / "zoo" / "mine")
    for file in (tmp_path / "zoo" / "mine").glob("*.prototxt"):
        text = file.read_text().replace('top: "prediction"', 'top: "mean"')
        own = 'layer { name: "same" type: "Same" bottom: "mean" top: "prediction" '
        end = 'include { not_stage: "ranking" } }' if file.name == "net.prototxt" else "}"
        if file.name != "solver.prototxt":
            before, after, rest = text.partition('layer {\n  name: "rmse"')
            file.write_text(f"{before}{own}{end}\n{after}{rest}")
    module = os.path.relpath(tmp_path / "of_compared.py")
    shown = run("compare-recommenders", inside, "--zoo", tmp_path / "zoo", "--models", "mine", "--import", module)
    assert [line.split()[0] for line in shown.splitlines()] == ["model", "mine"]


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
