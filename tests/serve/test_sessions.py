"""Sessions: parts of a sequence, asked one after the other, come to the same as the whole; others are not disturbed."""

from __future__ import annotations

import json
from urllib import request as urlrequest

import numpy as np
import pytest

from caffepy.errors import CaffeError
from caffepy.proto import text
from caffepy.serve import sessions
from caffepy.serve.api.servable_pb2 import Servable
from caffepy.serve.client import Client, RestClient
from tests.generate import small
from tests.serve.running import publish_net, served
from tests.support import assert_close

TOKENS = np.random.default_rng(1).integers(small.SIZE, size=(9, 2)).astype(np.float32)
ANY = 'input { blob: "data" dim: -1 dim: -1 } input { blob: "cont" dim: -1 dim: -1 }'


def running(base, kind):
    publish_net(base, definition=text.to_text(small.definition(kind)), settings=text.parse(ANY, Servable()))
    return served(base, "small")


def marks(tokens):
    cont = np.ones(tokens.shape, np.float32)
    cont[0] = 0
    return cont


def whole(client, tokens=TOKENS):
    return client.predict("small", {"data": tokens, "cont": marks(tokens)})["score"]


@pytest.mark.parametrize("kind", small.BODIES)
def test_parts_come_to_the_same_as_the_whole(tmp_path, kind):
    with running(tmp_path / "m", kind) as server, Client(server.grpc) as client:
        expected = whole(client)
        found = []
        for at in (slice(0, 4), slice(4, 5), slice(5, 9)):
            found.append(client.predict("small", {"data": TOKENS[at]}, session="a")["score"])
            other = client.predict("small", {"data": TOKENS[at][:, ::-1]}, session="b")["score"]
            assert_close(other, found[-1][:, ::-1])
            whole(client, TOKENS[::-1])  # which is nobody's session
        assert_close(np.concatenate(found), expected)
        assert_close(whole(client), expected)


def test_every_api_takes_a_session(tmp_path):
    with running(tmp_path / "m", "LSTM") as server, Client(server.grpc) as client:
        expected = whole(client)
        rest = RestClient(server.rest)
        assert_close(rest.predict("small", {"data": TOKENS[:4]}, session="s")[""], expected[:4])
        body = {
            "inputs": [{"name": "data", "shape": [5, 2], "datatype": "FP32", "data": TOKENS[4:].tolist()}],
            "parameters": {"session_id": "s"},
        }
        asked = urlrequest.Request(f"{server.rest}/v2/models/small/infer", json.dumps(body).encode())
        answer = json.loads(urlrequest.urlopen(asked).read())["outputs"][0]
        assert_close(np.array(answer["data"]).reshape(answer["shape"]), expected[4:])


@pytest.mark.parametrize("kind", small.BODIES)
def test_time_is_not_taken_for_items(tmp_path, kind):
    """Requests are computed together item by item, which the first axis of a recurrent layer does not hold."""
    with running(tmp_path / "m", kind) as server:
        assert not server.catalog.pick("small", None, "").model.signature.batched


def test_what_is_refused(tmp_path):
    with running(tmp_path / "m", "ROTARY") as server, Client(server.grpc) as client:
        client.predict("small", {"data": TOKENS}, session="a")
        with pytest.raises(CaffeError, match="the session began with inputs"):
            client.predict("small", {"data": TOKENS[:, :1]}, session="a")
        with pytest.raises(CaffeError, match="the sequence has more than the 4096 steps that are kept"):
            client.predict("small", {"data": np.zeros((4090, 2))}, session="a")
        client.predict("small", {"data": TOKENS}, session="a")  # as if it had not been asked
        with pytest.raises(CaffeError, match="session_id is a text of at most 200 characters"):
            client.predict("small", {"data": TOKENS}, session="a" * 201)
    publish_net(tmp_path / "plain")
    refused = pytest.raises(CaffeError, match="the model keeps no state between requests")
    with served(tmp_path / "plain") as server, Client(server.grpc) as client, refused:
        client.predict("small", {"data": np.zeros((1, 4))}, session="a")


def test_sessions_are_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr(sessions, "MOST", 2)
    with running(tmp_path / "m", "GRU") as server, Client(server.grpc) as client:
        kept = server.catalog.pick("small", None, "").model.sessions
        first = client.predict("small", {"data": TOKENS}, session="a")["score"]
        for name in "bc":
            client.predict("small", {"data": TOKENS}, session=name)
        assert len(kept) == 2
        assert_close(client.predict("small", {"data": TOKENS}, session="a")["score"], first)  # it begins anew
        assert not np.allclose(client.predict("small", {"data": TOKENS}, session="a")["score"], first)
        monkeypatch.setattr(sessions, "MEMORY", 100)  # the last one stays, however large it is
        assert_close(client.predict("small", {"data": TOKENS}, session="d")["score"], first)
        assert len(kept) == 1
        monkeypatch.setattr(sessions, "IDLE", -1.0)
        assert_close(client.predict("small", {"data": TOKENS}, session="a")["score"], first)
        assert len(kept) == 1
