"""What operators look at: health, reflection, metrics, the page, configuration files."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
import urllib.request

import grpc
import numpy as np
import pytest

from caffepy.data.pictures import image
from caffepy.errors import ConfigError
from caffepy.serve.api.tensorflow_serving_pb2 import ModelConfig, ModelServerConfig
from caffepy.serve.client import Client
from caffepy.serve.options import METRICS, ServeOptions, canary_of
from tests.serve.running import served
from tests.serve.test_tfs import ask

X = np.array([[1, 2, 3, 4]], np.float32)


def test_grpc_health(server):
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(server.grpc) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "small"):
            found = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            assert found.status == health_pb2.HealthCheckResponse.SERVING


def test_health_of_a_model_that_is_not_loaded(tmp_path):
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with served(tmp_path / "none") as server, grpc.insecure_channel(server.grpc) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        found = stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert found.status == health_pb2.HealthCheckResponse.NOT_SERVING


def test_reflection(server):
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    with grpc.insecure_channel(server.grpc) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="inference.GRPCInferenceService"),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="tensorflow.serving.PredictionService"),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="grpc.health.v1.Health"),
        ]
        listed, *files = stub.ServerReflectionInfo(iter(asked), timeout=10)
    names = {service.name for service in listed.list_services_response.service}
    assert names >= {
        "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService", "inference.GRPCInferenceService",
        "grpc.health.v1.Health",
    }  # fmt: skip
    assert all(found.file_descriptor_response.file_descriptor_proto for found in files)


@pytest.mark.parametrize("path", [METRICS, "/metrics"])
def test_metrics(server, path):
    with Client(server.grpc) as client:
        client.predict("small", {"data": X}, version=1)
    ask(f"{server.rest}/v1/models/small:predict", {"instances": [[1]]})
    with urllib.request.urlopen(server.rest + path, timeout=30) as reply:
        text = reply.read().decode()
    for line in (
        "# TYPE :tensorflow:serving:request_count counter",
        ':tensorflow:serving:request_count{model_name="small",signature="serving_default",status="OK",version="1"}',
        ':tensorflow:serving:request_count{model_name="small",signature="serving_default",status="INVALID_ARGUMENT",'
        'version="2"}',
        ':tensorflow:serving:request_latency_bucket{API="Predict",entrypoint="GRPC",le="+Inf",model_name="small",',
        ':tensorflow:serving:request_latency_count{API="predict",entrypoint="REST",model_name="small",version="2"}',
        ':tensorflow:serving:runtime_latency_sum{model_name="small",version="1"}',
        ':tensorflow:serving:batching_session:queuing_latency_count{model_name="small",version="1"}',
        ':tensorflow:serving:batching_session:batch_size_bucket{le="1",model_name="small",version="1"}',
        ':tensorflow:cc:saved_model:load_attempt_count{model_name="small",status="success"} 2.0',
        'caffepy_model_version_state{model_name="small",version="2"} 30.0',
    ):
        assert line in text
    from prometheus_client.parser import text_string_to_metric_families

    assert {family.type for family in text_string_to_metric_families(text)} <= {"counter", "histogram", "gauge"}


def test_the_page(server):
    with urllib.request.urlopen(f"{server.rest}/", timeout=30) as reply:
        assert reply.headers["content-type"] == "text/html; charset=utf-8"
        assert b"caffepy serve" in reply.read()
    with Client(server.grpc) as client:
        for _ in range(3):
            client.predict("small", {"data": X})
    status, found, _ = ask(f"{server.rest}/page/state")
    assert status == 200
    [model] = found["models"]
    assert [(v["version"], v["state"]) for v in model["versions"]] == [("2", "AVAILABLE"), ("1", "AVAILABLE")]
    assert model["labels"] == {"stable": 1, "canary": 2}
    assert model["versions"][0]["inputs"] == [{"name": "data", "shape": [-1, 4], "picture": False}]
    assert found["rate"] > 0
    assert 0 < found["p50"] <= found["p99"]


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_the_page_in_a_browser(server, tmp_path):
    """What its script shows, and that there is something to see."""
    usual = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000",
             f"--user-data-dir={tmp_path / 'profile'}", "--window-size=900,700"]  # fmt: skip
    shown = subprocess.run([*usual, "--dump-dom", server.rest], capture_output=True, text=True, timeout=120).stdout
    assert '<td class="AVAILABLE">AVAILABLE</td>' in shown
    assert "2 · canary" in shown and "1 · stable" in shown
    assert '<label id="secret" hidden="">' in shown
    subprocess.run([*usual, f"--screenshot={tmp_path / 'page.png'}", server.rest], capture_output=True, timeout=120)
    pixels = image.read(str(tmp_path / "page.png"))
    assert pixels.shape == (3, 700, 900)
    assert len(np.unique(pixels.reshape(3, -1), axis=1).T) > 20
    green = (pixels[1] > pixels[0] + 40) & (pixels[1] > pixels[2] + 40)  # AVAILABLE
    assert green.sum() > 50


def test_deadlines_and_clients_that_go_away(small):
    """A slow model: what nobody waits for is not computed, and the next answer is right."""
    with served(small, rest_seconds=0.3) as server, Client(server.grpc, timeout=0.3) as client:
        version = server.catalog.models["small"].versions[2]
        run, computed, gate = version.model.run, [], threading.Event()

        def slow(feeds, outputs):
            computed.append(len(feeds["data"]))
            gate.wait(10)
            return run(feeds, outputs)

        version.batcher._run = slow
        first = threading.Thread(
            target=lambda: ask(f"{server.rest}/v1/models/small:predict", {"instances": X.tolist()})
        )
        first.start()
        server.until(lambda: computed)
        with pytest.raises(Exception, match=r"(?i)deadline"):
            client.predict("small", {"data": np.zeros((2, 4))})
        status, found, _ = ask(f"{server.rest}/v1/models/small:predict", {"instances": X.tolist()})
        assert (status, found["error"].split(" passed")[0]) == (504, "the deadline")
        with pytest.raises(TimeoutError):  # a client that goes away
            request = urllib.request.Request(f"{server.rest}/v1/models/small:predict", b'{"instances": [[1, 2, 3, 4]]}')
            urllib.request.urlopen(request, timeout=0.05)
        first.join(10)
        time.sleep(0.1)
        gate.set()
        server.until(lambda: version.active == 0)
        time.sleep(0.1)
        assert computed == [1]
        version.batcher._run = run
        client._timeout = 10
        client.predict("small", {"data": X})


def test_a_request_that_is_cancelled_is_not_computed(small):
    from caffepy.serve.api import tensorflow_serving_pb2 as tfs
    from caffepy.serve.tensors import from_values

    request = tfs.PredictRequest(model_spec=tfs.ModelSpec(name="small"))
    from_values(X, request.inputs["data"])
    with served(small) as server, grpc.insecure_channel(server.grpc) as channel:
        version = server.catalog.models["small"].versions[2]
        run, computed, gate = version.model.run, [], threading.Event()

        def slow(feeds, outputs):
            computed.append(len(feeds["data"]))
            gate.wait(10)
            return run(feeds, outputs)

        version.batcher._run = slow
        predict = channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=tfs.PredictResponse.FromString,
        )
        first = predict.future(request, timeout=30)
        server.until(lambda: computed)
        second = predict.future(request, timeout=30)
        server.until(lambda: version.batcher.waiting == 1)
        second.cancel()
        server.until(lambda: version.active == 1)
        gate.set()
        assert first.result().model_spec.version.value == 2
        predict(request, timeout=30)
        assert computed == [1, 1]
        assert 'status="CANCELLED"' in server.server.metrics.text().decode()


def test_a_slow_model_does_not_hold_another(small):
    both = [ModelConfig(name=name, base_path=str(small)) for name in ("slow", "quick")]
    with served(small, models=both) as server, Client(server.grpc, timeout=10) as client:
        version = server.catalog.models["slow"].versions[2]
        run, gate, entered = version.model.run, threading.Event(), threading.Event()

        def slow(feeds, outputs):
            entered.set()
            gate.wait(20)
            return run(feeds, outputs)

        version.batcher._run = slow
        waiting = [
            threading.Thread(target=lambda: ask(f"{server.rest}/v1/models/slow:predict", {"instances": X.tolist()}))
            for _ in range(4)
        ]
        for thread in waiting:
            thread.start()
        entered.wait(10)
        for _ in range(20):
            client.predict("quick", {"data": X})
        gate.set()
        for thread in waiting:
            thread.join(10)


def test_health_of_a_model_that_is_no_longer_served(small):
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with served(small, "gone") as server, grpc.insecure_channel(server.grpc) as channel, Client(server.grpc) as client:
        stub = health_pb2_grpc.HealthStub(channel)

        def found():
            return stub.Check(health_pb2.HealthCheckRequest(service="gone"), timeout=10).status

        server.until(lambda: found() == health_pb2.HealthCheckResponse.SERVING)
        config = ModelServerConfig()
        config.model_config_list.config.add(name="other", base_path=str(small))
        client.reload(config)
        server.until(lambda: found() == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)


def test_it_listens_on_loopback_and_batches_unless_told_otherwise(small):
    assert ServeOptions().host == "127.0.0.1"
    with served(small) as server:
        assert server.catalog.models["small"].versions[2].batcher.limits.max_batch_size == 64
    with served(small, batching=False) as server:
        assert server.catalog.models["small"].versions[2].batcher.limits.max_batch_size == 1


def test_queue_full_is_429(small, tmp_path):
    (tmp_path / "batching").write_text("max_batch_size { value: 1 } max_enqueued_batches { value: 1 }")
    with served(small, batching_file=str(tmp_path / "batching")) as server, Client(server.grpc) as client:
        version = server.catalog.models["small"].versions[2]
        run, gate, entered = version.model.run, threading.Event(), threading.Event()

        def slow(feeds, outputs):
            entered.set()
            gate.wait(10)
            return run(feeds, outputs)

        version.batcher._run = slow
        body = {"instances": X.tolist()}
        found = []
        threads = [
            threading.Thread(target=lambda: found.append(ask(f"{server.rest}/v1/models/small:predict", body)[0]))
            for _ in range(2)
        ]
        threads[0].start()
        entered.wait(10)
        threads[1].start()
        server.until(lambda: version.batcher.waiting == 1)
        status, said, _ = ask(f"{server.rest}/v1/models/small:predict", body)
        assert (status, said["error"].splitlines()[0]) == (429, "the queue is full: 1 items wait")
        with pytest.raises(Exception, match="the queue is full") as caught:
            client.predict("small", {"data": X})
        assert caught.value.code == "RESOURCE_EXHAUSTED"
        gate.set()
        for thread in threads:
            thread.join(10)
        assert found == [200, 200]


def test_monitoring_file(tmp_path):
    path = tmp_path / "monitoring"
    options = ServeOptions(monitoring_file=str(path))
    path.write_text("prometheus_config { enable: false }")
    assert options.metrics_paths() == []
    path.write_text('prometheus_config { enable: true path: "/numbers" }')
    assert options.metrics_paths() == ["/numbers", "/metrics"]
    path.write_text('prometheus_config { enable: true pat: "/numbers" }')
    with pytest.raises(ConfigError, match=r'monitoring:1:34: no field "pat" in tensorflow.serving.PrometheusConfig'):
        options.metrics_paths()


@pytest.mark.parametrize("said", ["lenet", "lenet=2", "lenet=x:10%", "lenet=2:110%", "=2:10%"])
def test_canaries_that_cannot_be(said):
    with pytest.raises(ConfigError) as caught:
        canary_of(said)
    assert str(caught.value) == f'--canary: "{said}" is not MODEL=VERSION:PERCENT%\n  Write lenet=2:10%.'


def test_a_canary():
    assert canary_of("a=b=2:12.5%") == ("a=b", 2, 12.5)


def test_other_tools_find_errors_in_json(server):
    for path in ("/nothing", "/v1/models", "/v2/models/absent", "/v2/repository/models/absent/load"):
        status, found, _ = ask(server.rest + path, b"{}" if path.endswith("load") else None)
        assert status == 404
        assert list(found) == ["error"]
