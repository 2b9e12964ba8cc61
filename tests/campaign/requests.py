"""Requests to a server, which lives in the process that reads: rows, tensors in JSON and in binary, gRPC's messages."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from caffepy.errors import DataError
from tests.campaign.kinds import Kind

X = np.array([[1, 2, 3, 4]], np.float32)
TENSOR: dict[str, Any] = {"name": "data", "shape": [1, 4], "datatype": "FP32"}


class Request(Kind):
    """A body that is posted to `url`: answered, or refused with a status that says that the client is wrong."""

    needs = "grpc"
    url: ClassVar[str]
    headers: ClassVar[dict[str, str]] = {}
    server: ClassVar[Any] = None

    def prepare(self, folder: Path) -> None:
        from tests.serve.running import publish_net, served

        if Request.server is None:
            publish_net(folder / "small", 1)
            Request.server = served(folder / "small").__enter__()

    def read(self, path: Path) -> object:
        request = urllib.request.Request(f"{self.server.rest}/{self.url}", path.read_bytes(), self.headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return reply.read()
        except urllib.error.HTTPError as error:
            error.read()
            if error.code in (400, 404, 413):
                raise DataError(f"refused with {error.code}") from None
            raise


class RequestRows(Request):
    name, url = "rows.json", "v1/models/small:predict"

    def whole(self) -> bytes:
        return json.dumps({"signature_name": "serving_default", "instances": X.tolist()}).encode()


class RequestTensors(Request):
    name, url = "tensors.json", "v2/models/small/infer"

    def whole(self) -> bytes:
        return json.dumps({"id": "1", "inputs": [{**TENSOR, "data": [1, 2, 3, 4]}]}).encode()


class RequestBinary(Request):
    name, url = "tensors.bin", "v2/models/small/infer"
    head = json.dumps({"inputs": [{**TENSOR, "parameters": {"binary_data_size": 16}}]}).encode()
    headers: ClassVar[dict[str, str]] = {"inference-header-content-length": str(len(head))}

    def whole(self) -> bytes:
        return self.head + X.tobytes()


class Call(Request):
    """A message that is sent to gRPC's `method`."""

    method: ClassVar[str]

    def read(self, path: Path) -> object:
        import grpc

        with grpc.insecure_channel(self.server.grpc) as channel:
            try:
                return channel.unary_unary(self.method)(path.read_bytes(), timeout=30)
            except grpc.RpcError as error:
                if error.code().name in ("INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED"):
                    raise DataError(f"refused with {error.code().name}") from None
                raise


class CallPredict(Call):
    name, method = "predict.pb", "/tensorflow.serving.PredictionService/Predict"

    def whole(self) -> bytes:
        from caffepy.serve import tensors
        from caffepy.serve.api import tensorflow_serving_pb2 as tfs

        message = tfs.PredictRequest(model_spec=tfs.ModelSpec(name="small"))
        tensors.from_values(X, message.inputs["data"])
        return message.SerializeToString()


class CallInfer(Call):
    name, method = "infer.pb", "/inference.GRPCInferenceService/ModelInfer"

    def whole(self) -> bytes:
        from caffepy.serve.api import inference_pb2 as kserve

        message = kserve.ModelInferRequest(model_name="small", raw_input_contents=[X.tobytes()])
        message.inputs.add(name="data", datatype="FP32", shape=[1, 4])
        return message.SerializeToString()
