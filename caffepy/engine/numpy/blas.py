"""What the process is set to while our threads compute with numpy."""

from __future__ import annotations

from functools import cache

from caffepy.engine.held import Held, Undo
from caffepy.engine.numpy import memory


@cache
def _libraries() -> list:
    """The BLAS libraries in this process, numpy's among them: found once, which takes 0.2 ms."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas").lib_controllers


def _one_thread() -> Undo:
    memory.keep_freed_memory()  # from now on: who never computes does not need it
    before = [(library, library.get_num_threads()) for library in _libraries()]
    several = [(library, threads) for library, threads in before if threads != 1]
    for library, _ in several:
        library.set_num_threads(1)

    def undo() -> None:
        for library, threads in several:
            library.set_num_threads(threads)

    return undo


one_thread = Held(_one_thread)
"""Within it each product takes one thread: ours divide the work, and BLAS's own would fight them for the cores."""
