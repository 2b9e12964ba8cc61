"""include/exclude rules and Splits."""

from __future__ import annotations

from itertools import repeat

import pytest

from caffepy.errors import ConfigError
from caffepy.net import wiring
from caffepy.proto.caffe_pb2 import NetParameter, NetState, NetStateRule
from caffepy.proto.text import parse


def net(text: str) -> NetParameter:
    return parse(text, NetParameter())


@pytest.mark.parametrize(
    ("rule", "met"),
    [
        ("", True),
        ("phase: TEST", True),
        ("phase: TRAIN", False),
        ("min_level: 2", True),
        ("min_level: 3", False),
        ("max_level: 2", True),
        ("max_level: 1", False),
        ("min_level: 1 max_level: 3", True),
        ('stage: "a"', True),
        ('stage: "a" stage: "b"', True),
        ('stage: "a" stage: "c"', False),
        ('not_stage: "c"', True),
        ('not_stage: "b"', False),
        ('stage: "a" not_stage: "b"', False),
        ('phase: TRAIN stage: "a"', False),
    ],
)
def test_a_rule_is_met_when_all_it_says_holds(rule, met):
    state = parse('phase: TEST level: 2 stage: "a" stage: "b"', NetState())
    assert wiring.meets(state, parse(rule, NetStateRule())) is met


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        ("", True),
        ("include { phase: TEST }", False),
        ("include { phase: TEST } include { phase: TRAIN }", True),
        ("exclude { phase: TEST }", True),
        ("exclude { phase: TEST } exclude { phase: TRAIN }", False),
    ],
)
def test_one_include_or_no_exclude_must_be_met(rules, kept):
    param = net(f'state {{ phase: TRAIN }} layer {{ name: "a" {rules} }}')
    assert [(layer.name, place) for layer, place in wiring.filter_layers(param, repeat("f:1:1: "))] == (
        [("a", "f:1:1: ")] if kept else []
    )


def test_include_and_exclude_exclude_each_other():
    param = net('layer { name: "a" include { } exclude { } }')
    with pytest.raises(ConfigError) as caught:
        list(wiring.filter_layers(param, repeat("f:1:1: ")))
    assert str(caught.value) == 'f:1:1: layer "a": a layer has either include or exclude rules, not both'


def test_the_state_in_words():
    state = parse('phase: TEST level: 2 stage: "a" stage: "" stage: "b"', NetState())
    assert wiring.describe(state) == 'phase TEST, level 2, stage "a", stage "b"'


def split(text: str) -> list[str]:
    layers = list(net(text).layer)
    return [
        f"{out.name}({','.join(out.bottom)})->{','.join(out.top)} {list(out.loss_weight) or ''}".strip()
        for out in wiring.insert_splits(layers, ["f: "] * len(layers))
    ]


INPUT = 'layer { name: "in" top: "x" top: "y" }'


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ('layer { name: "a" bottom: "x" top: "z" }', ["in()->x,y", "a(x)->z"]),
        (
            'layer { name: "a" bottom: "y" top: "z" } layer { name: "b" bottom: "y" top: "w" }',
            [
                "in()->x,y",
                "y_in_1_split(y)->y_in_1_split_0,y_in_1_split_1",
                "a(y_in_1_split_0)->z",
                "b(y_in_1_split_1)->w",
            ],
        ),
        (  # in place: the layer's own top is a new one, of the same name
            'layer { name: "r" bottom: "x" top: "x" } layer { name: "a" bottom: "x" bottom: "x" top: "z" }',
            [
                "in()->x,y",
                "r(x)->x",
                "x_r_0_split(x)->x_r_0_split_0,x_r_0_split_1",
                "a(x_r_0_split_0,x_r_0_split_1)->z",
            ],
        ),
        (  # the weight of a loss that is read is its first use, and moves
            'layer { name: "l" bottom: "x" top: "z" loss_weight: 2 } layer { name: "a" bottom: "z" top: "w" }',
            [
                "in()->x,y",
                "l(x)->z",
                "z_l_0_split(z)->z_l_0_split_0,z_l_0_split_1 [2.0, 0.0]",
                "a(z_l_0_split_1)->w",
            ],
        ),
        (
            'layer { name: "l" bottom: "x" top: "z" loss_weight: 2 }',
            ["in()->x,y", "l(x)->z [2.0]"],
        ),
    ],
)
def test_a_split_wherever_a_blob_has_several_readers(layers, expected):
    assert split(INPUT + layers) == expected


def test_the_definition_is_not_changed():
    param = net(INPUT + 'layer { name: "a" bottom: "x" bottom: "x" }')
    before = param.SerializeToString()
    list(wiring.insert_splits(list(param.layer), ["", ""]))
    assert param.SerializeToString() == before


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (
            'layer { name: "a" bottom: "z" }',
            'f: layer "a": unknown bottom "z"\n  No layer before it has a top of this name.',
        ),
        (
            'layer { name: "a" bottom: "zoom" } layer { name: "b" top: "zoon" }',
            'f: layer "a": unknown bottom "zoom"\n  Did you mean "zoon"?',
        ),
        (
            'layer { name: "a" bottom: "z" } layer { name: "b" top: "z" }',
            'f: layer "a": unknown bottom "z"\n  '
            '"z" is made by layer "b", which comes later: move this layer behind it.',
        ),
    ],
)
def test_unknown_bottoms(layers, expected):
    with pytest.raises(ConfigError) as caught:
        split(INPUT + layers)
    assert str(caught.value) == expected


def test_a_bottom_that_the_rules_leave_out():
    param = net(
        'state { phase: TRAIN } layer { name: "a" top: "x" include { phase: TEST } } layer { name: "b" bottom: "x" } '
        'layer { name: "c" top: "y" include { phase: TEST } } layer { name: "c" top: "y" include { phase: TRAIN } }'
    )
    kept = [layer for layer, _ in wiring.filter_layers(param, repeat(""))]
    dropped = wiring.left_out(param, kept)
    assert list(dropped) == ["x"]
    with pytest.raises(ConfigError) as caught:
        list(wiring.insert_splits(kept, ["", ""], dropped))
    assert str(caught.value) == (
        'layer "b": unknown bottom "x"\n'
        '  "x" is made by layer "a", which include/exclude leave out in phase TRAIN, level 0.'
    )
