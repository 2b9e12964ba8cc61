"""What a `.resume` file holds comes back to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.solver.resume_file import from_json, to_json


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "?", "u1"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3)])
def test_arrays(dtype, shape):
    values = np.random.default_rng(0).normal(size=shape).astype(dtype)
    back = from_json(to_json({"a": [values]}))["a"][0]
    assert (back.dtype, back.shape, back.tobytes()) == (values.dtype, values.shape, values.tobytes())
    back[...] = 0  # one's own


def test_numbers_texts_and_dicts():
    state = {"n": 2**70, "x": 0.1, "none": None, "in": {"array": 1, "yes": True}}
    assert from_json(to_json(state)) == state
    assert from_json(to_json({"n": np.float32(0.1), "i": np.int64(3)})) == {"n": float(np.float32(0.1)), "i": 3}
    with pytest.raises(TypeError, match=r"^cannot store object in a snapshot$"):
        to_json({"a": object()})


@pytest.mark.parametrize("dtype", [">f4", ">i8"])
def test_arrays_of_other_byte_orders_are_those_of_this_machine(dtype):
    values = np.arange(3).astype(dtype)
    back = from_json(to_json(values))
    assert back.dtype == values.dtype.newbyteorder("=") and back.tolist() == [0, 1, 2]


@pytest.mark.parametrize("value", [np.array([object()]), np.array(["text"]), np.array([1j]), {1: 2}, [({1: 2},)]])
def test_what_would_come_back_as_something_else_is_refused(value):
    with pytest.raises(TypeError, match=r"^cannot store"):
        to_json(value)
