"""Nets: wiring, backward analysis, shared parameters, reshaping and hooks, on small definitions."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy import TEST, TRAIN, rng
from caffepy.engine import get_engine
from caffepy.errors import CaffeError, ConfigError, ShapeError
from caffepy.proto.caffe_pb2 import NetParameter
from caffepy.proto.text import parse
from caffepy.pycaffe.net import Net
from tests.support import ENGINES, assert_close

INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'
LABEL = 'layer { name: "label" type: "Input" top: "t" input_param { shape { dim: 2 dim: 4 } } }\n'


def ip(name: str, bottom: str, outputs: int = 4, more: str = "") -> str:
    return (
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" {more}\n'
        f'  inner_product_param {{ num_output: {outputs} weight_filler {{ type: "gaussian" }} }} }}\n'
    )


def euclidean(*bottoms: str, more: str = "") -> str:
    names = " ".join(f'bottom: "{b}"' for b in bottoms)
    return f'layer {{ name: "loss" type: "EuclideanLoss" {names} top: "loss" {more} }}\n'


def relu(bottom: str, top: str, more: str = "") -> str:
    return f'layer {{ name: "{top}_relu" type: "ReLU" bottom: "{bottom}" top: "{top}" {more} }}\n'


def build(text: str, phase: int = TRAIN, engine: str = "numpy", **options) -> Net:
    return Net(parse(text, NetParameter()), phase, engine=get_engine(engine), **options)


def refused(text: str, kind: type[CaffeError] = ConfigError) -> str:
    with pytest.raises(kind) as caught:
        build(text)
    return str(caught.value)


# Which layers, which blobs


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["in", "train"]),
        ({"phase": TEST}, ["in", "test"]),
        ({"level": 2}, ["in", "train", "deep"]),
        ({"stages": ["extra"]}, ["in", "train", "extra"]),
        ({"phase": TEST, "level": 2, "stages": ["extra", "other"]}, ["in", "test", "deep", "extra"]),
    ],
)
def test_rules_choose_the_layers(options, expected):
    text = INPUT + "".join(
        relu("x", name, rule).replace(f"{name}_relu", name)
        for name, rule in [
            ("train", "include { phase: TRAIN }"),
            ("test", "exclude { phase: TRAIN }"),
            ("deep", "include { min_level: 1 }"),
            ("extra", 'include { stage: "extra" }'),
        ]
    )
    net = build(text, **options)
    assert [name for name in net.layer_names if not name.endswith("_split")] == expected


def test_phase_and_stages_of_the_definition_itself():
    net = Net(parse('state { phase: TEST stage: "s" }' + INPUT + relu("x", "y", 'include { phase: TEST stage: "s" }'),
                    NetParameter()))  # fmt: skip
    assert net.phase == TEST and net.layer_names == ["in", "y_relu"]


def test_outputs_are_what_nobody_reads():
    net = build(INPUT + relu("x", "z") + relu("z", "b") + relu("x", "a"))
    assert net.outputs == ["a", "b"]
    assert net.inputs == ["x"]


def test_a_layer_in_place_has_one_blob():
    net = build(INPUT + ip("ip", "x") + relu("ip", "ip") + relu("ip", "y"))
    assert net.nodes[1].top[0] is net.nodes[2].top[0] is net.nodes[3].bottom[0]
    assert list(net.blobs) == ["x", "ip", "y"]


def test_layers_without_parameters_may_have_one_name():
    text = (
        INPUT
        + ip("ip", "x")
        + "".join(
            f'layer {{ type: "{kind}" bottom: "{bottom}" top: "{top}" }}'
            for kind, bottom, top in [("ReLU", "ip", "ip"), ("Power", "ip", "p"), ("Reduction", "p", "loss")]
        ).replace('top: "loss"', 'top: "loss" loss_weight: 1')
    )
    rng.seed(1)  # by bad luck the ReLU would leave nothing
    net = build(text)
    assert net.layer_names == ["in", "ip", "", "", ""]
    assert [node.need_backward for node in net.nodes] == [False, True, True, True, True]
    net.blobs["x"].data[...] = np.random.default_rng(0).standard_normal((2, 3))
    net.forward_backward()
    assert np.asarray(net.blobs["ip"].data).any()
    assert np.asarray(net.params["ip"][1].diff).tolist() == (np.asarray(net.blobs["ip"].data) > 0).sum(0).tolist()


def test_a_mistake_in_a_layer_without_a_name_has_its_line(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(INPUT + "\n".join(
        f'layer {{ type: "Softmax" bottom: "x" top: "{top}" softmax_param {{ axis: {axis} }} }}'
        for top, axis in [("a", 1), ("b", 7), ("c", 1)]
    ))  # fmt: skip
    with pytest.raises(ConfigError, match=r'net\.prototxt:3:1: layer "": axis 7 is out of range'):
        Net(path, TRAIN)


EACH = '  Each line bottom: "name" of the layer gives one: '
MISTAKES = {
    INPUT + relu("x", "a") + relu("x", "x"): (
        'layer "x_relu": top "x" is already made by layer "in"\n'
        "  Other layers read this blob, too, so this layer cannot run in place: rename its top."
    ),
    INPUT + relu("absent", "y"): ('layer "y_relu": unknown bottom "absent"\n  '
                              "No layer before it has a top of this name."),
    INPUT + relu("xx", "y"): 'layer "y_relu": unknown bottom "xx"\n  Did you mean "x"?',
    INPUT + relu("y", "z") + relu("x", "y"): (
        'layer "z_relu": unknown bottom "y"\n'
        '  "y" is made by layer "y_relu", which comes later: move this layer behind it.'
    ),
    INPUT + ip("a", "x") + ip("b", "x").replace('top: "b"', 'top: "a"'): (
        'layer "b": top "a" is already made by layer "a"\n'
        "  Rename the top; to run in place, name it as bottom of the same index, too."
    ),
    INPUT + ip("a", "x") + ip("a", "x").replace('top: "a"', 'top: "b"'): (
        'layer "a": the net has two layers of this name\n  Give each layer a name of its own.'
    ),
    INPUT + relu("x", "y").replace("ReLU", "RELU7"): (
        'layer "y_relu": unknown layer type "RELU7"\n  Did you mean "ReLU"?'
    ),
    INPUT + relu("x", "y").replace('type: "ReLU"', ""): (
        'layer "y_relu": type is not set\n  Say what the layer does: type: "Convolution", for example.'
    ),
    INPUT + relu("x", "y", 'bottom: "x"'): (
        'layer "y_relu": ReLU takes 1 bottom blob(s), 2 given\n' + EACH + "leave out 1."
    ),
    INPUT + euclidean("x"): 'layer "loss": EuclideanLoss takes 2 bottom blob(s), 1 given\n' + EACH + "add 1.",
    INPUT + relu("x", "y", "propagate_down: true propagate_down: false"): (
        'layer "y_relu": propagate_down is given 2 time(s) for 1 bottom(s)'
    ),
    INPUT + relu("x", "y", "param { }"): 'layer "y_relu": 1 param { } given, the layer has 0 parameter blob(s)',
    INPUT + relu("x", "y", "loss_weight: 1 loss_weight: 2"): (
        'layer "y_relu": 2 loss_weight(s) given for 1 top(s); give one for each top or none'
    ),
    INPUT + LABEL + euclidean("x", "t"): 'layer "loss": items of "x" (2, 3) and "t" (2, 4) differ in size',
}  # fmt: skip


@pytest.mark.parametrize("text", MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes(text):
    assert refused(text) == MISTAKES[text]


def test_mistakes_in_a_file_have_its_lines(tmp_path):
    path = tmp_path / "n.prototxt"
    path.write_text(INPUT + relu("x", "y") + relu("w", "z"))
    with pytest.raises(ConfigError) as caught:
        Net(path)
    assert str(caught.value).startswith(f'{path}:3:1: layer "z_relu": unknown bottom "w"')


def test_messages_name_the_blob_not_its_split():
    text = INPUT + ip("a", "x") + ip("b", "x", 5) + relu("a", "a2") + euclidean("a2", "b") + relu("b", "c")
    assert refused(text) == 'layer "loss": items of "a2" (2, 4) and "b" (2, 5) differ in size'


# Backward


def needs(net: Net) -> dict[str, bool]:
    return {node.layer.name: node.need_backward for node in net.nodes}


def test_gradients_flow_only_where_they_are_needed():
    frozen = "param { lr_mult: 0 } param { lr_mult: 0 }"
    text = INPUT + LABEL + ip("a", "x", more=frozen) + ip("b", "a") + euclidean("b", "t") + ip("unused", "a")
    net = build(text)
    found = needs(net)
    assert {n: found[n] for n in ("in", "a", "b", "loss", "unused")} == {
        "in": False, "a": False, "b": True, "loss": True, "unused": False,
    }  # fmt: skip
    assert net.nodes[net.layer_names.index("b")].bottom_need_backward == [False]
    net = build("force_backward: true " + text)
    assert all(needs(net).values())
    assert net.nodes[net.layer_names.index("b")].bottom_need_backward == [True]


def test_propagate_down_false_stops_the_gradient():
    text = INPUT + LABEL + ip("a", "x") + ip("b", "a", more="propagate_down: false") + euclidean("b", "t")
    assert needs(build(text))["a"] is False


@pytest.mark.parametrize("engine", ENGINES)
def test_a_step_is_the_formulas(engine):
    net = build(INPUT + LABEL + ip("a", "x") + euclidean("a", "t", more="loss_weight: 3"), engine=engine)
    random = np.random.default_rng(1)
    x, t = random.normal(size=(2, 3)).astype("f4"), random.normal(size=(2, 4)).astype("f4")
    w, b = (net.engine.to_host(blob.data) for blob in net.params["a"])
    net.blobs["x"].data[...], net.blobs["t"].data[...] = net.engine.asarray(x), net.engine.asarray(t)
    net.clear_param_diffs()
    error = x @ w.T + b - t
    assert float(net.forward_backward()) == pytest.approx(3 * (error**2).sum() / 4, rel=1e-5)
    dw, db = (net.engine.to_host(blob.diff) for blob in net.params["a"])
    assert_close(dw, 3 * error.T @ x / 2)
    assert_close(db, 3 * error.sum(0) / 2)
    net.backward_from_to()
    assert_close(net.engine.to_host(net.params["a"][1].diff), 3 * error.sum(0))  # added to
    net.clear_param_diffs()
    assert not net.engine.to_host(net.params["a"][0].diff).any()


# Shared parameters


def shared(first: str, second: str, outputs: tuple[int, int] = (3, 3)) -> str:
    return (
        INPUT
        + ip("a", "x", outputs[0], f'param {{ name: "w" {first} }}')
        + ip("b", "a", outputs[1], f'param {{ name: "w" {second} }}')
    )


def test_shared_parameters_are_one():
    net = build(shared("", "lr_mult: 2 decay_mult: 3"))
    assert [p.owner for p in net.learnable_params] == ["a[0]", "a[1]", "b[1]"]
    assert (net.learnable_params[0].lr_mult, net.learnable_params[0].decay_mult) == (2, 3)
    assert [net.owns_param(*p) for p in (("a", 0), ("b", 0), ("b", 1))] == [True, False, True]
    for which in ("data", "diff"):
        getattr(net.params["a"][0], which)[...] = 5
        assert (net.engine.to_host(getattr(net.params["b"][0], which)) == 5).all()


def test_shared_gradients_add_up():
    net = build("force_backward: true " + shared("", "") + relu("b", "y", "loss_weight: 1"))
    net.blobs["x"].data[...] = 1
    net.params["a"][0].data[...] = 1
    net.clear_param_diffs()
    net.forward_backward()  # y = sum over the 3 paths of w w x
    assert_close(net.params["a"][0].diff, np.full((3, 3), 2 * (3 + 3)))


def test_shapes_that_share_must_agree():
    assert refused(shared("", "", (4, 3)), ShapeError) == (
        'layer "b": param "w" has shape (3, 4) here and (4, 3) in a[0], its owner\n'
        "  share_mode: PERMISSIVE shares shapes that differ but have one count."
    )
    net = build(shared("", "share_mode: PERMISSIVE", (4, 3)))
    net.params["a"][0].data[...] = np.arange(12).reshape(4, 3)
    np.testing.assert_array_equal(net.params["b"][0].data, np.arange(12).reshape(3, 4))
    assert refused(shared("", "share_mode: PERMISSIVE", (4, 5)), ShapeError) == (
        'layer "b": param "w" has shape (5, 4) here and (4, 3) in a[0], its owner'
    )


@pytest.mark.parametrize("field", ["lr_mult", "decay_mult"])
def test_multipliers_that_disagree_are_refused(field):
    assert refused(shared(f"{field}: 1", f"{field}: 2")) == (
        f'layer "b": param "w": {field} 2 here, 1 in a[0]\n'
        "  Shared parameters are updated once: give the multiplier in one place."
    )


def test_test_nets_use_the_trained_layers_of_another_net(caplog):
    train, test = build(INPUT + ip("a", "x") + ip("b", "a")), build(INPUT + ip("a", "x"))
    with caplog.at_level("INFO", "caffepy"):
        test.share_trained_layers_with(train)
    assert [r.getMessage() for r in caplog.records] == ["Ignoring source layer b"]
    train.params["a"][0].data[...] = 5
    assert (test.params["a"][0].data == 5).all()
    with pytest.raises(ShapeError) as caught:
        build(INPUT + ip("a", "x", 5)).share_trained_layers_with(train)
    assert str(caught.value) == (
        'layer "a" has parameters [(5, 3), (5,)] in one net and [(4, 3), (4,)] in the other'
    )  # fmt: skip


# Running


@pytest.mark.parametrize("ask", [False, True])
def test_new_input_shapes_reach_all_layers(ask):
    net = build(INPUT + ip("a", "x") + relu("a", "y"))
    net.blobs["x"].reshape(7, 3)
    if ask:
        net.reshape()
        assert net.blobs["y"].shape == (7, 4)
    net.forward_from_to()
    assert net.blobs["y"].shape == (7, 4)


@pytest.mark.parametrize("run", [Net.reshape, Net.forward_from_to])
def test_input_shapes_that_do_not_fit_are_refused(run):
    net = build(INPUT + ip("a", "x"))
    net.blobs["x"].reshape(2, 5)
    with pytest.raises(ShapeError) as caught:
        run(net)
    assert str(caught.value).startswith('layer "a": ')
    assert "5" in str(caught.value) and "3" in str(caught.value)


def test_part_of_a_net_runs():
    net = build(INPUT + relu("x", "y") + relu("y", "z"))
    net.blobs["y"].data[...] = 3
    net.forward_from_to(2, 2)
    assert (net.blobs["z"].data == 3).all()
    net.blobs["x"].data[...] = 4
    net.forward_from_to(0, 1)
    assert (net.blobs["y"].data == 4).all() and (net.blobs["z"].data == 3).all()


def test_hooks_are_called_around_every_layer():
    net = build("force_backward: true " + INPUT + relu("x", "y") + relu("y", "z"))
    calls = []
    for when in ("before_forward", "after_forward", "before_backward", "after_backward"):
        getattr(net, when)(lambda i, when=when: calls.append((when, i)))
    net.forward_backward()
    assert calls == [(f"{a}_forward", i) for i in range(3) for a in ("before", "after")] + [
        (f"{a}_backward", i) for i in (2, 1, 0) for a in ("before", "after")
    ]


def test_output_values():
    net = build(INPUT + LABEL + ip("a", "x") + euclidean("a", "t", more="loss_weight: 2") + relu("x", "y"))
    loss = net.forward_from_to()
    outputs = {name: (weight, values) for name, weight, values in net.output_values()}
    assert {name: weight for name, (weight, _) in outputs.items()} == {"loss": 2.0, "y": 0.0}
    assert float(loss) == pytest.approx(2 * float(outputs["loss"][1]))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("", "", True),
        ('param { name: "w" lr_mult: 0 }', 'param { name: "w" }', True),  # for the second layer it is computed
        ('param { name: "w" }', 'param { name: "w" lr_mult: 0 }', True),
        ('param { name: "w" lr_mult: 0 }', 'param { name: "w" lr_mult: 0 }', False),
    ],
)
def test_which_parameters_have_a_gradient(first, second, expected):
    net = build(INPUT + LABEL + ip("a", "x", 3, first) + ip("b", "a", 3, second) + ip("c", "b") + euclidean("c", "t"))
    assert net.learnable_params[0].has_gradient == expected
    for name in ("x", "t"):
        net.blobs[name].data[...] = 1
    net.forward_backward()
    assert bool(net.params["a"][0].diff.any()) == expected


def test_statistics_have_no_gradient():
    net = build(INPUT + LABEL + ip("a", "x") + 'layer { name: "bn" type: "BatchNorm" bottom: "a" top: "bn" }'
                + euclidean("bn", "t"))  # fmt: skip
    assert [param.has_gradient for param in net.learnable_params] == [True, True, False, False, False]
