"""CUDA graphs: the kernels of a function recorded once, then started again with one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def record(engine: Any, fn: Callable[[], Any]) -> Callable[[], Any]:
    """A function that repeats what `fn` did on the engine's GPU and returns its result, always in the same memory.

    `fn` must have run before, so that nothing is chosen or allocated for the first time while it is recorded. Who seeds
    the engine's generator before a repetition gets the random numbers that `fn` would draw. Raises RuntimeError where
    `fn` does what cannot be recorded, such as fetching a value.
    """
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(engine.generator)
    torch.cuda.synchronize(engine.device)
    # Only this thread's calls are refused: another one may be pinning the next batch.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = fn()

    def repeat() -> Any:
        graph.replay()
        return result

    return repeat
