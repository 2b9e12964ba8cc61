"""Batches in parts: the same values however they are computed."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from caffepy import rng
from caffepy.errors import CaffeError, ConfigError
from caffepy.layers.tanh import TanH
from caffepy.net import layer
from caffepy.net.blob import Blob
from caffepy.passes import divided as parts
from tests.passes.nets import NET, assert_all_close, assert_same, build, crew, gradients, needs_processes, passes
from tests.support import assert_close


@needs_processes
def test_processes_and_threads_compute_the_same_bits(monkeypatch):
    with_processes = build()
    found = passes(with_processes)
    assert len(crew(with_processes)) == 1
    monkeypatch.setenv("CAFFEPY_WORKERS", "0")
    with_threads = build()
    assert_same(found, passes(with_threads))
    assert not crew(with_threads)


@pytest.mark.parametrize("threads", [2, 3, 5, 8])
def test_parts_compute_what_one_thread_computes(threads):
    assert_all_close(passes(build(threads=threads)), passes(build(threads=1)))


def test_stretches_end_at_layers_that_see_the_whole_batch():
    net = build()
    net.forward()
    found = {(s.layers.start, s.layers.stop) for s in net._parts._stretches.values()}
    names = net.layer_names
    assert found == {
        (names.index("conv1"), names.index("drop")),
        (names.index("ip"), names.index("loss")),
    }


def test_one_item_is_not_divided():
    net = build(NET.replace("dim: 5", "dim: 1"))
    net.forward()
    assert not net._parts._stretches


def test_small_nets_are_not_divided(monkeypatch):
    monkeypatch.setattr(parts, "LEAST_ELEMENTS", 1 << 17)
    net = build()
    net.forward()
    assert not net._parts._stretches


def test_another_number_of_items_is_divided_anew():
    net, reference = build(), build(threads=1)
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
    once += [("back", i) for i in reversed(range(count)) if net.layer_need_backward[i]]
    assert calls == 2 * once


def test_gradients_of_several_passes_add_up():
    net, reference = build(), build(threads=1)
    for one in (net, reference):
        one.clear_param_diffs()
        rng.seed(5)
        for _ in range(3):
            one.forward_backward()
    assert_all_close(gradients(net), gradients(reference))


def test_gradients_that_nobody_has_asked_for_before():
    frozen = NET.replace('top: "conv1"\n', 'top: "conv1" param { lr_mult: 0 } param { lr_mult: 0 }\n', 1)
    for text in (NET, frozen):
        net, reference = build(text), build(text, threads=1)
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
    net, reference = build(text), build(text, threads=1)
    for one in (net, reference):
        one.forward()
        one.forward()
        one.blobs["side"].diff[...] = 1
        one.backward_layer(1)
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
    assert_all_close(passes(net), passes(build(text, threads=1)))
    assert net._parts._stretches


def test_weights_shared_by_another_net_are_followed_without_dividing_anew():
    net, other = build(), build()
    passes(other)
    net.share_with(other)
    for _ in range(2):
        net.forward()
    before = set(net._parts._stretches.values())
    other.params["conv1"][0].data[...] *= 0.5
    net.share_with(other)
    net.forward(end="conv1")
    other.forward(end="conv1")
    np.testing.assert_array_equal(net.blobs["conv1"].data, other.blobs["conv1"].data)
    assert set(net._parts._stretches.values()) == before


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
    assert_all_close(passes(build()), passes(build(threads=1)))


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
    net, reference = build(), build(threads=1)
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
def test_any_sequence_of_calls_computes_what_one_thread_computes(seed, monkeypatch):
    """Reshaping, parts of the net, weights of another net, lost processes; gradients are right or refused."""
    monkeypatch.setattr(parts, "LEAST_ELEMENTS", int(np.random.default_rng(seed).choice([0, 3000, 9000])))
    choose = np.random.default_rng(seed)
    nets, others = [build(), build(threads=1)], [build(), build(threads=1)]
    names = nets[0].layer_names
    for one in (*nets, *others):
        rng.seed(5)
        one.forward()
    for _ in range(14):
        action = choose.choice(["pass", "pass", "items", "ranges", "share", "kill", "weights"])
        items, cut, seen = int(choose.choice([1, 2, 5, 9])), int(choose.integers(1, len(names))), []
        for one, other in zip(nets, others):
            if action == "items":
                one.blobs["x"].reshape(items, 3, 12, 12)
                one.blobs["t"].reshape(items)
                one.blobs["x"].data[...] = np.random.default_rng(items).normal(size=(items, 3, 12, 12))
                one.blobs["t"].data[...] = np.arange(items) % 6
            elif action == "share":
                one.share_with(other)
            elif action == "kill":
                for pid in crew(one):
                    os.kill(pid, signal.SIGKILL)
                try:
                    one.forward()
                except CaffeError:
                    assert one is nets[0]
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
