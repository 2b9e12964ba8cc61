"""A recommender that is served: a rating for a user and an item, the best items for a user, by their file's words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from caffepy.cli import cli
from caffepy.data.tables.table import open_table
from caffepy.data.tables.writer import write_table
from caffepy.errors import CaffeError
from caffepy.net.net import Net
from caffepy.proto.caffe_pb2 import TEST
from caffepy.recommend.scorer import Scorer
from caffepy.serve import model
from caffepy.serve.api.tensorflow_serving_pb2 import ModelConfig
from caffepy.serve.client import Client
from caffepy.serve.refusal import Refused
from tests.recommend import small
from tests.recommend.test_commands import ZOO, train
from tests.serve.running import served
from tests.serve.test_tfs import ask

DEPLOY = ZOO / "svd" / "deploy.prototxt"
ITEMS = [str(1000000000001 + i) for i in range(small.ITEMS)]  # which no float32 holds


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the tables, weights, and what was published of them."""
    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        small.write(folder)
        for name in ("train.h5", "test.h5"):
            table = open_table(name)
            write_table(name, table.columns, {**table.vocabularies, "item": ITEMS}, table.features)
        weights = train("svd")
        for base, more in (("rating", []), ("top", ["--top", "3", "--exclude-seen"])):
            args = ["publish", "--model", str(DEPLOY), "--weights", str(weights), "--to", base, *more]
            result = CliRunner().invoke(cli, args)
            assert result.exit_code == 0, result.output + str(result.exception)
        scorer = Scorer(Net(str(DEPLOY), TEST, weights=str(weights)))
    return folder, scorer


@pytest.fixture(scope="module")
def server(trained):
    folder, _ = trained
    models = [ModelConfig(name=name, base_path=str(folder / name)) for name in ("rating", "top")]
    with served(folder / "top", models=models) as running:
        yield running


def test_metadata_say_that_words_are_taken(server):
    _, found, _ = ask(f"{server.rest}/v2/models/rating")
    assert [(t["name"], t["datatype"]) for t in found["inputs"]] == [("user", "BYTES"), ("item", "BYTES")]
    _, found, _ = ask(f"{server.rest}/v2/models/rating/config")
    assert [t["data_type"] for t in found["input"]] == ["TYPE_STRING", "TYPE_STRING"]
    _, found, _ = ask(f"{server.rest}/v1/models/top/metadata")
    inputs = found["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]
    assert inputs["user"]["dtype"] == "DT_STRING"


def test_the_version_holds_its_table(trained):
    folder, _ = trained
    files = {path.name for path in (folder / "top" / "1").iterdir()}
    assert {"deploy.prototxt", "model.caffemodel", "train.h5", "manifest.json", "servable.prototxt"} == files


def test_ratings_of_users_and_items(server, trained, caplog):
    caplog.set_level("INFO", "caffepy")
    pairs = [("u3", 5), ("u7", 0), ("u3", 6)]
    expected = trained[1].scores(np.array([3, 7, 3]), np.array([5, 0, 6])).tolist()
    rows = [{"user": user, "item": int(ITEMS[item])} for user, item in pairs]
    status, reply, _ = ask(f"{server.rest}/v1/models/rating:predict", {"instances": rows})
    assert status == 200 and reply["predictions"] == pytest.approx(expected)
    columns = {"user": [user for user, _ in pairs], "item": [ITEMS[item] for _, item in pairs]}
    _, reply, _ = ask(f"{server.rest}/v1/models/rating:predict", {"inputs": columns})
    assert reply["outputs"] == pytest.approx(expected)
    v2 = {
        "inputs": [
            {"name": "user", "shape": [1], "datatype": "BYTES", "data": ["u3"]},
            {"name": "item", "shape": [1], "datatype": "INT64", "data": [int(ITEMS[5])]},
        ]
    }
    _, reply, _ = ask(f"{server.rest}/v2/models/rating/infer", v2)
    assert reply["outputs"][0]["data"] == pytest.approx(expected[:1])
    with Client(server.grpc) as client:
        items = np.array([int(ITEMS[item]) for _, item in pairs])
        found = client.predict("rating", {"user": [user.encode() for user, _ in pairs], "item": items})
    assert found["prediction"].tolist() == pytest.approx(expected)
    ask(f"{server.rest}/v1/models/rating:predict", {"instances": [{"user": "u29", "item": int(ITEMS[0])}]})
    assert "without ratings" not in caplog.text


def test_the_best_items_of_users(server, trained):
    users = [2, 4, small.USERS - 1]
    scores, h = trained[1].of_all_items(np.array(users)), trained[1].history
    for row, user in zip(scores, users):
        row[h.item[h.starts[user] : h.starts[user + 1]]] = -np.inf
    best = np.argsort(-scores, axis=1)[:, :3]
    examples = {"examples": [{"user": f"u{user}"} for user in users]}
    status, reply, _ = ask(f"{server.rest}/v1/models/top:classify", examples)
    assert status == 200
    assert [[label for label, _ in row] for row in reply["results"]] == [[ITEMS[i] for i in row] for row in best]
    shown = [score for row in reply["results"] for _, score in row]
    assert shown == pytest.approx(np.take_along_axis(scores, best, axis=1).ravel().tolist())
    asked = {
        "inputs": [{"name": "user", "shape": [1], "datatype": "BYTES", "data": ["u4"]}],
        "outputs": [{"name": "score", "parameters": {"classification": 2}}],
    }
    _, reply, _ = ask(f"{server.rest}/v2/models/top/infer", asked)
    assert [text.split(":")[2] for text in reply["outputs"][0]["data"]] == [ITEMS[i] for i in best[1, :2]]


def test_who_is_not_known_is_told(server):
    rows = {"instances": [{"user": "u3", "item": 7}]}
    status, reply, _ = ask(f"{server.rest}/v1/models/rating:predict", rows)
    assert status == 400 and 'the item "7" is not known' in reply["error"]
    status, reply, _ = ask(f"{server.rest}/v1/models/top:classify", {"examples": [{"user": {"a": 1}}]})
    assert status == 400 and 'the input "user" takes a word or a number' in reply["error"]
    with Client(server.grpc) as client, pytest.raises(Refused, match='the user "9" is not known'):
        client.predict("top", {"user": np.array([9])})


def test_no_other_file_is_read(trained, tmp_path):
    folder, _ = trained
    version = tmp_path / "1"
    version.mkdir()
    for path in (folder / "top" / "1").iterdir():
        (version / path.name).write_bytes(path.read_bytes())
    (version / "manifest.json").unlink()
    deploy = version / "deploy.prototxt"
    deploy.write_text(deploy.read_text().replace('"train.h5"', f'"{folder / "test.h5"}"'))
    with pytest.raises(CaffeError, match=r"test\.h5: cannot read the table"):
        model.load(version)
    (version / "test.h5").symlink_to(folder / "test.h5")
    with pytest.raises(CaffeError, match=r'"test\.h5" lies outside of the folder of its version'):
        model.load(version)
    text = Path(DEPLOY).read_text() + 'layer { name: "x" type: "HDF5Data" top: "x" hdf5_data_param { source: "a" } }'
    deploy.write_text(text)
    with pytest.raises(CaffeError, match="names a file"):
        model.load(version)
