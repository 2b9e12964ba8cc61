"""Requests computed together: a batch is formed when a thread is free, of what waits then.

Nothing waits for more to come unless `batch_timeout_micros` says so. The queue is bounded; what is cancelled or too
late is dropped before it is computed.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from caffepy.errors import CaffeError, ConfigError
from caffepy.serve.api.tensorflow_serving_pb2 import BatchingParameters
from caffepy.serve.refusal import Refused, as_refusal
from caffepy.serve.signature import Arrays, Tensor

log = logging.getLogger("caffepy.serve")

Run = Callable[[Mapping[str, np.ndarray], Iterable[Tensor]], Arrays]


class Limits(NamedTuple):
    """BatchingParameters with everything filled in."""

    max_batch_size: int = 64
    timeout: float = 0.0
    """Seconds that a batch may wait for more items."""
    max_enqueued: int = 64 * 16
    """Items."""
    threads: int = 1
    allowed: tuple[int, ...] = ()
    pad: bool = False
    name: str = ""

    @staticmethod
    def of(param: BatchingParameters | None) -> Limits:
        """Raises ConfigError for numbers that cannot be."""
        if param is None:
            return Limits()
        size = param.max_batch_size.value if param.HasField("max_batch_size") else 64
        allowed = tuple(param.allowed_batch_sizes)
        if allowed and not param.HasField("max_batch_size"):
            size = allowed[-1]
        queue = param.max_enqueued_batches.value if param.HasField("max_enqueued_batches") else 16
        threads = param.num_batch_threads.value if param.HasField("num_batch_threads") else 1
        for name, value in (("max_batch_size", size), ("max_enqueued_batches", queue), ("num_batch_threads", threads)):
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if list(allowed) != sorted(set(allowed)) or (allowed and (allowed[0] < 1 or allowed[-1] != size)):
            raise ConfigError(
                f"allowed_batch_sizes must rise and end with max_batch_size, {size}; they are {list(allowed)}"
            )
        if param.batch_timeout_micros.value < 0:
            raise ConfigError(f"batch_timeout_micros must be at least 0, got {param.batch_timeout_micros.value}")
        return Limits(
            size, param.batch_timeout_micros.value / 1e6, queue * size, threads, allowed,
            param.pad_variable_length_inputs, param.thread_pool_name.value,
        )  # fmt: skip


@dataclass(eq=False)
class Work:
    """A request that waits, is computed, or is done."""

    feeds: Arrays
    outputs: tuple[Tensor, ...]
    items: int
    future: asyncio.Future
    deadline: float | None
    """time.monotonic() after which nobody waits for the answer."""
    key: Any = ()
    enqueued: float = field(default_factory=time.monotonic)
    started: float = 0.0
    computed: float = 0.0
    batch: int = 0
    """Items that were computed together, without padding."""


class Batcher:
    """Threads that compute what `submit` is given. `submit` and `close` belong to the event loop's thread."""

    def __init__(self, run: Run, batched: bool, limits: Limits, name: str, observe: Callable[[list[Work]], None]):
        self.limits, self._run, self._batched, self._observe = limits, run, batched, observe
        self._queue: deque[Work] = deque()
        self._waiting = 0  # items in the queue
        self._ready = threading.Condition()
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._threads = [
            threading.Thread(target=self._work, name=limits.name or f"{name}/{i}", daemon=True)
            for i in range(limits.threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Items in the queue."""
        return self._waiting

    def submit(self, feeds: Arrays, outputs: tuple[Tensor, ...], items: int, deadline: float | None) -> Work:
        """Queue a request; its `future` gets the outputs. Raises Refused where the queue is full."""
        work = Work(feeds, outputs, items, self._loop.create_future(), deadline)
        if self._batched:
            work.key = outputs, tuple([values.shape[1:] for values in feeds.values()])
        with self._ready:
            if self._closed:
                raise Refused("UNAVAILABLE", "the version is being unloaded")
            if self._waiting + items > self.limits.max_enqueued and self._waiting:
                raise Refused(
                    "RESOURCE_EXHAUSTED",
                    f"the queue is full: {self._waiting} items wait",
                    hint="Try again later; max_enqueued_batches sets its length.",
                )
            self._queue.append(work)
            self._waiting += items
            self._ready.notify()
        return work

    def close(self) -> None:
        """Let the threads end, after what is in the queue."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()

    def join(self, timeout: float = 10) -> None:
        for thread in self._threads:
            thread.join(timeout)

    # The rest runs on the threads.

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            if batch:
                self._compute(batch)
            del batch

    def _next(self) -> list[Work] | None:
        """The next batch; None when all is done."""
        with self._ready:
            while not self._queue:
                if self._closed:
                    return None
                self._ready.wait()
            if self.limits.timeout and not self._closed:
                self._linger()
            return self._take()

    def _linger(self) -> None:
        """Wait until the batch is full or the oldest has waited long enough."""
        until = self._queue[0].enqueued + self.limits.timeout
        while self._queue and self._waiting < self.limits.max_batch_size and not self._closed:
            rest = until - time.monotonic()
            if rest <= 0 or not self._ready.wait(rest):
                return

    def _take(self) -> list[Work]:
        """The oldest request and those that can be computed with it, without what nobody waits for any more."""
        batch: list[Work] = []
        items, others, now = 0, [], time.monotonic()
        while self._queue and items < self.limits.max_batch_size:
            work = self._queue.popleft()
            if work.future.cancelled() or (work.deadline is not None and work.deadline <= now):
                self._waiting -= work.items
                self._tell(work.future, None, Refused("DEADLINE_EXCEEDED", "the deadline passed in the queue"))
                continue
            fits = not batch or (
                self._batched
                and items + work.items <= self.limits.max_batch_size
                and (work.key == batch[0].key or (self.limits.pad and _like(work, batch[0])))
            )
            if not fits:
                others.append(work)
                continue
            batch.append(work)
            items += work.items
            self._waiting -= work.items
            if not self._batched:
                break
        self._queue.extendleft(reversed(others))
        if self._queue:
            self._ready.notify()
        return batch

    def _compute(self, batch: list[Work]) -> None:
        started = time.monotonic()
        items = sum(work.items for work in batch)
        for work in batch:
            work.started, work.batch = started, items
        results = self._tried(batch, items)
        done = time.monotonic()
        for work in batch:
            work.computed = done
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._deliver, batch, results)

    def _tried(self, batch: list[Work], items: int) -> list[Any]:
        """What each request gets, its outputs or a Refused; one that cannot be computed does not spoil the others."""
        try:
            return self._results(batch, items)
        except Exception as error:
            if len(batch) > 1:
                return [self._tried([work], work.items)[0] for work in batch]
            if not isinstance(error, (CaffeError, MemoryError)):
                log.exception("A request failed")
            return [as_refusal(error)]

    def _results(self, batch: list[Work], items: int) -> list[Arrays]:
        """What each request gets; one larger than a batch is computed in pieces."""
        if not self._batched:
            return [self._run(batch[0].feeds, batch[0].outputs)]
        feeds = batch[0].feeds if len(batch) == 1 else _joined([work.feeds for work in batch])
        limit = self.limits.max_batch_size
        parts = []
        for start in range(0, items, limit):
            piece = {name: values[start : start + limit] for name, values in feeds.items()} if items > limit else feeds
            size = min(limit, items - start)
            found = self._run(self._padded(piece, size), batch[0].outputs)
            parts.append({name: values[:size] for name, values in found.items()})
        whole = parts[0] if len(parts) == 1 else _joined(parts)
        if len(batch) == 1:
            return [whole]
        results, at = [], 0
        for work in batch:
            results.append({name: values[at : at + work.items] for name, values in whole.items()})
            at += work.items
        return results

    def _padded(self, feeds: Arrays, size: int) -> Arrays:
        """With zeros up to the next allowed size."""
        wanted = next((n for n in self.limits.allowed if n >= size), size)
        if wanted == size:
            return feeds
        return {
            name: np.concatenate([values, np.zeros((wanted - size, *values.shape[1:]), values.dtype)])
            for name, values in feeds.items()
        }

    def _deliver(self, batch: list[Work], results: list[Any]) -> None:
        for work, result in zip(batch, results):
            if not work.future.done():
                if isinstance(result, Exception):
                    work.future.set_exception(result)
                else:
                    work.future.set_result(result)
        self._observe(batch)

    def _tell(self, future: asyncio.Future, result: Any, error: Exception) -> None:
        def tell() -> None:
            if not future.done():
                future.set_exception(error)

        if not future.cancelled():
            self._loop.call_soon_threadsafe(tell)


def _joined(parts: list[Arrays]) -> Arrays:
    """The arrays one after another; items of different sizes padded with zeros to the largest."""
    out = {}
    for name in parts[0]:
        arrays = [part[name] for part in parts]
        largest = np.max([a.shape[1:] for a in arrays], axis=0, initial=0)
        if any(a.shape[1:] != tuple(largest) for a in arrays):
            arrays = [np.pad(a, [(0, 0), *((0, n - m) for n, m in zip(largest, a.shape[1:]))]) for a in arrays]
        out[name] = np.concatenate(arrays)
    return out


def _like(a: Work, b: Work) -> bool:
    """Whether the two differ in sizes of axes alone."""
    return a.outputs == b.outputs and [v.ndim for v in a.feeds.values()] == [v.ndim for v in b.feeds.values()]
