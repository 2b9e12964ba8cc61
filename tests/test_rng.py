"""Streams of random numbers."""

from __future__ import annotations

import os
import threading
import warnings

import numpy as np
import pytest

from caffepy import rng


def test_the_same_seed_the_same_numbers_modulo_32_bits():
    first, second = rng.Stream(5), rng.Stream(5 + 2**32)
    assert [first.draw() for _ in range(3)] == [second.draw() for _ in range(3)]
    # What boost::mt19937 and std::mt19937 give for this seed.
    assert rng.Stream(5489).draw() == 3499211612


def test_a_streams_generator_and_state_are_its_own():
    stream = rng.Stream(3)
    state = stream.state
    drawn = stream.generator.random(4), stream.draw()
    stream.state = state
    np.testing.assert_array_equal(stream.generator.random(4), drawn[0])
    assert stream.draw() == drawn[1]


def test_a_stream_without_a_seed_is_another_each_time():
    assert rng.Stream().draw() != rng.Stream().draw()


def test_the_functions_are_those_of_the_stream_in_use():
    default, other = rng.current(), rng.Stream(7)
    rng.seed(1)
    expected = rng.Stream(1)
    with rng.use(other):
        assert rng.current() is other
        rng.seed(8)
        assert rng.draw() == rng.Stream(8).draw()
        assert rng.generator is other.generator
        with rng.use(default):
            assert rng.draw() == expected.draw()
    assert rng.current() is default and rng.draw() == expected.draw()
    with pytest.raises(AttributeError, match="generators"):
        _ = rng.generators


def test_an_error_ends_the_use():
    default = rng.current()
    with pytest.raises(ValueError), rng.use(rng.Stream()):
        raise ValueError
    assert rng.current() is default


def test_another_thread_has_the_process_stream():
    found = []
    with rng.use(rng.Stream(1)):
        thread = threading.Thread(target=lambda: found.append(rng.current()))
        thread.start()
        thread.join()
    assert found == [rng.current()]


def test_a_branch_goes_on_from_there_alone():
    stream = rng.Stream(3)
    stream.draw()
    branch = stream.branch()
    following = [branch.draw() for _ in range(3)]
    assert [stream.draw() for _ in range(3)] == following
    stream.seed(9)
    assert branch.draw() == stream.draw() == rng.Stream(9).draw()
    branch.seed(1)
    stream.draw()
    assert branch.draw() == rng.Stream(1).draw()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX")
def test_a_forked_process_draws_though_another_thread_was_drawing():
    stream = rng.Stream(3)
    with stream.generator.bit_generator.lock, warnings.catch_warnings():  # as numpy holds it while it draws
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
        if child == 0:
            drawn = []
            # From another thread, for the lock is this one's.
            thread = threading.Thread(target=lambda: drawn.append(stream.generator.random()), daemon=True)
            thread.start()
            thread.join(20)
            os._exit(0 if drawn == [rng.Stream(3).generator.random()] else 1)
    assert os.waitpid(child, 0)[1] == 0
