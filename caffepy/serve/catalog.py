"""The models of a server and their versions: found, loaded, replaced, unloaded. All of it on the event loop's thread.

Loading happens on threads of its own. A version is unloaded when another has taken its place, never because the base
path cannot be read.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from caffepy.errors import CaffeError, described
from caffepy.serve import policy
from caffepy.serve.api.tensorflow_serving_pb2 import BatchingParameters, ModelConfig, ModelVersionStatus
from caffepy.serve.batching import Batcher, Limits
from caffepy.serve.metrics import Metrics
from caffepy.serve.model import Computing, LoadedModel, load
from caffepy.serve.refusal import Refused
from caffepy.serve.stores import SeenVersion, Store, open_store

log = logging.getLogger("caffepy.serve")

START, LOADING, AVAILABLE, UNLOADING, END = (
    ModelVersionStatus.START,
    ModelVersionStatus.LOADING,
    ModelVersionStatus.AVAILABLE,
    ModelVersionStatus.UNLOADING,
    ModelVersionStatus.END,
)
STATES = ModelVersionStatus.State
LONGEST = 60.0
"""Seconds: the longest pause before a failed load is tried again."""
KEPT = 8
"""Unloaded versions of a model that its status still tells of."""


@dataclass(eq=False)
class Version:
    """A version of a model, from the moment that it is seen."""

    model_name: str
    number: int
    found: SeenVersion
    base: str
    state: int = START
    error: str = ""
    attempts: int = 0
    retry_at: float = 0.0
    model: LoadedModel | None = None
    batcher: Batcher | None = None
    active: int = 0
    """Requests that use it."""
    loaded_at: float = 0.0

    @property
    def failed(self) -> bool:
        return self.state == END and bool(self.error)

    @property
    def seen_as(self) -> tuple:
        return self.base, self.found.print


@dataclass(eq=False)
class Served:
    """A model: what is configured, and what is there."""

    config: ModelConfig
    store: Store
    versions: dict[int, Version] = field(default_factory=dict)
    renewals: dict[int, Version] = field(default_factory=dict)
    """Versions whose files have changed, on their way to take the place of those that serve."""
    labels: dict[str, int] = field(default_factory=dict)
    problem: str = ""
    """Why the base path cannot be read."""
    suspended: bool = False
    """Unloaded by request."""
    looked: bool = False
    share: policy.CanaryShare = field(default_factory=policy.CanaryShare)

    @property
    def available(self) -> list[int]:
        return [number for number, version in self.versions.items() if version.state == AVAILABLE]

    def is_any(self, number: int) -> bool:
        """Whether the number leaves the choice to us: 0, as OpenVINO's clients send it, where there is no version 0."""
        return number == 0 and number not in self.versions


class Catalog:
    """Models by name. `look` brings what is loaded in line with what is there and wanted."""

    def __init__(
        self,
        metrics: Metrics,
        computing: Computing | None = None,
        batching: BatchingParameters | None = None,
        *,
        load_threads: int = 1,
        unload_first: bool = False,
        retry_seconds: float = 1.0,
        labels_ahead: bool = False,
    ):
        self.metrics, self.computing, self.batching = metrics, computing or Computing(), batching
        self.unload_first, self.retry_seconds, self.labels_ahead = unload_first, retry_seconds, labels_ahead
        self.models: dict[str, Served] = {}
        self.changed: Callable[[], None] = lambda: None
        """Called when a version's state has changed."""
        self._loaders = ThreadPoolExecutor(load_threads, "load", initializer=_be_patient)
        self._first_loaders = ThreadPoolExecutor(load_threads, "load")
        """For as long as there is nothing to give way to."""
        self._lookers = ThreadPoolExecutor(4, "look")
        self._tasks: set[asyncio.Task] = set()

    # What is served

    def apply(self, configs: Iterable[ModelConfig]) -> None:
        """Serve these models and no others. Raises CaffeError, with nothing changed, for what cannot be."""
        stores = {}
        for config in configs:
            known = self.models.get(config.name)
            Limits.of(self._batching(config))
            same = known is not None and known.config.base_path == config.base_path
            stores[config.name] = config, known.store if known and same else open_store(config.base_path)
        for name in [name for name in self.models if name not in stores]:
            served = self.models.pop(name)
            for version in [*served.versions.values(), *served.renewals.values()]:
                self._unload(version)
        for name, (config, store) in stores.items():
            served = self.models.setdefault(name, Served(config, store))
            rebatch = self._batching(config) != self._batching(served.config)
            served.config, served.store, served.suspended, served.looked = config, store, False, False
            if rebatch:
                for version in served.versions.values():
                    if version.state == AVAILABLE:
                        self._start_batcher(served, version)

    def _batching(self, config: ModelConfig) -> BatchingParameters | None:
        return config.batching_parameters if config.HasField("batching_parameters") else self.batching

    def pick(self, name: str, version: int | None = None, label: str = "") -> Version:
        """The version that answers a request. Raises Refused."""
        served = self.models.get(name)
        if served is None:
            asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise Refused("NOT_FOUND", f"Servable not found for request: {asked}")
        if label:
            if label not in served.labels:
                raise Refused("NOT_FOUND", f'Unrecognized servable version label "{label}" of model {name}')
            version = served.labels[label]
        if version is not None and not served.is_any(version):
            found = served.versions.get(version)
            if found is None or found.state != AVAILABLE:
                raise Refused("NOT_FOUND", f"Servable not found for request: Specific({name}, {version})")
            return found
        available = served.available
        if not available:
            reason = self._reason(served).partition("\n")[0] or "none is loaded yet"
            raise Refused("UNAVAILABLE", f"no version of model {name} is available: {reason}")
        if served.config.HasField("canary") and len(available) > 1:
            canary = served.config.canary
            if canary.version in available:
                if served.share.next(canary.percent):
                    return served.versions[canary.version]
                available.remove(canary.version)
        return served.versions[max(available)]

    def _reason(self, served: Served) -> str:
        """Why nothing of a model is loaded."""
        return next((version.error for version in served.versions.values() if version.error), served.problem)

    # What is there

    async def look(self) -> None:
        """Read all base paths, and load and unload what follows from that."""
        await asyncio.gather(*(self._look(served) for served in list(self.models.values())))

    async def _look(self, served: Served) -> None:
        store, name = served.store, served.config.name
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._lookers, store.versions)
            problem = "" if found else f"{store.base}: no versions of the model found under the base path"
        except CaffeError as error:
            found, problem = {}, str(error)
        except Exception as error:
            found, problem = {}, f"{store.base}: {described(error)}"
        if self.models.get(name) is not served or served.store is not store:
            return
        if problem and problem != served.problem:
            log.error("%s: %s", name, problem)
        served.problem, served.looked = problem, True
        if found and not served.suspended:
            self._reconcile(served, found)

    def _reconcile(self, served: Served, found: dict[int, SeenVersion]) -> None:
        wanted = policy.wanted(served.config, found)
        now = time.monotonic()
        if self.unload_first and any(n not in served.available for n in wanted):
            for number in set(served.available) - wanted:
                self._unload(served.versions[number])
        for number in sorted(wanted, reverse=True):
            seen = found[number]
            version = served.versions.get(number)
            if version is None or (version.state == END and not version.error):
                version = served.versions[number] = Version(served.config.name, number, seen, served.store.base)
            same = version.seen_as == (served.store.base, seen.print)
            if version.state == AVAILABLE and not same:
                renewal = served.renewals.get(number)
                if renewal is None or (renewal.state == END and renewal.seen_as != (served.store.base, seen.print)):
                    renewal = served.renewals[number] = Version(served.config.name, number, seen, served.store.base)
                version, same = renewal, renewal.seen_as == (served.store.base, seen.print)
            if version.state == START or (version.failed and (now >= version.retry_at or not same)):
                if version.failed and not same:
                    version.attempts = 0
                version.found, version.base = seen, served.store.base
                if seen.complete:
                    self._start(served, version)
        for number in [n for n, v in served.versions.items() if v.state == START and n not in wanted]:
            del served.versions[number]
        self._retire(served, wanted)
        self._move_labels(served)

    def _retire(self, served: Served, wanted: set[int]) -> None:
        """Unload what is no longer wanted, once something that is has been loaded."""
        if not wanted & set(served.available):
            return
        for number in set(served.available) - wanted:
            self._unload(served.versions[number])
        failed = [n for n, v in served.versions.items() if v.failed and n not in wanted]
        ended = [n for n, v in served.versions.items() if v.state == END and not v.error]
        for number in [*failed, *ended[:-KEPT]]:
            served.versions.pop(number)

    def _move_labels(self, served: Served) -> None:
        """Labels move to their versions as soon as these are loaded; what is no longer configured goes."""
        configured = served.config.version_labels
        for label, number in configured.items():
            if number in served.available or (self.labels_ahead and label not in served.labels):
                served.labels[label] = number
        for label in [label for label in served.labels if label not in configured]:
            del served.labels[label]

    # Loading and unloading

    def _start(self, served: Served, version: Version) -> None:
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
            self._start_batcher(served, version)
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
            self._unload(old)
        self._move_labels(served)
        await self._look(served)

    def _start_batcher(self, served: Served, version: Version) -> None:
        assert version.model is not None
        settings = version.model.settings
        param = settings.batching if settings.HasField("batching") else self._batching(served.config)
        limits, model, name = Limits.of(param), version.model.signature.batched, version.model_name
        before, number = version.batcher, str(version.number)
        version.batcher = Batcher(
            version.model.run, model, limits, f"{name}/{number}", lambda works: self.metrics.batch(name, number, works)
        )
        if before is not None:
            before.close()

    def _unload(self, version: Version) -> None:
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

    # What is asked of it as a whole

    async def settle(self, names: Iterable[str] | None = None, seconds: float = 600) -> None:
        """Wait until each of these models has been looked at, and nothing of it is being loaded for the first time."""
        until = time.monotonic() + seconds
        for name in list(self.models if names is None else names):
            served = self.models.get(name)
            while served is not None and time.monotonic() < until:
                if served.looked and not any(v.state in (START, LOADING) for v in served.versions.values()):
                    break
                await asyncio.sleep(0.02)

    def ready(self) -> bool:
        """Whether every model that is not suspended has a version that answers."""
        return all(served.suspended or served.available for served in self.models.values())

    def suspend(self, name: str) -> None:
        """Unload a model until `resume`."""
        served = self._known(name)
        served.suspended = True
        for version in served.versions.values():
            self._unload(version)

    async def resume(self, name: str) -> None:
        """Load a model again, or now what failed before. Raises Refused if no version can be loaded."""
        served = self._known(name)
        while any(version.state == UNLOADING for version in served.versions.values()):
            await asyncio.sleep(0.01)
        served.suspended = served.looked = False
        for version in served.versions.values():
            version.retry_at = 0.0
        await self._look(served)
        await self.settle([name])
        if not served.available:
            reason = self._reason(served)
            raise Refused("FAILED_PRECONDITION", f"model {name} was not loaded: {reason}")

    def _known(self, name: str) -> Served:
        if name not in self.models:
            raise Refused("NOT_FOUND", f"no model {name} is configured")
        return self.models[name]

    async def close(self) -> None:
        """Unload everything."""
        for served in self.models.values():
            for version in served.versions.values():
                if version.state == AVAILABLE:
                    self._unload(version)
        unloads = [task for task in self._tasks if not task.done()]
        if unloads:
            await asyncio.wait(unloads, timeout=5)
        for pool in (self._loaders, self._first_loaders, self._lookers):
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
