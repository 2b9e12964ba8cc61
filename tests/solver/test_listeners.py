"""The list of listeners, and what snapshots keep of them."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from caffepy.errors import SnapshotError
from caffepy.net.layer import Layer, register
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.pycaffe.solvers import Solver
from caffepy.solver import Listener
from tests.solver.test_features import NET


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def solver(*listeners: Listener, fields: str = "", net: str = NET % "") -> Solver:
    definition = f'{net} base_lr: 0.1 lr_policy: "fixed" max_iter: 100 snapshot_prefix: "out" {fields}'
    built = Solver(text.parse(definition, SolverParameter()), file="solver.prototxt")
    built.listeners.extend(listeners)
    return built


class Remembers(Listener):
    """Counts updates; its state is whatever it is given."""

    name = "count"

    def __init__(self, value=0):
        self.value = value

    def update(self, solver):
        self.value += 1

    def state(self):
        return {"value": self.value}

    def set_state(self, state):
        self.value = state["value"]


class Other(Remembers):
    def set_state(self, state):
        self.value = state["another"]


def test_it_is_a_list():
    built, first, second, third = solver(), *(Remembers() for _ in range(3))
    own = list(built.listeners)
    built.listeners += [second, third]
    built.listeners.insert(0, first)
    assert list(built.listeners) == [first, *own, second, third] and len(built.listeners) == len(own) + 3
    built.listeners.remove(third)
    assert built.listeners.pop() is second and third not in built.listeners and built.listeners[0] is first
    built.listeners[0] = third
    built.listeners = [*built.listeners, second]
    assert list(built.listeners) == [third, *own, second]
    built.step(1)
    assert (first.value, second.value, third.value) == (0, 1, 1)


def test_listeners_of_one_name_have_a_state_each():
    built = solver(Remembers(10), Remembers(20))
    built.step(2)
    built.snapshot()
    again = solver(first := Remembers(), second := Remembers())
    again.restore("out_iter_2.solverstate")
    assert (first.value, second.value) == (12, 22)


def test_a_listener_that_comes_behind_the_restore_goes_on_too():
    built = solver(Remembers(10), Remembers(20))
    built.step(2)
    built.snapshot()
    again = solver(first := Remembers())
    again.restore("out_iter_2.solverstate")
    again.listeners.append(second := Remembers())
    assert (first.value, second.value) == (12, 22)
    again.listeners.remove(second)
    again.listeners.append(second)  # it has its state; what it does from here on is its own
    again.step(1)
    again.listeners.append(late := Remembers())
    assert (second.value, late.value) == (23, 0)


def test_a_state_of_another_listener_is_refused_where_it_is_added():
    built = solver(Remembers())
    built.step(1)
    built.snapshot()
    again = solver()
    again.restore("out_iter_1.solverstate")
    expected = "the state of listener \"count\" is not one of this listener: KeyError: 'another'"
    with pytest.raises(SnapshotError) as caught:
        again.listeners.append(Other())
    assert str(caught.value) == expected


def test_a_restore_that_fails_leaves_the_solver_as_it_was():
    built = solver(Remembers(10), fields="momentum: 0.9 random_seed: 1")
    built.step(2)
    built.snapshot()
    again = solver(kept := Remembers(3), other := Other(5), fields="momentum: 0.9 random_seed: 2")
    other.name = "other"
    again.step(1)
    built.listeners.append(Remembers())
    built.listeners[-1].name = "other"
    built.step(1)
    built.snapshot()
    blobs = [*again.net.params["w"], *again.history]
    before = [blob.data.copy() for blob in blobs], str(again.random.state), again.iter, kept.value, other.value
    with pytest.raises(SnapshotError, match=r'^out_iter_3\.resume: the state of listener "other" is not one'):
        again.restore("out_iter_3.solverstate")
    np.testing.assert_equal([blob.data for blob in blobs], before[0])
    assert (str(again.random.state), again.iter, kept.value, other.value) == before[1:]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (object(), "cannot store object in a snapshot"),
        ({3: 1}, "cannot store a dict by int, 3, in a snapshot"),
        ([{"a": (1, {(1, 2): 0})}], "cannot store a dict by tuple, (1, 2), in a snapshot"),
        (np.array([None]), "cannot store an array of object in a snapshot"),
    ],
)
def test_a_state_that_no_snapshot_can_hold_is_refused_before_training(value, said):
    built = solver(Remembers(value))
    with pytest.raises(SnapshotError) as caught:
        built.solve()
    hint = "state() returns numbers, texts, arrays, lists and dicts of them by texts."
    assert str(caught.value) == f'listener "count": its state cannot be written: {said}\n  {hint}'
    assert built.iter == 0 and not list(Path().iterdir())


class Late(Remembers):
    """Has something to remember when it first hears of an update."""

    def __init__(self):
        pass

    def update(self, solver):
        self.value = getattr(self, "value", 0) + 1


def test_one_may_have_nothing_to_remember_yet():
    fields = "test_iter: 1 test_interval: 1 snapshot_after_train: true"
    built = solver(Late(), fields=fields)
    built.listeners.append(asks := Listener())
    asks.batch = lambda solver: solver.testing and solver.snapshot()
    built.param.max_iter = 2
    built.solve()
    for iteration, value in ((0, 1), (2, 3)):
        again = solver(late := Late(), fields=fields)
        again.restore(f"out_iter_{iteration}.solverstate")
        again.step(1)
        assert late.value == value


@register("Locked", replace=True)
class Locked(Layer):
    def reshape(self, bottom, top):
        top[0].reshape_like(bottom[0])

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = top[0].diff

    def state(self):
        return {"lock": threading.Lock()}


def test_so_is_that_of_a_layer_at_its_place():
    Path("net.prototxt").write_text("""
layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 1 } } }
layer { name: "w" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 1 axis: 0 } }
layer { name: "mine" type: "Locked" bottom: "y" top: "z" loss_weight: 1 }
""")
    built = solver(net='net: "net.prototxt"')
    with pytest.raises(SnapshotError) as caught:
        built.solve()
    assert str(caught.value).splitlines()[0] == (
        'net.prototxt:4:1: layer "mine": its state cannot be written: cannot store lock in a snapshot'
    )
