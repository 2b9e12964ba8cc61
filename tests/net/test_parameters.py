"""A layer's parameters from messages, old ones among them."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.engine import get_engine
from caffepy.net.blob import Blob
from caffepy.net.parameters import shapes_match
from caffepy.proto.blobs import proto_shape, proto_to_array
from caffepy.proto.caffe_pb2 import BlobProto


@pytest.mark.parametrize(
    ("shape", "legacy", "match"),
    [
        ((3,), (1, 1, 1, 3), True),
        ((3,), (1, 1, 3, 1), False),
        ((2, 3), (1, 1, 2, 3), True),
        ((2, 3), (2, 3, 1, 1), False),
        ((2, 3, 4, 5), (2, 3, 4, 5), True),
        ((1, 2, 3, 4, 5), (2, 3, 4, 5), False),
    ],
)
def test_four_old_dimensions(shape, legacy, match):
    proto = BlobProto(**dict(zip(("num", "channels", "height", "width"), legacy)))
    proto.data.extend(range(int(np.prod(legacy))))
    assert proto_shape(proto) == legacy
    assert shapes_match(Blob(shape, get_engine("numpy")), proto) is match
    assert proto_to_array(proto).shape == legacy
