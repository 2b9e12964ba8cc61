"""The server of one process: gRPC and REST on one event loop, models computing on threads."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from caffepy import permissions
from caffepy.errors import CaffeError, MissingExtraError
from caffepy.serve import tls
from caffepy.serve.api import tensorflow_serving_pb2 as tfs
from caffepy.serve.catalog import Catalog
from caffepy.serve.metrics import Metrics
from caffepy.serve.model import Computing
from caffepy.serve.options import ServeOptions, Stop, changed_at, models_of
from caffepy.serve.refusal import Refused
from caffepy.serve.service import Service
from caffepy.serve.tokens import Tokens

log = logging.getLogger("caffepy.serve")

REFUSING = 0.2
"""Seconds for which new requests are told to go elsewhere, before the connections are closed."""


class Server:
    """A catalog behind gRPC and REST; `ports` are those that were bound."""

    def __init__(self, options: ServeOptions):
        options.check()
        self.options = options
        self.tokens = Tokens(options.token_file) if options.token_file else None
        self.tls = options.tls()
        with tls.uvicorn_arguments(self.tls):  # raises here for what is no PEM
            pass
        self.metrics_paths = options.metrics_paths()
        self.first = options.configured()
        batching = options.batching_parameters()
        permissions.allow_python_layers(options.python_layers)
        self.metrics = Metrics()
        self.catalog = Catalog(
            self.metrics,
            Computing(options.engine, options.gpu, options.threads),
            batching,
            load_threads=options.load_threads,
            unload_first=options.unload_first,
            retry_seconds=options.retry_seconds,
            labels_ahead=options.labels_ahead,
        )
        self.service = Service(self.catalog, self.metrics)
        self.ports: dict[str, int] = {}
        self.stopping = asyncio.Event()
        self.guard: asyncio.Future | None = None

    # What runs

    async def run(self, started: Callable[[Server], None] = lambda server: None) -> None:
        """Serve until SIGTERM or SIGINT, then drain."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        async with self.serving():
            started(self)
            await self.stopping.wait()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """In the block requests are answered; at its end those that are there, and no others."""
        self.catalog.apply(self.first)
        async with self.listening():
            background = [asyncio.create_task(task()) for task in (self._scan, self._poll_config, self._say_ready)]
            try:
                yield
            finally:
                self.stopping.set()
                log.info("Draining: no new requests, %g s for those that are there", self.options.drain_seconds)
                for task in background:
                    task.cancel()

    async def _scan(self) -> None:
        while True:
            try:
                await self.catalog.look()
            except Exception:
                log.exception("Looking for versions failed")
            await asyncio.sleep(self.options.poll_seconds or 3600)

    async def _poll_config(self) -> None:
        path, seconds = self.options.config_file, self.options.config_poll_seconds
        seen = changed_at(path) if path else ()
        while path and seconds:
            await asyncio.sleep(seconds)
            if (now := changed_at(path)) and now != seen:
                seen = now
                try:
                    self.catalog.apply(self.options.configured())
                    log.info("%s: read anew", path)
                except CaffeError as error:
                    log.error("the configuration stays as it was: %s", error)

    async def _say_ready(self) -> None:
        await self.catalog.settle()
        for name, served in self.catalog.models.items():
            for label in set(served.config.version_labels) - set(served.labels):
                log.error("%s: the label %s waits for version %d to be loaded", name, label,
                          served.config.version_labels[label])  # fmt: skip

    async def reload(self, request: tfs.ReloadConfigRequest) -> None:
        """Serve what the request says. Raises Refused, the old models still there, for what cannot be loaded."""
        configs = models_of(request.config, "the request")
        if not configs and request.mode == tfs.ReloadConfigRequest.REPLACE and not request.config.WhichOneof("config"):
            raise Refused("INVALID_ARGUMENT", "the request has no model_config_list")
        if request.mode == tfs.ReloadConfigRequest.MERGE:
            names = {config.name for config in configs}
            configs += [s.config for name, s in self.catalog.models.items() if name not in names]
        self.catalog.apply(configs)
        await self.catalog.look()
        await self.catalog.settle([config.name for config in configs])
        problems = []
        for config in configs:
            served = self.catalog.models.get(config.name)
            if served is None:
                continue
            failed = [f"version {v.number}: {v.error}" for v in served.versions.values() if v.failed]
            if served.problem or failed:
                problems.append(f"{config.name}: {served.problem or failed[0]}")
            problems += [
                f"{config.name}: the label {label} can only be given to a loaded version, and {number} is not"
                for label, number in config.version_labels.items()
                if served.labels.get(label) != number
            ]
        if problems:
            raise Refused("FAILED_PRECONDITION", "; ".join(problems))

    # How it is reached

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Both servers, started; at the end they drain and all models are unloaded."""
        from caffepy.serve import grpc_server, rest_server  # whose libraries take long to import

        stops: list[Stop] = []
        try:
            if self.options.port is not None:
                self.ports["grpc"], stop = await grpc_server.start(
                    self.options, self.service, self.tokens, self.tls, self.reload
                )
                stops.append(stop)
            if self.options.rest_port is not None:
                self.ports["rest"], stop = await rest_server.start(
                    self.options, self.service, self.tokens, self.tls, self.metrics_paths
                )
                stops.append(stop)
            yield
        finally:
            self.service.draining = True
            await asyncio.sleep(min(REFUSING, self.options.drain_seconds))
            await asyncio.gather(*(stop() for stop in stops))
            await self.catalog.close()
            self.service.close()


def check_extra() -> None:
    """Raises MissingExtraError where a package of the extra `serve` is not installed."""
    from importlib.util import find_spec

    for module, package in (
        ("grpc", "grpcio"), ("grpc_health", "grpcio-health-checking"), ("grpc_reflection", "grpcio-reflection"),
        ("starlette", "starlette"), ("uvicorn", "uvicorn"), ("orjson", "orjson"),
        ("prometheus_client", "prometheus-client"), ("fsspec", "fsspec"),
    ):  # fmt: skip
        if find_spec(module) is None:
            raise MissingExtraError(package, "serve", "serving")


def serve(options: ServeOptions, started: Callable[[Server], None] = lambda server: None) -> None:
    """Serve in this process until it is told to stop."""

    async def main() -> None:
        await Server(options).run(started)

    try:
        import uvloop
    except ImportError:
        asyncio.run(main())
    else:
        uvloop.run(main())
