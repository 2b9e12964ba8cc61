"""TensorFlow Serving's API, gRPC and REST, as its documentation describes it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import grpc
import numpy as np
import pytest

from caffepy.serve import tensors
from caffepy.serve.api import tensorflow_pb2 as tf
from caffepy.serve.api import tensorflow_serving_pb2 as tfs
from caffepy.serve.client import Client, RestClient
from caffepy.serve.refusal import Refused
from tests.serve.running import expected, publish_net, served

X = np.array([[1, 2, 3, 4], [0, -1, 0.5, 2]], np.float32)


def ask(url, body=None, headers=()):
    """Status, parsed JSON and headers of a reply."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, dict(headers))
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, json.loads(reply.read() or b"null"), reply.headers
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read()), error.headers


def call(server, method, request, kind, **options):
    with grpc.insecure_channel(server.grpc) as channel:
        return channel.unary_unary(
            method if method.startswith("/") else f"/tensorflow.serving.{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=kind.FromString,
        )(request, timeout=30, **options)


@pytest.mark.parametrize("version", [1, 2])
def test_predict_over_grpc(server, small, version):
    with Client(server.grpc) as client:
        found = client.predict("small", {"data": X}, version=version)
    np.testing.assert_allclose(found["prob"], expected(small, version, X), rtol=1e-5)
    assert client.version == version


def test_the_newest_version_answers_and_labels_choose_another(server):
    with Client(server.grpc) as client:
        client.predict("small", {"data": X})
        assert client.version == 2
        client.predict("small", {"data": X}, label="stable")
        assert client.version == 1
        with pytest.raises(Refused, match='Unrecognized servable version label "old"'):
            client.predict("small", {"data": X}, label="old")


@pytest.mark.parametrize("kind", [np.float64, np.int32, np.uint8, np.int64, np.float16, np.int8, np.uint16, np.bool_])
def test_numbers_of_other_types_are_taken(server, small, kind):
    x = np.array([[1, 0, 1, 0]], kind)
    with Client(server.grpc) as client:
        found = client.predict("small", {"data": x})
    np.testing.assert_allclose(found["prob"], expected(small, 2, x.astype(np.float32)), rtol=1e-5)


def test_values_in_lists_the_last_of_which_stands_for_the_rest(server, small):
    request = tfs.PredictRequest(model_spec=tfs.ModelSpec(name="small"))
    tensor = request.inputs["data"]
    tensor.dtype = tf.DT_FLOAT
    for size in (1, 4):
        tensor.tensor_shape.dim.add(size=size)
    tensor.float_val.extend([1, 2])
    response = call(server, "PredictionService/Predict", request, tfs.PredictResponse)
    out = response.outputs["prob"]
    assert list(out.float_val) and not out.tensor_content  # as TensorFlow Serving: client code reads float_val
    np.testing.assert_allclose(
        tensors.to_array("prob", out), expected(small, 2, np.array([[1, 2, 2, 2]], np.float32)), rtol=1e-5
    )
    assert response.model_spec.version.value == 2


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (lambda r: r.ClearField("model_spec"), "INVALID_ARGUMENT", "Missing ModelSpec name"),
        (lambda r: setattr(r.model_spec, "name", "other"), "NOT_FOUND",
         "Servable not found for request: Latest(other)"),
        (lambda r: setattr(r.model_spec.version, "value", 7), "NOT_FOUND",
         "Servable not found for request: Specific(small, 7)"),
        (lambda r: setattr(r.model_spec, "signature_name", "predct"), "INVALID_ARGUMENT",
         'Serving signature key "predct" not found.\n  Did you mean "predict"?'),
        (lambda r: r.output_filter.append("probs"), "INVALID_ARGUMENT",
         'the model has no output "probs"\n  Did you mean "prob"?'),
        (lambda r: r.inputs["dat"].CopyFrom(r.inputs.pop("data")), "INVALID_ARGUMENT",
         'the model has no input "dat"\n  Did you mean "data"?'),
        (lambda r: r.inputs.pop("data"), "INVALID_ARGUMENT", "nothing is given for the input data"),
        (lambda r: r.inputs["data"].tensor_shape.dim.add(size=3), "INVALID_ARGUMENT",
         'the input "data" of shape [2, 4, 3] has 32 bytes of float32'),
        (lambda r: setattr(r.inputs["data"].tensor_shape.dim[1], "size", -4), "INVALID_ARGUMENT",
         'the input "data" has the shape [2, -4]'),
        (lambda r: setattr(r.inputs["data"].tensor_shape.dim[1], "size", 1 << 60), "INVALID_ARGUMENT",
         f'the input "data" has the shape [2, {1 << 60}]'),
        (lambda r: setattr(r.inputs["data"], "dtype", tf.DT_COMPLEX64), "INVALID_ARGUMENT",
         'the input "data" has the type DT_COMPLEX64, which is not served'),
    ],
)  # fmt: skip
def test_what_is_refused_over_grpc(server, change, code, said):
    request = tfs.PredictRequest(model_spec=tfs.ModelSpec(name="small"))
    tensors.from_values(X, request.inputs["data"])
    change(request)
    with pytest.raises(grpc.RpcError) as caught:
        call(server, "PredictionService/Predict", request, tfs.PredictResponse)
    assert (caught.value.code().name, caught.value.details()) == (code, said)


def test_classify_regress_and_both(server, small):
    example = tf.Example()
    example.features.feature["data"].float_list.value.extend(X[0])
    given = tfs.Input()
    given.example_list.examples.append(example)
    request = tfs.ClassificationRequest(model_spec=tfs.ModelSpec(name="small"), input=given)
    response = call(server, "PredictionService/Classify", request, tfs.ClassificationResponse)
    scores = expected(small, 2, X[:1])[0]
    order = np.argsort(-scores)
    classes = response.result.classifications[0].classes
    assert [one.label for one in classes] == [str(i) for i in order]
    np.testing.assert_allclose([one.score for one in classes], scores[order], rtol=1e-5)
    both = tfs.MultiInferenceRequest(input=given)
    both.tasks.add(model_spec=tfs.ModelSpec(name="small"), method_name="tensorflow/serving/classify")
    response = call(server, "PredictionService/MultiInference", both, tfs.MultiInferenceResponse)
    assert response.results[0].classification_result.classifications[0].classes[0].label == str(order[0])
    with pytest.raises(grpc.RpcError, match="regress needs an output of one number an item"):
        call(
            server, "PredictionService/Regress", tfs.RegressionRequest(model_spec=request.model_spec, input=given),
            tfs.RegressionResponse,
        )  # fmt: skip


def test_metadata(server):
    request = tfs.GetModelMetadataRequest(model_spec=tfs.ModelSpec(name="small"), metadata_field=["signature_def"])
    response = call(server, "PredictionService/GetModelMetadata", request, tfs.GetModelMetadataResponse)
    found = tfs.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(found)
    info = found.signature_def["serving_default"].inputs["data"]
    assert (info.dtype, [dim.size for dim in info.tensor_shape.dim]) == (tf.DT_FLOAT, [-1, 4])
    status, found, _ = ask(f"{server.rest}/v1/models/small/versions/1/metadata")
    assert status == 200
    assert found["model_spec"] == {"name": "small", "signature_name": "", "version": "1"}
    outputs = found["metadata"]["signature_def"]["signature_def"]["serving_default"]["outputs"]
    assert [dim["size"] for dim in outputs["prob"]["tensor_shape"]["dim"]] == ["-1", "3"]


def test_status(server):
    with Client(server.grpc) as client:
        assert client.status("small") == {1: "AVAILABLE", 2: "AVAILABLE"}
    fine = {"error_code": "OK", "error_message": ""}
    two, one = ({"version": v, "state": "AVAILABLE", "status": fine} for v in "21")
    assert ask(f"{server.rest}/v1/models/small")[1] == {"model_version_status": [two, one]}
    assert ask(f"{server.rest}/v1/models/small/labels/stable")[1] == {"model_version_status": [one]}
    assert ask(f"{server.rest}/v1/models/other")[:2] == (404, {"error": "Could not find any versions of model other"})


def test_rows_and_columns(server, small):
    url = f"{server.rest}/v1/models/small/versions/1:predict"
    truth = expected(small, 1, X)
    bodies = [
        ({"instances": X.tolist()}, "predictions"),
        ({"instances": [{"data": row} for row in X.tolist()]}, "predictions"),
        ({"inputs": X.tolist(), "signature_name": "serving_default"}, "outputs"),
        ({"inputs": {"data": X.tolist()}}, "outputs"),
    ]
    for body, key in bodies:
        status, found, headers = ask(url, body)
        assert status == 200
        assert list(found) == [key]
        np.testing.assert_allclose(found[key], truth, rtol=1e-5)
        assert headers["x-model-version"] == "1"


def test_nan_and_infinity_in_json(server):
    url = f"{server.rest}/v1/models/small:predict"
    data = b'{"instances": [[NaN, Infinity, -Infinity, 1e3]]}'
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=30) as reply:
        assert reply.read() == b'{"predictions":[[NaN,NaN,NaN]]}'


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("small:predict", b"{", 400, "JSON Parse error: unexpected end of data: line 1 column 2 (char 1)"),
        ("small:predict", b"[]", 400, "a request is a JSON object, this is a list"),
        ("small:predict", {}, 400, 'a request has either "instances" (row format) or "inputs" (column format)'),
        ("small:predict", {"instances": []}, 400, '"instances" is a list of at least one item'),
        ("small:predict", {"instances": [[1, 2, 3]]}, 400, 'the input "data" has shape (-1, 4) (-1: any), got (1, 3)'),
        ("small:predict", {"instances": [[1, 2], [1]]}, 400,
         'the values of the input "data" are no array of numbers: lists of one length each\n'
         '  Pictures are given as {"b64": "..."}.'),
        ("small:predict", {"instances": [{"b64": "AAAA"}]}, 400,
         'the input "data" takes numbers, not bytes\n  Inputs that take pictures: none.'),
        ("small:predict", {"instances": [{"b64": "A"}]}, 400, None),
        ("other:predict", {"instances": [[1]]}, 404, "Servable not found for request: Latest(other)"),
        ("small/versions/9:predict", {"instances": [[1]]}, 404, "Servable not found for request: Specific(small, 9)"),
        ("small/versions/x:predict", {"instances": [[1]]}, 400, 'the version "x" is no whole number'),
        ("small:predict", None, 405, "/v1/models/small:predict takes POST, not GET"),
        ("small:explain", {}, 405, None),
        ("small:classify", {"examples": [{"data": [1, 2]}]}, 400, 'examples have 2 numbers for "data" (4,)'),
        ("small:classify", {"examples": []}, 400, "Input is empty."),
    ],
)  # fmt: skip
def test_what_is_refused_over_rest(server, path, body, status, said):
    found = ask(f"{server.rest}/v1/models/{path}", body)
    assert found[0] == status
    assert list(found[1]) == ["error"]
    if said is not None:
        assert found[1]["error"] == said


@pytest.mark.parametrize("depth", [100, 100_000])
@pytest.mark.parametrize("inside", [b"", b"NaN"])
def test_deep_json_is_refused(server, depth, inside):
    body = b'{"instances":' + b"[" * depth + inside + b"]" * depth + b"}"
    assert ask(f"{server.rest}/v1/models/small:predict", body)[0] == 400


def test_classify_over_rest_with_a_context(server, small):
    body = {"context": {"data": X[0].tolist()}, "examples": [{}, {"data": X[1].tolist()}]}
    status, found, _ = ask(f"{server.rest}/v1/models/small/versions/1:classify", body)
    assert status == 200
    best = expected(small, 1, X).argmax(1)
    assert [row[0][0] for row in found["results"]] == [str(i) for i in best]


def test_the_rest_client(server, small):
    client = RestClient(server.rest)
    found = client.predict("small", {"data": X}, version=1)
    np.testing.assert_allclose(found[""], expected(small, 1, X), rtol=1e-5)
    assert client.version == 1
    assert client.status("small") == {1: "AVAILABLE", 2: "AVAILABLE"}
    with pytest.raises(Refused, match="Servable not found"):
        client.predict("other", {"data": X})


ONE = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 4 } } }
layer { name: "y" type: "InnerProduct" bottom: "data" top: "y" inner_product_param { num_output: 1 } }
"""


def test_regress(tmp_path):
    base = tmp_path / "one"
    publish_net(base, 1, definition=ONE)
    truth = expected(base, 1, X).ravel()
    request = tfs.RegressionRequest(model_spec=tfs.ModelSpec(name="one"))
    for row in X:
        example = request.input.example_list.examples.add()
        example.features.feature["data"].float_list.value.extend(row)
    with served(base, "one") as server:
        response = call(server, "PredictionService/Regress", request, tfs.RegressionResponse)
        status, found, _ = ask(f"{server.rest}/v1/models/one:regress", {"examples": [{"data": r} for r in X.tolist()]})
    np.testing.assert_allclose([one.value for one in response.result.regressions], truth, rtol=1e-5)
    assert response.model_spec.version.value == 1
    assert status == 200
    np.testing.assert_allclose(found["results"], truth, rtol=1e-5)
