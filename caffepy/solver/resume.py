"""What a `.resume` file holds: dicts, lists, numbers, texts and arrays, as JSON that gives back the same bits."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np


def to_json(state: Any) -> str:
    """Raises TypeError for what a snapshot cannot hold."""
    return json.dumps(state, default=_encode)


def from_json(text: str) -> Any:
    """Raises ValueError for what is no JSON."""
    return json.loads(text, object_hook=_decode)


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        return {"array": data, "dtype": str(value.dtype), "shape": value.shape}
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"cannot store {type(value).__name__} in a snapshot")


def _decode(value: dict[str, Any]) -> Any:
    if value.keys() == {"array", "dtype", "shape"}:
        flat = np.frombuffer(base64.b64decode(value["array"]), value["dtype"])
        return flat.reshape(value["shape"]).copy()
    return value
