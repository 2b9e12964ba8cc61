"""The Open Inference Protocol over REST: /v2/..., with Triton's binary tensors, repository and statistics."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from caffepy.serve import v2
from caffepy.serve.model import LoadedModel
from caffepy.serve.refusal import invalid
from caffepy.serve.rest import JSON, VERSION, Endpoint, Reply, Request, Rules, dumped, parsed
from caffepy.serve.service import Service, session_of
from caffepy.serve.signature import Arrays

HEADER_LENGTH = b"inference-header-content-length"


def routes(service: Service, rules: Rules) -> list[tuple[str, Endpoint]]:
    """Paths and what answers them, the busiest first."""
    api = V2(service)

    def get(handler: Any, public: bool = False) -> Endpoint:
        return Endpoint(handler, rules, public=public)

    def post(handler: Any) -> Endpoint:
        return Endpoint(handler, rules, method="POST")

    both = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
    return [
        *((path + "/infer", post(api.infer)) for path in both),
        ("/v2/health/live", get(api.live, True)),
        ("/v2/health/ready", get(api.ready, True)),
        ("/v2", get(api.server)),
        ("/v2/models/stats", get(api.statistics)),
        *((path + "/ready", get(api.model_ready)) for path in both),
        *((path + "/config", get(api.config)) for path in both),
        *((path + "/stats", get(api.statistics)) for path in both),
        *((path, get(api.metadata)) for path in both),
        ("/v2/repository/index", post(api.index)),
        ("/v2/repository/models/{name}/load", post(api.load)),
        ("/v2/repository/models/{name}/unload", post(api.unload)),
    ]


class V2:
    def __init__(self, service: Service):
        self.service, self.catalog = service, service.catalog

    async def live(self, request: Request) -> Reply:
        return Reply(b'{"live":true}')

    async def ready(self, request: Request) -> Reply:
        ready = self.catalog.ready()
        return Reply(dumped({"ready": ready}), 200 if ready else 503)

    async def model_ready(self, request: Request) -> Reply:
        name, version = _which(request)
        ready = v2.is_ready(self.catalog, name, version)
        return Reply(dumped({"name": name, "ready": ready}), 200 if ready else 503)

    async def server(self, request: Request) -> Reply:
        return Reply(dumped(v2.server()))

    async def metadata(self, request: Request) -> Reply:
        return Reply(dumped(v2.metadata(self.catalog, *_which(request))[1]))

    async def config(self, request: Request) -> Reply:
        return Reply(dumped(v2.configuration(self.catalog, *_which(request))))

    async def statistics(self, request: Request) -> Reply:
        name, version = request.path.get("name", ""), request.path.get("version", "")
        return Reply(
            dumped({"model_stats": v2.statistics(self.catalog, await self.service.control.numbers(), name, version)})
        )

    async def index(self, request: Request) -> Reply:
        body = parsed(request.body) if request.body else {}
        return Reply(dumped(v2.index(self.catalog, bool(body.get("ready")))))

    async def load(self, request: Request) -> Reply:
        if request.body and parsed(request.body).get("parameters"):
            raise invalid("a model is loaded as it is configured: parameters are not taken")
        await self.service.control.load(request.path["name"])
        return Reply(b"{}")

    async def unload(self, request: Request) -> Reply:
        await self.service.control.unload(request.path["name"])
        return Reply(b"{}")

    async def infer(self, request: Request) -> Reply:
        body, binary = _split(request)
        name, version = _which(request)
        given = inputs_of(body, binary)
        parameters = _object(body, "parameters")
        deadline, timeout = request.deadline, parameters.get("timeout")
        if isinstance(timeout, int) and timeout > 0:
            ours = time.monotonic() + timeout / 1e6
            deadline = ours if deadline is None else min(deadline, ours)
        wanted = _tensors(body, "outputs")
        session = session_of(parameters.get("session_id", ""))
        spec = v2.asked(name, version, "REST")._replace(session=session)
        found, outputs = await self.service.infer(spec, given, [out["name"] for out in wanted], deadline)
        answer: dict[str, Any] = {"model_name": name, "model_version": str(found.number)}
        if "id" in body:
            answer["id"] = str(body["id"])
        choices = {out["name"]: _object(out, "parameters") for out in wanted}
        default = bool(parameters.get("binary_data_output"))
        raw = _write(answer, found.model, outputs, choices, default)
        headers = [(VERSION, b"%d" % found.number)]
        text = dumped(answer)
        if not raw:
            return Reply(text, headers=[*JSON, *headers])
        headers += [(b"content-type", b"application/octet-stream"), (HEADER_LENGTH, b"%d" % len(text))]
        return Reply(b"".join([text, *raw]), headers=headers)


def _which(request: Request) -> tuple[str, str]:
    return request.path["name"], request.path.get("version", "")


def _object(body: dict[str, Any], name: str) -> dict[str, Any]:
    value = body.get(name) or {}
    if not isinstance(value, dict):
        raise invalid(f'"{name}" is an object')
    return value


def _tensors(body: dict[str, Any], name: str) -> list[dict[str, Any]]:
    value = body.get(name) or []
    if not isinstance(value, list) or not all(isinstance(t, dict) and isinstance(t.get("name"), str) for t in value):
        raise invalid(f'"{name}" is a list of objects with names')
    return value


def _split(request: Request) -> tuple[dict[str, Any], memoryview]:
    """The JSON of a request, and the bytes behind it."""
    length = request.header(HEADER_LENGTH)
    if not length:
        return parsed(request.body), memoryview(b"")
    if not length.isdigit() or len(length) > 12 or int(length) > len(request.body):
        raise invalid(f"Inference-Header-Content-Length {length[:20].decode('latin-1')} is no length of this body")
    body = memoryview(request.body)
    return parsed(body[: int(length)]), body[int(length) :]


def inputs_of(body: dict[str, Any], binary: memoryview) -> Arrays:
    """The arrays of a request, of its JSON or of the bytes behind it. Raises Refused."""
    given: Arrays = {}
    at = 0
    for tensor in _tensors(body, "inputs"):
        name, kind, shape = tensor["name"], tensor.get("datatype"), tensor.get("shape")
        if name in given:
            raise invalid(f'the input "{name}" is given twice')
        if not isinstance(kind, str) or not isinstance(shape, list):
            raise invalid(f'the input "{name}" needs a datatype and a shape')
        size = _object(tensor, "parameters").get("binary_data_size")
        if size is not None:
            if not isinstance(size, int) or not 0 <= size <= len(binary) - at:
                raise invalid(f'the input "{name}" has binary_data_size {size}, {len(binary) - at} bytes are left')
            given[name] = v2.from_bytes(name, kind, shape, binary[at : at + size])
            at += size
        elif kind == "BYTES":
            given[name] = v2.strings(name, _encoded(name, tensor.get("data")), v2.shape_of(name, shape))
        else:
            given[name] = v2.from_list(name, kind, shape, tensor.get("data"))
    if at != len(binary):
        raise invalid(f"{len(binary) - at} bytes behind the JSON belong to no input")
    return given


def _encoded(name: str, data: Any) -> list[bytes]:
    """Byte strings of JSON: text, or base64 in an object."""
    from caffepy.serve.pictures import from_base64

    out = []
    for value in data if isinstance(data, list) else [None]:
        if isinstance(value, dict) and isinstance(value.get("b64"), str):
            out.append(from_base64(value["b64"]))
        elif isinstance(value, str):
            out.append(value.encode("utf-8", "surrogatepass"))
        else:
            raise invalid(f'the data of the input "{name}" are no list of strings')
    return out


def _write(
    answer: dict[str, Any],
    model: LoadedModel | None,
    outputs: Arrays,
    choices: dict[str, dict[str, Any]],
    default: bool,
) -> list[bytes]:
    """Describe the outputs in `answer`, and return the bytes of those that are asked for as such."""
    raw = []
    answer["outputs"] = rows = []
    for name, values in outputs.items():
        choice = choices.get(name, {})
        count = choice.get("classification", 0)
        if isinstance(count, int) and count > 0 and model is not None:
            values = v2.classes(model, values, count)
        text = values.dtype == object
        kind = "BYTES" if text else v2.NAMES[values.dtype]
        row: dict[str, Any] = {"name": name, "datatype": kind, "shape": list(values.shape)}
        if choice.get("binary_data", default):
            raw.append(v2.packed(values.ravel().tolist()) if text else np.ascontiguousarray(values).tobytes())
            row["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            row["data"] = values.ravel().tolist() if text else np.ascontiguousarray(values).ravel()
        rows.append(row)
    return raw
