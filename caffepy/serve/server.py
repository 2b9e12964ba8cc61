"""The server of one process: gRPC and REST on one event loop, models computing on threads."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection

from caffepy import permissions
from caffepy.errors import MissingExtraError
from caffepy.serve import tls
from caffepy.serve.catalog import Catalog
from caffepy.serve.control import Control, Shared
from caffepy.serve.engines import check_engine
from caffepy.serve.metrics import Metrics
from caffepy.serve.model import Computing
from caffepy.serve.options import ServeOptions, Stop
from caffepy.serve.service import Service
from caffepy.serve.tokens import Tokens
from caffepy.serve.wanted import ConfigFile, Wanted

log = logging.getLogger("caffepy.serve")

SWITCH = 5e-4
"""Seconds after which a thread that waits for the interpreter gets it: Python's own 5 ms are many requests."""

REFUSING = 0.2
"""Seconds for which new requests are told to go elsewhere, before the connections are closed."""


class Server:
    """A catalog behind gRPC and REST; `ports` are those that were bound."""

    def __init__(self, options: ServeOptions, wanted: Wanted | None = None, pipe: Connection | None = None):
        """In one of several processes, `wanted` is what their parent serves now, and `pipe` leads to it."""
        options.check()
        check_engine(options.engine, options.gpu)
        self.options = options
        self.tokens = Tokens(options.token_file) if options.token_file else None
        self.tls = options.tls()
        with tls.uvicorn_arguments(self.tls):  # raises here for what is no PEM
            pass
        self.metrics_paths = options.metrics_paths()
        self.wanted = wanted or Wanted(options.configured())
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
        parts = self.catalog, self.metrics, self.wanted
        self.control = Control(*parts) if pipe is None else Shared(*parts, pipe)
        self.service = Service(self.catalog, self.metrics, self.control)
        self.ports: dict[str, int] = {}
        self.stopping = asyncio.Event()

    # What runs

    async def run(self, started: Callable[[Server], None] = lambda server: None) -> None:
        """Serve until SIGTERM or SIGINT, then drain."""
        _keep_pauses_short()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        async with self.serving():
            started(self)
            await self.stopping.wait()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """In the block requests are answered; at its end those that are there, and no others."""
        self.catalog.apply(self.wanted.models)
        for name in self.wanted.away & set(self.catalog.models):
            self.catalog.suspend(name)
        async with self.listening():
            tasks = [self._scan, self._say_ready]
            if isinstance(self.control, Shared):
                self.control.listen(self.stopping.set)
            else:
                tasks.append(self._poll_config)
            background = [asyncio.create_task(task()) for task in tasks]
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
        file = ConfigFile(self.options)
        while file.seconds:
            await asyncio.sleep(file.seconds)
            if file.changed(self.wanted) is not None:
                self.catalog.apply(self.wanted.models)

    async def _say_ready(self) -> None:
        await self.catalog.settle()
        for name, served in self.catalog.models.items():
            for label in set(served.config.version_labels) - set(served.labels):
                log.error("%s: the label %s waits for version %d to be loaded", name, label,
                          served.config.version_labels[label])  # fmt: skip

    # How it is reached

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Both servers, started; at the end they drain and all models are unloaded."""
        from caffepy.serve import grpc_server, rest_server  # whose libraries take long to import

        stops: list[Stop] = []
        try:
            if self.options.port is not None:
                self.ports["grpc"], stop = await grpc_server.start(self.options, self.service, self.tokens, self.tls)
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


def _keep_pauses_short() -> None:
    """In a process that does nothing else: threads wait less for the interpreter, collections skip what is imported."""
    from caffepy.serve import grpc_server, rest_server  # noqa: F401

    sys.setswitchinterval(SWITCH)
    gc.collect()
    gc.freeze()


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


def serve(
    options: ServeOptions,
    started: Callable[[Server], None] = lambda server: None,
    wanted: Wanted | None = None,
    pipe: Connection | None = None,
) -> None:
    """Serve in this process until it is told to stop."""

    async def main() -> None:
        await Server(options, wanted, pipe).run(started)

    try:
        import uvloop
    except ImportError:
        asyncio.run(main())
    else:
        uvloop.run(main())
