"""The REST server: uvicorn on the event loop that gRPC runs on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

import uvicorn

from caffepy.errors import ConfigError
from caffepy.serve import tls
from caffepy.serve.api.tensorflow_serving_pb2 import SSLConfig
from caffepy.serve.app import application
from caffepy.serve.options import ServeOptions, Stop
from caffepy.serve.rest import Rules
from caffepy.serve.service import Service
from caffepy.serve.tokens import Tokens


async def start(
    options: ServeOptions,
    service: Service,
    tokens: Tokens | None,
    security: SSLConfig | None,
    metrics_paths: Iterable[str],
) -> tuple[int, Stop]:
    """Listen; the port, and what ends it after a drain. Raises ConfigError where the port cannot be had."""
    rules = Rules(options.max_message, options.rest_seconds or None, tokens)

    class Uvicorn(uvicorn.Server):
        def capture_signals(self) -> Any:  # ours stop both servers
            return nullcontext()

    listener = _listener(options)
    port = listener.getsockname()[1]
    with tls.uvicorn_arguments(security) as secure:
        config = uvicorn.Config(
            application(service, rules, metrics_paths),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            loop="none",
            server_header=False,
            timeout_graceful_shutdown=max(1, int(options.drain_seconds)),
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

    return port, stop


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
