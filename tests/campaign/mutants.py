"""Damaged copies of what was whole: of bytes, and of values that JSON can hold. Strategies of Hypothesis, so that a
failing one is made minimal.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

EDGES = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
"""Numbers beside which readers go wrong."""
PAGE = 4096
_MOST = 8


def mutated_bytes(whole: bytes) -> st.SearchStrategy[bytes]:
    """`whole` with one to eight edits: bits, bytes and numbers replaced, pieces removed, doubled, moved, cut off."""
    return st.lists(_edit(len(whole)), min_size=1, max_size=_MOST).map(lambda edits: _apply(whole, edits))


def _edit(size: int) -> st.SearchStrategy[tuple]:
    place = st.integers(0, max(size - 1, 0))
    # Headers decide over the rest: every second edit is near the beginning.
    at = st.one_of(st.integers(0, min(255, max(size - 1, 0))), place)
    length = st.one_of(st.integers(1, 16), st.integers(1, max(size, 1)))
    return st.one_of(
        st.tuples(st.just("flip"), at, st.integers(0, 7)),
        st.tuples(st.just("number"), at, st.sampled_from(EDGES), st.sampled_from((1, 2, 4, 8)), st.booleans()),
        st.tuples(st.just("put"), at, st.binary(min_size=1, max_size=16)),
        st.tuples(st.just("insert"), at, st.binary(min_size=1, max_size=16)),
        st.tuples(st.just("remove"), at, length),
        st.tuples(st.just("double"), at, length),
        st.tuples(st.just("copy"), at, place, length),
        st.tuples(st.just("swap"), place, place),
        st.tuples(st.just("cut"), place),
    )


def _apply(whole: bytes, edits: list[tuple]) -> bytes:
    out = bytearray(whole)
    for kind, at, *more in edits:
        if at >= len(out):
            continue
        match kind:
            case "flip":
                out[at] ^= 1 << more[0]
            case "number":
                value, width, big = more
                new = (value % 256**width).to_bytes(width, "big" if big else "little")
                out[at : at + width] = new
            case "put":
                out[at : at + len(more[0])] = more[0]
            case "insert":
                out[at:at] = more[0]
            case "remove":
                del out[at : at + more[0]]
            case "double":
                out[at:at] = out[at : at + more[0]]
            case "copy":
                source, length = more
                piece = out[source : source + length]
                out[at : at + len(piece)] = piece
            case "swap":
                a, b = at // PAGE * PAGE, more[0] // PAGE * PAGE
                out[a : a + PAGE], out[b : b + PAGE] = out[b : b + PAGE], out[a : a + PAGE]
            case "cut":
                del out[at:]
    return bytes(out)


STRANGE: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 624, 625, 2**31, 2**63, -(2**63), 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf"),
    "", "x", "\x1b[2J", "../../etc/passwd", "ä" * 300, [], [[]], {}, {"": {}}, [None] * 3,
)  # fmt: skip


def mutated_value(whole: Any) -> st.SearchStrategy[Any]:
    """A value of dicts, lists, numbers and texts with one to three places removed, replaced, renamed or moved."""
    places = list(_places(whole))
    edit = st.one_of(
        st.tuples(st.just("replace"), st.sampled_from(places), st.sampled_from(STRANGE)),
        st.tuples(st.just("remove"), st.sampled_from(places)),
        st.tuples(st.just("rename"), st.sampled_from(places), st.sampled_from(["", "x", "iter", "format", "state"])),
        st.tuples(st.just("graft"), st.sampled_from(places), st.sampled_from(places)),
        st.tuples(st.just("number"), st.sampled_from(places), st.sampled_from(EDGES)),
        st.tuples(st.just("negate"), st.sampled_from(places)),
    )
    return st.lists(edit, min_size=1, max_size=3).map(lambda edits: _changed(whole, edits))


def _places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The paths of all values inside one, and its own."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _places(inner, (*path, key))


def _changed(whole: Any, edits: list[tuple]) -> Any:
    out = [copy.deepcopy(whole)]  # in a list, so that the whole has a place like any other
    for kind, path, *more in edits:
        try:
            holder: Any = out
            *above, key = (0, *path)
            for step in above:
                holder = holder[step]
            value = holder[key]
            match kind:
                case "replace" | "number":
                    holder[key] = copy.deepcopy(more[0])
                case "remove" if path:
                    del holder[key]
                case "rename" if isinstance(holder, dict):
                    holder[more[0]] = holder.pop(key)
                case "graft":
                    holder[key] = copy.deepcopy(_at(whole, more[0]))
                case "negate" if type(value) in (int, float):
                    holder[key] = -value - 1
        except (LookupError, TypeError):  # an edit before has removed the place
            continue
    return out[0]


def _at(value: Any, path: tuple) -> Any:
    for key in path:
        value = value[key]
    return value
