"""A model's signature and states in TensorFlow Serving's words."""

from __future__ import annotations

from typing import Any

from caffepy.serve.api import tensorflow_pb2 as tf
from caffepy.serve.api import tensorflow_serving_pb2 as tfs
from caffepy.serve.catalog import Catalog
from caffepy.serve.refusal import Refused
from caffepy.serve.served import STATES, Version
from caffepy.serve.service import Asked
from caffepy.serve.signature import Signature, Tensor
from caffepy.serve.tensors import NUMBERS

PREDICT = "tensorflow/serving/predict"


def of(signature: Signature) -> tfs.SignatureDefMap:
    """`serving_default`: inputs and outputs with their shapes."""
    out = tfs.SignatureDefMap()
    definition = out.signature_def["serving_default"]
    definition.method_name = PREDICT
    for tensor in signature.inputs:
        _describe(tensor, definition.inputs[tensor.name])
    for tensor in signature.outputs:
        _describe(tensor, definition.outputs[tensor.name])
    return out


def _describe(tensor: Tensor, info: tf.TensorInfo) -> None:
    info.name, info.dtype = tensor.blob, type_of(tensor)  # type: ignore[assignment]
    for size in tensor.shape:
        info.tensor_shape.dim.add(size=size)


def type_of(tensor: Tensor) -> int:
    return tf.DT_STRING if tensor.words else NUMBERS[tensor.dtype]


def as_json(signature: Signature) -> dict[str, Any]:
    """The same as the REST API writes it."""

    def described(tensors: tuple[Tensor, ...]) -> dict[str, Any]:
        return {
            t.name: {
                "dtype": tf.DataType.Name(type_of(t)),  # type: ignore[arg-type]
                "tensor_shape": {"dim": [{"size": str(n), "name": ""} for n in t.shape], "unknown_rank": False},
                "name": t.blob,
            }
            for t in tensors
        }

    inside = {
        "serving_default": {
            "inputs": described(signature.inputs),
            "outputs": described(signature.outputs),
            "method_name": PREDICT,
        }
    }
    return {"signature_def": {"signature_def": inside}}


def statuses(catalog: Catalog, asked: Asked) -> list[Version]:
    """The versions that a request for a model's status is about, newest first. Raises Refused where there are none."""
    served = catalog.models.get(asked.name)
    if served is None:
        raise Refused("NOT_FOUND", f"Could not find any versions of model {asked.name}")
    number = served.labels.get(asked.label, -1) if asked.label else asked.version
    if number is not None and served.is_any(number):
        number = None
    versions = [*served.renewals.values(), *served.versions.values()]
    found = sorted((v for v in versions if number in (None, v.number)), key=lambda v: -v.number)
    if not found:
        which = f"version {asked.label or number} of" if number is not None else "any versions of"
        raise Refused("NOT_FOUND", f"Could not find {which} model {asked.name}", hint=served.problem)
    return found


def status_json(version: Version) -> dict[str, Any]:
    code = "UNKNOWN" if version.error else "OK"
    return {
        "version": str(version.number),
        "state": STATES.Name(version.state),  # type: ignore[arg-type]
        "status": {"error_code": code, "error_message": version.error},
    }
