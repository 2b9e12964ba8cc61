"""Texts as an input: in every API the same as their ids."""

from __future__ import annotations

import json
from urllib import request as urlrequest

import numpy as np
import pytest

from caffepy.data.texts import vocabulary as vocabularies
from caffepy.errors import CaffeError
from caffepy.proto import text
from caffepy.serve.api.servable_pb2 import Servable
from caffepy.serve.client import Client, RestClient
from tests.serve.running import publish_net, served
from tests.support import assert_close

SUMS = """name: "sums"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 4 } } }
layer { name: "e" type: "Embed" bottom: "data" top: "e" embed_param { input_dim: 5 num_output: 3 bias_term: false } }
layer { name: "turned" type: "Permute" bottom: "e" top: "turned" permute_param { order: 0 order: 2 order: 1 } }
layer { name: "score" type: "Reduction" bottom: "turned" top: "score" reduction_param { axis: 2 } }
"""
KNOWN = vocabularies.learn("CHAR", "abcd")
TEXTS = ["abc", "da", "bx"]
IDS = np.array([[1, 2, 3], [4, 1, 0], [2, 0, 0]])


@pytest.fixture
def running(tmp_path):
    vocabularies.write(str(tmp_path / "vocabulary.json"), KNOWN)
    settings = 'input { blob: "data" dim: -1 dim: -1 vocabulary: "vocabulary.json" }'
    extra = {"vocabulary.json": str(tmp_path / "vocabulary.json")}
    publish_net(tmp_path / "m", definition=SUMS, settings=text.parse(settings, Servable()), extra=extra)
    with served(tmp_path / "m") as server:
        yield server


def test_texts_are_ids(running):
    with Client(running.grpc) as client:
        expected = client.predict("small", {"data": IDS})["score"]
        assert_close(client.predict("small", {"data": [each.encode() for each in TEXTS]})["score"], expected)
    url = f"{running.rest}/v1/models/small"
    for body in ({"instances": TEXTS}, {"instances": [{"data": each} for each in TEXTS]}, {"instances": IDS.tolist()}):
        answer = json.loads(urlrequest.urlopen(f"{url}:predict", json.dumps(body).encode()).read())
        assert_close(np.array(answer["predictions"], np.float32), expected)
    examples = {"examples": [{"data": each} for each in TEXTS]}
    rows = json.loads(urlrequest.urlopen(f"{url}:classify", json.dumps(examples).encode()).read())["results"]
    assert [int(row[0][0]) for row in rows] == expected.argmax(1).tolist()


def test_what_is_refused(running):
    with Client(running.grpc) as client:
        with pytest.raises(CaffeError, match='text 1 of the input "data" is empty'):
            client.predict("small", {"data": [b"a", b""]})
        with pytest.raises(CaffeError, match='the input "data" takes texts in UTF-8'):
            client.predict("small", {"data": [b"\xff"]})
    with pytest.raises(CaffeError, match='the values of the input "data" are no array of numbers'):
        RestClient(running.rest)._ask("/v1/models/small:predict", {"inputs": ["a", 1]})
