"""TensorFlow's TensorProto and Example, and arrays."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import numpy as np

from caffepy.serve.api import tensorflow_pb2 as tf
from caffepy.serve.bfloat16 import widened
from caffepy.serve.refusal import invalid
from caffepy.serve.service import LARGEST

TYPES = {
    tf.DT_FLOAT: (np.float32, "float_val"),
    tf.DT_DOUBLE: (np.float64, "double_val"),
    tf.DT_INT32: (np.int32, "int_val"),
    tf.DT_UINT8: (np.uint8, "int_val"),
    tf.DT_INT16: (np.int16, "int_val"),
    tf.DT_INT8: (np.int8, "int_val"),
    tf.DT_UINT16: (np.uint16, "int_val"),
    tf.DT_INT64: (np.int64, "int64_val"),
    tf.DT_UINT32: (np.uint32, "uint32_val"),
    tf.DT_UINT64: (np.uint64, "uint64_val"),
    tf.DT_BOOL: (np.bool_, "bool_val"),
    tf.DT_HALF: (np.float16, "half_val"),
}
NUMBERS: dict[np.dtype, int] = {np.dtype(kind): number for number, (kind, _) in TYPES.items()}


def to_array(name: str, tensor: tf.TensorProto) -> np.ndarray:
    """The values; strings as an array of bytes objects. Raises Refused for what does not fit its shape."""
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.tensor_shape.unknown_rank or min(shape, default=0) < 0 or prod(shape) > LARGEST:
        raise invalid(f'the input "{name}" has the shape {shape}')
    count = prod(shape)
    if tensor.dtype == tf.DT_STRING:
        strings = np.empty(len(tensor.string_val), object)
        strings[:] = list(tensor.string_val)
        if strings.size != count:
            raise invalid(f'the input "{name}" of shape {shape} has {strings.size} strings')
        return strings.reshape(shape)
    if tensor.dtype == tf.DT_BFLOAT16:
        return _bfloat16(name, tensor, shape)
    if tensor.dtype not in TYPES:
        known = tf.DataType.Name(tensor.dtype) if tensor.dtype in tf.DataType.values() else tensor.dtype
        raise invalid(f'the input "{name}" has the type {known}, which is not served')
    kind, field = TYPES[tensor.dtype]
    if tensor.tensor_content:
        if len(tensor.tensor_content) != count * np.dtype(kind).itemsize:
            raise invalid(
                f'the input "{name}" of shape {shape} has {len(tensor.tensor_content)} bytes of {kind.__name__}'
            )
        return np.frombuffer(tensor.tensor_content, kind).reshape(shape)
    values = getattr(tensor, field)
    if tensor.dtype == tf.DT_HALF:
        return _filled(name, np.array([value & 0xFFFF for value in values], np.uint16), shape).view(np.float16)
    return _filled(name, np.array(values, np.int64 if field == "int_val" else kind).astype(kind, copy=False), shape)


def _bfloat16(name: str, tensor: tf.TensorProto, shape: list[int]) -> np.ndarray:
    if not tensor.tensor_content:
        return widened(_filled(name, np.array([value & 0xFFFF for value in tensor.half_val], np.uint16), shape))
    if len(tensor.tensor_content) != 2 * prod(shape):
        raise invalid(f'the input "{name}" of shape {shape} has {len(tensor.tensor_content)} bytes of bfloat16')
    return widened(np.frombuffer(tensor.tensor_content, np.uint16).reshape(shape))


def _filled(name: str, found: np.ndarray, shape: list[int]) -> np.ndarray:
    """In its shape; where there are fewer values, the last stands for the rest."""
    count = prod(shape)
    if found.size == count:
        return found.reshape(shape)
    if not 0 < found.size < count:
        raise invalid(f'the input "{name}" of shape {shape} has {found.size} values')
    return np.concatenate([found, np.repeat(found[-1:], count - found.size)]).reshape(shape)


def to_proto(values: np.ndarray, out: tf.TensorProto, raw: bool = False) -> None:
    """Write numbers; `raw` as bytes, else as a list, which much client code reads directly."""
    out.dtype = NUMBERS[values.dtype]  # type: ignore[assignment]
    dims = out.tensor_shape.dim
    for size in values.shape:
        dims.add(size=size)
    if raw:
        out.tensor_content = values.tobytes()
    elif values.dtype == np.float16:
        out.half_val.extend(values.ravel().view(np.uint16).tolist())
    else:
        getattr(out, TYPES[out.dtype][1]).extend(values.ravel().tolist())


def from_values(values: object, out: tf.TensorProto) -> None:
    """Write an array of numbers, or a list of byte strings."""
    if isinstance(values, (list, tuple)) and values and isinstance(values[0], bytes):
        out.dtype = tf.DT_STRING
        out.tensor_shape.dim.add(size=len(values))
        out.string_val.extend(values)
        return
    array = np.asarray(values)
    array = array if array.dtype in NUMBERS else array.astype(np.float32)
    out.dtype = NUMBERS[array.dtype]  # type: ignore[assignment]
    for size in array.shape:
        out.tensor_shape.dim.add(size=size)
    out.tensor_content = array.tobytes()


def to_features(examples: Iterable[tf.Example], context: tf.Example | None = None) -> list[dict[str, np.ndarray]]:
    """Each example's features as flat arrays; an example's own stand before those of the context."""
    shared = _features(context) if context is not None else {}
    return [shared | _features(example) for example in examples]


def _features(example: tf.Example) -> dict[str, np.ndarray]:
    out: dict[str, np.ndarray] = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        if kind == "bytes_list":
            out[name] = np.array([*feature.bytes_list.value, None], object)[:-1]
        elif kind == "float_list":
            out[name] = np.array(feature.float_list.value, np.float32)
        elif kind == "int64_list":
            out[name] = np.array(feature.int64_list.value, np.int64)
    return out
