"""Wrong values: reported at once, or when somebody looks, to the right net, once, at the layer's place."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from caffepy.engine.numpy.engine import NumpyEngine
from caffepy.errors import DataError
from caffepy.net.blob import Blob
from caffepy.net.layer import create
from caffepy.proto import caffe_pb2, text


class Owner:
    """Stands for a layer."""


def error(i: int, value: float) -> DataError:
    return DataError(f"{value:g} at {i}")


def refuse(engine: NumpyEngine, by: Owner, values) -> None:
    """Negative values are wrong."""
    values = np.asarray(values, np.float32)
    engine.refuse(by, values < 0, values, error)


@pytest.fixture
def late() -> NumpyEngine:
    engine = NumpyEngine(1)
    engine.lazy = True
    return engine


def test_at_once():
    engine, by = NumpyEngine(1), Owner()
    refuse(engine, by, [[1, 2], [3, 4]])
    refuse(engine, by, [])
    with pytest.raises(DataError, match=r"^-3 at 2$"):
        refuse(engine, by, [[1, 2], [-3, -4]])
    engine.settle({by: "here"})


def test_the_first_waits_and_is_raised_once(late):
    by = Owner()
    for values in ([1, -2, -3], [-4, 1, 1], [], [[1, 1]]):
        refuse(late, by, values)
    with pytest.raises(DataError) as caught:
        late.settle({by: 'net.prototxt:3:1: layer "x"'})
    assert str(caught.value) == 'net.prototxt:3:1: layer "x": -2 at 1'
    late.settle({by: ""})
    refuse(late, by, [1, 1, -5])
    with pytest.raises(DataError, match="-5 at 2"):
        late.settle({by: ""})


def test_layers_in_the_order_of_the_net_others_forgotten(late):
    first, second = Owner(), Owner()
    refuse(late, second, [-1])
    refuse(late, first, [-2, 1])
    refuse(late, first, [-3, 1, 1])
    with pytest.raises(DataError, match=r"^first: -2 at 0$"):
        late.settle({first: "first", second: "second"})
    late.settle({first: "first", second: "second"})


def test_two_nets_of_one_engine(late):
    mine, theirs = Owner(), Owner()
    refuse(late, theirs, [-1])
    late.settle({mine: "mine"})
    with pytest.raises(DataError, match=r"^theirs: -1 at 0$"):
        late.settle({theirs: "theirs"})


def test_what_is_noted_stays_where_it_is(late):
    """A recorded graph writes to the same memory whenever it is repeated."""
    by = Owner()
    refuse(late, by, [1, 1])
    (waiting,) = late._refusals._of[by].values()
    refuse(late, by, [1, -1])
    with pytest.raises(DataError):
        late.settle({by: ""})
    waiting.found[...] = [1, 0, -7]
    with pytest.raises(DataError, match="-7 at 0"):
        late.settle({by: ""})
    refuse(late, by, [-2, 1])
    assert waiting.found.tolist() == [1, 0, -2]


def test_nothing_of_a_layer_stays(late):
    by = Owner()
    refuse(late, by, [-1])
    del by
    gc.collect()
    assert not late._refusals._of


LAYERS = {
    'type: "Embed" embed_param { num_output: 2 input_dim: 3 }': [(4,)],
    'type: "BatchReindex"': [(3, 2), (4,)],
    'type: "SoftmaxWithLoss"': [(4, 3), (4,)],
    'type: "Accuracy"': [(4, 3), (4,)],
}


@pytest.mark.parametrize("definition", LAYERS)
def test_a_layers_errors_do_not_keep_it_alive(late, definition):
    layer = create(text.parse(definition, caffe_pb2.LayerParameter()), engine=late)
    bottom, top = [Blob(shape, late) for shape in LAYERS[definition]], [Blob((), late)]
    layer.set_up(bottom, top)
    bottom[-1].data[...] = 3  # the first that is outside
    layer.forward(bottom, top)
    with pytest.raises(DataError, match=r"^here: (index|label) 3 at position \(?0,?\)? of .* is outside 0 .. 2"):
        late.settle({layer: "here"})
    assert late._refusals._of
    del layer
    gc.collect()
    assert not late._refusals._of
