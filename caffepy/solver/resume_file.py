"""The `.resume` file beside a snapshot: what Caffe forgets, as JSON.

`{"format": 2, "crc32": N, "content": {...}}`; N is the checksum of the content's bytes as they stand there. Format 1
was the content alone, and is still read. Fields are checked one by one before anything is set: a state of the random
generator whose position is wrong makes numpy read beyond its memory.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from caffepy.errors import SnapshotError
from caffepy.files import read_file
from caffepy.solver.fields import (
    Malformed,
    anything,
    generator,
    integer,
    mapping,
    maybe,
    number,
    record,
    row,
    sequence,
    text,
)

AS_CAFFE = "Remove it to resume as Caffe does."

_FORMAT = 2
_FRAME = re.compile(rb'\{"format": 2, "crc32": (\d{1,10}), "content": (.*)\}', re.DOTALL)
_RUN = record({"id": text, "begun": text}, more=True)
_WATCH = record({"best": maybe(number), "stale": integer()}, more=True)

# Fields that a later version adds may stand beside these.
_CONTENT = record(
    required={
        "iter": integer(),
        "files": mapping(row(integer(), integer())),
        "random": generator,
        "layers": sequence(mapping(mapping(anything))),
        "smoothed_loss": record({"losses": sequence(number), "count": integer()}, more=True),
    },
    optional={"format": integer(1, 1), "early_stop": _WATCH, "best": _WATCH, "set": sequence(text), "run": _RUN},
    more=True,
)


def to_json(state: Any) -> str:
    """Numbers, texts, arrays, lists and dicts of them by texts. Raises TypeError for what a snapshot cannot hold."""
    _check_keys(state)
    return json.dumps(state, default=encode)


def _check_keys(state: Any) -> None:
    """JSON would make texts of numbers."""
    if isinstance(state, dict):
        for key, value in state.items():
            if not isinstance(key, str):
                raise TypeError(f"cannot store a dict by {type(key).__name__}, {key!r}, in a snapshot")
            _check_keys(value)
    elif isinstance(state, (list, tuple)):
        for value in state:
            _check_keys(value)


def from_json(text: str | bytes) -> Any:
    """What `to_json` was given. Raises ValueError for what is no JSON."""
    return json.loads(text, object_hook=decode)


def write(path: str, content: dict[str, Any]) -> None:
    """Write numbers, texts, arrays, lists and dicts of them."""
    raw = to_json(content).encode()
    Path(path).write_bytes(b'{"format": %d, "crc32": %d, "content": %s}' % (_FORMAT, zlib.crc32(raw), raw))


def read(path: str) -> dict[str, Any]:
    """What was written, of either format. Raises SnapshotError for what is damaged, or was changed by hand."""
    try:
        content = from_json(_content(read_file(path)))
        _CONTENT(content, "it")
        return content
    except Malformed as error:
        raise SnapshotError(f"this is no complete resume file: {error}", where=path, hint=AS_CAFFE) from None
    except (ValueError, RecursionError):  # no JSON
        raise SnapshotError("this is no complete resume file", where=path, hint=AS_CAFFE) from None
    except OSError as error:
        raise SnapshotError(f"cannot read the file: {error.strerror}", where=path) from None


def _content(raw: bytes) -> bytes:
    """The content's bytes, if they are those that were written."""
    if not (framed := _FRAME.fullmatch(raw)):
        if raw[:64].lstrip().startswith(b'{"format": 2'):
            raise Malformed("it is truncated, or was written anew by another program")
        return raw
    checksum, content = framed.groups()
    if int(checksum) != zlib.crc32(content):
        raise Malformed("its content has another checksum than when it was written")
    return content


def encode(value: Any) -> Any:
    """What JSON has no form for, as it has: for its `default`."""
    if isinstance(value, np.ndarray):
        value = value.astype(value.dtype.newbyteorder("="), copy=False)
        if str(value.dtype) not in _TYPES:
            raise TypeError(f"cannot store an array of {value.dtype} in a snapshot")
        data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        return {"array": data, "dtype": str(value.dtype), "shape": value.shape}
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"cannot store {type(value).__name__} in a snapshot")


_TYPES = {str(np.dtype(code)): np.dtype(code) for code in "?bBhHiIlLqQefd"}


def decode(value: dict[str, Any]) -> Any:
    """Arrays as arrays again: for its `object_hook`."""
    if value.keys() != {"array", "dtype", "shape"}:
        return value
    data, dtype, shape = value["array"], value["dtype"], value["shape"]
    sequence(integer())(shape, "the shape of an array")
    if not isinstance(data, str) or not isinstance(dtype, str) or dtype not in _TYPES:
        raise Malformed("an array is of an unknown type")
    flat = np.frombuffer(base64.b64decode(data, validate=True), _TYPES[dtype])
    if flat.size != prod(shape):
        raise Malformed(f"an array of shape {tuple(shape)} has {flat.size} values")
    return flat.reshape(shape).copy()
