"""The Open Inference Protocol over gRPC: GRPCInferenceService, with Triton's repository, statistics and streams."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from google.protobuf.json_format import ParseDict

from caffepy.errors import CaffeError
from caffepy.serve import v2
from caffepy.serve.api import inference_pb2 as kserve
from caffepy.serve.model import LoadedModel
from caffepy.serve.refusal import as_refusal, invalid
from caffepy.serve.rpc import deadline_of
from caffepy.serve.service import Service, session_of
from caffepy.serve.signature import Arrays
from caffepy.serve.tokens import Tokens

log = logging.getLogger("caffepy.serve")

CONTENTS = {
    "BOOL": "bool_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
STREAMED = 64
"""Requests of one stream that are answered at once."""


class InferenceService:
    """Methods by their names in the API."""

    def __init__(self, service: Service, tokens: Tokens | None = None):
        self.service, self.catalog, self.tokens = service, service.catalog, tokens

    @property
    def methods(self) -> dict[str, tuple[type, Any]]:
        return {
            "ServerLive": (kserve.ServerLiveRequest, self.live),
            "ServerReady": (kserve.ServerReadyRequest, self.ready),
            "ModelReady": (kserve.ModelReadyRequest, self.model_ready),
            "ServerMetadata": (kserve.ServerMetadataRequest, self.server_metadata),
            "ModelMetadata": (kserve.ModelMetadataRequest, self.model_metadata),
            "ModelConfig": (kserve.ModelConfigRequest, self.model_config),
            "ModelInfer": (kserve.ModelInferRequest, self.infer),
            "ModelStatistics": (kserve.ModelStatisticsRequest, self.statistics),
            "RepositoryIndex": (kserve.RepositoryIndexRequest, self.index),
            "RepositoryModelLoad": (kserve.RepositoryModelLoadRequest, self.load),
            "RepositoryModelUnload": (kserve.RepositoryModelUnloadRequest, self.unload),
        }

    async def live(self, request: Any, context: Any) -> kserve.ServerLiveResponse:
        return kserve.ServerLiveResponse(live=True)

    async def ready(self, request: Any, context: Any) -> kserve.ServerReadyResponse:
        return kserve.ServerReadyResponse(ready=self.catalog.ready())

    async def model_ready(self, request: kserve.ModelReadyRequest, context: Any) -> kserve.ModelReadyResponse:
        return kserve.ModelReadyResponse(ready=v2.is_ready(self.catalog, request.name, request.version))

    async def server_metadata(self, request: Any, context: Any) -> kserve.ServerMetadataResponse:
        return kserve.ServerMetadataResponse(**v2.server())

    async def model_metadata(self, request: kserve.ModelMetadataRequest, context: Any) -> kserve.ModelMetadataResponse:
        _, found = v2.metadata(self.catalog, request.name, request.version)
        return ParseDict(found, kserve.ModelMetadataResponse())

    async def model_config(self, request: kserve.ModelConfigRequest, context: Any) -> kserve.ModelConfigResponse:
        found = v2.configuration(self.catalog, request.name, request.version)
        return ParseDict({"config": found}, kserve.ModelConfigResponse())

    async def statistics(self, request: kserve.ModelStatisticsRequest, context: Any) -> kserve.ModelStatisticsResponse:
        found = v2.statistics(self.catalog, await self.service.control.numbers(), request.name, request.version)
        return ParseDict({"model_stats": found}, kserve.ModelStatisticsResponse())

    async def index(self, request: kserve.RepositoryIndexRequest, context: Any) -> kserve.RepositoryIndexResponse:
        return ParseDict({"models": v2.index(self.catalog, request.ready)}, kserve.RepositoryIndexResponse())

    async def load(self, request: kserve.RepositoryModelLoadRequest, context: Any) -> Any:
        if request.parameters:
            raise invalid("a model is loaded as it is configured: parameters are not taken")
        await self.service.control.load(request.model_name)
        return kserve.RepositoryModelLoadResponse()

    async def unload(self, request: kserve.RepositoryModelUnloadRequest, context: Any) -> Any:
        await self.service.control.unload(request.model_name)
        return kserve.RepositoryModelUnloadResponse()

    async def infer(self, request: kserve.ModelInferRequest, context: Any) -> kserve.ModelInferResponse:
        return await self._answer(request, deadline_of(context))

    async def _answer(self, request: kserve.ModelInferRequest, deadline: float | None) -> kserve.ModelInferResponse:
        spec = v2.asked(request.model_name, request.model_version, "GRPC")
        given = inputs_of(request)
        if request.parameters and (timeout := request.parameters["timeout"].int64_param) > 0:  # Triton's microseconds
            ours = time.monotonic() + timeout / 1e6
            deadline = ours if deadline is None else min(deadline, ours)
        if "session_id" in request.parameters:
            spec = spec._replace(session=session_of(request.parameters["session_id"].string_param))
        names = [output.name for output in request.outputs]
        version, outputs = await self.service.infer(spec, given, names, deadline)
        response = kserve.ModelInferResponse(
            model_name=request.model_name, model_version=str(version.number), id=request.id
        )
        assert version.model is not None or not request.outputs
        write_outputs(request, response, version.model, outputs)
        return response

    async def stream(
        self, requests: AsyncIterator[kserve.ModelInferRequest | None], context: Any
    ) -> AsyncIterator[kserve.ModelStreamInferResponse]:
        """Answers in the order of the requests, which are computed together; an error answers one and ends nothing."""
        if self.tokens is not None:
            try:
                self.tokens.check(context.invocation_metadata())
            except CaffeError as error:
                import grpc

                await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        answers: asyncio.Queue[asyncio.Task | None] = asyncio.Queue(STREAMED)

        async def read() -> None:
            async for request in requests:
                await answers.put(asyncio.create_task(self._streamed(request, deadline_of(context))))
            await answers.put(None)

        reader = asyncio.create_task(read())
        try:
            while (task := await answers.get()) is not None:
                yield await task
        finally:
            reader.cancel()
            while not answers.empty():
                if (task := answers.get_nowait()) is not None:
                    task.cancel()

    async def _streamed(
        self, request: kserve.ModelInferRequest | None, deadline: float | None
    ) -> kserve.ModelStreamInferResponse:
        try:
            if request is None:
                raise invalid("the request is no message of this method")
            return kserve.ModelStreamInferResponse(infer_response=await self._answer(request, deadline))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if not isinstance(error, CaffeError):
                log.exception("A request failed")
            response = kserve.ModelStreamInferResponse(error_message=str(as_refusal(error)))
            if request is not None:
                response.infer_response.id = request.id
            return response


def inputs_of(request: kserve.ModelInferRequest) -> Arrays:
    """The arrays of a request, from raw bytes or from lists. Raises Refused."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise invalid(f"the request has {len(request.inputs)} inputs and {len(raw)} raw_input_contents")
    given = {}
    for i, tensor in enumerate(request.inputs):
        name, kind = tensor.name, tensor.datatype
        if name in given:
            raise invalid(f'the input "{name}" is given twice')
        if raw:
            given[name] = v2.from_bytes(name, kind, tensor.shape, raw[i])
        elif kind not in CONTENTS:
            raise invalid(f'the input "{name}" of type "{kind}" can only come as raw_input_contents')
        else:
            values = getattr(tensor.contents, CONTENTS[kind])
            dims = v2.shape_of(name, tensor.shape)
            given[name] = v2.strings(name, values, dims) if kind == "BYTES" else v2.from_list(name, kind, dims, values)
    return given


def write_outputs(
    request: kserve.ModelInferRequest, response: kserve.ModelInferResponse, model: LoadedModel | None, outputs: Arrays
) -> None:
    """Raw bytes where the request had them, lists otherwise."""
    counts = {out.name: out.parameters["classification"].int64_param for out in request.outputs if out.parameters}
    raw = bool(request.raw_input_contents) or any(values.dtype == np.float16 for values in outputs.values())
    for name, values in outputs.items():
        if counts.get(name, 0) > 0 and model is not None:
            values = v2.classes(model, values, counts[name])
        kind = "BYTES" if values.dtype == object else v2.NAMES[values.dtype]
        tensor = response.outputs.add(name=name, datatype=kind, shape=values.shape)
        if raw:
            response.raw_output_contents.append(
                v2.packed(values.ravel().tolist()) if kind == "BYTES" else values.tobytes()
            )
        else:
            getattr(tensor.contents, CONTENTS[kind]).extend(values.ravel().tolist())
