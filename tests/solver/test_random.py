"""A solver has random numbers of its own: those of its seed or, without one, of the process's, as Caffe draws them."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import caffepy as caffe
from caffepy import rng
from caffepy.engine.numpy.engine import NumpyEngine
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.pycaffe.solvers import Solver

SOLVER = """
base_lr: 0.05 lr_policy: "fixed" momentum: 0.9 test_iter: 2 test_interval: 3 %s
net_param {
  layer { name: "data" type: "DummyData" top: "x" top: "y" dummy_data_param {
    shape { dim: 4 dim: 6 } shape { dim: 4 dim: 2 }
    data_filler { type: "gaussian" } data_filler { type: "uniform" } } }
  layer { name: "hidden" type: "InnerProduct" bottom: "x" top: "hidden"
    inner_product_param { num_output: 8 weight_filler { type: "xavier" } } }
  layer { name: "drop" type: "Dropout" bottom: "hidden" top: "hidden" }
  layer { name: "out" type: "InnerProduct" bottom: "hidden" top: "out"
    inner_product_param { num_output: 2 weight_filler { type: "gaussian" std: 0.1 } } }
  layer { name: "loss" type: "EuclideanLoss" bottom: "out" bottom: "y" top: "loss" }
}"""


def solver(seed: int | None) -> Solver:
    fields = "" if seed is None else f"random_seed: {seed}"
    return Solver(text.parse(SOLVER % fields, SolverParameter()), engine=NumpyEngine(threads=1))


def bits(built: Solver) -> list[bytes]:
    return [param.blob.data.tobytes() for param in built.net.learnable_params]


def alone(seed: int) -> list[bytes]:
    built = solver(seed)
    built.step(8)
    return bits(built)


def test_two_solvers_in_turn_do_not_disturb_each_other():
    expected = alone(1), alone(2)
    assert expected[0] != expected[1]
    first, second = solver(1), solver(2)
    for _ in range(8):
        first.step(1)
        rng.draw()
        second.step(1)
        second.test()
        solver(None)
    # A test draws, too: DummyData.
    assert bits(first) == expected[0] and bits(second) != expected[1]


def test_two_solvers_built_and_stepped_in_two_threads_at_once():
    expected, found, together = [alone(1), alone(2)], {}, threading.Barrier(2)

    def train(seed):
        together.wait()
        built = solver(seed)
        for _ in range(8):
            together.wait()
            built.step(1)
        found[seed] = bits(built)

    threads = [threading.Thread(target=train, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[1], found[2]] == expected


def test_without_a_seed_that_of_the_process_counts():
    caffe.set_random_seed(3)
    built = solver(None)
    built.step(8)
    assert bits(built) == alone(3)  # one seed, Caffe's numbers, whoever sets it
    late = solver(None)
    initial = bits(late)
    caffe.set_random_seed(3)
    again = solver(None)
    assert bits(again) != initial
    solver(5).step(2)
    again.step(8)
    assert bits(again) == bits(built)


def test_a_seed_that_is_set_later_counts_too():
    found = []
    for _ in range(2):
        caffe.set_random_seed(3)
        built = solver(None)
        rng.current().draw()
        caffe.set_random_seed(4)
        built.step(4)
        found.append(bits(built))
    assert found[0] == found[1] != alone(3)


def test_two_solvers_without_a_seed_do_not_disturb_each_other():
    caffe.set_random_seed(3)
    first, second = solver(None), solver(None)
    initial = bits(second)
    for _ in range(8):
        first.step(1)
        second.step(1)
        rng.draw()
    assert bits(first) == alone(3)
    caffe.set_random_seed(3)
    solver(None)
    again = solver(None)  # built behind another, as in Caffe from the numbers that follow
    assert bits(again) == initial != bits(solver(3))
    again.step(8)
    assert bits(again) == bits(second)


def test_what_is_built_behind_a_solver_draws_what_follows():
    caffe.set_random_seed(3)
    built = solver(None)
    assert rng.draw() == built.random.draw()


def test_a_seed_leaves_the_process_stream_as_it_was():
    rng.seed(4)
    solver(1).step(2)
    assert rng.draw() == rng.Stream(4).draw()


@pytest.mark.parametrize("seed", [1, None])
def test_nets_know_the_stream_they_were_built_under(seed):
    built = solver(seed)
    assert {net.random for net in (built.net, *built.test_nets)} == {built.random}


def test_a_resume_continues_the_solvers_stream(tmp_path):
    whole = solver(1)
    whole.step(4)
    state = whole.snapshot(str(tmp_path / "s"))
    whole.step(4)
    resumed = solver(9)
    resumed.restore(state)
    rng.seed(77)
    resumed.step(4)
    assert bits(resumed) == bits(whole)
    np.testing.assert_array_equal(whole.random.draw(), resumed.random.draw())
