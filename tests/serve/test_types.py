"""Numbers of every type that clients send, ids that must be exact, and what metadata say of both."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest

from caffepy.proto import text
from caffepy.proto.caffe_pb2 import NetParameter
from caffepy.serve import tensors, v2
from caffepy.serve.api import inference_pb2 as kserve
from caffepy.serve.api import tensorflow_pb2 as tf
from caffepy.serve.api import tensorflow_serving_pb2 as tfs
from caffepy.serve.client import Client
from caffepy.serve.ids import EXACT, spans
from caffepy.serve.model import Computing, load
from caffepy.serve.refusal import Refused
from caffepy.serve.signature import Signature, Tensor
from tests.serve.running import expected, publish_net, served
from tests.serve.test_tfs import ask, call

X = np.array([[1, 0, 3, 4], [0, 1, 0, 2]])  # which all types hold; bool knows no 3


def halved(x):
    """As bfloat16: the upper halves of float32."""
    return (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def given(dtype):
    return (X > 0).astype(dtype) if dtype == np.bool_ else X.astype(dtype)


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("number", [*tensors.TYPES, tf.DT_BFLOAT16], ids=tf.DataType.Name)
def test_tensorflows_types(server, small, number, raw):
    request = tfs.PredictRequest(model_spec=tfs.ModelSpec(name="small"))
    tensor = request.inputs["data"]
    if number == tf.DT_BFLOAT16:
        x = X
        tensor.dtype = number
        for size in X.shape:
            tensor.tensor_shape.dim.add(size=size)
        if raw:
            tensor.tensor_content = halved(X).tobytes()
        else:
            tensor.half_val.extend(halved(X).ravel().tolist())
    else:
        x = given(tensors.TYPES[number][0])
        tensors.to_proto(x, tensor, raw)
        assert tensor.dtype == number
    found = call(server, "PredictionService/Predict", request, tfs.PredictResponse)
    truth = expected(small, 2, x.astype(np.float32))
    np.testing.assert_allclose(tensors.to_array("prob", found.outputs["prob"]), truth, rtol=1e-5)


@pytest.mark.parametrize("kind", [*v2.TYPES, "BF16"])
def test_kserves_types(server, small, kind):
    from caffepy.serve.v2_grpc import CONTENTS

    x = X if kind == "BF16" else given(v2.TYPES[kind])
    truth = expected(small, 2, x.astype(np.float32))
    raw = (halved(x) if kind == "BF16" else x).tobytes()
    described = {"name": "data", "datatype": kind, "shape": [2, 4]}

    bodies = [(json.dumps({"inputs": [described | {"data": x.ravel().tolist()}]}).encode(), {})]
    head = json.dumps({"inputs": [described | {"parameters": {"binary_data_size": len(raw)}}]}).encode()
    bodies.append((head + raw, {"Inference-Header-Content-Length": str(len(head))}))
    for body, headers in bodies:
        status, found, _ = ask(f"{server.rest}/v2/models/small/infer", body, headers)
        assert status == 200
        np.testing.assert_allclose(np.reshape(found["outputs"][0]["data"], (2, 3)), truth, rtol=1e-5)

    requests = [kserve.ModelInferRequest(model_name="small", raw_input_contents=[raw])]
    requests[0].inputs.add(**described)
    if kind in CONTENTS:
        requests.append(kserve.ModelInferRequest(model_name="small"))
        listed = requests[1].inputs.add(**described)
        getattr(listed.contents, CONTENTS[kind]).extend(x.ravel().tolist())
    for request in requests:
        found = call(server, "/inference.GRPCInferenceService/ModelInfer", request, kserve.ModelInferResponse)
        got = np.frombuffer(found.raw_output_contents[0], np.float32) if found.raw_output_contents else (
            found.outputs[0].contents.fp32_contents
        )  # fmt: skip
        np.testing.assert_allclose(np.reshape(got, (2, 3)), truth, rtol=1e-5)


@pytest.mark.parametrize(("kind", "data"), [("INT64", [1.5, 0, 0, 0]), ("UINT8", [300, 0, 0, 0])])
def test_numbers_that_are_not_of_their_type(server, kind, data):
    body = {"inputs": [{"name": "data", "datatype": kind, "shape": [1, 4], "data": data}]}
    status, found, _ = ask(f"{server.rest}/v2/models/small/infer", body)
    assert (status, found["error"]) == (400, f'the data of the input "data" are no values of type {kind}')


EMBED = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 } } }
layer { name: "flat" type: "Reshape" bottom: "data" top: "flat" reshape_param { shape { dim: 0 dim: -1 } } }
layer { name: "table" type: "Embed" bottom: "flat" top: "rows"
        embed_param { input_dim: 20 num_output: 3 bias_term: false } }
"""


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    base = tmp_path_factory.mktemp("ids") / "words"
    publish_net(base, 1, definition=EMBED)
    with served(base, "words") as running:
        running.base = base
        yield running


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, np.float32, np.float64])
def test_ids_are_looked_up(words, dtype):
    ids = np.array([[3, 19], [0, 7]])
    truth = expected(words.base, 1, ids.astype(np.float32))
    with Client(words.grpc) as client:
        np.testing.assert_array_equal(client.predict("words", {"data": ids.astype(dtype)})["rows"], truth)
    status, found, _ = ask(f"{words.rest}/v1/models/words:predict", {"instances": ids.astype(dtype).tolist()})
    assert status == 200
    np.testing.assert_allclose(found["predictions"], truth, rtol=1e-6)


@pytest.mark.parametrize("wrong", [20, -1, EXACT + 1, 1 << 62])
def test_ids_that_are_not_in_the_table(words, wrong):
    said = f'the input "data" takes ids from 0 to 19, got {wrong}'
    ids = np.array([[wrong, 2]])
    with Client(words.grpc) as client, pytest.raises(Refused, match=said):
        client.predict("words", {"data": ids})
    v2_body = {"inputs": [{"name": "data", "datatype": "INT64", "shape": [1, 2], "data": ids.ravel().tolist()}]}
    for path, body in (
        ("/v1/models/words:predict", {"instances": ids.tolist()}),
        ("/v1/models/words:classify", {"examples": [{"data": ids[0].tolist()}]}),
        ("/v2/models/words/infer", v2_body),
    ):
        status, found, _ = ask(words.rest + path, body)
        assert (status, found["error"].splitlines()[0]) == (400, said)


def test_ids_beyond_what_float32_holds_are_refused():
    signature = Signature((Tensor("ids", "ids", (-1,), span=(0, EXACT)),), (), True)
    assert signature.feeds({"ids": np.array([EXACT])})["ids"].tolist() == [EXACT]
    with pytest.raises(Refused) as caught:
        signature.feeds({"ids": np.array([5, EXACT + 1])})
    assert str(caught.value) == (
        'the input "ids" takes ids from 0 to 16777216, got 16777217\n'
        "  float32, in which the net takes them, holds whole numbers up to 16777216."
    )
    with pytest.raises(Refused, match="got nan"):
        signature.feeds({"ids": np.array([np.nan])})


@pytest.mark.parametrize(
    ("layers", "found"),
    [
        ("", {"x": (0, 9)}),
        ('layer { type: "Split" bottom: "x" top: "x" top: "y" }', {"x": (0, 9)}),
        ('layer { type: "Power" bottom: "x" top: "x" }', {}),
        ('layer { type: "Embed" bottom: "x" top: "z" embed_param { input_dim: 5 } }', {"x": (0, 4)}),
        ('layer { type: "Embed" bottom: "z" top: "w" embed_param { input_dim: 5 combine: SUM } }',
         {"x": (0, 9), "z": (-EXACT, 4)}),
    ],
)  # fmt: skip
def test_which_inputs_are_ids(layers, found):
    embed = 'layer { type: "Embed" bottom: "x" top: "y" embed_param { input_dim: 10 } }'
    net = text.parse(layers + embed, NetParameter())
    assert spans(net.layer, ["x", "z"]) == found
    large = text.parse(embed.replace("10", str(1 << 25)), NetParameter())
    assert spans(large.layer, ["x"]) == {"x": (0, EXACT)}


def test_a_net_with_ids_is_computed_by_onnxruntime(words):
    pytest.importorskip("onnxruntime")
    assert load(words.base / "1").computer.name == "onnxruntime"


def test_torch_computes_on_the_cpu(words, caplog):
    pytest.importorskip("torch")
    caplog.set_level(logging.INFO, "caffepy.serve")
    ids = np.array([[3, 19], [0, 7], [1, 1]])
    with served(words.base, "words", engine="torch") as server, Client(server.grpc) as client:
        assert server.catalog.models["words"].versions[1].model.computer.name == "torch"
        got = client.predict("words", {"data": ids})["rows"]
    assert "computed by torch" in caplog.text
    np.testing.assert_allclose(got, expected(words.base, 1, ids.astype(np.float32)), rtol=1e-6)
    assert load(words.base / "1", Computing("torch")).computer.name == "torch"


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """An ONNX file with ids in int64, a mask in bool, scores in double and half, and the best in int64."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    kinds, helper = onnx.TensorProto, onnx.helper
    table = onnx.numpy_helper.from_array(np.arange(30, dtype=np.float64).reshape(10, 3), "table")
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Cast", ["mask"], ["weight"], to=kinds.DOUBLE),
        helper.make_node("Mul", ["rows", "weight"], ["y"]),
        helper.make_node("Cast", ["y"], ["half"], to=kinds.FLOAT16),
        helper.make_node("ArgMax", ["y"], ["best"], axis=1),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("ids", kinds.INT64, ["n"]),
         helper.make_tensor_value_info("mask", kinds.BOOL, ["n", 1])],
        [helper.make_tensor_value_info("y", kinds.DOUBLE, ["n", 3]),
         helper.make_tensor_value_info("half", kinds.FLOAT16, ["n", 3]),
         helper.make_tensor_value_info("best", kinds.INT64, ["n", 1])],
        [table],
    )  # fmt: skip
    base = tmp_path_factory.mktemp("foreign") / "foreign"
    (base / "1").mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, base / "1" / "m.onnx")
    with served(base, "foreign") as running:
        yield running


IDS, MASK = np.array([1, 7]), np.array([[True], [False]])
Y = np.array([[3, 4, 5], [0, 0, 0]], np.float64)


def test_an_onnx_file_has_types_of_its_own(foreign):
    with Client(foreign.grpc) as client:
        found = client.predict("foreign", {"ids": IDS.astype(np.int32), "mask": MASK.astype(np.float32)})
        with pytest.raises(Refused, match='the input "ids" takes int64, which does not hold all of the values given'):
            client.predict("foreign", {"ids": np.array([1.5, 7]), "mask": MASK})
    assert {name: values.dtype.name for name, values in found.items()} == {
        "y": "float64", "half": "float16", "best": "int64",
    }  # fmt: skip
    np.testing.assert_array_equal(found["y"], Y)
    np.testing.assert_array_equal(found["half"], Y)
    np.testing.assert_array_equal(found["best"], [[2], [0]])
    rows = {"instances": [{"ids": 1, "mask": [True]}, {"ids": 7, "mask": [False]}]}
    status, reply, _ = ask(f"{foreign.rest}/v1/models/foreign:predict", rows)
    assert status == 200
    assert reply["predictions"][0] == {"y": [3, 4, 5], "half": [3, 4, 5], "best": [2]}
    inputs = [
        {"name": "ids", "datatype": "INT64", "shape": [2], "data": IDS.tolist()},
        {"name": "mask", "datatype": "BOOL", "shape": [2, 1], "data": MASK.ravel().tolist()},
    ]
    status, reply, _ = ask(f"{foreign.rest}/v2/models/foreign/infer", {"inputs": inputs})
    assert [(t["name"], t["datatype"]) for t in reply["outputs"]] == [
        ("y", "FP64"),
        ("half", "FP16"),
        ("best", "INT64"),
    ]
    assert reply["outputs"][0]["data"] == Y.ravel().tolist()


def test_metadata_say_what_is_taken(foreign, words):
    _, found, _ = ask(f"{foreign.rest}/v2/models/foreign")
    assert [(t["name"], t["datatype"]) for t in found["inputs"]] == [("ids", "INT64"), ("mask", "BOOL")]
    assert [(t["name"], t["datatype"]) for t in found["outputs"]] == [
        ("y", "FP64"),
        ("half", "FP16"),
        ("best", "INT64"),
    ]
    _, found, _ = ask(f"{foreign.rest}/v2/models/foreign/config")
    assert [t["data_type"] for t in found["input"]] == ["TYPE_INT64", "TYPE_BOOL"]
    _, found, _ = ask(f"{foreign.rest}/v1/models/foreign/metadata")
    signature = found["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert {name: t["dtype"] for name, t in signature["inputs"].items()} == {"ids": "DT_INT64", "mask": "DT_BOOL"}
    assert {name: t["dtype"] for name, t in signature["outputs"].items()} == {
        "y": "DT_DOUBLE", "half": "DT_HALF", "best": "DT_INT64",
    }  # fmt: skip
    _, found, _ = ask(f"{words.rest}/v2/models/words")
    assert found["inputs"] == [{"name": "data", "datatype": "FP32", "shape": [-1, 2]}]
