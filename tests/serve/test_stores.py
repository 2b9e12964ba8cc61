"""Models in stores that fsspec reads: an S3 server of the test's own, a web server, memory."""

from __future__ import annotations

import http.server
import threading
from functools import partial

import numpy as np
import pytest

from caffepy.errors import CaffeError, DataError
from caffepy.serve.client import Client
from caffepy.serve.publish import publish
from caffepy.serve.served import AVAILABLE, END
from caffepy.serve.stores import Local, is_version, open_store
from tests.serve.running import expected, make_net, publish_net, served

X = np.array([[1, 2, 3, 4]], np.float32)


@pytest.mark.parametrize(
    ("name", "fine"),
    [("1", True), ("0012", True), ("0", True), ("1a", False), ("-1", False), ("", False), ("١", False),
     ("9" * 19, True), (str(1 << 63), False), (".1.5.tmp", False), ("1.0", False)],
)  # fmt: skip
def test_names_of_versions(name, fine):
    assert is_version(name) == (fine and int(name) < 1 << 63)


def test_a_store_that_is_not_there(tmp_path):
    (tmp_path / "lenet").mkdir()
    with pytest.raises(
        DataError, match=r'cannot read the base path: No such file or directory\n  Did you mean "lenet"'
    ):
        Local(str(tmp_path / "lenett")).versions()
    with pytest.raises(CaffeError):
        open_store("nosuchkind://bucket/x").versions()


def test_memory_as_a_store(tmp_path):
    """Published manifest last, fetched and checked."""
    import fsspec

    deploy, weights = make_net(tmp_path / "net")
    base = f"memory://{tmp_path.name}/small"
    assert publish(base, str(weights), str(deploy))[0] == 1
    assert publish(base, str(weights), str(deploy))[0] == 2
    store = open_store(base)
    assert {version: found.complete for version, found in store.versions().items()} == {1: True, 2: True}
    with store.fetched(2) as folder:
        assert sorted(p.name for p in folder.iterdir()) == ["deploy.prototxt", "manifest.json", "model.caffemodel"]
    assert not folder.exists()
    files = fsspec.filesystem("memory")
    files.pipe(f"/{tmp_path.name}/small/2/model.caffemodel", b"other")
    with pytest.raises(CaffeError, match="has 5 bytes, the manifest says"), store.fetched(2):
        pass
    files.rm(f"/{tmp_path.name}/small/1/manifest.json")  # without one, it counts when it no longer changes
    fresh = open_store(base)
    assert [fresh.versions()[1].complete for _ in range(2)] == [False, True]


def test_a_web_server(tmp_path):
    publish_net(tmp_path / "small", 1)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    pytest.importorskip("aiohttp")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        try:
            with (
                served(f"http://127.0.0.1:{web.server_port}/small") as server,
                Client(server.grpc) as client,
            ):
                found = client.predict("small", {"data": X})["prob"]
        finally:
            web.shutdown()
    np.testing.assert_allclose(found, expected(tmp_path / "small", 1, X), rtol=1e-5)


@pytest.fixture
def bucket(monkeypatch):
    """An empty bucket of a local S3 server."""
    moto = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (
        ("AWS_ENDPOINT_URL", f"http://{host}:{port}"), ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_DEFAULT_REGION", "us-east-1"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("models")
    yield "s3://models"
    server.stop()


@pytest.mark.filterwarnings("ignore")
def test_s3(bucket, tmp_path):
    deploy, weights = make_net(tmp_path / "net", seed=3)
    base = f"{bucket}/small"
    assert publish(base, str(weights), str(deploy))[0] == 1
    publish_net(tmp_path / "local" / "small", 1, seed=3)
    with served(base) as server, Client(server.grpc) as client:
        found = client.predict("small", {"data": X})["prob"]
        np.testing.assert_allclose(found, expected(tmp_path / "local" / "small", 1, X), rtol=1e-5)
        publish(base, str(weights), str(deploy))
        versions = server.catalog.models["small"].versions
        server.until(lambda: {n: v.state for n, v in versions.items()} == {1: END, 2: AVAILABLE})
        client.predict("small", {"data": X})
        assert client.version == 2
