"""Mixup and the loss of soft targets, against their formulas."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy import rng
from caffepy.engine import get_engine
from caffepy.errors import ConfigError, ShapeError
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import TEST, SolverParameter
from caffepy.solver.solver import Solver
from tests.support import ENGINES, Built, assert_close

pytestmark = pytest.mark.parametrize("engine", ENGINES)
X = np.random.default_rng(0).normal(size=(6, 2, 3)).astype("f4")
LABELS = [0, 1, 2, 0, 1, 1]
HOT = np.eye(3)[LABELS]


def test_pairs_in_shares(engine):
    rng.seed(3)
    mixed = Built('type: "Mixup" mixup_param { classes: 3 alpha: 1 }', X, LABELS, engine=engine, tops=2)
    seen = set()
    for _ in range(5):
        y, t = mixed.forward()
        s = mixed.layer.share
        pairs = [[np.allclose(y[i], s * X[i] + (1 - s) * X[j], atol=1e-6) for j in range(6)] for i in range(6)]
        partner = [row.index(True) for row in pairs]
        assert sorted(partner) == list(range(6))
        np.testing.assert_allclose(t, s * HOT + (1 - s) * HOT[partner], atol=1e-6)
        seen.add(s)
    assert len(seen) == 5 and all(0 < s < 1 for s in seen)


@pytest.mark.parametrize("phase, alpha", [(TEST, 1), (0, 0)])
def test_nothing_is_mixed(phase, alpha, engine):
    layer = f'type: "Mixup" mixup_param {{ classes: 3 alpha: {alpha} }}'
    y, t = Built(layer, X, LABELS, engine=engine, tops=2, phase=phase).forward()
    assert_close(y, X, 0)
    assert_close(t, HOT.astype("f4"), 0)


def test_soft_targets_of_one_class_are_softmax_with_loss(engine):
    x = X.reshape(6, 6)[:, :3]
    soft, hard = (Built(f'type: "{kind}"', x, target, engine=engine)
                  for kind, target in (("SoftTargetLoss", HOT), ("SoftmaxWithLoss", LABELS)))  # fmt: skip
    assert_close(soft.forward()[0], hard.forward()[0])
    assert_close(soft.backward(1, propagate_down=[True, False])[0],
                 hard.backward(1, propagate_down=[True, False])[0])  # fmt: skip
    mixed = Built('type: "SoftTargetLoss"', x, 0.3 * HOT + 0.7 * HOT[::-1], engine=engine)
    of_both = [Built('type: "SoftmaxWithLoss"', x, y, engine=engine).forward()[0] for y in (LABELS, LABELS[::-1])]
    assert_close(mixed.forward()[0], 0.3 * of_both[0] + 0.7 * of_both[1])


def test_mistakes(engine):
    with pytest.raises(ConfigError, match="classes is not set"):
        Built('type: "Mixup"', X, LABELS, engine=engine, tops=2)
    with pytest.raises(ShapeError, match="must have a label for each of 6 items"):
        Built('type: "Mixup" mixup_param { classes: 3 }', X, [0], engine=engine, tops=2)
    with pytest.raises(ShapeError, match="must have one shape"):
        Built('type: "SoftTargetLoss"', X, LABELS, engine=engine)


def test_a_resume_mixes_as_if_nothing_had_been(engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    definition = """net_param {
      layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {
        shape { dim: 4 dim: 3 } shape { dim: 4 } data_filler { type: "gaussian" } data_filler { value: 1 } } }
      layer { name: "mix" type: "Mixup" bottom: "data" bottom: "label" top: "y" top: "t" mixup_param { classes: 3 } }
      layer { name: "ip" type: "InnerProduct" bottom: "y" top: "ip" inner_product_param { num_output: 3 } }
      layer { name: "loss" type: "SoftTargetLoss" bottom: "ip" bottom: "t" top: "loss" } }
    base_lr: 0.1 lr_policy: "fixed" max_iter: 6 snapshot: 3 snapshot_prefix: "s" random_seed: 1"""

    def train(resume=None):
        Solver(text.parse(definition, SolverParameter()), engine=get_engine(engine), file="s").solve(resume)
        return (tmp_path / "s_iter_6.caffemodel").read_bytes()

    straight = train()
    assert train("s_iter_3.solverstate") == straight
