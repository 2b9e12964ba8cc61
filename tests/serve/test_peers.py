"""Clients of other servers, each from an environment without caffepy: tritonclient, ovmsclient, curl."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.serve.running import expected

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-peers/bin/python"  # make serve
X = np.array([[1, 2, 3, 4], [0, -1, 0.5, 2]], np.float32)

needs_peers = pytest.mark.skipif(not PYTHON.exists(), reason="make serve installs the peers")
needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")


def run(script, server):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [PYTHON, Path(__file__).with_name("peers") / script, server.grpc, server.rest.removeprefix("http://")],
        input=json.dumps(X.tolist()), capture_output=True, text=True, timeout=120, env=environment, cwd="/",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@needs_peers
def test_tritonclient(server, small):
    found = run("triton.py", server)
    one, two = (expected(small, version, X) for version in (1, 2))
    for kind in ("http", "grpc"):
        got = found[kind]
        assert [got[name] for name in ("live", "ready", "small", "absent")] == [True, True, True, False]
        np.testing.assert_allclose(got["prob"], one, rtol=1e-5)
        assert [[int(text.split(":")[1]) for text in row] for row in got["classes"]] == np.argsort(-two)[:, :2].tolist()
        assert "Servable not found for request: Latest(absent)" in got["error"]
    for metadata in found["metadata"]:
        assert [(t["name"], t["datatype"], [int(n) for n in t["shape"]]) for t in metadata["inputs"]] == [
            ("data", "FP32", [-1, 4])
        ]
        assert metadata["versions"] == ["1", "2"]
    assert found["server"] == ["caffepy", "caffepy"]
    for config in found["config"]:
        assert (config["max_batch_size"], config["input"][0]["data_type"]) == (64, "TYPE_FP32")
    for index in found["index"]:
        assert sorted((row["version"], row["state"]) for row in index) == [("1", "READY"), ("2", "READY")]
    for statistics in found["statistics"]:
        assert all(int(row["inference_stats"]["success"]["count"]) > 0 for row in statistics)
    for name in ("lists", "gzip", "stream"):
        np.testing.assert_allclose(found[name], two, rtol=1e-5)


@needs_peers
def test_ovmsclient(server, small):
    found = run("ovms.py", server)
    for kind in ("grpc", "http"):
        assert found[kind]["status"] == {"1": "AVAILABLE", "2": "AVAILABLE"}
        assert found[kind]["inputs"] == [-1, 4]
        np.testing.assert_allclose(found[kind]["prob"], expected(small, 1, X), rtol=1e-5)
        assert "Servable not found for request" in found[kind]["error"]


@needs_curl
def test_curl(server, small):
    body = json.dumps({"instances": X.tolist()})
    done = subprocess.run(
        ["curl", "-s", "-d", body, f"{server.rest}/v1/models/small:predict"],
        capture_output=True,
        check=True,
        timeout=60,
    )
    np.testing.assert_allclose(json.loads(done.stdout)["predictions"], expected(small, 2, X), rtol=1e-5)
    body = {"inputs": [{"name": "data", "shape": [2, 4], "datatype": "FP32", "data": X.ravel().tolist()}]}
    done = subprocess.run(
        ["curl", "-s", "-d", json.dumps(body), f"{server.rest}/v2/models/small/infer"],
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert (found["model_name"], found["model_version"], found["outputs"][0]["shape"]) == ("small", "2", [2, 3])
    np.testing.assert_allclose(np.reshape(found["outputs"][0]["data"], (2, 3)), expected(small, 2, X), rtol=1e-5)


@needs_peers
def test_tritonclient_and_ours_in_one_process(server, small, tmp_path):
    """They bring the same messages; ours are in a pool of their own."""
    packages = subprocess.run(
        [PYTHON, "-c", "import tritonclient, os; print(os.path.dirname(os.path.dirname(tritonclient.__file__)))"],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout.strip()  # fmt: skip
    script = tmp_path / "both.py"
    script.write_text(
        f"""import sys
import grpc, numpy as np
sys.path.append({packages!r})
import caffepy.serve.api.inference_pb2
import tritonclient.grpc as triton
import caffepy.serve.api.tensorflow_serving_pb2
from caffepy.serve.client import Client
x = np.array({X.tolist()}, np.float32)
given = triton.InferInput("data", [2, 4], "FP32")
given.set_data_from_numpy(x)
theirs = triton.InferenceServerClient({server.grpc!r}).infer("small", [given]).as_numpy("prob")
print(np.abs(theirs - Client({server.grpc!r}).predict("small", {{"data": x}})["prob"]).max() < 1e-6)
"""
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.stdout == "True\n", done.stderr
