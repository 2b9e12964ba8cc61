"""`caffepy serve` as a process: its line, its signals, its workers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request

import numpy as np
import pytest

from caffepy import plugins
from caffepy.errors import ConfigError
from caffepy.serve.api.tensorflow_serving_pb2 import ModelServerConfig
from caffepy.serve.client import Client
from caffepy.serve.options import METRICS
from caffepy.serve.refusal import Refused
from tests.serve.running import SMALL, make_net
from tests.serve.test_tfs import ask

X = np.array([[1, 2, 3, 4]], np.float32)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and SO_REUSEPORT")


class Process:
    """The command with ports of its own; `ready` waits until it answers."""

    def __init__(self, *args, ports=("--port", "0", "--rest_api_port", "0")):
        environment = os.environ | {"PYTHONUNBUFFERED": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "caffepy", "serve", *ports, *map(str, args)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def __enter__(self):
        line = self.process.stdout.readline()
        found = re.fullmatch(r"Serving: gRPC at (127\.0\.0\.1:\d+), REST at (127\.0\.0\.1:\d+)\n", line)
        if not found:
            raise AssertionError(line + self.process.communicate(timeout=30)[1])
        self.grpc, self.rest = found.groups()
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                urllib.request.urlopen(f"http://{self.rest}/v1/health/ready", timeout=5).read()
                return self
            except OSError:
                time.sleep(0.05)
        raise AssertionError("the server does not get ready")

    def __exit__(self, *error):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.out, self.err = self.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


def test_sigterm_drains(small, tmp_path):
    """Requests that are there are answered, then the process ends well."""
    (tmp_path / "batching").write_text("batch_timeout_micros { value: 1000000 }")
    found = []

    def ask(kind):
        if kind == "grpc":
            with Client(server.grpc) as client:
                found.append(client.predict("small", {"data": X})["prob"].shape)
        else:
            body = b'{"instances": [[1, 2, 3, 4]]}'
            with urllib.request.urlopen(f"http://{server.rest}/v1/models/small:predict", body, timeout=30) as reply:
                found.append(reply.status)

    args = "--model_name=small", f"--model_base_path={small}", f"--batching_parameters_file={tmp_path / 'batching'}"
    with Process(*args) as server:
        threads = [threading.Thread(target=ask, args=(kind,)) for kind in ("grpc", "rest", "grpc", "rest")]
        for thread in threads:
            thread.start()
        time.sleep(0.4)
        server.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(30)
        assert server.process.wait(30) == 0
    assert sorted(map(str, found)) == ["(1, 3)", "(1, 3)", "200", "200"]
    assert "Draining" in server.err
    assert "Traceback" not in server.err


def test_sigterm_under_load(small):
    """No request fails but those that find the door shut."""
    failed, done = [], []

    def ask():
        with Client(server.grpc) as client:
            while True:
                try:
                    client.predict("small", {"data": X})
                    done.append(1)
                except Refused as error:
                    failed.append(error.code)
                    return

    with Process("--model_name=small", f"--model_base_path={small}") as server:
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(30)
        assert server.process.wait(30) == 0
    assert done
    assert set(failed) == {"UNAVAILABLE"}
    assert "Traceback" not in server.err


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def is_worker(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"spawn_main" in file.read()
    except OSError:  # it has gone
        return False


needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="Linux tells a process's children")


def of_each(server, path, body=None, times=12):
    """Status and reply of as many connections, which the kernel spreads over the workers."""
    return [ask(f"http://{server.rest}{path}", body) for _ in range(times)]


def statuses(server, model):
    return {status for status, *_ in of_each(server, f"/v1/models/{model}:predict", {"instances": X.tolist()})}


def until(fine, seconds=60):
    end = time.monotonic() + seconds
    while not fine():
        assert time.monotonic() < end, "it does not come to pass"
        time.sleep(0.1)


def counted(server, path="/metrics"):
    """Requests that were answered, as several scrapes tell."""
    found = set()
    for _ in range(6):
        with urllib.request.urlopen(f"http://{server.rest}{path}", timeout=30) as reply:
            text = reply.read().decode()
        lines = [line for line in text.splitlines() if line.startswith(":tensorflow:serving:request_count{")]
        found.add(sum(float(line.split()[-1]) for line in lines if 'status="OK"' in line))
    return found


@needs_proc
def test_workers_are_one_server(small, tmp_path):
    """Metrics are those of all; what one is asked to change, all do, and so does one that takes a dead one's place."""
    file = tmp_path / "models.config"
    text = f'model_config_list {{ config {{ name: "small" base_path: "{small}" }} %s }}'
    file.write_text(text % "")
    with Process(f"--model_config_file={file}", "--workers=2") as server:
        until(lambda: statuses(server, "small") == {200})
        before = counted(server)
        assert len(before) == 1
        assert statuses(server, "small") == {200}
        assert counted(server) == counted(server, METRICS) == {before.pop() + 12}
        stats = [found["model_stats"][0] for _, found, _ in of_each(server, "/v2/models/small/stats")]
        assert len({row["inference_stats"]["success"]["count"] for row in stats}) == 1

        added = ModelServerConfig()
        config = added.model_config_list.config.add(name="added", base_path=str(small))
        config.model_version_policy.all.SetInParent()
        config.version_labels["old"] = 1
        with Client(server.grpc) as client:
            client.reload(added, merge=True)
            assert statuses(server, "small") == statuses(server, "added") == {200}
            config.version_labels["old"], config.canary.version, config.canary.percent = 2, 1, 100
            client.reload(added, merge=True)
            by_label = of_each(server, "/v1/models/added/labels/old:predict", {"instances": X.tolist()})
            assert {headers["x-model-version"] for *_, headers in by_label} == {"2"}
            canary = of_each(server, "/v1/models/added:predict", {"instances": X.tolist()})
            assert {headers["x-model-version"] for *_, headers in canary} == {"1"}
            wrong = ModelServerConfig()
            wrong.model_config_list.config.add(name="added")
            with pytest.raises(Refused, match='model "added" has no base_path'):
                client.reload(wrong)
        assert ask(f"http://{server.rest}/v2/repository/models/small/unload", b"{}")[0] == 200
        assert statuses(server, "small") == {503}
        count = counted(server).pop()

        workers = worker_ids(server)
        os.kill(workers[0], signal.SIGKILL)
        until(lambda: len(set(worker_ids(server)) - {workers[0]}) == 2)
        until(lambda: statuses(server, "added") == {200})
        assert statuses(server, "small") == {503}
        assert counted(server).pop() > count
        assert ask(f"http://{server.rest}/v2/repository/models/small/load", b"{}")[0] == 200
        assert statuses(server, "small") == {200}
        assert ask(f"http://{server.rest}/v2/repository/models/absent/load", b"{}")[0] == 404

        file.write_text(text % f'config {{ name: "new" base_path: "{small}" }}')
        until(lambda: statuses(server, "new") == {200})
        assert statuses(server, "added") == {404}
    assert server.process.returncode == 0
    assert "Traceback" not in server.err


def worker_ids(server):
    return [child for child in children(server.process.pid) if is_worker(child)]


@needs_proc
def test_kill_9_of_a_worker(small):
    """Another takes its place, and meanwhile the rest answers."""
    with Process("--model_name=small", f"--model_base_path={small}", "--workers=2") as server:
        pid = server.process.pid
        end = time.monotonic() + 60
        workers = [child for child in children(pid) if is_worker(child)]
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        seen = set()
        while time.monotonic() < end:
            now = [child for child in children(pid) if is_worker(child)]
            try:
                with Client(server.grpc) as client:
                    client.predict("small", {"data": X})
            except Refused as error:
                seen.add(error.code)
            if len(now) == 2 and workers[0] not in now:
                break
            time.sleep(0.05)
        assert seen <= {"UNAVAILABLE"}
        assert len(now) == 2
    assert server.process.returncode == 0
    assert "another is started" in server.err
    for child in workers:
        with pytest.raises(OSError):
            os.kill(child, 0)


OWN = """
import caffepy
from caffepy.net.layer import Layer

@caffepy.register_layer("OfServed")
class OfServed(Layer):
    def reshape(self, bottom, top):
        top[0].reshape_like(bottom[0])

    def forward(self, bottom, top):
        top[0].data[...] = 2 * bottom[0].data
"""


def test_workers_know_the_layers_of_ones_own(tmp_path, monkeypatch, capsys):
    """Named with --import when it is published, and when it is served."""
    from caffepy.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "of_served.py").write_text(OWN)
    more = 'layer { name: "twice" type: "OfServed" bottom: "prob" top: "twice" }'
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins.load("of_served")
    model, weights = make_net(tmp_path, SMALL + more)
    main(["publish", "--import", "of_served.py", "--model", str(model), "--weights", str(weights), "--to", "base"])
    args = "--model_name=small", "--model_base_path=base", "--workers=2", "--max-memory=1G"
    with Process(*args, "--import=of_served.py") as server, Client(server.grpc) as client:
        end = time.monotonic() + 60
        while True:
            try:
                found = client.predict("small", {"data": X})["twice"]
                break
            except Refused as error:  # ready is one worker, this may be the other
                assert error.code == "UNAVAILABLE" and time.monotonic() < end
                time.sleep(0.1)
        np.testing.assert_allclose(found.sum(), 2, rtol=1e-6)


def test_a_worker_begins_with_what_the_command_was_told(monkeypatch):
    from caffepy import limits
    from caffepy.cli.serve import begin_worker

    monkeypatch.setattr(limits, "_chosen", None)
    monkeypatch.setattr("caffepy.cli.terminal.start_logging", lambda: None)
    begin_worker("5M", ())
    assert limits.max_memory() == 5 << 20


def test_the_parent_of_workers_has_no_grpc():
    """Objects of gRPC do not survive in processes that are started after them."""
    script = "import sys, caffepy.serve.workers; print([name for name in ('grpc', 'uvicorn') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr


@needs_proc
def test_workers_end_with_their_parent(small):
    with Process("--model_name=small", f"--model_base_path={small}", "--workers=2") as server:
        workers = worker_ids(server)
        server.process.kill()
        server.process.wait(30)
        until(lambda: not any(is_worker(worker) for worker in workers))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "give either --model-name and --model-base-path, or --model-config-file"),
        (("--model_name", "a"), "--model-name and --model-base-path are given together"),
        (("--model_config_file", "none.config"), "none.config"),
        (("--model_name", "a", "--model_base_path", "b", "--canary", "b=1:5%"), 'no model is called "b"'),
        (("--model_name", "a", "--model_base_path", "b", "--batching_parameters_file", "x"), "x"),
    ],
)
def test_what_cannot_be_served(args, said, capsys, monkeypatch, tmp_path):
    from caffepy.cli import main

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["serve", *args])
    assert caught.value.code == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("more", [(), ("--workers=2",)])
def test_an_engine_that_cannot_be_had_is_told_at_the_start(small, more, capsys, monkeypatch):
    from caffepy import engine
    from caffepy.cli import main

    def none(number):
        raise ConfigError("there is no GPU")

    monkeypatch.setattr(engine, "gpu_engine", none)
    with pytest.raises(SystemExit):
        main(["serve", "--model_name=small", f"--model_base_path={small}", "--gpu", *more])
    assert capsys.readouterr().err == "error: there is no GPU\n"


def test_a_port_in_use(small, capsys):
    import socket

    from caffepy.cli import main

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        model = ["serve", "--model_name=small", f"--model_base_path={small}"]
        for ports in (["--port", port, "--rest_api_port=-1"], ["--port=-1", "--rest_api_port", port]):
            with pytest.raises(SystemExit):
                main([*model, *ports])
            assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err
