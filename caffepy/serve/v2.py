"""What the two forms of the Open Inference Protocol, gRPC and REST, have in common: types, metadata, repository."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from importlib import metadata as packages
from math import prod
from typing import Any

import numpy as np

from caffepy.serve.bfloat16 import widened
from caffepy.serve.catalog import Catalog
from caffepy.serve.metrics import Metrics, Statistics
from caffepy.serve.model import LoadedModel
from caffepy.serve.refusal import Refused, invalid
from caffepy.serve.served import AVAILABLE, END, LOADING, STATES, Version
from caffepy.serve.service import LARGEST, Asked, label_of
from caffepy.serve.signature import Tensor

TYPES: dict[str, Any] = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
    "FP16": np.float16, "FP32": np.float32, "FP64": np.float64,
}  # fmt: skip
NAMES = {np.dtype(kind): name for name, kind in TYPES.items()}
EXTENSIONS = ["classification", "model_configuration", "model_repository", "statistics", "binary_tensor_data"]
PLATFORM = "caffepy"


def server() -> dict[str, Any]:
    return {"name": "caffepy", "version": packages.version("caffepy"), "extensions": EXTENSIONS}


def asked(name: str, version: str, entrypoint: str, api: str = "ModelInfer") -> Asked:
    if version and not (version.isascii() and version.isdecimal() and len(version) < 20):
        raise invalid(f'the version "{version[:40]}" is no whole number')
    return Asked(name, int(version) if version else None, api=api, entrypoint=entrypoint)


def shape_of(name: str, shape: Sequence[int]) -> list[int]:
    """The shape as it was sent, if it can be one."""
    dims = list(shape)
    if not all(isinstance(n, int) and n >= 0 for n in dims) or prod(dims) > LARGEST:
        raise invalid(f'the input "{name}" has the shape {dims}')
    return dims


def from_bytes(name: str, kind: str, shape: Sequence[int], raw: bytes | memoryview) -> np.ndarray:
    """An array of little-endian values; BYTES have their lengths before them. Raises Refused."""
    dims = shape_of(name, shape)
    count = prod(dims)
    if kind == "BYTES":
        return strings(name, _split(name, bytes(raw)), dims)
    dtype = np.dtype(np.uint16 if kind == "BF16" else _known(name, kind))
    if len(raw) != count * dtype.itemsize:
        raise invalid(f'the input "{name}" of shape {dims} and type {kind} has {len(raw)} bytes')
    found = np.frombuffer(raw, dtype).reshape(dims)
    return widened(found) if kind == "BF16" else found


def from_list(name: str, kind: str, shape: Sequence[int], values: Any) -> np.ndarray:
    """An array of numbers in a list, flat or nested. Raises Refused."""
    dims = shape_of(name, shape)
    try:
        dtype = np.dtype(np.float32 if kind == "BF16" else _known(name, kind))
        found = np.array(values, dtype)
        if dtype.kind in "iu" and not np.array_equal(found, np.array(values)):  # 1.5 is no integer
            raise ValueError
    except (ValueError, TypeError, OverflowError):
        raise invalid(f'the data of the input "{name}" are no values of type {kind}') from None
    if found.size != prod(dims):
        raise invalid(f'the input "{name}" of shape {dims} has {found.size} values')
    return found.reshape(dims)


def strings(name: str, values: Sequence[bytes], dims: list[int]) -> np.ndarray:
    if len(values) != prod(dims):
        raise invalid(f'the input "{name}" of shape {dims} has {len(values)} byte strings')
    return np.array([*values, None], object)[:-1].reshape(dims)


def _known(name: str, kind: str) -> Any:
    if kind not in TYPES:
        raise invalid(f'the input "{name}" has the type "{kind}"', f"Known types: {', '.join(TYPES)}, BF16, BYTES.")
    return TYPES[kind]


def _split(name: str, raw: bytes) -> list[bytes]:
    """The strings of a BYTES tensor, each behind its length."""
    out, at = [], 0
    while at < len(raw):
        if at + 4 > len(raw):
            raise invalid(f'the bytes of the input "{name}" end in the middle of a length')
        (length,) = struct.unpack_from("<I", raw, at)
        at += 4 + length
        if at > len(raw):
            raise invalid(f'the bytes of the input "{name}" end in the middle of a string')
        out.append(raw[at - length : at])
    return out


def packed(values: Sequence[bytes]) -> bytes:
    """A BYTES tensor."""
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def classes(model: LoadedModel, values: np.ndarray, count: int) -> np.ndarray:
    """Triton's classification of each item: `score:index:label` of the best, (N, count) of bytes."""
    rows = values.reshape(len(values), -1)
    count = min(count, rows.shape[1])
    out = np.empty((len(rows), count), object)
    for i, row in enumerate(rows):
        for j, k in enumerate(np.argsort(-row.astype(float), kind="stable")[:count]):
            label = f":{label_of(model, int(k))}" if model.labels else ""
            out[i, j] = f"{row[k]:f}:{k}{label}".encode()
    return out


def metadata(catalog: Catalog, name: str, version: str) -> tuple[Version, dict[str, Any]]:
    found = catalog.pick(*asked(name, version, "")[:2])
    assert found.model is not None
    signature = found.model.signature
    return found, {
        "name": name,
        "versions": [str(number) for number in sorted(catalog.models[name].available)],
        "platform": PLATFORM,
        "inputs": [_described(tensor) for tensor in signature.inputs],
        "outputs": [_described(tensor) for tensor in signature.outputs],
    }


def _described(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": type_of(tensor), "shape": list(tensor.shape)}


def type_of(tensor: Tensor) -> str:
    return "BYTES" if tensor.words else NAMES[tensor.dtype]


def _triton_type(tensor: Tensor) -> str:
    return "TYPE_STRING" if tensor.words else f"TYPE_{NAMES[tensor.dtype]}"


def _configured(tensor: Tensor, skip: int) -> dict[str, Any]:
    return {"name": tensor.name, "data_type": _triton_type(tensor), "dims": list(tensor.shape[skip:])}


def configuration(catalog: Catalog, name: str, version: str) -> dict[str, Any]:
    """The part of Triton's model configuration that clients read."""
    found = catalog.pick(*asked(name, version, "")[:2])
    assert found.model is not None and found.batcher is not None
    signature = found.model.signature
    skip = 1 if signature.batched else 0
    return {
        "name": name,
        "platform": PLATFORM,
        "backend": found.model.computer.name,
        "max_batch_size": found.batcher.limits.max_batch_size if signature.batched else 0,
        "input": [_configured(t, skip) for t in signature.inputs],
        "output": [_configured(t, skip) for t in signature.outputs],
    }


def is_ready(catalog: Catalog, name: str, version: str) -> bool:
    try:
        catalog.pick(*asked(name, version, "")[:2])
        return True
    except Refused:
        return False


_STATES: dict[int, str] = {AVAILABLE: "READY", LOADING: "LOADING", END: "UNAVAILABLE"}


def index(catalog: Catalog, ready: bool) -> list[dict[str, str]]:
    """Triton's index: each model and version with its state."""
    rows = []
    for name, served in catalog.models.items():
        versions = [v for v in served.versions.values() if v.state == AVAILABLE or not ready]
        if not versions and not ready:
            rows.append({"name": name, "version": "", "state": "UNAVAILABLE", "reason": served.problem})
        for version in sorted(versions, key=lambda v: v.number):
            state = _STATES.get(version.state)
            rows.append({
                "name": name, "version": str(version.number),
                "state": state or STATES.Name(version.state),  # type: ignore[arg-type]
                "reason": version.error or ("unloaded" if version.state == END else ""),
            })  # fmt: skip
    return rows


def statistics(catalog: Catalog, metrics: Metrics, name: str, version: str) -> list[dict[str, Any]]:
    """Of each loaded version that is asked for."""
    if name and name not in catalog.models:
        raise Refused("NOT_FOUND", f"no model {name} is configured")
    return [
        _statistics(served_name, str(number), metrics.statistics[served_name, str(number)])
        for served_name, served in catalog.models.items()
        if name in ("", served_name)
        for number in sorted(served.available)
        if version in ("", str(number))
    ]


def _statistics(name: str, version: str, s: Statistics) -> dict[str, Any]:
    done = s.success
    return {
        "name": name,
        "version": version,
        "last_inference": s.last,
        "inference_count": s.items,
        "execution_count": s.executions,
        "inference_stats": {
            "success": {"count": done, "ns": s.success_ns},
            "fail": {"count": s.fail, "ns": s.fail_ns},
            "queue": {"count": done, "ns": s.queue_ns},
            "compute_input": {"count": done, "ns": 0},
            "compute_infer": {"count": done, "ns": s.compute_ns},
            "compute_output": {"count": done, "ns": 0},
        },
        "batch_stats": [
            {
                "batch_size": size,
                "compute_input": {"count": count, "ns": 0},
                "compute_infer": {"count": count, "ns": s.batch_ns[size]},
                "compute_output": {"count": count, "ns": 0},
            }
            for size, count in sorted(s.batches.items())
        ],
    }
