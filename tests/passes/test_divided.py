"""Batches in parts: the same values however they are computed."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import warnings
import weakref
from pathlib import Path

import numpy as np
import pytest

from caffepy import rng
from caffepy.errors import ConfigError, ShapeError
from caffepy.layers.tanh import TanH
from caffepy.net import layer
from caffepy.net.blob import Blob
from caffepy.passes import Whole, divided
from tests.passes.nets import NET, assert_all_close, assert_same, build, gradients, passes
from tests.support import assert_close


def test_parts_compute_what_the_whole_batch_computes():
    assert_all_close(passes(build()), passes(build(executor=Whole)))


@pytest.mark.parametrize("threads", [1, 3, 4, 8])
def test_the_bits_do_not_depend_on_the_threads(threads):
    assert_same(passes(build(threads=threads)), passes(build()))


@pytest.mark.parametrize(("threads", "each"), [(1, 1), (2, 1), (3, 1), (4, 2), (8, 4)])
def test_each_part_has_its_share_of_the_threads(threads, each):
    net = build(threads=threads)
    net.forward()
    for stretch in net.passes.stretches.values():
        engines = [next(iter(part._steps.values())).layer.engine for part in stretch.parts]
        assert [engine.pool.threads for engine in engines] == [each] * 2
        assert (engines[0].pool is engines[1].pool) == (each == 1)


def test_stretches_end_at_layers_that_see_the_whole_batch():
    net = build()
    net.forward()
    found = {(s.layers.start, s.layers.stop) for s in net.passes.stretches.values()}
    names = net.layer_names
    assert found == {
        (names.index("conv1"), names.index("drop")),
        (names.index("ip"), names.index("loss")),
    }


def test_one_item_is_not_divided():
    net = build(NET.replace("dim: 5", "dim: 1"))
    net.forward()
    assert not net.passes.stretches


def test_small_nets_are_not_divided(monkeypatch):
    monkeypatch.setattr(divided, "LEAST_ELEMENTS", 1 << 17)
    net = build()
    net.forward()
    assert not net.passes.stretches


def test_another_number_of_items_is_divided_anew():
    net, reference = build(), build(executor=Whole)
    for items in (5, 3, 1, 5, 9, 1):
        for one in (net, reference):
            values = np.random.default_rng(items)
            one.blobs["x"].reshape(items, 3, 12, 12)
            one.blobs["t"].reshape(items)
            one.blobs["x"].data[...] = values.normal(size=(items, 3, 12, 12))
        assert_all_close(passes(net, 2), passes(reference, 2), tolerance=1e-3)


def test_ranges_of_layers_run_in_parts_too():
    net, whole = build(), build()
    passes(whole)
    rng.seed(5)
    for _ in range(3):
        net.clear_param_diffs()
        net.forward(end="pool")
        net.forward(start="relu")
        net.backward(end="norm")
        net.backward(start="relu")
        for param in net.learnable_params:
            param.blob.data[...] -= 0.1 * param.blob.diff
    for name in whole.blobs:
        np.testing.assert_array_equal(net.blobs[name].data, whole.blobs[name].data)
    assert_same(gradients(net), gradients(whole))


def test_hooks_are_called_around_every_layer_and_change_nothing():
    net, reference, calls = build(), build(), []
    net.before_forward(lambda i: calls.append(("before", i)))
    net.after_forward(lambda i: calls.append(("after", i)))
    net.after_backward(lambda i: calls.append(("back", i)))
    assert_same(passes(net, 2), passes(reference, 2))
    count = len(net.layers)
    once = [(when, i) for i in range(count) for when in ("before", "after")]
    once += [("back", i) for i in reversed(range(count)) if net.nodes[i].need_backward]
    assert calls == 2 * once


def test_gradients_of_several_passes_add_up():
    net, reference = build(), build(executor=Whole)
    for one in (net, reference):
        one.clear_param_diffs()
        rng.seed(5)
        for _ in range(3):
            one.forward_backward()
    assert_all_close(gradients(net), gradients(reference))


def test_gradients_that_nobody_has_asked_for_before():
    frozen = NET.replace('top: "conv1"\n', 'top: "conv1" param { lr_mult: 0 } param { lr_mult: 0 }\n', 1)
    for text in (NET, frozen):
        net, reference = build(text), build(text, executor=Whole)
        for one in (net, reference):
            rng.seed(5)
            one.forward()
            one.clear_param_diffs()
            _ = one.blobs["x"].diff
            one.backward()
            one.backward()
        assert_all_close(gradients(net), gradients(reference))


def test_a_layer_runs_backward_though_no_loss_needs_it():
    text = """
    layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 6 dim: 4 } } }
    layer { name: "side" type: "InnerProduct" bottom: "x" top: "side"
            inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
    """
    net, reference = build(text), build(text, executor=Whole)
    for one in (net, reference):
        one.forward()
        one.forward()
        one.blobs["side"].diff[...] = 1
        one.passes.backward([1])
    assert_close(net.params["side"][0].diff, reference.params["side"][0].diff)
    assert np.abs(net.params["side"][0].diff).max() > 0


def test_a_parameter_that_is_switched_off_or_replaced():
    net = build()
    passes(net, 2)
    conv1 = net.layer_dict["conv1"]
    conv1.param_propagate_down[0] = False
    conv1.blobs[1] = bias = Blob((8,), net.engine)
    bias.data[...] = 100
    net.clear_param_diffs()
    net.forward_backward()
    assert not net.params["conv1"][0].diff.any() and bias.diff.any()
    assert net.blobs["conv1"].data.mean() > 90


def test_layers_that_share_a_parameter():
    text = """
    layer { name: "in" type: "Input" top: "a" top: "b" input_param { shape { dim: 4 dim: 3 } shape { dim: 4 dim: 3 } } }
    layer { name: "ipa" type: "InnerProduct" bottom: "a" top: "ya" param { name: "w" } param { name: "c" }
            inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
    layer { name: "ipb" type: "InnerProduct" bottom: "b" top: "yb" param { name: "w" } param { name: "c" }
            inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
    layer { name: "loss" type: "EuclideanLoss" bottom: "ya" bottom: "yb" top: "loss" }
    """
    net = build(text)
    assert_all_close(passes(net), passes(build(text, executor=Whole)))
    assert net.passes.stretches


def test_weights_shared_by_another_net_are_followed_without_dividing_anew():
    net, other = build(), build()
    passes(other)
    net.share_with(other)
    for _ in range(2):
        net.forward()
    before = set(net.passes.stretches.values())
    other.params["conv1"][0].data[...] *= 0.5
    net.share_with(other)
    net.forward(end="conv1")
    other.forward(end="conv1")
    np.testing.assert_array_equal(net.blobs["conv1"].data, other.blobs["conv1"].data)
    assert set(net.passes.stretches.values()) == before


def test_backward_asks_for_what_forward_has_left():
    net, other = build(), build()
    net.forward()
    net.share_with(other)
    with pytest.raises(ConfigError, match="Run forward again"):
        net.backward()
    net.forward()
    net.backward()


class Centred(TanH):
    """Looks at the whole batch, unlike the class that it is derived from."""

    def forward(self, bottom, top):
        super().forward(bottom, top)
        top[0].data[...] -= top[0].data.mean(axis=0)


def test_a_subclass_must_say_itself_that_it_is_divisible(monkeypatch):
    monkeypatch.setitem(layer._registry, "TanH", Centred)
    assert_all_close(passes(build()), passes(build(executor=Whole)))


def test_an_axis_that_becomes_the_items_is_not_divided():
    text = """
    layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 6 dim: 4 } } }
    layer { name: "relu" type: "ReLU" bottom: "x" top: "y" }
    layer { name: "p" type: "Softmax" bottom: "y" top: "p" softmax_param { axis: -1 } }
    """
    net = build(text)
    net.forward()
    net.blobs["x"].reshape(24)
    net.forward()
    assert net.blobs["p"].data.sum() == pytest.approx(1, abs=1e-5)


def test_a_blob_whose_memory_order_changes():
    net, reference = build(), build(executor=Whole)
    for one in (net, reference):
        passes(one, 2)
        conv1 = one.blobs["conv1"]
        Blob((5, conv1.count // 5), one.engine).share_data(conv1)  # another shape: both in C order from now on
        rng.seed(2)
        one.forward()
    assert_close(net.blobs["conv1"].data, reference.blobs["conv1"].data, tolerance=1e-4)
    assert_close(net.blobs["ip"].data, reference.blobs["ip"].data, tolerance=1e-4)


def test_branches_that_are_reshaped_one_after_the_other():
    text = "".join(
        f"""
    layer {{ name: "in_{x}" type: "Input" top: "{x}" input_param {{ shape {{ dim: 6 dim: 4 }} }} }}
    layer {{ name: "relu_{x}" type: "ReLU" bottom: "{x}" top: "y_{x}" }}"""
        for x in "abc"
    )
    net = build(text)
    for name, items in (("a", 6), ("a", 6), ("a", 1), ("c", 8), ("c", 8), ("a", 8), ("b", 8)):
        net.blobs[name].reshape(items, 4)
        net.blobs[name].data[...] = np.random.default_rng(items).normal(size=(items, 4))
        net.forward()
        for x in "abc":
            np.testing.assert_array_equal(net.blobs[f"y_{x}"].data, np.maximum(net.blobs[x].data, 0))


@pytest.mark.parametrize("seed", range(12))
def test_any_sequence_of_calls_computes_what_the_whole_batch_computes(seed, monkeypatch):
    """Reshaping, parts of the net, weights of another net; gradients are right or refused."""
    monkeypatch.setattr(divided, "LEAST_ELEMENTS", int(np.random.default_rng(seed).choice([0, 3000, 9000])))
    choose = np.random.default_rng(seed)
    nets, others = [build(), build(executor=Whole)], [build(), build(executor=Whole)]
    names = nets[0].layer_names
    for one in (*nets, *others):
        rng.seed(5)
        one.forward()
    for _ in range(14):
        action = choose.choice(["pass", "pass", "items", "ranges", "share", "weights"])
        items, cut, seen = int(choose.choice([1, 2, 5, 9])), int(choose.integers(1, len(names))), []
        for one, other in zip(nets, others):
            if action == "items":
                one.blobs["x"].reshape(items, 3, 12, 12)
                one.blobs["t"].reshape(items)
                one.blobs["x"].data[...] = np.random.default_rng(items).normal(size=(items, 3, 12, 12))
                one.blobs["t"].data[...] = np.arange(items) % 6
            elif action == "share":
                one.share_with(other)
            elif action == "weights":
                one.params["left"][0].data[...] *= 0.9
            rng.seed(5)
            one.clear_param_diffs()
            if action == "ranges":
                one.forward(end=names[cut - 1])
                one.forward(start=names[cut])
            elif action == "share":
                one.forward(start=names[cut])
            else:
                one.forward()
            try:
                one.backward()
            except ConfigError:
                assert action == "share" and one is nets[0]  # what ran before the weights changed is forgotten
                rng.seed(5)
                one.clear_param_diffs()
                one.forward()
                one.backward()
                seen.append(None)
                continue
            seen.append(gradients(one) + [blob.data.copy() for blob in one.blobs.values()])
        if None not in seen:
            assert_all_close(*seen, tolerance=1e-3)


class Picky(TanH):
    """Refuses a value."""

    refused = 1000
    error: Exception = ValueError()

    def divisible(self):
        return True

    def forward(self, bottom, top):
        super().forward(bottom, top)
        if (bottom[0].data == self.refused).any():
            raise self.error


@pytest.mark.parametrize("item", [0, 4])
def test_an_error_in_a_part_is_the_callers(item, monkeypatch):
    monkeypatch.setitem(layer._registry, "TanH", Picky)
    monkeypatch.setattr(Picky, "error", ShapeError("no", hint="Try yes."))
    net = build()
    passes(net, 2)
    net.blobs["ip"].data[item, 0] = Picky.refused
    with pytest.raises(ShapeError) as caught:
        net.forward(start="tanh")
    assert '"tanh": no\n  Try yes.' in str(caught.value)
    net.forward()  # which makes the value anew


def test_a_layer_that_parts_have_run_refuses_to_run_backward_alone():
    net = build()
    net.forward()
    i = net.layer_names.index("conv1")
    node = net.nodes[i]
    with pytest.raises(ConfigError, match="copies of it"):
        node.layer.backward(node.top, [True], node.bottom)
    Whole(net).forward()
    net.clear_param_diffs()
    node.layer.backward(node.top, [True], node.bottom)
    assert node.layer.blobs[1].diff.shape == (8,)


def test_a_layers_own_methods_of_a_script_are_run_and_stay():
    net, reference = build(), build(executor=Whole)
    assert_all_close(passes(net, 1), passes(reference, 1))
    for one in (net, reference):
        layer = one.layer_dict["conv1"]
        usual = type(layer).forward.__get__(layer)

        def twice(bottom, top, usual=usual):
            usual(bottom, top)
            top[0].data[...] *= 2

        layer.forward = twice
    assert_all_close(passes(net, 2), passes(reference, 2))
    assert net.layer_dict["conv1"].forward.__name__ == "twice"
    for one in (net, reference):
        del one.layer_dict["conv1"].forward
    assert_all_close(passes(net, 1), passes(reference, 1))


def test_passes_put_nothing_on_layers():
    net = build()
    net.passes.forward_backward()
    assert not any(vars(layer).keys() & {"forward", "backward"} for layer in net.layers)


def test_a_layer_that_runs_forward_itself_runs_backward_itself():
    net, whole = build(), build(executor=Whole)
    gradients = []
    for one in (net, whole):
        one.forward()
        node = one.nodes[one.layer_names.index("conv1")]
        node.layer.forward(node.bottom, node.top)
        one.clear_param_diffs()
        node.top[0].diff[...] = 1
        node.layer.backward(node.top, [True], node.bottom)
        gradients.append(node.layer.blobs[0].diff.copy())
    np.testing.assert_array_equal(*gradients)
    assert_all_close(passes(net, 1), passes(whole, 1))


def test_nothing_forks_and_importing_registers_nothing():
    script = (
        "import os, sys, signal\n"
        "registered = []\n"
        "os.register_at_fork = lambda **hooks: registered.append(hooks)\n"
        "os.fork = lambda: registered.append('fork')\n"
        "before = {s: signal.getsignal(s) for s in signal.valid_signals()}, list(sys.meta_path)\n"
        "import caffepy, caffepy.net.net, caffepy.passes\n"
        "from tests.passes import nets\n"
        "nets.passes(nets.build(), 2)\n"
        "of = lambda hooks: [getattr(f, '__module__', '') or '' for f in hooks.values()]\n"
        "ours = [h for h in registered if h == 'fork' or any('caffepy' in name for name in of(h))]\n"
        "assert not ours, ours\n"
        "assert before == ({s: signal.getsignal(s) for s in signal.valid_signals()}, list(sys.meta_path))\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])


def test_a_net_that_is_dropped_is_freed_at_once():
    net = build()
    net.forward_backward()
    blob = weakref.ref(net.engine_blobs["conv1"])
    gc.disable()
    try:
        del net
        assert blob() is None
    finally:
        gc.enable()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX")
def test_a_fork_beside_a_pass_computes():
    net, stop = build(), threading.Event()

    def work():
        while not stop.is_set():
            net.forward()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(3):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                child = os.fork()
            if child == 0:
                try:
                    net.forward()
                    os._exit(0)
                finally:
                    os._exit(1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("width, pays", [(48, False), (256, True)])
def test_many_layers_of_little_work_are_not_divided(monkeypatch, width, pays):
    monkeypatch.setattr(divided, "LEAST_ELEMENTS", 1 << 17)
    layers = (
        f'layer {{ name: "x" type: "Input" top: "0" input_param {{ shape {{ dim: 512 dim: {width} }} }} }}'
        + "".join(
            f'layer {{ name: "fc{i}" type: "InnerProduct" bottom: "{i}" top: "{i + 1}"'
            f" inner_product_param {{ num_output: {width} }} }}"
            for i in range(8)
        )
    )
    net = build(layers)
    net.forward()
    assert bool(net.passes.stretches) == pays
