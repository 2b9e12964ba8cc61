"""What a server does not do: run code, read files of elsewhere, take more than it may, answer whoever asks."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import subprocess
import urllib.request

import grpc
import numpy as np
import pytest

from caffepy import permissions
from caffepy.errors import CaffeError
from caffepy.serve import tensors
from caffepy.serve.api import inference_pb2 as kserve
from caffepy.serve.api import tensorflow_serving_pb2 as tfs
from caffepy.serve.api.tensorflow_serving_pb2 import ModelConfig
from caffepy.serve.client import Client, RestClient
from caffepy.serve.model import load
from caffepy.serve.refusal import Refused
from tests.serve.running import SMALL, make_net, publish_net, served
from tests.serve.test_tfs import ask

X = np.array([[1, 2, 3, 4]], np.float32)

PYTHON = 'layer { name: "py" type: "Python" bottom: "prob" top: "y" python_param { module: "os" layer: "X" } }'
READER = 'layer { name: "rows" type: "HDF5Data" top: "y" hdf5_data_param { source: "/etc/passwd" batch_size: 1 } }'
WRITER = 'layer { name: "out" type: "HDF5Output" bottom: "prob" bottom: "ip" hdf5_output_param { file_name: "x.h5" } }'


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (PYTHON, 'layer "py" runs Python code, which is not served'),
        (READER, 'layer "rows" (HDF5Data) names a file: source: "/etc/passwd"'),
        (WRITER, 'layer "out" (HDF5Output) names a file: file_name: "x.h5"'),
    ],
)
def test_layers_that_are_not_served(small, tmp_path, layer, said):
    shutil.copytree(small / "1", tmp_path / "1")
    (tmp_path / "1" / "manifest.json").unlink()
    (tmp_path / "1" / "deploy.prototxt").write_text(SMALL + layer)
    permissions.allow_python_layers(False)
    try:
        with pytest.raises(CaffeError) as caught:
            load(tmp_path / "1")
    finally:
        permissions.allow_python_layers(None)
    assert said in str(caught.value)
    assert not (tmp_path / "x.h5").exists()


TWICE = """import caffepy as caffe


class Twice(caffe.Layer):
    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        top[0].data[...] = 2 * bottom[0].data
"""


def test_python_layers_are_served_where_the_flag_allows_it(small, tmp_path, monkeypatch):
    (tmp_path / "served_twice.py").write_text(TWICE)
    monkeypatch.syspath_prepend(str(tmp_path))
    base = tmp_path / "own"
    shutil.copytree(small / "1", base / "1")
    (base / "1" / "manifest.json").unlink()
    layer = PYTHON.replace('"os"', '"served_twice"').replace('"X"', '"Twice"')
    (base / "1" / "deploy.prototxt").write_text(SMALL + layer)
    with served(base) as server, Client(server.grpc) as client, pytest.raises(Refused, match="runs Python code"):
        client.predict("small", {"data": X})
    with served(base, python_layers=True) as server, Client(server.grpc) as client:
        np.testing.assert_allclose(client.predict("small", {"data": X})["y"].sum(), 2, rtol=1e-6)


def test_links_that_lead_out_of_the_folder(small, tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "deploy.prototxt").symlink_to(small / "1" / "deploy.prototxt")
    shutil.copy(small / "1" / "model.caffemodel", tmp_path / "1")
    with pytest.raises(CaffeError, match="lies outside of the folder of its version"):
        load(tmp_path / "1")
    (tmp_path / "1" / "deploy.prototxt").unlink()
    (tmp_path / "1" / "data").mkdir()  # as Kubernetes mounts a ConfigMap: links, but inside
    shutil.copy(small / "1" / "deploy.prototxt", tmp_path / "1" / "data")
    (tmp_path / "1" / "deploy.prototxt").symlink_to("data/deploy.prototxt")
    load(tmp_path / "1")


def test_weights_that_leave_a_layer_random(tmp_path):
    base = tmp_path / "small"
    publish_net(base, 1)
    (base / "1" / "manifest.json").unlink()
    path = base / "1" / "deploy.prototxt"
    path.write_text(path.read_text().replace('name: "ip"', 'name: "ip2"'))
    with pytest.raises(CaffeError, match=r'no parameters for the layer ip2\n  Did you mean "ip"\?'):
        load(base / "1")


def test_an_onnx_file_with_values_elsewhere(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    weight = onnx.numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
        [onnx.helper.make_tensor_value_info("x", 1, ["n", 4])], [onnx.helper.make_tensor_value_info("y", 1, ["n", 3])],
        [weight],
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "1").mkdir()
    onnx.save(model, tmp_path / "1" / "m.onnx")
    loaded = load(tmp_path / "1")
    assert loaded.signature.batched
    np.testing.assert_allclose(loaded.run({"x": X}, loaded.signature.outputs)["y"], [[10, 10, 10]])
    stored = model.graph.initializer[0]
    stored.ClearField("raw_data")
    stored.data_location = onnx.TensorProto.EXTERNAL
    stored.external_data.add(key="location", value="/etc/passwd")
    (tmp_path / "1" / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(CaffeError, match="keeps values in other files, which are not read"):
        load(tmp_path / "1")


def test_messages_have_a_limit_and_say_so(small):
    with served(small, max_message=4096) as server:
        with Client(server.grpc) as client, pytest.raises(Refused, match="larger than max"):
            client.predict("small", {"data": np.zeros((1000, 4), np.float32)})
        with pytest.raises(
            Refused, match="the request is larger than 4 KB\n  The server takes more with --max"
        ) as caught:
            RestClient(server.rest).predict("small", {"data": np.zeros((1000, 4))})
        assert caught.value.status == 413
        bomb = gzip.compress(b" " * 1_000_000)
        status, found, _ = ask(f"{server.rest}/v1/models/small:predict", bomb, {"content-encoding": "gzip"})
        assert (status, found["error"].splitlines()[0]) == (413, "the request is larger than 4 KB")
        assert RestClient(server.rest).predict("small", {"data": X})[""].shape == (1, 3)


def test_tokens(small, tmp_path):
    (tmp_path / "tokens").write_text("# who may ask\nfirst\nsecond\n")
    with served(small, token_file=str(tmp_path / "tokens")) as server:
        for token in ("first", "second"):
            with Client(server.grpc, token=token) as client:
                client.predict("small", {"data": X})
            RestClient(server.rest, token=token).predict("small", {"data": X})
        for token in ("", "firs", "# who may ask"):
            with (
                Client(server.grpc, token=token) as client,
                pytest.raises(Refused, match="no valid API token") as caught,
            ):
                client.predict("small", {"data": X})
            assert caught.value.code == "UNAUTHENTICATED"
            with pytest.raises(Refused, match="no valid API token") as caught:
                RestClient(server.rest, token=token).predict("small", {"data": X})
            assert caught.value.status == 401
        assert ask(f"{server.rest}/metrics")[0] == 401
        assert ask(f"{server.rest}/page/state")[0] == 401
        assert ask(f"{server.rest}/v1/health/ready")[0] == 200
        with grpc.insecure_channel(server.grpc) as channel:
            stream = channel.stream_stream(
                "/inference.GRPCInferenceService/ModelStreamInfer",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=kserve.ModelStreamInferResponse.FromString,
            )
            with pytest.raises(grpc.RpcError, match="no valid API token"):
                next(stream(iter([kserve.ModelInferRequest()])))


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
def test_tls(small, tmp_path):
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", key, "-out", cert, "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    import ssl

    config = tfs.SSLConfig(server_key=key.read_text(), server_cert=cert.read_text())
    (tmp_path / "ssl.config").write_text(str(config))
    with served(small, ssl_file=str(tmp_path / "ssl.config")) as server:
        with Client(server.grpc, ca=cert.read_text()) as client:
            client.predict("small", {"data": X})
        trusting = ssl.create_default_context(cafile=str(cert))
        url = server.rest.replace("http:", "https:")
        with urllib.request.urlopen(f"{url}/v1/models/small", context=trusting, timeout=30) as reply:
            assert b"AVAILABLE" in reply.read()
        with Client(server.grpc, timeout=2) as client, pytest.raises(Refused):
            client.predict("small", {"data": X})
    (tmp_path / "ssl.config").write_text('server_key: "a" server_cert: "b"')
    with pytest.raises(CaffeError), served(small, ssl_file=str(tmp_path / "ssl.config")):
        pass


def mutated(data: bytes, random: random.Random) -> bytes:
    """The bytes with some changed, cut, repeated or put in."""
    out = bytearray(data)
    for _ in range(random.randint(1, 6)):
        at = random.randrange(len(out) + 1)
        kind = random.randrange(4)
        if kind == 0 and at < len(out):
            out[at] = random.randrange(256)
        elif kind == 1:
            del out[at : at + random.randint(1, 8)]
        elif kind == 2:
            out[at:at] = random.randbytes(random.randint(1, 8))
        else:
            out[at:at] = out[at : at + random.randint(1, 30)]
    return bytes(out)


def test_a_thousand_mutated_requests(small):
    """No crash, no internal error, and afterwards the right answer."""
    draw = random.Random(0)
    binary = json.dumps({"inputs": [{"name": "data", "shape": [1, 4], "datatype": "FP32",
                                     "parameters": {"binary_data_size": 16}}]}).encode()  # fmt: skip
    rows = json.dumps({"instances": X.tolist()}).encode()
    plain = json.dumps(
        {"inputs": [{"name": "data", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
    ).encode()
    predict = tfs.PredictRequest(model_spec=tfs.ModelSpec(name="small"))
    tensors.from_values(X, predict.inputs["data"])
    infer = kserve.ModelInferRequest(model_name="small", raw_input_contents=[X.tobytes()])
    infer.inputs.add(name="data", datatype="FP32", shape=[1, 4])
    with served(small) as server, grpc.insecure_channel(server.grpc) as channel:
        methods = [
            ("/tensorflow.serving.PredictionService/Predict", predict.SerializeToString()),
            ("/inference.GRPCInferenceService/ModelInfer", infer.SerializeToString()),
        ]
        statuses, codes = set(), set()
        for i in range(250):
            for path, body, headers in (
                ("v1/models/small:predict", rows, {}),
                ("v2/models/small/infer", plain, {}),
                ("v2/models/small/infer", binary + X.tobytes(),
                 {"inference-header-content-length": str(len(binary) + (i % 3) - 1)}),
            ):  # fmt: skip
                statuses.add(ask_status(f"{server.rest}/{path}", mutated(body, draw), headers))
            method, body = methods[i % 2]
            try:
                channel.unary_unary(method)(mutated(body, draw), timeout=30)
            except grpc.RpcError as error:
                codes.add(error.code().name)
        assert statuses <= {200, 400, 404}
        assert codes <= {"INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED"}
        with Client(server.grpc) as client:
            client.predict("small", {"data": X})


def ask_status(url, body, headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as reply:
            reply.read()
            return reply.status
    except urllib.error.HTTPError as error:
        error.read()
        return error.code


def test_onnxruntime_and_numpy_agree_or_numpy_computes(tmp_path):
    base = tmp_path / "small"
    publish_net(base, 1)
    from caffepy.serve.model import Computing

    ours = load(base / "1", Computing("numpy"))
    assert ours.computer.name == "numpy"
    x = np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32)
    mine = ours.run({"data": x}, ours.signature.outputs)["prob"]
    theirs = load(base / "1")
    np.testing.assert_allclose(theirs.run({"data": x}, theirs.signature.outputs)["prob"], mine, rtol=1e-5)


def test_names_of_models(tmp_path):
    make_net(tmp_path / "net")
    for config, said in (
        (ModelConfig(name="a/b", base_path="x"), "is no name of a model"),
        (ModelConfig(name="a"), "has no base_path"),
    ):
        from caffepy.serve.options import models_of

        whole = tfs.ModelServerConfig()
        whole.model_config_list.config.append(config)
        with pytest.raises(CaffeError, match=said):
            models_of(whole, "here")
