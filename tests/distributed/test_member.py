"""What a process knows before it talks to others: when the gradient of a parameter is complete, and how rows add up."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from caffepy.distributed.member import average_rows, complete_after
from caffepy.engine import get_engine
from caffepy.net.net import Net
from caffepy.net.rows import Rows
from caffepy.proto.caffe_pb2 import TRAIN, NetParameter
from caffepy.proto.text import parse

NET = """
layer { name: "in" type: "Input" top: "x" top: "t" input_param { shape { dim: 2 dim: 3 } shape { dim: 2 dim: 3 } } }
layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" param { name: "w" }
  inner_product_param { num_output: 3 bias_term: false } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" param { name: "w" }
  inner_product_param { num_output: 3 } }
layer { name: "frozen" type: "InnerProduct" bottom: "b" top: "frozen" param { lr_mult: 0 } param { lr_mult: 0 }
  inner_product_param { num_output: 3 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "frozen" bottom: "t" top: "loss" }
"""


def due(definition: str) -> dict[str, list[str]]:
    net = Net(parse(definition, NetParameter()), TRAIN)
    return {net.layer_names[i]: [blob.name for blob in blobs] for i, blobs in complete_after(net).items()}


def test_a_shared_parameter_waits_for_the_first_of_its_layers():
    assert due(NET) == {"a": ["a[0]"], "b": ["b[1]"]}


def test_one_that_has_a_gradient_in_one_of_its_layers_is_sent():
    assert due(NET.replace('{ name: "w" }', '{ name: "w" lr_mult: 0 }', 1)) == {"b": ["a[0]", "b[1]"]}


def test_rows_of_all_processes_are_added_in_their_order_and_divided():
    engine = get_engine("numpy")
    rows = Rows(engine, (5, 2))
    rows.add(np.array([1, 4]), np.full((2, 2), 2, np.float32))
    others = [(np.array([1, 3]), np.full((2, 2), 6, np.float32))]
    group = SimpleNamespace(size=2, gather_rows=lambda found, width: [found, *others])
    average_rows(group, rows, engine)
    index, values = rows.merged()
    assert index.tolist() == [1, 3, 4] and values[:, 0].tolist() == [4, 3, 1]


def test_where_no_process_has_rows_there_are_none():
    rows = Rows(get_engine("numpy"), (5, 2))
    average_rows(SimpleNamespace(size=2, gather_rows=lambda found, width: None), rows, get_engine("numpy"))
    assert rows.merged() is None
