"""Arrays in and out of BlobProto."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.errors import SnapshotError
from caffepy.proto.blobs import array_to_proto, proto_to_array
from caffepy.proto.caffe_pb2 import BlobProto


def test_values_and_gradient_come_back_in_c_order():
    values = np.arange(24, dtype="f4").reshape(2, 3, 2, 2).transpose(0, 2, 3, 1)
    proto = array_to_proto(values, values + 1)
    assert list(proto.shape.dim) == [2, 2, 2, 3] and list(proto.data)[:3] == [0, 4, 8]
    np.testing.assert_array_equal(proto_to_array(proto), values)
    np.testing.assert_array_equal(proto_to_array(proto, "diff"), values + 1)


def test_a_stored_blob_must_have_the_values_of_its_shape():
    proto = BlobProto(data=[1, 2, 3])
    proto.shape.dim.extend([2, 2])
    with pytest.raises(SnapshotError) as caught:
        proto_to_array(proto)
    assert str(caught.value) == "a blob of shape (2, 2) has 3 values in the file"
