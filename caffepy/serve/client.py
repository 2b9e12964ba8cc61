"""Clients of a model server, ours or TensorFlow's: gRPC or REST, with no framework behind them.

with Client("localhost:8500") as client:
    probabilities = client.predict("lenet", {"data": images})["prob"]
    [[label, score], *others] = client.classify("lenet", [Path("seven.png").read_bytes()])[0]
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any
from urllib import error as urlerror
from urllib import request as urlrequest

import numpy as np

from caffepy.errors import CaffeError, MissingExtraError
from caffepy.serve import tensors
from caffepy.serve.api import tensorflow_serving_pb2 as tfs
from caffepy.serve.refusal import HTTP, Refused

Arrays = dict[str, np.ndarray]
LARGEST = (1 << 31) - 1


class Client:
    """Over gRPC. `target` is HOST:PORT; `token` an API token, `ca` PEM text of who has signed the server's certificate.

    `version` holds the version that gave the last answer. Raises Refused for what the server refuses.
    """

    def __init__(self, target: str, *, token: str = "", ca: str | None = None, timeout: float | None = 60):
        try:
            import grpc
        except ImportError:
            raise MissingExtraError("grpcio", "serve", "a gRPC client") from None
        options = [("grpc.max_receive_message_length", LARGEST), ("grpc.max_send_message_length", LARGEST)]
        if ca is None:
            self._channel = grpc.insecure_channel(target, options)
        else:
            self._channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(ca.encode()), options)
        self._grpc, self._timeout = grpc, timeout
        self._metadata = [("authorization", f"Bearer {token}")] if token else []
        self.version: int | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def predict(
        self,
        model: str,
        inputs: Mapping[str, Any],
        outputs: Sequence[str] = (),
        *,
        version: int | None = None,
        label: str = "",
        session: str = "",
    ) -> Arrays:
        """The outputs by name. An input is an array of numbers, or a list of pictures as bytes.

        Requests of one `session` go on where the one before has ended, where the model keeps a state.
        """
        request = tfs.PredictRequest(model_spec=_spec(model, version, label), output_filter=outputs)
        for name, values in inputs.items():
            tensors.from_values(values, request.inputs[name])
        response = self._call("PredictionService/Predict", request, tfs.PredictResponse, session)
        return {name: tensors.to_array(name, tensor) for name, tensor in response.outputs.items()}

    def classify(
        self, model: str, pictures: Sequence[bytes], *, version: int | None = None, label: str = ""
    ) -> list[list[tuple[str, float]]]:
        """Label and score of the best classes of each picture."""
        request = tfs.ClassificationRequest(model_spec=_spec(model, version, label))
        for picture in pictures:
            example = request.input.example_list.examples.add()
            example.features.feature["picture"].bytes_list.value.append(picture)
        response = self._call("PredictionService/Classify", request, tfs.ClassificationResponse)
        return [[(one.label, one.score) for one in found.classes] for found in response.result.classifications]

    def status(self, model: str) -> dict[int, str]:
        """The state of each version."""
        request = tfs.GetModelStatusRequest(model_spec=tfs.ModelSpec(name=model))
        response = self._call("ModelService/GetModelStatus", request, tfs.GetModelStatusResponse)
        name = tfs.ModelVersionStatus.State.Name
        return {status.version: name(status.state) for status in response.model_version_status}

    def reload(self, config: tfs.ModelServerConfig, *, merge: bool = False) -> None:
        """Let the server serve these models, with `merge` besides those that it does."""
        mode = tfs.ReloadConfigRequest.MERGE if merge else tfs.ReloadConfigRequest.REPLACE
        request = tfs.ReloadConfigRequest(config=config, mode=mode)
        status = self._call("ModelService/HandleReloadConfigRequest", request, tfs.ReloadConfigResponse).status
        if status.error_code:
            raise Refused(tfs.Code.Name(status.error_code), status.error_message)

    def _call(self, method: str, request: Any, kind: Any, session: str = "") -> Any:
        call = self._channel.unary_unary(
            f"/tensorflow.serving.{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=kind.FromString,
        )
        try:
            of_session = [("session-id", session)] if session else []
            response = call(request, timeout=self._timeout, metadata=[*self._metadata, *of_session])
        except self._grpc.RpcError as error:
            raise Refused(error.code().name, error.details() or error.code().name) from None
        if "model_spec" in kind.DESCRIPTOR.fields_by_name:
            self.version = response.model_spec.version.value
        return response


def _spec(model: str, version: int | None, label: str) -> tfs.ModelSpec:
    spec = tfs.ModelSpec(name=model)
    if version is not None:
        spec.version.value = version
    elif label:
        spec.version_label = label
    return spec


class RestClient:
    """Over REST, by the standard library alone. `url` is http://HOST:PORT; the rest is as with `Client`."""

    def __init__(self, url: str, *, token: str = "", timeout: float | None = 60):
        self._url, self._timeout = url.rstrip("/"), timeout
        self._headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
        self.version: int | None = None

    def __enter__(self) -> RestClient:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def predict(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        version: int | None = None,
        label: str = "",
        session: str = "",
    ) -> Arrays:
        """The outputs by name, or the only one as ""."""
        body: dict[str, Any] = {"inputs": {name: _json(values) for name, values in inputs.items()}}
        if session:
            body["session_id"] = session
        found = self._ask(_path(model, version, label) + ":predict", body)
        outputs = found["outputs"]
        named = outputs if isinstance(outputs, dict) else {"": outputs}
        return {name: np.array(values, np.float32) for name, values in named.items()}

    def classify(
        self, model: str, pictures: Sequence[bytes], *, version: int | None = None, label: str = ""
    ) -> list[list[tuple[str, float]]]:
        """Label and score of the best classes of each picture."""
        examples = [{"picture": picture} for picture in _json(list(pictures))]
        found = self._ask(_path(model, version, label) + ":classify", {"examples": examples})
        return [[(label, score) for label, score in row] for row in found["results"]]

    def status(self, model: str) -> dict[int, str]:
        """The state of each version."""
        found = self._ask(_path(model, None, ""), None)
        return {int(status["version"]): status["state"] for status in found["model_version_status"]}

    def _ask(self, path: str, body: Any) -> Any:
        data = None if body is None else json.dumps(body).encode()
        asked = urlrequest.Request(self._url + path, data, self._headers)
        try:
            with urlrequest.urlopen(asked, timeout=self._timeout) as reply:
                version = reply.headers.get("x-model-version")
                self.version = int(version) if version else None
                return json.loads(reply.read())
        except urlerror.HTTPError as error:
            raise _refused(error) from None
        except (OSError, ValueError) as error:
            raise Refused("UNAVAILABLE", f"{self._url}: {getattr(error, 'reason', error)}") from None


def _refused(error: urlerror.HTTPError) -> CaffeError:
    try:
        message = json.loads(error.read())["error"]
    except (ValueError, KeyError, TypeError):
        message = f"HTTP status {error.code}"
    code = next((name for name, status in HTTP.items() if status == error.code), "UNKNOWN")
    return Refused(code, message, status=error.code)


def _path(model: str, version: int | None, label: str) -> str:
    which = f"/versions/{version}" if version is not None else f"/labels/{label}" if label else ""
    return f"/v1/models/{model}{which}"


def _json(values: Any) -> Any:
    if isinstance(values, (list, tuple)) and values and isinstance(values[0], bytes):
        return [{"b64": base64.b64encode(value).decode()} for value in values]
    return np.asarray(values).tolist()
