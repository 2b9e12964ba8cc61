"""TensorFlow Serving's REST API: /v1/models/..."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from caffepy.serve import signature_def
from caffepy.serve.model import LoadedModel
from caffepy.serve.pictures import from_base64
from caffepy.serve.refusal import invalid
from caffepy.serve.rest import JSON, VERSION, Endpoint, Handler, Reply, Request, Rules, dumped, parsed
from caffepy.serve.service import Asked, Service, session_of
from caffepy.serve.signature import Arrays


def routes(service: Service, rules: Rules) -> list[tuple[str, Endpoint]]:
    """Paths and what answers them, the busiest first."""
    v1 = V1(service)
    wheres = ("/v1/models/{name}", "/v1/models/{name}/versions/{version}", "/v1/models/{name}/labels/{label}")
    posts: list[tuple[str, Handler]] = [(":predict", v1.predict), (":classify", v1.classify), (":regress", v1.regress)]
    gets: list[tuple[str, Handler]] = [("/metadata", v1.metadata), ("", v1.status)]
    found = [(where + verb, Endpoint(handler, rules, method="POST")) for verb, handler in posts for where in wheres]
    return found + [(where + verb, Endpoint(handler, rules)) for verb, handler in gets for where in reversed(wheres)]


class V1:
    def __init__(self, service: Service):
        self.service = service

    def _asked(self, request: Request, api: str, signature: str = "") -> Asked:
        path = request.path
        number = path.get("version")
        if number is not None and not (number.isascii() and number.isdecimal() and len(number) < 20):
            raise invalid(f'the version "{number[:40]}" is no whole number')
        version = None if number is None else int(number)
        return Asked(path["name"], version, path.get("label", ""), signature, api, "REST")

    async def predict(self, request: Request) -> Reply:
        body = parsed(request.body)
        asked = self._asked(request, "predict", _signature(body))
        if ("instances" in body) == ("inputs" in body):
            raise invalid('a request has either "instances" (row format) or "inputs" (column format)')
        by_row = "instances" in body
        asked, model = self._picked(asked._replace(session=session_of(body.get("session_id", ""))))
        given = from_rows(model, body["instances"]) if by_row else from_columns(model, body["inputs"])
        version, outputs = await self.service.infer(asked, given, (), request.deadline)
        made = {name: _text(values) for name, values in outputs.items()}
        only = next(iter(made.values())) if len(made) == 1 else None
        if not by_row:
            answer: dict[str, Any] = {"outputs": made if only is None else only}
        elif only is not None:
            answer = {"predictions": only}
        else:
            if len({len(values) if values.ndim else 0 for values in made.values()}) != 1:
                raise invalid("the outputs do not have one number of items", 'Ask with "inputs", the column format.')
            answer = {"predictions": [dict(zip(made, row)) for row in zip(*made.values())]}
        return Reply(dumped(answer), headers=_named(version.number))

    def _picked(self, asked: Asked) -> tuple[Asked, LoadedModel]:
        """Which model reads the request: with a canary, one of several of the same signature."""
        picked = self.service.catalog.pick(asked.name, asked.version, asked.label)
        assert picked.model is not None
        return asked._replace(version=picked.number, label=""), picked.model

    async def classify(self, request: Request) -> Reply:
        body = parsed(request.body)
        asked, model = self._picked(self._asked(request, "classify", _signature(body)))
        version, rows = await self.service.classify(asked, _examples(body, model), request.deadline)
        return Reply(dumped({"results": rows}), headers=_named(version.number))

    async def regress(self, request: Request) -> Reply:
        body = parsed(request.body)
        asked, model = self._picked(self._asked(request, "regress", _signature(body)))
        version, values = await self.service.regress(asked, _examples(body, model), request.deadline)
        return Reply(dumped({"results": values}), headers=_named(version.number))

    async def status(self, request: Request) -> Reply:
        found = signature_def.statuses(self.service.catalog, self._asked(request, "GetModelStatus"))
        return Reply(dumped({"model_version_status": [signature_def.status_json(version) for version in found]}))

    async def metadata(self, request: Request) -> Reply:
        asked = self._asked(request, "GetModelMetadata")
        version = self.service.catalog.pick(asked.name, asked.version, asked.label)
        assert version.model is not None
        spec = {"name": version.model_name, "signature_name": "", "version": str(version.number)}
        answer = {"model_spec": spec, "metadata": signature_def.as_json(version.model.signature)}
        return Reply(dumped(answer), headers=_named(version.number))


def _named(version: int) -> list[tuple[bytes, bytes]]:
    return [*JSON, (VERSION, b"%d" % version)]


def _signature(body: Mapping[str, Any]) -> str:
    name = body.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid("signature_name is a string")
    return name


def from_rows(model: LoadedModel, instances: Any) -> Arrays:
    """Inputs of a list of items: values, or objects by the name of the input."""
    if not isinstance(instances, list) or not instances:
        raise invalid('"instances" is a list of at least one item')
    inputs = model.signature.inputs
    first = instances[0]
    if isinstance(first, dict) and "b64" not in first:
        if not all(isinstance(item, dict) and item.keys() == first.keys() for item in instances):
            raise invalid("all instances must be objects with the same names")
        return {name: values_of(model, name, [item[name] for item in instances]) for name in first}
    if len(inputs) != 1:
        raise invalid(f"instances must be objects with the inputs {', '.join(tensor.name for tensor in inputs)}")
    return {inputs[0].name: values_of(model, inputs[0].name, instances)}


def from_columns(model: LoadedModel, inputs: Any) -> Arrays:
    """Inputs by name, each with all its items; or the only input's."""
    if isinstance(inputs, dict) and "b64" not in inputs:
        return {name: values_of(model, name, values) for name, values in inputs.items()}
    if len(model.signature.inputs) != 1:
        raise invalid('"inputs" is an object by the name of the input')
    name = model.signature.inputs[0].name
    return {name: values_of(model, name, inputs)}


def values_of(model: LoadedModel, name: str, values: Any) -> np.ndarray:
    """Numbers; byte strings of {"b64": ...}, and words, text or numbers, as objects. Raises Refused."""
    listed = values if isinstance(values, list) else [values]
    if name in model.words or (name in model.texts and all(isinstance(value, str) for value in listed)):
        return np.array([*(_word(name, value) for value in listed), None], object)[:-1]
    try:
        if name not in model.exact:
            return np.array(values, np.float32)
        numbers = np.array(values)  # as they stand there: float32 would round them
        if numbers.dtype.kind in "fiub":
            return numbers
    except (ValueError, TypeError, OverflowError):
        pass
    pictures: list[bytes] = []
    _collect(values, pictures, name)
    return np.array([*pictures, None], object)[:-1]


def _word(name: str, value: Any) -> bytes:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str):
        return from_base64(value["b64"])
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise invalid(f'the input "{name}" takes a word or a number for each item')
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).encode()


def _collect(values: Any, out: list[bytes], name: str, depth: int = 0) -> None:
    if isinstance(values, dict) and set(values) == {"b64"} and isinstance(values["b64"], str):
        out.append(from_base64(values["b64"]))
    elif isinstance(values, list) and depth < 4:
        for value in values:
            _collect(value, out, name, depth + 1)
    else:
        raise invalid(
            f'the values of the input "{name}" are no array of numbers: lists of one length each',
            'Pictures are given as {"b64": "..."}.',
        )


def _examples(body: Mapping[str, Any], model: LoadedModel) -> list[dict[str, np.ndarray]]:
    """The features of a request's examples, what stands in its context for all of them."""
    examples, context = body.get("examples"), body.get("context", {})
    if not isinstance(examples, list) or not all(isinstance(example, dict) for example in [*examples, context]):
        raise invalid('"examples" is a list of objects, "context" an object')
    return [{name: _flat(model, name, value) for name, value in (context | one).items()} for one in examples]


def _flat(model: LoadedModel, name: str, value: Any) -> np.ndarray:
    return values_of(model, name, value if isinstance(value, list) else [value]).ravel()


def _text(values: np.ndarray) -> np.ndarray:
    return values if values.flags.c_contiguous else np.ascontiguousarray(values)
