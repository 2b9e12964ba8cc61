"""What all executors do alike: observers, the lock, errors with their place."""

from __future__ import annotations

import threading
from contextlib import nullcontext

import numpy as np
import pytest

from caffepy.net.observer import Observer
from caffepy.passes import Divided, Executor, Whole, of
from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.proto.text import parse
from caffepy.solver import testing
from caffepy.solver.solver import Solver
from tests.passes.nets import NET, build, passes

SIX = "".join(
    f"""
layer {{ name: "l{i}" type: "InnerProduct" bottom: "{"x" if i == 0 else i - 1}" top: "{i}"
         inner_product_param {{ num_output: 8 weight_filler {{ type: "xavier" }} }} }}"""
    for i in range(6)
)
SIX = (
    'layer { name: "in" type: "Input" top: "x" top: "t" input_param { shape { dim: 4 dim: 3 } shape { dim: 4 } } }'
    + SIX
    + 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "5" bottom: "t" top: "loss" }'
)


class Passes(Observer):
    """Notes passes."""

    def __init__(self):
        self.calls = []

    def before_pass(self, layers, backward):
        self.calls.append(("before", tuple(layers), backward))

    def after_pass(self, layers, backward):
        self.calls.append(("after", tuple(layers), backward))


class Layers(Observer):
    """Notes what runs together."""

    def __init__(self, every_layer=False):
        self.every_layer = every_layer
        self.calls = []

    def before_layers(self, layers, backward):
        self.calls.append(("before", *layers))

    def after_layers(self, layers, backward):
        self.calls.append(("after", *layers))


def handovers(net, monkeypatch) -> int:
    """How often a forward and a backward pass hand work to other threads."""
    net.forward_backward()
    pool, counts = net.engine.pool, []
    run, in_step = pool.run, pool.in_step
    monkeypatch.setattr(pool, "run", lambda task, n: counts.append(n) or run(task, n))
    monkeypatch.setattr(pool, "in_step", lambda steps, n, between: counts.append(n) or in_step(steps, n, between))
    net.forward_backward()
    return sum(n > 1 for n in counts)


def hooked(net):
    seen = []
    net.before_forward(lambda i: seen.append(i))
    net.after_backward(lambda i: seen.append(i))
    return net


def fed(net):
    net.observers += [Passes(), Layers()]
    return net


@pytest.mark.parametrize("watched", [lambda net: net, fed, hooked])
def test_a_stretch_of_six_layers_is_handed_over_twice_whoever_watches(watched, monkeypatch):
    assert handovers(watched(build(SIX)), monkeypatch) == 2


@pytest.mark.parametrize("executor", [Whole, Divided])
def test_observers_of_passes(executor: type[Executor]):
    net = build(SIX, executor=executor)
    observer = Passes()
    net.observers.append(observer)
    net.forward_backward()
    every, needed = tuple(range(8)), (7, 6, 5, 4, 3, 2, 1)
    assert observer.calls == [
        ("before", every, False), ("after", every, False), ("before", needed, True), ("after", needed, True),
    ]  # fmt: skip


def test_observers_of_layers_see_what_runs_together():
    net = build(SIX)
    observer = Layers()
    net.observers.append(observer)
    net.passes.forward()
    stretch = (1, 2, 3, 4, 5, 6)
    assert observer.calls == [
        ("before", 0), ("after", 0), ("before", *stretch), ("after", *stretch), ("before", 7), ("after", 7),
    ]  # fmt: skip


def test_one_who_must_see_every_layer_makes_all_see_it():
    net = build(SIX)
    observers = [Layers(), Layers(every_layer=True)]
    net.observers += observers
    net.passes.forward()
    for observer in observers:
        assert observer.calls == [(when, i) for i in range(8) for when in ("before", "after")]


def test_a_hook_of_the_way_back_leaves_the_way_forth_together():
    net = build(SIX)
    observer, seen = Layers(), []
    net.observers.append(observer)
    net.after_backward(seen.append)
    net.passes.forward()
    assert ("before", 1, 2, 3, 4, 5, 6) in observer.calls
    observer.calls.clear()
    net.passes.backward()
    assert observer.calls == [(when, i) for i in (7, 6, 5, 4, 3, 2, 1) for when in ("before", "after")]
    assert seen == [7, 6, 5, 4, 3, 2, 1]


def test_a_hook_sees_each_layers_values_before_the_next_has_changed_them():
    net, reference = build(NET), build(NET, executor=Whole)
    seen = {}
    for one in (net, reference):
        found = seen[id(one)] = []

        def look(i, one=one, found=found):
            found.append([blob.data.copy() for blob in one.nodes[i].top])

        one.after_forward(look)
        passes(one, 2)
    for ours, theirs in zip(seen[id(net)], seen[id(reference)], strict=True):
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("executor", [Whole, Divided])
def test_threads_that_use_one_net_wait_for_each_other(executor: type[Executor]):
    net = build(SIX, executor=executor)
    inputs = [np.full((4, 3), value, np.float32) for value in range(6)]
    expected = [net.predict(x, output="5") for x in inputs]
    wrong = []

    def work(number: int) -> None:
        for _ in range(30):
            if not np.array_equal(net.predict(inputs[number], output="5"), expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


class Counted:
    """A lock that counts how often somebody takes it who has not got it."""

    def __init__(self):
        self.lock, self.depth, self.times = threading.RLock(), 0, 0

    def __enter__(self):
        self.lock.acquire()
        self.times += self.depth == 0
        self.depth += 1

    def __exit__(self, *error):
        self.depth -= 1
        self.lock.release()


@pytest.mark.parametrize("executor", [Whole, Divided])
def test_no_pass_of_another_thread_comes_between_forward_and_backward(executor: type[Executor]):
    net = build(executor=executor)
    net._lock = lock = Counted()
    net.passes.forward_backward()
    assert lock.times == 1


def test_nor_between_a_test_and_its_meters():
    net = build()
    net._lock = lock = Counted()
    scores = testing.test(net, [1.0, 1.0]).scores()
    assert "loss" in scores
    assert lock.times == 2


def test_nor_into_the_passes_of_an_iteration_or_its_update(monkeypatch):
    trained = Solver(parse(f'net_param {{ {NET} }} base_lr: 0.1 lr_policy: "fixed"', SolverParameter()))
    trained.net._lock = lock = Counted()
    before = []

    class Times(Observer):
        def before_pass(self, layers, backward):
            before.append(lock.times)

    trained.net.observers.append(Times())
    trained.step(1)
    assert before[0] == before[1]
    lock.times, entered = 0, []
    monkeypatch.setattr(trained.engine, "computing", lambda: entered.append(lock.times) or nullcontext())
    trained.update()
    assert lock.times == 1
    assert entered == [1]


def test_the_executor_follows_from_the_engine_unless_somebody_chooses():
    net = build(SIX)
    net.executor = None
    assert isinstance(of(net), Divided) and of(net) is of(net)
    net.executor = chosen = Whole(net)
    assert of(net) is chosen is net.passes
