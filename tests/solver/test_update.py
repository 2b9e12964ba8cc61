"""Small parameters are updated as one, to the bit as each by itself."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy import rng
from caffepy.engine import Engine, get_engine
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.solver import Solver, update
from caffepy.solver.rules import _rules
from tests.support import ENGINES

NET = """
layer { name: "in" type: "DummyData" top: "x" top: "id" top: "t"
        dummy_data_param { shape { dim: 6 dim: 4 } shape { dim: 6 } shape { dim: 6 dim: 2 }
          data_filler { type: "uniform" } data_filler { type: "uniform" max: 7 } data_filler { type: "uniform" } } }
layer { name: "table" type: "Embed" bottom: "id" top: "e" param { sparse: true }
        embed_param { input_dim: 8 num_output: 4 bias_term: false weight_filler { type: "uniform" } } }
layer { name: "sum" type: "Eltwise" bottom: "x" bottom: "e" top: "s" }
layer { name: "a" type: "InnerProduct" bottom: "s" top: "a" param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
        inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
        inner_product_param { num_output: 7 weight_filler { type: "xavier" } } }
layer { name: "c" type: "InnerProduct" bottom: "b" top: "c" param { lr_mult: 0 } param { lr_mult: 2 }
        inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "c" bottom: "t" top: "loss" }
"""
_rules.complete()


def trained(rule: str, engine: str) -> list[np.ndarray]:
    more = "momentum: 0.9 delta: 0.001" if _rules.find(rule).momentum else ""
    definition = (
        f'type: "{rule}" base_lr: 0.05 lr_policy: "fixed" weight_decay: 0.01 iter_size: 2 random_seed: 5 {more}'
    )
    p = text.parse(definition, SolverParameter())
    p.net_param.CopyFrom(text.parse(NET, type(p.net_param)()))
    rng.seed(5)
    solver = Solver(p, engine=get_engine(engine))
    solver.step(4)
    params = [param.blob for param in solver.net.learnable_params]
    steps = [blob.host("diff") for blob in params if blob.rows is None]
    return [np.array(a) for a in (*(b.host() for b in params), *(b.host() for b in solver.history), *steps)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rule", [*_rules])
def test_small_parameters_together_are_each_by_itself(rule, engine, monkeypatch):
    together = trained(rule, engine)
    monkeypatch.setattr(Engine, "cheap_copy", 0)
    for ours, reference in zip(together, trained(rule, engine), strict=True):
        np.testing.assert_array_equal(ours, reference)


def test_a_rule_runs_once_for_all_parameters_of_one_rate(monkeypatch):
    calls = []
    step = update.Update._map
    monkeypatch.setattr(update.Update, "_map", lambda self, w, *rest: (calls.append(w.shape), step(self, w, *rest)))
    trained("SGD", "numpy")
    # The table's rows, both weights, both biases without decay, what does not move, the bias with decay.
    assert len(calls) == 4 * 5
