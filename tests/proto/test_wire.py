"""Float arrays through BlobProto, against protobuf's own way of filling it."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.proto.caffe_pb2 import BlobProto
from caffepy.proto.wire import get_floats, set_floats

SIZES = [0, 1, 31, 32, 5000]  # 31 floats are the last whose length takes one byte


@pytest.mark.parametrize("field", ["data", "diff"])
@pytest.mark.parametrize("size", SIZES)
def test_written_as_protobuf_writes(field, size):
    values = np.linspace(-3, 7, size, dtype=np.float32)
    ours, theirs = BlobProto(num=2), BlobProto(num=2)
    set_floats(ours, field, values)
    getattr(theirs, field).extend(values.tolist())
    assert ours.SerializeToString() == theirs.SerializeToString()


@pytest.mark.parametrize("field", ["data", "diff", "double_data", "double_diff"])
@pytest.mark.parametrize("size", SIZES)
def test_read_as_protobuf_wrote(field, size):
    proto = BlobProto(data=[], num=3)
    proto.shape.dim.extend([size])
    values = np.linspace(-3, 7, size, dtype=np.float32)
    getattr(proto, field).extend(values.tolist())
    found = get_floats(proto, field.removeprefix("double_"))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values)


def test_written_in_c_order_whatever_the_memory_order():
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    proto = BlobProto()
    set_floats(proto, "data", values.transpose(2, 0, 1))
    assert list(proto.data) == values.transpose(2, 0, 1).ravel().tolist()


def test_floats_win_over_doubles():
    proto = BlobProto(data=[1, 2], double_data=[3, 4, 5])
    assert get_floats(proto, "data").tolist() == [1, 2]


def test_what_was_read_can_be_changed():
    found = get_floats(BlobProto(data=[1, 2]), "data")
    found += 1
    assert found.tolist() == [2, 3]
