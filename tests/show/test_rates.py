"""find-lr: a quadratic whose losses at each rate are known, and the command on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffepy.cli import main
from caffepy.engine import get_engine
from caffepy.errors import ConfigError
from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.proto.text import parse
from caffepy.show.rates import SMOOTHING, sweep

# loss = (w - 3)^2 / 2 from w = 0: after a step of rate r, w = 3 is nearer by the factor 1 - r; lost beyond r = 2.
SOLVER = """net_param { layer { name: "w" type: "Parameter" top: "w" parameter_param { shape { dim: 1 dim: 1 } } }
  layer { name: "goal" type: "DummyData" top: "goal"
    dummy_data_param { shape { dim: 1 dim: 1 } data_filler { value: 3 } } }
  layer { name: "loss" type: "EuclideanLoss" bottom: "w" bottom: "goal" top: "loss" } }
base_lr: 0.1 lr_policy: "step" stepsize: 5 gamma: 0.1 max_iter: 7 display: 1 test_iter: 1 test_interval: 1
snapshot: 1 snapshot_prefix: "none" warmup_iter: 3"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def found(first: float = 1e-4, last: float = 100, iterations: int = 121):
    return sweep(parse(SOLVER, SolverParameter()), first, last, iterations, get_engine("numpy"))


def test_rates_and_losses_are_those_of_gradient_descent():
    ours = found()
    rates = np.geomspace(1e-4, 100, 121)[: len(ours.rates)]
    np.testing.assert_allclose(ours.rates, rates, rtol=1e-5)
    left, mean = 3.0, 0.0
    for t, (rate, loss) in enumerate(zip(rates, ours.losses), 1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * left**2 / 2
        assert loss == pytest.approx(mean / (1 - SMOOTHING**t), rel=1e-3)
        left *= 1 - rate
    assert 0.01 < ours.steepest < 2
    assert not list(Path().iterdir())


def test_it_ends_where_the_loss_is_lost():
    ours = found(1.5, 1000, 100)
    assert len(ours.rates) < 50 and 2 < ours.rates[-1] < 10
    assert ours.losses[-1] > 4 * min(ours.losses) >= ours.losses[-2]


def test_the_command(capsys):
    Path("s.prototxt").write_text(SOLVER)
    main(["find-lr", "--solver", "s.prototxt", "--from", "1e-4", "--to", "100", "--iterations", "121"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["rate", "loss"] and lines[1].split() == ["0.0001", "4.5"]
    assert lines[-1] == f"base_lr: {found().steepest:.2g}, where the loss falls fastest"
    assert [path.name for path in Path().iterdir()] == ["s.prototxt"]


def test_the_picture():
    pytest.importorskip("matplotlib")
    found().plot("rates.png")
    assert Path("rates.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ((1, 0.1), "the rates must rise from above 0, got 1 to 0.1"),
        ((0, 0.1), "the rates must rise from above 0, got 0 to 0.1"),
        ((1e30, 1e38), "the loss is lost at a rate of 1e+30 already\n  Begin with a smaller one: --from."),
        ((2.1, 2.2), "the loss has not fallen at any rate\n  Begin with a smaller rate: --from; or look at the data."),
    ],
)
def test_what_is_refused(rates, message):
    with pytest.raises(ConfigError) as caught:
        found(*rates).table()
    assert str(caught.value) == message
