"""Meters, and the test that solver, command line and arrays share."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest

from caffepy.engine import get_engine
from caffepy.errors import ConfigError, ShapeError
from caffepy.passes import Whole, of
from caffepy.plugins import Registry
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import TEST, NetParameter, SolverParameter
from caffepy.pycaffe.net import Net
from caffepy.pycaffe.solvers import Solver
from caffepy.solver import meters, testing
from caffepy.solver.display import output_lines
from caffepy.solver.meters import Mean, Meter, meter, meter_for
from caffepy.solver.testing import Output, Results
from tests.support import ENGINES

NET = """
layer { name: "in" type: "Input" top: "x" top: "y"
  input_param { shape { dim: 4 dim: 3 } shape { dim: 4 dim: 3 } } }
layer { name: "double" type: "Power" bottom: "x" top: "x2" power_param { scale: 2 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "x" bottom: "y" top: "loss" loss_weight: 0.5 }
"""


def build(engine="numpy", definition=NET) -> Net:
    return Net(text.parse(definition, NetParameter()), TEST, engine=get_engine(engine))


def fill(net: Net, x) -> None:
    net.engine_blobs["x"].fill(np.asarray(x, np.float32))


@pytest.fixture
def registry(monkeypatch):
    """What a test registers is gone behind it."""
    monkeypatch.setattr(meters, "_registry", Registry("meter of layer type", "meters"))


class RootMeanSquare(Meter):
    """The example of the base class."""

    def __init__(self, layer, top):
        self.sum, self.count = 0.0, 0

    def add(self, top, bottom, weight):
        difference = bottom[0].host() - bottom[1].host()
        self.sum += float((difference**2).sum())
        self.count += difference.size

    def value(self):
        return math.sqrt(self.sum / self.count)

    def merge(self, other):
        self.sum += other.sum
        self.count += other.count


class Extremes(RootMeanSquare):
    def __init__(self, layer, top):
        self.seen = []

    def add(self, top, bottom, weight):
        self.seen.append(top.host().copy())

    def value(self):
        return {"least": np.min(self.seen), "most": np.max(self.seen)}


# A test


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("weights", [(1, 1, 1), (4, 4, 2)])
def test_outputs_without_a_meter_get_the_mean_over_batches(engine, weights):
    net = build(engine)
    values = np.random.default_rng(0).normal(size=(3, 4, 3)).astype("f4")

    def batches():
        for x, weight in zip(values, weights):
            fill(net, x)
            yield weight

    found = testing.test(net, batches())
    losses = (values.astype(float) ** 2).sum((1, 2)) / 8
    assert found.weight == sum(weights)
    assert found.loss == pytest.approx(0.5 * np.average(losses, weights=weights))
    assert [(output.name, output.weight) for output in found.outputs] == [("loss", 0.5), ("x2", 0)]
    expected = 2 * np.average(values.astype(float), axis=0, weights=weights)
    np.testing.assert_allclose(found.outputs[1].value, expected, rtol=1e-6, atol=1e-7)
    assert found.scores() == {"loss": pytest.approx(found.loss * 2), "x2": pytest.approx(expected.mean())}


def test_what_a_generator_of_batches_does_comes_before_and_behind_each_pass():
    net, seen = build(), []

    def batches():
        for k in (1, 2):
            fill(net, np.full((4, 3), k))
            seen.append(float(net.engine_blobs["x2"].host()[0, 0]))
            yield 1
            seen.append(float(net.engine_blobs["x2"].host()[0, 0]))

    testing.test(net, batches())
    assert seen == [0, 2, 2, 4]


def test_no_batches_no_outputs():
    assert testing.test(build(), []) == Results(0.0, 0.0, [])


def test_another_executor_runs_the_passes():
    class Counted(Whole):
        count = 0

        def forward(self, layers=None):
            self.count += 1
            return super().forward(layers)

    net = build()
    net.executor = counted = Counted(net)
    testing.test(net, [1, 1])
    assert counted.count == 2


@pytest.mark.parametrize("engine", ENGINES)
def test_outputs_that_change_their_shape_have_no_mean(engine):
    net = build(engine)

    def batches():
        yield 1
        for name in "xy":
            net.engine_blobs[name].reshape(2, 3)
        yield 1

    with pytest.raises(ShapeError) as caught:
        testing.test(net, batches())
    assert str(caught.value) == (
        'the output "x2" has shape (2, 3) in one batch and (4, 3) in the one before\n'
        "  A test takes the mean over batches: let a Silence or a Reduction read this blob."
    )
    for name in "xy":
        net.engine_blobs[name].reshape(4, 3)
    assert [output.name for output in testing.test(net, batches(), single=True).outputs] == ["loss"]


# Which meter


def test_the_layers_own_meter_then_its_types_then_the_mean(registry):
    net = build()
    loss = net.layer_dict["loss"]
    assert type(meter_for(loss, 0)) is Mean
    assert meter("EuclideanLoss")(RootMeanSquare) is RootMeanSquare
    assert type(meter_for(loss, 0)) is RootMeanSquare
    loss.meter = lambda top: Extremes(loss, top)
    assert type(meter_for(loss, 0)) is Extremes
    assert type(meter_for(net.layer_dict["double"], 0)) is Mean


def test_an_output_that_layers_change_in_place_is_the_last_ones(registry):
    net = build(definition=NET + 'layer { name: "clip" type: "Power" bottom: "x2" top: "x2" }')
    net.layer_dict["clip"].meter = lambda top: Extremes(None, top)
    (found,) = (output for output in testing.test(net, [1]).outputs if output.name == "x2")
    assert found.value == {"least": 0, "most": 0}


@pytest.mark.parametrize("single", [False, True])
def test_a_meter_sees_what_the_layer_has_read(registry, single):
    meter("EuclideanLoss")(RootMeanSquare)
    meter("Power")(Extremes)
    net = build()

    def batches():
        for k in (3, 4):
            fill(net, np.full((4, 3), k))
            yield 1

    found = testing.test(net, batches(), single=single)
    assert found.scores() == {"loss": pytest.approx(math.sqrt(12.5)), "x2/least": 6, "x2/most": 8}


def test_a_meter_of_no_layer_type_is_refused_with_its_place(registry):
    line = inspect.getsourcelines(Extremes)[1]
    meter("EuclidianLoss")(Extremes)
    with pytest.raises(ConfigError) as caught:
        testing.test(build(), [1])
    assert str(caught.value) == (
        f'{__file__}:{line}: meter Extremes: unknown layer type "EuclidianLoss"\n  Did you mean "EuclideanLoss"?'
    )


def test_two_meters_of_one_type_are_refused_unless_one_replaces_the_other(registry):
    meter("Power")(RootMeanSquare)
    meter("Power")(RootMeanSquare)  # written anew in a notebook
    with pytest.raises(ConfigError) as caught:
        meter("Power")(Extremes)
    assert str(caught.value) == (
        f'the meter of layer type "Power" of {__name__}.Extremes is that of {__name__}.RootMeanSquare already\n'
        "  Choose another name, or register it with replace=True."
    )
    assert meter("Power", replace=True)(Extremes) is Extremes
    with pytest.raises(ConfigError, match=r"is no caffepy.solver.meters.Meter: dict"):
        meter("Power")(dict)


def test_meters_merge(registry):
    net, values = build(), np.arange(36.0).reshape(3, 4, 3)
    for kind in (Mean, RootMeanSquare):
        whole, *parts = (kind(net.layer_dict["loss"], 0) for _ in range(3))
        for x, part in zip(values, (parts[0], parts[1], parts[1])):
            fill(net, x)
            of(net).forward()
            for each in (whole, part):
                each.add(net.nodes[-1].top[0], net.nodes[-1].bottom, 2)
        parts[0].merge(parts[1])
        assert float(parts[0].value()) == pytest.approx(float(whole.value()))


# How it is shown


def test_lines_of_numbers_arrays_and_names():
    outputs = [
        Output("loss", 2.0, 0.25),
        Output("of_class", 0.0, np.array([0.5, 1])),
        Output("recall", 0.0, {"cat": 0.125, "dog": 1}),
    ]
    assert list(output_lines("Test", outputs)) == [
        "    Test net output #0: loss = 0.25 (* 2 = 0.5 loss)",
        "    Test net output #1: of_class = 0.5",
        "    Test net output #2: of_class = 1",
        "    Test net output #3: recall/cat = 0.125",
        "    Test net output #4: recall/dog = 1",
    ]
    scores = {"loss": 0.25, "of_class": 0.75, "recall/cat": 0.125, "recall/dog": 1}
    assert Results(1, 0.5, outputs).scores() == scores


def test_the_solver_shows_and_keeps_what_meters_say(registry, caplog):
    meter("EuclideanLoss")(RootMeanSquare)
    net = NET.replace("layer {", "net_param { layer {", 1) + "}"
    built = Solver(text.parse(f"{net} test_iter: 2 test_interval: 1", SolverParameter()))
    with caplog.at_level("INFO", "caffepy"):
        assert built.test()["loss"] == 0
    assert "    Test net output #0: loss = 0 (* 0.5 = 0 loss)" in caplog.messages


def test_a_meter_that_is_empty_at_first_is_taken(monkeypatch):
    class Counting(Meter):
        def __init__(self):
            pass

        def __len__(self):
            return 0

    layer = build().layer_dict["loss"]
    counting = Counting()
    monkeypatch.setattr(layer, "meter", lambda top: counting, raising=False)
    assert meter_for(layer, 0) is counting
