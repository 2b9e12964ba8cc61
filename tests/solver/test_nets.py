"""Which nets a solver definition names, in which state, and which of their layers are frozen."""

from __future__ import annotations

import pytest

from caffepy.errors import ConfigError
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import TEST, TRAIN, NetState, SolverParameter
from caffepy.solver import nets

LAYERS = "".join(f'layer {{ name: "{name}" type: "Input" top: "{name}" }} ' for name in ("conv1", "conv2", "fc"))


def definition(fields: str) -> SolverParameter:
    return text.parse(fields, SolverParameter())


def names(fields: str) -> list[str]:
    """The names of the test nets, in order."""
    given = fields if "test_interval" in fields else f"test_interval: 1 {fields}"
    found = nets.test_nets(definition(given))
    return [planned.definition.param.name for planned in found]


def net(name: str, field: str = "test_net_param") -> str:
    return f'{field} {{ name: "{name}" }} '


def test_test_nets_in_caffes_order_the_trained_one_for_the_rest():
    assert names(net("a") + net("b") + net("own", "net_param") + "test_iter: 1 " * 4) == ["a", "b", "own", "own"]
    assert names(net("own", "net_param")) == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            net("a") + net("b") + "test_iter: 1",
            "1 test_iter for 2 test net(s)\n  Give one test_iter for each test net.",
        ),
        ("test_iter: 1", "1 test_iter for 0 test net(s)\n  Give one test_iter for each test net."),
        (
            net("own", "net_param") + "test_iter: 1 test_iter: 2 test_state { }",
            "1 test_state for 2 test net(s): give one for each, or none",
        ),
        (
            net("own", "net_param") + "test_iter: 1 test_interval: 0",
            "test nets are given, but test_interval is not set\n  Set test_interval, or remove test_iter.",
        ),
    ],
)
def test_what_does_not_fit(fields, said):
    with pytest.raises(ConfigError) as caught:
        names(fields)
    assert str(caught.value) == said


def test_states_are_merged_the_solvers_last():
    param = text.parse('state { level: 2 stage: "net" }', definition("").net_param.__class__())
    assert nets.merged_state(param, TRAIN, None) == NetState(phase=TRAIN, level=2, stage=["net"])
    merged = nets.merged_state(param, TEST, NetState(level=5, stage=["solver"]))
    assert merged == NetState(phase=TEST, level=5, stage=["net", "solver"])
    own = text.parse("state { phase: TRAIN }", param.__class__())
    assert nets.merged_state(own, TEST, None).phase == TRAIN


def test_frozen_layers_by_patterns_of_names():
    given = definition(f'net_param {{ {LAYERS} }} freeze: "conv*"')
    planned = nets.train_net(given)
    assert [layer.freeze for layer in planned.definition.param.layer] == [True, True, False]
    assert not any(layer.freeze for layer in given.net_param.layer)  # what was given stays as it is


def test_a_pattern_that_means_no_layer():
    with pytest.raises(ConfigError) as caught:
        nets.train_net(definition(f'net_param {{ {LAYERS} }} freeze: "conv3"'))
    assert str(caught.value).startswith('freeze: no layer is called "conv3"\n  Did you mean "conv')
