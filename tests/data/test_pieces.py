"""Work in pieces: order, errors, a fork."""

from __future__ import annotations

import os
import threading

import pytest

from caffepy.data.pieces import Pieces


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_pieces_make_up_the_whole(threads, count):
    pieces = Pieces(threads)
    assert [i for part in pieces.run(count, lambda part: range(count)[part]) for i in part] == list(range(count))
    assert pieces.map(lambda a, b: a + b, list(range(count)), [10] * count) == list(range(10, 10 + count))


def test_one_thread_is_the_callers():
    assert Pieces(1).run(3, lambda part: threading.current_thread()) == [threading.current_thread()]


def test_the_first_error_is_raised():
    def work(part: slice) -> None:
        raise ValueError(str(part.start))

    with pytest.raises(ValueError, match=r"^0$"):
        Pieces(4).run(8, work)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork():
    pieces = Pieces(2)
    assert pieces.map(abs, [-1, -2]) == [1, 2]
    child = os.fork()
    if not child:
        os._exit(pieces.map(abs, [-3, -4]) != [3, 4])
    assert os.waitpid(child, 0)[1] == 0
