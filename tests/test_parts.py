"""Batches in parts: the same values however they are computed, and what becomes of the processes that compute them."""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from caffepy import TRAIN, layer, parts, rng
from caffepy.blob import Blob
from caffepy.engine import memory, workers
from caffepy.engine.numpy import NumpyEngine
from caffepy.errors import CaffeError, ConfigError, ShapeError
from caffepy.layers.tanh import TanH
from caffepy.net import Net
from caffepy.proto.caffe_pb2 import NetParameter
from caffepy.proto.text import parse
from tests.support import assert_close

NET = """
layer { name: "in" type: "Input" top: "x" top: "t"
        input_param { shape { dim: 5 dim: 3 dim: 12 dim: 12 } shape { dim: 5 } } }
layer { name: "conv1" type: "Convolution" bottom: "x" top: "conv1"
        convolution_param { num_output: 8 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "pool" type: "Pooling" bottom: "conv1" top: "pool" pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "relu" type: "ReLU" bottom: "pool" top: "pool" }
layer { name: "norm" type: "LRN" bottom: "pool" top: "norm" lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 } }
layer { name: "left" type: "Convolution" bottom: "norm" top: "left"
        convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "right" type: "Convolution" bottom: "norm" top: "right"
        convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "prelu" type: "PReLU" bottom: "right" top: "right" }
layer { name: "both" type: "Concat" bottom: "left" bottom: "right" top: "both" }
layer { name: "drop" type: "Dropout" bottom: "both" top: "drop" dropout_param { dropout_ratio: 0.4 } }
layer { name: "ip" type: "InnerProduct" bottom: "drop" top: "ip"
        inner_product_param { num_output: 6 weight_filler { type: "xavier" } } }
layer { name: "tanh" type: "TanH" bottom: "ip" top: "tanh" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "tanh" bottom: "t" top: "loss" }
"""

needs_processes = pytest.mark.skipif(not memory.can_share, reason="processes compute parts on Linux alone")


@pytest.fixture(autouse=True)
def any_batch(monkeypatch):
    monkeypatch.setattr(parts, "LEAST_ELEMENTS", 0)
    monkeypatch.setattr(parts, "PASSES_ALONE", 1)
    monkeypatch.delenv("CAFFEPY_WORKERS", raising=False)


def build(text: str = NET, threads: int = 2) -> Net:
    rng.seed(7)
    net = Net(parse(text, NetParameter()), TRAIN, engine=NumpyEngine(threads))
    values = np.random.default_rng(1)
    for name in net.inputs:
        blob = net.blobs[name]
        blob.data[...] = values.integers(0, 6, blob.shape) if name == "t" else values.normal(size=blob.shape)
    return net


def passes(net: Net, count: int = 3) -> list[np.ndarray]:
    """All that forward and backward passes leave, the parameters changing in between."""
    found = []
    rng.seed(5)  # for Dropout
    for _ in range(count):
        net.clear_param_diffs()
        loss = net.forward_backward()
        found.append(np.float32(loss))
        for name, blob in net.blobs.items():
            found += [blob.data.copy(), blob.diff.copy()] if name not in net.inputs else []
        for param in net.learnable_params:
            found.append(param.blob.diff.copy())
            param.blob.data[...] -= 0.1 * param.blob.diff
    return found


def children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def crew(net: Net) -> list[int]:
    """The process numbers of a net's workers."""
    return list(net._parts.processes)


# Values


@needs_processes
def test_processes_and_threads_compute_the_same_bits(monkeypatch):
    with_processes = build()
    found = passes(with_processes)
    assert len(crew(with_processes)) == 1
    monkeypatch.setenv("CAFFEPY_WORKERS", "0")
    with_threads = build()
    for a, b in zip(found, passes(with_threads), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not crew(with_threads)


@pytest.mark.parametrize("threads", [2, 3, 5, 8])
def test_parts_compute_what_one_thread_computes(threads):
    for ours, reference in zip(passes(build(threads=threads)), passes(build(threads=1)), strict=True):
        assert_close(ours, reference, tolerance=1e-4)


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
    for items in (5, 3, 1, 5, 9):
        for one in (net, reference):
            values = np.random.default_rng(items)
            one.blobs["x"].reshape(items, 3, 12, 12)
            one.blobs["t"].reshape(items)
            one.blobs["x"].data[...] = values.normal(size=(items, 3, 12, 12))
        for ours, other in zip(passes(net, 2), passes(reference, 2), strict=True):
            assert_close(ours, other, tolerance=1e-3)


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
    for ours, theirs in zip(net.learnable_params, whole.learnable_params):
        np.testing.assert_array_equal(ours.blob.diff, theirs.blob.diff)


def test_hooks_are_called_around_every_layer_and_change_nothing():
    net, reference, calls = build(), build(), []
    net.before_forward(lambda i: calls.append(("before", i)))
    net.after_forward(lambda i: calls.append(("after", i)))
    net.after_backward(lambda i: calls.append(("back", i)))
    for ours, other in zip(passes(net, 2), passes(reference, 2), strict=True):
        np.testing.assert_array_equal(ours, other)
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
    for ours, other in zip(net.learnable_params, reference.learnable_params):
        assert_close(ours.blob.diff, other.blob.diff, tolerance=1e-4)


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
        for ours, other in zip(net.learnable_params, reference.learnable_params):
            assert_close(ours.blob.diff, other.blob.diff, tolerance=1e-4)


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
    for ours, other in zip(passes(net), passes(build(text, threads=1)), strict=True):
        assert_close(ours, other, tolerance=1e-4)
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


# Processes


@needs_processes
def test_workers_start_with_the_second_pass_and_end_with_the_net():
    net = build()
    net.forward()
    assert not crew(net)
    net.forward()
    pids = list(crew(net))
    assert len(pids) == 1 and set(pids) <= set(children())
    net.forward_backward()
    assert crew(net) == pids
    del net
    gc.collect()
    assert not set(pids) & set(children())


@needs_processes
def test_a_value_of_caffepy_workers_that_says_nothing(monkeypatch):
    monkeypatch.setenv("CAFFEPY_WORKERS", "yes")
    with pytest.raises(ConfigError, match='CAFFEPY_WORKERS is "yes"'):
        build()


@needs_processes
def test_without_processes_threads_go_on(monkeypatch, caplog):
    def refuse():
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    net = build()
    found = passes(net)
    assert [r.getMessage() for r in caplog.records if "slower" in r.getMessage()] == [
        "Threads instead of processes compute parts of the batch, which is slower: Resource temporarily unavailable"
    ]
    monkeypatch.undo()
    monkeypatch.setattr(parts, "LEAST_ELEMENTS", 0)
    for a, b in zip(found, passes(build()), strict=True):
        np.testing.assert_array_equal(a, b)


@needs_processes
def test_a_worker_that_is_killed_is_reported_and_replaced():
    net = build()
    expected = passes(build(), 4)
    passes(net, 2)
    (pid,) = crew(net)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(CaffeError, match="CAFFEPY_WORKERS=0"):
        net.forward()
    with pytest.raises(ConfigError, match="Run forward again"):
        net.backward()
    fresh = build()
    for mine, theirs in zip(net.learnable_params, fresh.learnable_params):
        mine.blob.data[...] = theirs.blob.data
    for a, b in zip(passes(net, 4), expected, strict=True):
        np.testing.assert_array_equal(a, b)
    assert crew(net) and pid not in crew(net)


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


class Unsendable(Exception):
    def __init__(self, one, two):
        super().__init__(one)


@needs_processes
@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ShapeError("no", hint="Try yes."), ShapeError, '"tanh": no\n  Try yes.'),
        (ZeroDivisionError("by zero"), ZeroDivisionError, "by zero"),
        (Unsendable(1, 2), RuntimeError, "Unsendable: 1"),
    ],
)
def test_an_error_in_a_worker_is_the_callers(monkeypatch, error, kind, message):
    monkeypatch.setitem(layer._registry, "TanH", Picky)
    monkeypatch.setattr(Picky, "error", error)
    net = build()
    passes(net, 2)
    assert crew(net)
    net.blobs["ip"].data[4, 0] = Picky.refused  # an item of the worker's part
    with pytest.raises(kind) as caught:
        net.forward(start="tanh")
    assert message in str(caught.value)
    if sys.version_info >= (3, 11):
        assert "raise self.error" in caught.value.__notes__[0]  # the worker's own traceback
    net.forward()  # which makes the value anew


@needs_processes
def test_an_error_of_the_callers_own_part_stays_what_it_is(monkeypatch):
    monkeypatch.setitem(layer._registry, "TanH", Picky)
    monkeypatch.setattr(Picky, "error", ConnectionRefusedError("the camera is off"))
    net = build()
    passes(net, 2)
    net.blobs["ip"].data[0, 0] = Picky.refused
    with pytest.raises(ConnectionRefusedError, match="the camera is off"):
        net.forward(start="tanh")


class Centred(TanH):
    """Looks at the whole batch, unlike the class that it is derived from."""

    def forward(self, bottom, top):
        super().forward(bottom, top)
        top[0].data[...] -= top[0].data.mean(axis=0)


def test_a_subclass_must_say_itself_that_it_is_divisible(monkeypatch):
    monkeypatch.setitem(layer._registry, "TanH", Centred)
    for ours, other in zip(passes(build()), passes(build(threads=1)), strict=True):
        assert_close(ours, other, tolerance=1e-4)


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
            seen.append(
                [p.blob.diff.copy() for p in one.learnable_params] + [b.data.copy() for b in one.blobs.values()]
            )
        if None not in seen:
            for ours, reference in zip(*seen, strict=True):
                assert_close(ours, reference, tolerance=1e-3)


@needs_processes
def test_an_interrupt_ends_the_workers(monkeypatch):
    net = build()
    passes(net, 2)
    (pid,) = crew(net)
    first = net._parts.at(1).parts[0]

    def interrupted(backward, layers):
        raise KeyboardInterrupt

    monkeypatch.setattr(first, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        net.forward()
    assert pid not in children()
    monkeypatch.undo()
    monkeypatch.setattr(parts, "LEAST_ELEMENTS", 0)
    net.forward_backward()
    assert crew(net) and crew(net) != [pid]


@needs_processes
def test_a_fork_of_somebody_elses_has_blobs_of_its_own():
    net = build()
    passes(net, 2)
    before = net.blobs["conv1"].data.copy()
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            net.blobs["x"].data[...] = 1
            net.forward_backward()
            net.forward_backward()
            same = np.array_equal(net.blobs["conv1"].data[0], net.blobs["conv1"].data[4])
            os.write(writes, b"1" if same and not np.array_equal(net.blobs["conv1"].data, before) else b"0")
        finally:
            os._exit(0)
    os.close(writes)
    assert os.read(reads, 1) == b"1"
    os.close(reads)
    os.waitpid(child, 0)
    np.testing.assert_array_equal(net.blobs["conv1"].data, before)
    net.forward()
    np.testing.assert_array_equal(net.blobs["conv1"].data, before_with(net))


def before_with(net: Net) -> np.ndarray:
    """conv1 as a fresh net computes it from this one's input and weights."""
    other = build()
    for mine, theirs in zip(other.learnable_params, net.learnable_params):
        mine.blob.data[...] = theirs.blob.data
    other.blobs["x"].data[...] = net.blobs["x"].data
    other.forward(end="conv1")
    return other.blobs["conv1"].data


@needs_processes
def test_a_fork_of_somebody_elses_is_a_snapshot():
    net = build()
    passes(net, 2)
    blob = net.blobs["x"]
    blob.data[...] = 1
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writes, b"1" if (blob.data == 1).all() else b"0")
        os._exit(0)
    blob.data[...] = 2
    assert os.read(reads, 1) == b"1"
    for end in (reads, writes):
        os.close(end)
    os.waitpid(child, 0)
    assert (blob.data == 2).all()


@needs_processes
def test_workers_keep_no_pipe_of_their_parent_open():
    net = build()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as cat:
        passes(net, 2)
        assert crew(net)
        cat.stdin.close()
        assert cat.wait(timeout=10) == 0


@needs_processes
def test_workers_hold_no_memory_of_other_nets():
    def shared_by(pid: int) -> int:
        return int(re.search(r"RssShmem:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1])

    large = NET.replace("dim: 12 dim: 12", "dim: 96 dim: 96")
    first = build(large)
    passes(first, 2)
    second = build()
    passes(second, 2)
    assert shared_by(*crew(second)) < shared_by(*crew(first)) / 8


@needs_processes
@pytest.mark.parametrize("count", [1, 4])
def test_forks_beside_forks(count):
    """Somebody forks in a thread while workers are forked: no child lacks pages or writes to the parent's."""
    stop, bad = threading.Event(), []
    blob = Blob((1000,), NumpyEngine(2))
    blob.data[...] = 1

    def fork_and_look():
        while not stop.is_set():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                child = os.fork()
            if child == 0:
                try:
                    blob.data[...] += 1
                    os._exit(0 if (blob.data == 2).all() else 1)
                finally:
                    os._exit(2)
            if os.waitpid(child, 0)[1]:
                bad.append(child)

    threads = [threading.Thread(target=fork_and_look) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(6):
            passes(build(), 2)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not bad and (blob.data == 1).all()


@needs_processes
def test_workers_end_when_their_parent_is_killed():
    script = (
        "from tests import test_parts as t\n"
        "t.parts.LEAST_ELEMENTS = 0\n"
        "nets = [t.build(), t.build()]\n"
        "for net in nets: t.passes(net, 2)\n"
        "print(*[pid for net in nets for pid in t.crew(net)], flush=True)\n"
        "import time; time.sleep(60)\n"
    )
    root = Path(__file__).parents[1]
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=root) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        parent.kill()
    until = time.time() + 10
    while any(_running(pid) for pid in pids):
        assert time.time() < until
        time.sleep(0.01)


def _running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


# Memory


@needs_processes
def test_shared_memory_keeps_its_place_and_its_contents():
    array = memory.zeros(5000)
    array[:] = np.arange(5000)
    view = array[10:20]
    address = array.ctypes.data
    assert memory.share(view) and memory.share(array)
    assert array.ctypes.data == address
    np.testing.assert_array_equal(array, np.arange(5000))
    child = os.fork()
    if child == 0:  # somebody else's: what it writes is its own
        view[:] = -1
        os._exit(0)
    os.waitpid(child, 0)
    np.testing.assert_array_equal(view, np.arange(10, 20))
    both = workers.Workers(1, lambda k, value: view.fill(value), [array])
    both.run(lambda: None, 3.5)
    assert (view == 3.5).all() and array[9] == 9 and array[20] == 20


@needs_processes
def test_memory_of_others_cannot_be_shared():
    assert not memory.share(np.zeros(10, np.float32))


@needs_processes
def test_what_nobody_has_written_to_takes_no_memory():
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    before = resident()
    array = memory.zeros(64 << 20)
    memory.share(array)
    assert resident() - before < 32 << 20
