"""The configurations for more than one machine, as docs/serving.md offers them."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import yaml

from caffepy.cli.serve import command
from caffepy.serve.client import Client
from caffepy.serve.refusal import Refused
from tests.serve.running import served

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples/serving"
ENVOY = ROOT / ".venv-peers/bin/envoy"  # make serve

X = np.array([[1, 2, 3, 4]], np.float32)


@pytest.mark.skipif(not ENVOY.exists(), reason="make serve installs Envoy")
def test_envoy_before_two_replicas(small, tmp_path):
    """Both answer; when one goes, the other does, without a failed request."""
    import socket

    with socket.socket() as a, socket.socket() as b:
        a.bind(("127.0.0.1", 0))
        b.bind(("127.0.0.1", 0))
        front = {"9500": str(a.getsockname()[1]), "9501": str(b.getsockname()[1])}
    with served(small) as first:
        second = served(small)
        with second:
            ports = {"8500": first.grpc, "8501": first.rest, "8600": second.grpc, "8601": second.rest}
            ports = {old: new.rpartition(":")[2] for old, new in ports.items()} | front
            text = (EXAMPLES / "envoy.yaml").read_text()
            text = re.sub(r"port_value: (\d+)", lambda found: f"port_value: {ports[found[1]]}", text)
            (tmp_path / "envoy.yaml").write_text(text)
            envoy = subprocess.Popen(
                [ENVOY, "-c", tmp_path / "envoy.yaml", "--use-dynamic-base-id", "--concurrency", "1", "-l", "error"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                _until(lambda: _rest(front["9501"]), 30)
                with Client(f"127.0.0.1:{front['9500']}") as client:
                    _until(lambda: client.predict("small", {"data": X}), 30)
                    for _ in range(20):
                        client.predict("small", {"data": X})
                        _rest(front["9501"])
                    counts = [sum(running.server.metrics.requests.values()) for running in (first, second)]
                    assert min(counts) > 5
                    second.__exit__()
                    for _ in range(20):
                        client.predict("small", {"data": X})
                        _rest(front["9501"])
            finally:
                envoy.terminate()
                envoy.wait(30)


def _rest(port):
    body = json.dumps({"instances": X.tolist()}).encode()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models/small:predict", body, timeout=30) as reply:
        return json.loads(reply.read())


def _until(ask, seconds):
    end = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except (OSError, Refused):
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def _flags() -> set[str]:
    return {option.replace("-", "_").removeprefix("__") for param in command.params for option in param.opts}


def test_the_runtime_for_kserve_has_flags_that_there_are():
    runtime, service = yaml.safe_load_all((EXAMPLES / "kserve-runtime.yaml").read_text())
    [container] = runtime["spec"]["containers"]
    for argument in container["args"]:
        assert argument.removeprefix("--").partition("=")[0] in _flags()
    assert service["spec"]["predictor"]["model"]["runtime"] == runtime["metadata"]["name"]
    assert {container[probe]["httpGet"]["path"] for probe in ("readinessProbe", "livenessProbe")} == {
        "/v1/health/ready", "/v1/health/live",
    }  # fmt: skip


def test_the_dockerfile_has_flags_that_there_are():
    text = (EXAMPLES / "Dockerfile").read_text()
    [entry] = re.findall(r"ENTRYPOINT (\[.*\])", text)
    assert {word.removeprefix("--").partition("=")[0] for word in json.loads(entry)[2:]} <= _flags()
