"""Gradients as rows, and layers that make them."""

from __future__ import annotations

import numpy as np
import pytest

import caffepy
from caffepy import rng
from caffepy.engine import get_engine
from caffepy.errors import ConfigError
from caffepy.net.rows import Rows
from caffepy.proto.caffe_pb2 import NetParameter
from caffepy.proto.text import parse
from tests.support import ENGINES, assert_close

NET = """
layer { name: "in" type: "Input" top: "x" top: "t" input_param { shape { dim: 6 } shape { dim: 6 dim: 3 } } }
layer { name: "e" type: "Embed" bottom: "x" top: "y" SPARSE
        embed_param { input_dim: 20 num_output: 3 weight_filler { type: "uniform" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
"""


def build(sparse: str = "param { sparse: true }", engine: str = "numpy"):
    rng.seed(3)
    net = caffepy.Net(parse(NET.replace("SPARSE", sparse), NetParameter()), caffepy.TRAIN, engine=get_engine(engine))
    net.blobs["x"].data[...] = [7, 2, 7, 0, 19, 7]
    net.blobs["t"].data[...] = np.random.default_rng(0).normal(size=(6, 3))
    return net


@pytest.mark.parametrize("engine", ENGINES)
def test_the_same_gradient_in_rows(engine):
    net, dense = build(engine=engine), build("", engine)
    for one in (net, dense):
        one.clear_param_diffs()
        for _ in range(2):  # adds up
            one.forward_backward()
    rows = net.layer_dict["e"].blobs[0].rows
    index, values = (net.engine.to_host(array) for array in rows.merged())
    assert index.tolist() == [0, 2, 7, 19]
    expected = dense.params["e"][0].diff
    assert_close(values, expected[index], tolerance=1e-6)
    assert_close(rows.dense(), expected, tolerance=1e-6)
    net.clear_param_diffs()
    assert rows.merged() is None and not rows.dense().any()


def test_rows_hold_what_was_there_when_they_were_added():
    rows, values = Rows(get_engine("numpy"), (5, 2)), np.ones((2, 2), np.float32)
    rows.add(np.array([4, 4]), values)
    values[...] = 9
    index, sums = rows.merged()
    assert index.tolist() == [4] and sums.tolist() == [[2, 2]]
    rows.add(np.array([1]), values[:1])
    assert [array.tolist() for array in rows.merged()] == [[1, 4], [[9, 9], [2, 2]]]


def test_a_gradient_of_rows_has_no_array():
    net = build()
    with pytest.raises(ConfigError) as caught:
        _ = net.params["e"][0].diff
    assert str(caught.value) == (
        'the gradient of "e[0]" is rows: param { sparse: true }\n'
        "  Read blob.rows.merged(), or blob.rows.dense() for all of it."
    )


def test_two_layers_that_share_a_table():
    text = NET.replace("SPARSE", 'param { name: "w" sparse: true }') + (
        'layer { name: "f" type: "Embed" bottom: "x" top: "z" param { name: "w" }'
        " embed_param { input_dim: 20 num_output: 3 } }"
        'layer { name: "more" type: "EuclideanLoss" bottom: "z" bottom: "t" top: "more" }'
    )
    net = caffepy.Net(parse(text, NetParameter()), caffepy.TRAIN)
    first, second = net.layer_dict["e"].blobs[0], net.layer_dict["f"].blobs[0]
    assert first.rows is second.rows is not None


def test_a_parameter_that_is_no_table():
    text = """
    layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 2 } } }
    layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" param { sparse: true }
            inner_product_param { num_output: 1 } }"""
    with pytest.raises(ConfigError) as caught:
        caffepy.Net(parse(text, NetParameter()), caffepy.TRAIN)
    assert str(caught.value) == (
        'layer "ip": param { sparse: true } is for tables of which a batch touches a few rows, not for parameter 0 of '
        "a layer of type InnerProduct\n  Leave it out, or use Embed."
    )


SHARED = {
    "in the sharer alone": (
        ('param { name: "w" }', 'param { name: "w" sparse: true }'),
        'param "w" is sparse here, but not in e[0], its owner\n  Set sparse: true there, or leave it out here.',
    ),
    "in the sharer alone, spread": (
        ('param { name: "w" }', 'param { name: "w" spread: true }'),
        'param "w" is spread here, but not in e[0], its owner\n  Set spread: true there, or leave it out here.',
    ),
}


@pytest.mark.parametrize("case", SHARED)
def test_a_shared_table_has_rows_in_all_its_layers_or_in_none(case, tmp_path):
    (owner, sharer), said = SHARED[case]
    path = tmp_path / "net.prototxt"
    path.write_text(
        NET.replace("SPARSE", owner)
        + f"""layer {{ name: "f" type: "Embed" bottom: "x" top: "z" {sharer}
                  embed_param {{ input_dim: 20 num_output: 3 }} }}"""
    )
    with pytest.raises(ConfigError) as caught:
        caffepy.Net(str(path), caffepy.TRAIN)
    assert str(caught.value) == f'{path}:6:1: layer "f": {said}'


def test_a_table_of_rows_is_not_shared_with_a_layer_that_gives_whole_gradients(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(
        NET.replace("SPARSE", 'param { name: "w" sparse: true }')
        + """layer { name: "ip" type: "InnerProduct" bottom: "y" top: "z" param { name: "w" }
               inner_product_param { num_output: 20 bias_term: false } }"""
    )
    with pytest.raises(ConfigError) as caught:
        caffepy.Net(str(path), caffepy.TRAIN)
    assert str(caught.value) == (
        f'{path}:6:1: layer "ip": param "w" is sparse in e[0], its owner, but InnerProduct gives a gradient of all '
        "rows\n  Leave out sparse: true there, or give this layer a parameter of its own."
    )
