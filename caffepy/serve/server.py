"""The server of one process: gRPC and REST on one event loop, models computing on threads."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import Any

from caffepy import permissions
from caffepy.errors import CaffeError, ConfigError, MissingExtraError
from caffepy.serve import tls
from caffepy.serve.api import tensorflow_serving_pb2 as tfs
from caffepy.serve.api.pool import Default
from caffepy.serve.catalog import Catalog
from caffepy.serve.metrics import Metrics
from caffepy.serve.model import Computing
from caffepy.serve.options import ServeOptions, changed_at, models_of
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
        stops: list[Callable[[], Awaitable[Any]]] = []
        try:
            if self.options.port is not None:
                stops.append(await self._start_grpc())
            if self.options.rest_port is not None:
                stops.append(await self._start_rest())
            yield
        finally:
            self.service.draining = True
            await asyncio.sleep(min(REFUSING, self.options.drain_seconds))
            await asyncio.gather(*(stop() for stop in stops))
            await self.catalog.close()
            self.service.close()

    async def _start_grpc(self) -> Callable[[], Awaitable[Any]]:
        import grpc
        from grpc_health.v1 import health_pb2, health_pb2_grpc
        from grpc_health.v1._async import HealthServicer
        from grpc_reflection.v1alpha import reflection

        from caffepy.serve import rpc, tfs_grpc, v2_grpc
        from caffepy.serve.api import inference_pb2

        most = self.options.max_message
        server = grpc.aio.server(options=[
            ("grpc.max_receive_message_length", most), ("grpc.max_send_message_length", most),
            ("grpc.so_reuseport", int(self.options.workers > 1)),
        ])  # fmt: skip
        prediction = tfs_grpc.PredictionService(self.service, self.options.raw_tensors)
        model = tfs_grpc.ModelService(self.service, self.reload)
        inference = v2_grpc.InferenceService(self.service, self.tokens)
        services = ["tensorflow.serving.PredictionService", "tensorflow.serving.ModelService",
                    "inference.GRPCInferenceService"]  # fmt: skip
        stream = "inference.GRPCInferenceService", "ModelStreamInfer", inference_pb2.ModelInferRequest
        server.add_generic_rpc_handlers((
            rpc.handlers(services[0], prediction.methods, self.tokens),
            rpc.handlers(services[1], model.methods, self.tokens),
            rpc.handlers(services[2], inference.methods, self.tokens),
            rpc.stream_handler(*stream, inference.stream),
        ))  # type: ignore[arg-type]  # fmt: skip
        health = HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        pool = Default()
        with suppress(TypeError):  # it is there already
            pool.AddSerializedFile(health_pb2.DESCRIPTOR.serialized_pb)
        names = [*services, "grpc.health.v1.Health", reflection.SERVICE_NAME]
        reflection.enable_server_reflection(names, server, pool=pool)
        address = f"{_bracketed(self.options.host)}:{self.options.port}"
        try:
            if self.tls is None:
                self.ports["grpc"] = server.add_insecure_port(address)
            else:
                self.ports["grpc"] = server.add_secure_port(address, tls.grpc_credentials(self.tls))
        except RuntimeError as error:
            raise ConfigError(f"cannot listen on {address}: {error}", hint="Choose another --port.") from None
        if not self.ports["grpc"]:
            raise ConfigError(f"cannot listen on {address}", hint="Choose another --port.")
        await server.start()
        task = asyncio.create_task(self._tell_health(health))

        async def stop() -> None:
            await health.enter_graceful_shutdown()
            await server.stop(self.options.drain_seconds)
            task.cancel()

        return stop

    async def _tell_health(self, health: Any) -> None:
        """Each model is a service of the health protocol, and the server as a whole is the empty name."""
        from grpc_health.v1 import health_pb2

        states = {True: health_pb2.HealthCheckResponse.SERVING, False: health_pb2.HealthCheckResponse.NOT_SERVING}
        changed = asyncio.Event()
        self.catalog.changed = changed.set
        while True:
            await health.set("", states[self.catalog.ready()])
            for name, served in list(self.catalog.models.items()):
                await health.set(name, states[bool(served.available)])
            changed.clear()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(changed.wait(), 1)

    async def _start_rest(self) -> Callable[[], Awaitable[Any]]:
        import uvicorn

        from caffepy.serve.app import application
        from caffepy.serve.rest import Rules

        rules = Rules(self.options.max_message, self.options.rest_seconds or None, self.tokens)

        class Uvicorn(uvicorn.Server):
            def capture_signals(self) -> Any:  # ours stop both servers
                return nullcontext()

        listener = _listener(self.options)
        self.ports["rest"] = listener.getsockname()[1]
        with tls.uvicorn_arguments(self.tls) as secure:
            config = uvicorn.Config(
                application(self.service, rules, self.metrics_paths),
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                loop="none",
                server_header=False,
                timeout_graceful_shutdown=max(1, int(self.options.drain_seconds)),
                **secure,
            )
            config.load()
        server = Uvicorn(config)
        task = asyncio.create_task(server.serve([listener]))
        while not server.started and not task.done():
            await asyncio.sleep(0.01)
        if task.done():
            await task

        async def stop() -> None:
            server.should_exit = True
            await task

        return stop


def _listener(options: ServeOptions) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if options.workers > 1:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((options.host, options.rest_port))
    except OSError as error:
        listener.close()
        where = f"{options.host}:{options.rest_port}"
        raise ConfigError(
            f"cannot listen on {where}: {error.strerror}", hint="Choose another --rest-api-port."
        ) from None
    listener.setblocking(False)
    return listener


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


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
