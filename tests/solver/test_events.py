"""What a solver announces, in which order, and what listeners may ask for."""

from __future__ import annotations

import inspect
import logging
import signal

import numpy as np
import pytest

from caffepy.proto import text
from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.pycaffe.solvers import Solver
from caffepy.solver import Action, Listener, resume_file
from caffepy.solver.events import Requests, listening
from caffepy.solver.signals import heard
from tests.solver.test_features import NET

EVENTS = ["start", "batch", "display", "gradients", "update", "test", "snapshot", "stop"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def solver(fields: str = "") -> Solver:
    definition = f'{NET % ""} base_lr: 0.1 lr_policy: "fixed" max_iter: 100 snapshot_prefix: "out" {fields}'
    return Solver(text.parse(definition, SolverParameter()))


class Record(Listener):
    """Every event with what `look` finds then."""

    def __init__(self, look=lambda solver: solver.iter):
        self.heard, self.look = [], look


for event in EVENTS:
    setattr(Record, event, lambda self, solver, event=event: self.heard.append((event, self.look(solver))))


class Do(Listener):
    """Calls a function of the solver at one event."""

    def __init__(self, event, function):
        setattr(self, event, function)


def told(built: Solver, steps: int = 1, look=lambda solver: solver.iter) -> list:
    record = Record(look)
    built.listeners.append(record)
    built.step(steps)
    return record.heard


def test_every_event_is_a_method_of_the_solver_alone():
    methods = dict(inspect.getmembers(Listener, inspect.isfunction))
    assert sorted(methods) == sorted([*EVENTS, "state", "set_state"])
    assert {tuple(inspect.signature(methods[event]).parameters) for event in EVENTS} == {("self", "solver")}


def test_the_order_of_events():
    built = solver("test_iter: 2 test_interval: 2 display: 2 snapshot: 2 iter_size: 2")
    assert told(built, 3) == [
        ("start", 0),
        ("batch", 0), ("batch", 0), ("test", 0),
        ("batch", 0), ("display", 0), ("gradients", 0), ("update", 1),
        ("batch", 1), ("gradients", 1), ("update", 2), ("snapshot", 2),
        ("batch", 2), ("batch", 2), ("test", 2),
        ("batch", 2), ("display", 2), ("gradients", 2), ("update", 3),
        ("stop", 3),
    ]  # fmt: skip


def test_what_is_there_at_each_event():
    built = solver("test_iter: 1 test_interval: 1 display: 1 snapshot: 1")

    def look(solver):
        blob = solver.net.layer_dict["w"].blobs[0]
        return solver.testing, float(blob.data[0, 0]), float(blob.diff[0, 0]), dict(solver.scores), solver.written

    scores = {"loss": 9.0}
    assert told(built, 1, look) == [
        ("start", (False, 0, 0, {}, "")),
        ("batch", (True, 0, 0, {}, "")),
        ("test", (False, 0, 0, scores, "")),
        ("batch", (False, 0, 0, scores, "")),
        ("display", (False, 0, -3, scores, "")),
        ("gradients", (False, 0, -3, scores, "")),
        ("update", (False, pytest.approx(0.3), pytest.approx(-0.3), scores, "")),
        ("snapshot", (False, pytest.approx(0.3), pytest.approx(-0.3), scores, "out_iter_1.solverstate")),
        ("stop", (False, pytest.approx(0.3), pytest.approx(-0.3), scores, "out_iter_1.solverstate")),
    ]
    assert built.rate == pytest.approx(0.1)


def test_listeners_are_told_in_the_order_of_the_list_and_only_while_they_are_in_it():
    built, calls = solver(), []
    first, second = (Do("update", lambda solver, n=n: calls.append(n)) for n in (1, 2))
    with listening(built, first, second):
        built.step(1)
        built.listeners.remove(first)
        built.listeners.append(first)
        built.step(1)
    built.step(1)
    assert calls == [1, 2, 2, 1]


def test_gradients_may_be_changed():
    built = solver("clip_gradients: 100")
    built.listeners.append(Do("gradients", lambda solver: solver.net.layer_dict["w"].blobs[0].diff.fill(1)))
    built.step(1)
    np.testing.assert_allclose(built.net.params["w"][0].data, -0.1, rtol=1e-6)


def test_a_stop_that_was_asked_for_before_leaves_no_iteration():
    built = solver()
    for ask in (built.stop, lambda: built.listeners.append(Do("start", lambda solver: solver.stop()))):
        ask()
        built.step(3)
        assert built.iter == 0 and built.stopped_early


@pytest.mark.parametrize("event", ["batch", "display", "gradients", "update", "snapshot"])
def test_a_stop_ends_the_iteration(event):
    built = solver("display: 1 snapshot: 1")
    built.listeners.append(Do(event, lambda solver: solver.stop()))
    built.step(5)
    assert built.iter == 1 and built.stopped_early
    built.listeners.pop()
    built.step(2)
    assert not built.stopped_early


def test_a_stop_behind_a_test_comes_before_the_iteration(caplog):
    built = solver("test_iter: 1 test_interval: 2 snapshot_after_train: false")
    built.listeners.append(Do("test", lambda solver: solver.iter == 4 and solver.stop()))
    with caplog.at_level(logging.INFO, "caffepy"):
        built.solve()
    assert built.iter == 4 and caplog.messages[-1] == "Optimization stopped early."


def test_a_stop_in_a_test_leaves_no_scores(caplog):
    built = solver('test_iter: 3 test_iter: 3 test_interval: 1 snapshot_best: "loss" early_stop { metric: "loss" }')
    batches = []

    def batch(solver):
        batches.append(solver.testing)
        if len(batches) == 2:
            solver.stop()

    built.listeners.append(Do("batch", batch))
    with caplog.at_level(logging.INFO, "caffepy"):
        heard = told(built, 5)
    assert batches == [True, True] and built.iter == 0 and built.stopped_early and built.scores == {}
    assert [name for name, _ in heard] == ["start", "batch", "batch", "test", "stop"]
    assert caplog.messages == ["Iteration 0, Testing net (#0)", "Test interrupted."]
    assert all(listener.stale == 0 for listener in built.listeners[1:3])


def test_a_stop_in_the_last_test_of_a_training_is_over_with_it():
    built = solver("test_iter: 1 test_interval: 4 test_initialization: false")
    built.param.max_iter = 4
    stop = Do("test", lambda solver: solver.stop())
    with listening(built, stop):
        built.solve()
    built.step(3)
    assert built.iter == 7


def test_a_snapshot_that_is_asked_for(tmp_path):
    built = solver("test_iter: 2 test_interval: 3")
    at = [("update", 2), ("batch", 3)]

    def ask(event):
        return lambda solver: (event, solver.iter) in at and solver.request(Action.SNAPSHOT)

    built.listeners += [Do("update", ask("update")), Do("batch", ask("batch"))]
    names = []
    built.listeners.append(Do("snapshot", lambda solver: names.append((solver.written, solver.testing))))
    built.step(4)
    # One in the middle of the test at 3, which does not wait for its end; one for the batch behind it.
    assert names[:2] == [("out_iter_2.solverstate", False), ("out_iter_3.solverstate", True)]
    assert (tmp_path / "out_iter_3.caffemodel").exists()


def test_requests_add_up():
    requests = Requests()
    assert requests.take() is Action.NONE and Action.STOP not in requests
    requests.add(Action.SNAPSHOT | Action.STOP)
    requests.add(Action.SNAPSHOT)
    assert Action.STOP in requests and Action.SNAPSHOT in requests
    assert requests.decide() == Action.SNAPSHOT | Action.STOP and requests.take() is Action.NONE


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="POSIX")
def test_signals_are_requests(capfd):
    built, effects = solver(), {"SIGINT": "stop", "SIGHUP": "snapshot", "SIGTERM": "stop"}
    numbers = [signal.SIGINT, signal.SIGHUP, signal.SIGTERM]
    before = [signal.getsignal(number) for number in numbers]
    with heard(built, effects):
        signal.raise_signal(signal.SIGHUP)
        assert Action.SNAPSHOT in built.requests and Action.STOP not in built.requests
        signal.raise_signal(signal.SIGINT)
        assert Action.STOP in built.requests
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        built.requests.take()
        signal.raise_signal(signal.SIGTERM)
        assert Action.STOP in built.requests
        with heard(built, {"SIGINT": "none"}):
            pass
    assert [signal.getsignal(number) for number in numbers] == before
    assert capfd.readouterr().err.splitlines() == [
        "a snapshot follows after this iteration",
        "stopping after this iteration, then a snapshot; again = stop now without one",
        "stopping after this iteration, then a snapshot; again = stop now without one",
    ]


class Counter(Listener):
    name = "counter"

    def __init__(self):
        self.updates = 0

    def update(self, solver):
        self.updates += 1

    def state(self):
        return {"updates": self.updates}

    def set_state(self, state):
        self.updates = state["updates"]


def test_what_a_listener_remembers_is_in_the_snapshot():
    built, counter = solver("snapshot: 2"), Counter()
    built.listeners.append(counter)
    built.step(3)
    assert counter.updates == 3
    again, restored = solver(), Counter()
    again.listeners.append(restored)
    again.restore("out_iter_2.solverstate")
    assert restored.updates == 2
    solver().restore("out_iter_2.solverstate")  # without the listener, too


def test_early_stop_goes_on_where_it_was():
    fields = 'test_iter: 1 test_interval: 1 early_stop { metric: "loss" patience: 4 min_delta: 100 } snapshot: 2'
    built = solver(fields)
    built.step(3)
    stop = solver(fields)
    stop.restore("out_iter_2.solverstate")
    assert stop.listeners[-1].state() == {"best": 9.0, "stale": 1}
    stop.step(10)
    assert stop.iter == 4  # tested at 0 (best), 1, 2, 3, 4


def test_a_process_that_is_not_the_first_neither_tests_nor_writes(tmp_path):
    built = solver('test_iter: 1 test_interval: 1 snapshot: 1 snapshot_best: "loss"')
    built.root = False
    heard = told(built)
    assert [name for name, _ in heard] == ["start", "test", "batch", "gradients", "update", "stop"]
    assert built.scores == {} and not list(tmp_path.iterdir())


def test_what_a_listener_raises_of_a_snapshot_is_no_failed_snapshot():
    def refuse(solver):
        raise OSError("the upload failed")

    built = solver("snapshot: 1")
    built.listeners.append(Do("snapshot", refuse))
    with pytest.raises(OSError, match="the upload failed"):
        built.step(1)
    assert built.written == built.last_snapshot == "out_iter_1.solverstate"


def test_a_listener_that_cannot_say_its_state_ends_no_training(caplog):
    class Misspelt(Listener):
        name = "misspelt"

        def state(self):
            return self.sate

    built = solver("snapshot: 1")
    built.listeners.append(Misspelt())
    built.step(2)
    assert 'the state of listener "misspelt" cannot be had' in caplog.text
    assert built.iter == 2 and not built.last_snapshot


def test_the_first_process_may_write_a_snapshot_by_itself():
    class Alone(Requests):
        def from_first(self, value):
            raise AssertionError("the others would have to be here")

    built = solver()
    built.requests = Alone()
    assert built.snapshot("by_itself") == "by_itself.solverstate"


def test_a_listener_that_comes_when_all_is_done_is_in_the_next_snapshot():
    class Late(Listener):
        name = "late"

        def state(self):
            return {"n": 7}

    built = solver("test_iter: 1 test_interval: 1")
    built.param.max_iter = 1
    built.solve()
    built.listeners.append(Late())
    built.snapshot("later")
    assert resume_file.read("later.resume")["listeners"]["late"] == {"n": 7}


def test_a_listener_may_go_by_itself():
    built = solver()
    listener = Do("update", lambda solver: solver.listeners.remove(listener))
    with listening(built, listener):
        built.step(2)
    assert listener not in built.listeners
