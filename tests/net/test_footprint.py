"""What a net takes is counted layer by layer: no memory twice, none of a GPU's."""

from __future__ import annotations

import pytest

from caffepy import limits
from caffepy.engine.numpy.engine import NumpyEngine
from caffepy.errors import ShapeError
from caffepy.net import footprint
from caffepy.net.alone import Alone

KB = 4 * 256  # 256 values


@pytest.fixture(autouse=True)
def spent(monkeypatch):
    """What `count` has counted, in KB."""
    counted = []
    monkeypatch.setattr(limits, "spend", lambda size: counted.append(size / KB))
    return counted


def count(layer: str, in_place: bool = False, engine=None) -> None:
    alone = Alone(f"name: 'l' {layer}", [[0] * 256], engine=engine or NumpyEngine(threads=1), in_place=in_place)
    footprint.count(alone.layer, alone.bottom, alone.top)


def test_tops_and_parameters(spent):
    count('type: "ReLU"')
    count('type: "InnerProduct" inner_product_param { num_output: 256 bias_term: false }')
    assert spent == [1, 257]


def test_what_is_other_memory_by_another_name_is_not_counted(spent):
    count('type: "ReLU"', in_place=True)
    count('type: "Flatten"')
    assert spent == [0, 0]


def test_a_gpus_memory_is_its_own(spent):
    engine = NumpyEngine(threads=1)
    engine.on_gpu = True
    count('type: "ReLU"', engine=engine)
    assert spent == [0]


def test_a_layer_that_is_too_much(monkeypatch, spent):
    monkeypatch.setattr(limits, "_chosen", None)
    alone = Alone('name: "l" type: "ReLU"', [[0] * 256])
    limits.set_max_memory(1000)
    with pytest.raises(ShapeError, match="the layer"):
        footprint.count(alone.layer, alone.bottom, alone.top)
    assert spent == []
