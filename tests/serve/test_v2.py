"""The Open Inference Protocol, with Triton's extensions, as its messages are: no client of others is needed."""

from __future__ import annotations

import grpc
import numpy as np
import pytest

from caffepy.serve.api import inference_pb2 as kserve
from tests.serve.running import expected, served
from tests.serve.test_tfs import ask, call

X = np.array([[1, 2, 3, 4], [0, -1, 0.5, 2]], np.float32)
SERVICE = "/inference.GRPCInferenceService/"


def infer(x, **more):
    request = kserve.ModelInferRequest(model_name="small", raw_input_contents=[x.tobytes()], **more)
    request.inputs.add(name="data", datatype="FP32", shape=x.shape)
    return request


def method(server, called, **fields):
    request, kind = getattr(kserve, f"{called}Request")(**fields), getattr(kserve, f"{called}Response")
    return call(server, SERVICE + called, request, kind)


def test_live_ready_and_metadata(server):
    assert method(server, "ServerLive").live and method(server, "ServerReady").ready
    assert method(server, "ModelReady", name="small", version="1").ready
    assert not method(server, "ModelReady", name="small", version="7").ready
    assert ask(f"{server.rest}/v2/models/small/versions/7/ready")[:2] == (503, {"name": "small", "ready": False})
    found = method(server, "ModelMetadata", name="small")
    assert list(found.versions) == ["1", "2"]
    assert [(t.name, t.datatype, list(t.shape)) for t in found.inputs] == [("data", "FP32", [-1, 4])]
    assert ask(f"{server.rest}/v2/models/small")[1]["outputs"] == [
        {"name": "prob", "datatype": "FP32", "shape": [-1, 3]}
    ]
    for extension in ("binary_tensor_data", "model_repository", "statistics", "classification"):
        assert extension in method(server, "ServerMetadata").extensions


def test_infer_names_the_version_and_the_request(server, small):
    found = call(server, SERVICE + "ModelInfer", infer(X, model_version="1", id="seven"), kserve.ModelInferResponse)
    assert (found.model_version, found.id) == ("1", "seven")
    got = np.frombuffer(found.raw_output_contents[0], np.float32).reshape(2, 3)
    np.testing.assert_allclose(got, expected(small, 1, X), rtol=1e-5)


def test_a_stream_answers_in_order_and_an_error_ends_nothing(server, small):
    truth = expected(small, 2, X)
    with grpc.insecure_channel(server.grpc) as channel:
        stream = channel.stream_stream(
            SERVICE + "ModelStreamInfer",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=kserve.ModelStreamInferResponse.FromString,
        )
        wrong = infer(X[:, :3])
        answers = list(stream(iter([infer(X[:1], id="a"), wrong, infer(X[1:], id="b")]), timeout=30))
    assert [one.infer_response.id for one in answers] == ["a", "", "b"]
    assert 'the input "data" has shape' in answers[1].error_message
    for row, answer in ((0, answers[0]), (1, answers[2])):
        got = np.frombuffer(answer.infer_response.raw_output_contents[0], np.float32)
        np.testing.assert_allclose(got, truth[row], rtol=1e-5)


def test_index_unload_load_and_statistics(small):
    with served(small) as server:
        call(server, SERVICE + "ModelInfer", infer(X), kserve.ModelInferResponse)
        [row] = method(server, "ModelStatistics", name="small").model_stats
        assert (row.version, row.inference_count, row.execution_count) == ("2", 2, 1)
        assert row.inference_stats.success.count == 1 and row.inference_stats.compute_infer.ns > 0
        assert [one.batch_size for one in row.batch_stats] == [2]
        assert [(m.version, m.state) for m in method(server, "RepositoryIndex").models] == [("2", "READY")]
        method(server, "RepositoryModelUnload", model_name="small")
        server.until(lambda: ask(f"{server.rest}/v2/repository/index", b"{}")[1][0]["state"] == "UNAVAILABLE")
        assert not method(server, "ModelReady", name="small").ready
        with pytest.raises(grpc.RpcError, match="it was unloaded by request, until a request loads it"):
            call(server, SERVICE + "ModelInfer", infer(X), kserve.ModelInferResponse)
        method(server, "RepositoryModelLoad", model_name="small")
        assert method(server, "ModelReady", name="small").ready
        for name in ("RepositoryModelLoad", "RepositoryModelUnload"):
            with pytest.raises(grpc.RpcError, match="no model absent is configured"):
                method(server, name, model_name="absent")
