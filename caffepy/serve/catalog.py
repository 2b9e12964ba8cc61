"""The models of a server and their versions: found, loaded, replaced, unloaded. All of it on the event loop's thread.

Loading happens on threads of its own. A version is unloaded when another has taken its place, never because the base
path cannot be read.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from caffepy.errors import CaffeError, described
from caffepy.serve.api.tensorflow_serving_pb2 import BatchingParameters, ModelConfig
from caffepy.serve.batching import Limits
from caffepy.serve.loading import Loader
from caffepy.serve.metrics import Metrics
from caffepy.serve.model import Computing
from caffepy.serve.reconcile import move_labels, reconcile
from caffepy.serve.refusal import Refused
from caffepy.serve.served import AVAILABLE, LOADING, START, UNLOADING, Served, Version
from caffepy.serve.stores import open_store

log = logging.getLogger("caffepy.serve")


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
        self.labels_ahead = labels_ahead
        self.models: dict[str, Served] = {}
        self.loader = Loader(
            self.models, metrics, computing or Computing(), batching, self._loaded,
            threads=load_threads, unload_first=unload_first, retry_seconds=retry_seconds,
        )  # fmt: skip
        self._lookers = ThreadPoolExecutor(4, "look")

    # What is served

    def apply(self, configs: Iterable[ModelConfig]) -> None:
        """Serve these models and no others. Raises CaffeError, with nothing changed, for what cannot be."""
        stores = {}
        for config in configs:
            known = self.models.get(config.name)
            Limits.of(self.loader.batching_of(config))
            same = known is not None and known.config.base_path == config.base_path
            stores[config.name] = config, known.store if known and same else open_store(config.base_path)
        for name in [name for name in self.models if name not in stores]:
            served = self.models.pop(name)
            for version in [*served.versions.values(), *served.renewals.values()]:
                self.loader.unload(version)
        for name, (config, store) in stores.items():
            served = self.models.setdefault(name, Served(config, store))
            rebatch = self.loader.batching_of(config) != self.loader.batching_of(served.config)
            served.config, served.store, served.suspended, served.looked = config, store, False, False
            if rebatch:
                for version in served.versions.values():
                    if version.state == AVAILABLE:
                        self.loader.start_batcher(served, version)

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
        if served.suspended:
            return "it was unloaded by request, until a request loads it"
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
            reconcile(served, found, self.loader, self.labels_ahead)

    async def _loaded(self, served: Served) -> None:
        move_labels(served, self.labels_ahead)
        await self._look(served)

    # What is asked of it as a whole

    async def serve(self, configs: list[ModelConfig]) -> None:
        """Serve these models and no others, and wait until they are loaded. Raises Refused for what cannot be."""
        self.apply(configs)
        await self.look()
        await self.settle([config.name for config in configs])
        if problems := [problem for config in configs for problem in self._problems(config)]:
            raise Refused("FAILED_PRECONDITION", "; ".join(problems))

    def _problems(self, config: ModelConfig) -> Iterator[str]:
        served = self.models.get(config.name)
        if served is None:
            return
        failed = [f"version {v.number}: {v.error}" for v in served.versions.values() if v.failed]
        if served.problem or failed:
            yield f"{config.name}: {served.problem or failed[0]}"
        for label, number in config.version_labels.items():
            if served.labels.get(label) != number:
                yield (f"{config.name}: the label {label} can only be given to a loaded version, and {number} is not")

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
            self.loader.unload(version)

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
                    self.loader.unload(version)
        await self.loader.close()
        self._lookers.shutdown(wait=False, cancel_futures=True)
