"""Split: shared values, summed gradients."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.engine import get_engine
from caffepy.errors import ConfigError
from caffepy.net.blob import Blob
from caffepy.net.layer import create
from caffepy.proto.caffe_pb2 import LayerParameter
from tests.support import ENGINES, Built, assert_close


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("tops", [1, 2, 3])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (6,), (), (0, 2)])
def test_values(shape, tops, engine):
    random = np.random.default_rng(1)
    x = random.standard_normal(shape).astype("f4")
    built = Built('type: "Split"', x, engine=engine, tops=tops)
    for y in built.forward():
        assert_close(y, x, 0)
    for top in built.top:
        assert built.engine.same_memory(top.data, built.bottom[0].data) or not x.size
    dys = random.standard_normal((tops, *shape)).astype("f4")
    built.bottom[0].diff[...] = 5
    assert_close(built.backward(*dys)[0], dys.sum(axis=0))


def test_in_place_is_refused():
    blob = Blob((2, 3), get_engine("numpy"))
    message = "Split cannot run in place\n  Give the top a name of its own."
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        create(LayerParameter(type="Split")).set_up([blob], [blob])
