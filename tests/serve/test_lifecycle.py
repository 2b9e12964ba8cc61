"""Versions come and go: policies, failures, retries, memory; never a request that fails for it."""

from __future__ import annotations

import gc
import os
import shutil
import threading
import time
import urllib.request

import numpy as np
import pytest

from caffepy import passes
from caffepy.cli import main
from caffepy.proto.caffe_pb2 import TEST
from caffepy.pycaffe.net import Net
from caffepy.serve.api.servable_pb2 import Servable
from caffepy.serve.api.tensorflow_serving_pb2 import ModelConfig, ModelServerConfig
from caffepy.serve.client import Client
from caffepy.serve.options import read_text
from caffepy.serve.policy import CanaryShare, wanted
from caffepy.serve.refusal import Refused
from caffepy.serve.served import AVAILABLE, END
from tests.serve.running import both, make_net, publish_net, served

X = np.array([[1, 2, 3, 4]], np.float32)


def states(server, name="small"):
    return {number: version.state for number, version in server.catalog.models[name].versions.items()}


def answers(server, name="small"):
    with Client(server.grpc) as client:
        client.predict(name, {"data": X})
        return client.version


def test_what_is_set_is_published(tmp_path):
    model, weights = make_net(tmp_path / "net")
    words = ["--model", str(model), "--weights", str(weights), "--to", str(tmp_path / "set")]
    main(["publish", *words, "--set", "layer.prob.type=Sigmoid"])
    with served(tmp_path / "set", name="set") as server, Client(server.grpc) as client:
        given = client.predict("set", {"data": X})["prob"]
    plain = Net(model, TEST, weights=weights)
    plain.blobs["data"].data[...] = X
    passes.of(plain).forward()
    np.testing.assert_allclose(given, 1 / (1 + np.exp(-plain.blobs["ip"].data)), rtol=1e-4)


def test_no_version_at_start_then_files_that_appear(tmp_path):
    base = tmp_path / "later"
    with served(base) as server:
        with pytest.raises(Refused, match="later: cannot read the base path: No such"):
            answers(server)
        assert urllib_status(f"{server.rest}/v1/health/ready") == 503
        assert urllib_status(f"{server.rest}/v1/health/live") == 200
        publish_net(base, 1)
        server.until(lambda: server.catalog.ready())
        assert answers(server) == 1


def urllib_status(url):
    try:
        with urllib.request.urlopen(url, timeout=30) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code


def test_a_new_version_takes_the_place_of_the_old(tmp_path):
    base = tmp_path / "small"
    publish_net(base, 1)
    with served(base) as server:
        assert answers(server) == 1
        publish_net(base, 2)
        server.until(lambda: states(server) == {1: END, 2: AVAILABLE})
        assert answers(server) == 2
        assert server.catalog.models["small"].versions[1].model is None


@pytest.mark.parametrize(
    ("policy", "found", "expected"),
    [
        ("", {1, 2, 3}, {3}),
        ("model_version_policy { latest { num_versions: 2 } }", {1, 2, 3}, {2, 3}),
        ("model_version_policy { all {} }", {1, 2, 3}, {1, 2, 3}),
        ("model_version_policy { specific { versions: 1 versions: 7 } }", {1, 2, 3}, {1}),
        ("[canary] { version: 3 percent: 10 }", {1, 2, 3}, {2, 3}),
        ("[canary] { version: 4 percent: 10 }", {1, 2, 3}, {3}),
    ],
)
def test_policies(policy, found, expected):
    config = read_text(policy.replace("[canary]", "canary"), ModelConfig())
    assert wanted(config, found) == expected


def test_a_canarys_share_is_exact():
    share = CanaryShare()
    drawn = [share.next(10) for _ in range(100)]
    assert drawn.count(True) == 10
    assert all(drawn[i : i + 10].count(True) == 1 for i in range(0, 100, 10))


def test_canary(tmp_path):
    base = tmp_path / "small"
    for version in (1, 2):
        publish_net(base, version)
    with served(base, canaries=["small=2:25%"]) as server, Client(server.grpc) as client:
        found = []
        for _ in range(20):
            client.predict("small", {"data": X})
            found.append(client.version)
        assert found.count(2) == 5 and found.count(1) == 15


def test_a_half_copied_version_is_not_served_until_it_is_whole(tmp_path):
    base = tmp_path / "small"
    publish_net(base, 1)
    deploy, weights = make_net(tmp_path / "net", seed=5)
    with served(base) as server:
        half = base / "2"
        half.mkdir()
        shutil.copy(deploy, half / "deploy.prototxt")
        whole = weights.read_bytes()
        (half / "model.caffemodel").write_bytes(whole[: len(whole) // 2])
        version = server.catalog.models["small"].versions
        server.until(lambda: 2 in version and version[2].error)
        assert "truncated" in version[2].error
        assert answers(server) == 1
        (half / "model.caffemodel").write_bytes(whole)
        server.until(lambda: states(server).get(2) == AVAILABLE)
        assert answers(server) == 2


def test_a_version_that_settled_too_early_is_loaded_again_when_its_files_change(tmp_path):
    base = tmp_path / "small"
    publish_net(base, 1, seed=1)
    with served(base) as server, Client(server.grpc) as client:
        before = client.predict("small", {"data": X})["prob"]
        _, weights = make_net(tmp_path / "net", seed=2)
        (base / "1" / "manifest.json").unlink()
        shutil.copy(weights, base / "1" / "model.caffemodel")
        server.until(lambda: abs(client.predict("small", {"data": X})["prob"] - before).max() > 1e-3)
        assert states(server) == {1: AVAILABLE}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "model.caffemodel").write_bytes(b"rubbish"), "has 7 bytes, the manifest says"),
        (lambda folder: (folder / "other.caffemodel").write_bytes(b""), "exactly one file of weights"),
        (lambda folder: (folder / "model.caffemodel").unlink(), '"model.caffemodel" is missing, the manifest names it'),
        (lambda folder: (folder / "manifest.json").write_text("{"), "this is no manifest"),
        (lambda folder: ((folder / "manifest.json").unlink(), (folder / "deploy.prototxt").write_text("layer {")),
         "deploy.prototxt:1"),
    ],
)  # fmt: skip
def test_a_corrupt_version_leaves_the_old_and_is_reported(tmp_path, spoil, said, caplog):
    base = tmp_path / "small"
    publish_net(base, 1)
    publish_net(tmp_path / "made", 2)
    spoil(tmp_path / "made" / "2")
    with served(base) as server:
        os.rename(tmp_path / "made" / "2", base / "2")
        versions = server.catalog.models["small"].versions
        server.until(lambda: 2 in versions and versions[2].attempts >= 2)  # tried again
        assert said in versions[2].error
        assert said in caplog.text and "small/2: not loaded, next try in" in caplog.text
        assert answers(server) == 1
        with urllib.request.urlopen(f"{server.rest}/v1/models/small", timeout=30) as reply:
            assert said.encode() in reply.read().replace(b'\\"', b'"')
        with urllib.request.urlopen(f"{server.rest}/metrics", timeout=30) as reply:
            text = reply.read().decode()
        assert ':tensorflow:cc:saved_model:load_attempt_count{model_name="small",status="fail"}' in text
        assert ':tensorflow:cc:saved_model:load_attempt_count{model_name="small",status="success"} 1.0' in text


def test_a_missing_base_path_is_an_error_never_an_unload(tmp_path):
    base = tmp_path / "small"
    publish_net(base, 1)
    with served(base) as server:
        os.rename(base, tmp_path / "elsewhere")
        server.until(lambda: server.catalog.models["small"].problem)
        assert "cannot read the base path" in server.catalog.models["small"].problem
        assert answers(server) == 1
        os.rename(tmp_path / "elsewhere", base)
        server.until(lambda: not server.catalog.models["small"].problem)


def test_a_renamed_folder(tmp_path):
    base = tmp_path / "small"
    publish_net(base, 1)
    with served(base) as server:
        os.rename(base / "1", base / "retired")  # nothing is left: it serves on
        server.until(lambda: server.catalog.models["small"].problem)
        assert answers(server) == 1
        os.rename(base / "retired", base / "5")
        server.until(lambda: states(server) == {1: END, 5: AVAILABLE})
        assert answers(server) == 5


def test_unload_first(tmp_path):
    base = tmp_path / "small"
    publish_net(base, 1)
    with served(base, unload_first=True) as server:
        publish_net(base, 2)
        server.until(lambda: states(server) == {1: END, 2: AVAILABLE})


def test_a_warm_up_that_fails_fails_the_load(tmp_path):
    import h5py

    base = tmp_path / "small"
    path = tmp_path / "warmup.h5"
    with h5py.File(path, "w") as file:
        file["data"] = np.full((2, 4), np.nan, np.float32)
    with pytest.raises(Exception, match='the output "prob" is not finite'):
        publish_net(base, 1, extra={"warmup.h5": str(path)})
    assert not list(base.glob("[0-9]*"))
    with h5py.File(path, "w") as file:
        file["data"] = np.ones((2, 4), np.float32)
    assert publish_net(base, 1, settings=Servable(warmup_passes=3), extra={"warmup.h5": str(path)}) == 1


def test_labels_move_only_to_loaded_versions(tmp_path):
    base = tmp_path / "small"
    publish_net(base, 1)
    with served(base) as server, Client(server.grpc) as client:
        config = ModelServerConfig()
        model = config.model_config_list.config.add(name="small", base_path=str(base))
        model.version_labels["stable"] = 1
        client.reload(config)
        client.predict("small", {"data": X}, label="stable")
        model.version_labels["stable"] = 2
        with pytest.raises(Refused, match="the label stable can only be given to a loaded version, and 2 is not"):
            client.reload(config)
        client.predict("small", {"data": X}, label="stable")
        assert client.version == 1
        publish_net(base, 2)
        server.until(lambda: states(server).get(2) == AVAILABLE)
        client.predict("small", {"data": X}, label="stable")
        assert client.version == 2


def test_labels_ahead_of_their_versions_by_the_flag(tmp_path):
    base = tmp_path / "small"
    publish_net(base, 1)
    config = ModelConfig(name="small", base_path=str(base))
    config.version_labels["next"] = 2
    for ahead, said in ((False, 'Unrecognized servable version label "next"'), (True, r"Specific\(small, 2\)")):
        with (
            served(base, models=[config], labels_ahead=ahead) as server,
            Client(server.grpc) as client,
            pytest.raises(Refused, match=said),
        ):
            client.predict("small", {"data": X}, label="next")
    publish_net(base, 2)
    with served(base, models=[config], labels_ahead=True) as server, Client(server.grpc) as client:
        client.predict("small", {"data": X}, label="next")
        assert client.version == 2


def test_reload_replaces_or_merges_and_a_bad_one_changes_nothing(tmp_path):
    bases = {name: tmp_path / name for name in ("a", "b")}
    for base in bases.values():
        publish_net(base, 1)
    with served(bases["a"], "a") as server, Client(server.grpc) as client:
        one = ModelServerConfig()
        one.model_config_list.config.add(name="b", base_path=str(bases["b"]))
        client.reload(one, merge=True)
        assert answers(server, "a") == answers(server, "b") == 1
        twice = ModelServerConfig()
        for _ in range(2):
            twice.model_config_list.config.add(name="c", base_path=str(bases["b"]))
        with pytest.raises(Refused, match='model "c" is there twice'):
            client.reload(twice)
        assert answers(server, "a") == 1
        client.reload(one)
        with pytest.raises(Refused, match="Servable not found"):
            answers(server, "a")
        missing = ModelServerConfig()
        missing.model_config_list.config.add(name="d", base_path=str(tmp_path / "nowhere"))
        with pytest.raises(Refused, match="cannot read the base path"):
            client.reload(missing, merge=True)
        assert answers(server, "b") == 1


def test_the_configuration_file_is_polled(tmp_path):
    base = tmp_path / "small"
    for version in (1, 2):
        publish_net(base, version)
    file = tmp_path / "models.config"

    def write(more):
        file.write_text(f'model_config_list {{ config {{ name: "small" base_path: "{base}" {more} }} }}')

    write("")
    with served(base, models=[], config_file=str(file)) as server:
        assert answers(server) == 2
        write("model_version_policy { specific { versions: 1 } }")
        server.until(lambda: states(server).get(1) == AVAILABLE and states(server)[2] == END)
        assert answers(server) == 1
        file.write_text("model_config_list { config { nam: }")
        time.sleep(0.3)
        assert answers(server) == 1
        write("batching_parameters { max_batch_size { value: 3 } }")
        versions = server.catalog.models["small"].versions
        server.until(lambda: versions[2].state == AVAILABLE and versions[2].batcher.limits.max_batch_size == 3)


def test_load_and_unload_under_traffic(tmp_path, seconds=4.0):
    """Without a failed request."""
    base = tmp_path / "small"
    publish_net(base, 1)
    stop, failed, done = threading.Event(), [], []

    def ask(address):
        with Client(address) as client:
            while not stop.is_set():
                try:
                    client.predict("small", {"data": X})
                    done.append(client.version)
                except Refused as error:
                    failed.append(str(error))

    with served(base) as server:
        threads = [threading.Thread(target=ask, args=(server.grpc,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        until, version = time.monotonic() + seconds, 1
        while time.monotonic() < until:
            version += 1
            publish_net(base, version)
            server.until(lambda number=version: states(server).get(number) == AVAILABLE)
            shutil.rmtree(base / str(version - 1))
        stop.set()
        for thread in threads:
            thread.join(30)
    assert failed == []
    assert len(set(done)) >= min(version, 3)
    assert done == sorted(done) or len(done) > 10


@pytest.mark.slow
def test_load_and_unload_under_traffic_for_two_minutes(tmp_path):
    test_load_and_unload_under_traffic(tmp_path, 120.0)


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


LARGE = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 4 } } }
layer { name: "wide" type: "InnerProduct" bottom: "data" top: "wide" inner_product_param { num_output: 2500 } }
layer { name: "square" type: "InnerProduct" bottom: "wide" top: "square" inner_product_param { num_output: 2500 } }
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="Linux tells how much memory a process has")
def test_unloading_frees_the_memory(tmp_path):
    base = tmp_path / "large"
    publish_net(base, 1, definition=LARGE)  # 25 MB of weights
    publish_net(tmp_path / "small", 1)
    with served(tmp_path / "small") as server, Client(server.grpc) as client:
        gc.collect()
        before = resident()
        config = ModelServerConfig()
        config.model_config_list.config.add(name="large", base_path=str(base))
        client.reload(config, merge=True)
        client.predict("large", {"data": X})
        loaded = resident() - before
        assert loaded > 20e6
        server.ask(_unload(server, "large"))
        server.until(lambda: resident() - before < 0.2 * loaded)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="Linux tells how much memory a process has")
def test_memory_after_100_reloads(tmp_path):
    """Within 5 % of that after the first ten."""
    base = tmp_path / "small"
    publish_net(base, 1, definition=LARGE.replace("2500", "500"))
    with served(base, poll_seconds=0.02) as server, Client(server.grpc) as client:
        for number in range(2, 112):
            os.rename(base / str(number - 1), base / str(number))
            server.until(lambda number=number: states(server).get(number) == AVAILABLE, 60)
            client.predict("small", {"data": X})
            if number == 11:
                server.until(lambda: list(states(server).values()).count(AVAILABLE) == 1)
                gc.collect()
                before = resident()
        server.until(lambda: list(states(server).values()).count(AVAILABLE) == 1)
        server.until(lambda: (gc.collect(), resident())[1] < 1.05 * before)


async def _unload(server, name):
    server.catalog.suspend(name)


def test_models_of_one_server_are_apart(small, tmp_path):
    with served(small, models=[both(small), ModelConfig(name="other", base_path=str(tmp_path / "none"))]) as server:
        assert answers(server) == 2
        assert not server.catalog.ready()
