"""Loading and unloading versions, on threads of their own: with retries, and with the memory given back."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from caffepy.errors import CaffeError, described
from caffepy.serve.api.tensorflow_serving_pb2 import BatchingParameters, ModelConfig
from caffepy.serve.batching import Batcher, Limits
from caffepy.serve.metrics import Metrics
from caffepy.serve.model import Computing, LoadedModel, load
from caffepy.serve.served import AVAILABLE, END, LOADING, UNLOADING, Served, Version
from caffepy.serve.stores import Store

log = logging.getLogger("caffepy.serve")

LONGEST = 60.0
"""Seconds: the longest pause before a failed load is tried again."""


class Loader:
    """Brings versions into and out of memory. All of it on the event loop's thread, but what takes long."""

    def __init__(
        self,
        models: Mapping[str, Served],
        metrics: Metrics,
        computing: Computing,
        batching: BatchingParameters | None,
        loaded: Callable[[Served], Awaitable[None]],
        *,
        threads: int,
        unload_first: bool,
        retry_seconds: float,
    ):
        self.models, self.metrics, self.computing, self.batching = models, metrics, computing, batching
        self.loaded, self.unload_first, self.retry_seconds = loaded, unload_first, retry_seconds
        self.changed: Callable[[], None] = lambda: None
        """Called when a version's state has changed."""
        self._loaders = ThreadPoolExecutor(threads, "load", initializer=_be_patient)
        self._first_loaders = ThreadPoolExecutor(threads, "load")
        """For as long as there is nothing to give way to."""
        self._tasks: set[asyncio.Task] = set()

    def batching_of(self, config: ModelConfig) -> BatchingParameters | None:
        return config.batching_parameters if config.HasField("batching_parameters") else self.batching

    def start(self, served: Served, version: Version) -> None:
        self._set(version, LOADING)
        version.attempts += 1
        task = asyncio.get_running_loop().create_task(self._load(served, version))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _load(self, served: Served, version: Version) -> None:
        began, store = time.monotonic(), served.store
        loop = asyncio.get_running_loop()
        name = f"{version.model_name}/{version.number}"
        if self.unload_first and version is served.renewals.get(version.number):
            await self._unloaded(served.versions[version.number])
        try:
            serving = any(served.available for served in self.models.values())
            loaders = self._loaders if serving else self._first_loaders
            model = await loop.run_in_executor(loaders, _loaded, store, version, self.computing)
        except Exception as error:
            self.metrics.load(version.model_name, "fail", time.monotonic() - began)
            pause = min(self.retry_seconds * 2 ** (version.attempts - 1), LONGEST)
            version.retry_at = time.monotonic() + pause
            version.error = str(error) if isinstance(error, CaffeError) else described(error)
            if not isinstance(error, CaffeError):
                log.exception("%s: loading it failed", name)
            log.error("%s: not loaded, next try in %.3g s: %s", name, pause, version.error)
            self._set(version, END)
            return
        if self.models.get(version.model_name) is not served:
            return
        self.metrics.load(version.model_name, "success", time.monotonic() - began)
        version.model, version.error, version.attempts = model, "", 0
        try:
            self.start_batcher(served, version)
        except CaffeError as error:
            version.model, version.error = None, str(error)
            version.retry_at = time.monotonic() + LONGEST
            self._set(version, END)
            return
        old = None
        if served.renewals.get(version.number) is version:
            del served.renewals[version.number]
            old = served.versions.get(version.number)
            served.versions[version.number] = version
        self._set(version, AVAILABLE)
        version.loaded_at = time.time()
        log.info("%s: loaded in %.3g s, computed by %s", name, time.monotonic() - began, model.computer.name)
        if old is not None and old.state == AVAILABLE:
            self.unload(old)
        await self.loaded(served)

    def start_batcher(self, served: Served, version: Version) -> None:
        assert version.model is not None
        settings = version.model.settings
        param = settings.batching if settings.HasField("batching") else self.batching_of(served.config)
        limits, model, name = Limits.of(param), version.model.signature.batched, version.model_name
        before, number = version.batcher, str(version.number)
        version.batcher = Batcher(
            version.model.run, model, limits, f"{name}/{number}", lambda works: self.metrics.batch(name, number, works)
        )
        if before is not None:
            before.close()

    def unload(self, version: Version) -> None:
        if version.state == AVAILABLE:
            task = asyncio.get_running_loop().create_task(self._unloaded(version))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            self._set(version, UNLOADING)

    async def _unloaded(self, version: Version) -> None:
        """Let the version's requests end, then free its memory."""
        self._set(version, UNLOADING)
        while version.active:
            await asyncio.sleep(0.01)
        batcher, version.batcher = version.batcher, None
        assert batcher is not None
        batcher.close()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._loaders, batcher.join)
        del batcher
        version.model = None
        self._set(version, END)
        self.metrics.forget(version.model_name, str(version.number))
        log.info("%s/%d: unloaded", version.model_name, version.number)
        await loop.run_in_executor(self._loaders, _free_memory)

    def _set(self, version: Version, state: int) -> None:
        version.state = state
        self.metrics.states[version.model_name, str(version.number)] = state
        self.changed()

    async def close(self) -> None:
        """Let unloads that are under way end."""
        unloads = [task for task in self._tasks if not task.done()]
        if unloads:
            await asyncio.wait(unloads, timeout=5)
        for pool in (self._loaders, self._first_loaders):
            pool.shutdown(wait=False, cancel_futures=True)


def _loaded(store: Store, version: Version, computing: Computing) -> LoadedModel:
    """On a loader's thread: fetch, check, load and warm up; what changes meanwhile is not loaded."""
    before = version.found.print
    with store.fetched(version.number) as folder:
        model = load(folder, computing)
    after = store.versions().get(version.number)
    if after is None or after.print != before:
        raise CaffeError("the files changed while they were loaded", where=f"{store.base}/{version.number}")
    return model


def _be_patient() -> None:
    """Threads that load give way to those that answer."""
    with suppress(AttributeError, OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def _free_memory() -> None:
    """Give what was freed back to the system: the C library keeps it otherwise."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
