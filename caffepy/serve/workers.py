"""Several processes behind the same ports, started before any of them has a gRPC object."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess

from caffepy.errors import ConfigError
from caffepy.serve.options import ServeOptions, bracketed
from caffepy.serve.server import Server, serve

log = logging.getLogger("caffepy.serve")

PAUSE = 1.0
"""Seconds between the death of a worker and the next one's start."""


def run(options: ServeOptions, echo: Callable[[str], None], prepare: Callable[[], object] = int) -> None:
    """Serve until told to stop; `echo` prints the line that says where, `prepare` starts the log of a worker."""
    if options.workers <= 1:
        serve(options, lambda server: echo(where(server.options, server.ports)))
        return
    options.check()
    options.configured()
    held = [_hold(options, name) for name in ("port", "rest_port")]  # so that no other program gets them
    try:
        _watch(options, echo, prepare)
    finally:
        for listener in held:
            if listener is not None:
                listener.close()


def where(options: ServeOptions, ports: dict[str, int]) -> str:
    host = bracketed(options.host)
    names = {"grpc": "gRPC", "rest": "REST"}
    return "Serving: " + ", ".join(f"{names[kind]} at {host}:{port}" for kind, port in ports.items())


def _hold(options: ServeOptions, name: str) -> socket.socket | None:
    """Bind the port without listening; where any will do, choose it."""
    port = getattr(options, name)
    if port is None:
        return None
    listener = socket.socket(socket.AF_INET6 if ":" in options.host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((options.host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {options.host}:{port}: {error.strerror}", hint="Choose another port."
        ) from None
    setattr(options, name, listener.getsockname()[1])
    return listener


def _watch(options: ServeOptions, echo: Callable[[str], None], prepare: Callable[[], object]) -> None:
    """Start the workers, another for each that dies, and end them when told to."""
    stopping = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopping
        stopping = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    context = multiprocessing.get_context("spawn")
    running: list[BaseProcess] = []
    try:
        running = [_start(context, options, prepare) for _ in range(options.workers)]
        echo(where(options, {k: p for k, p in (("grpc", options.port), ("rest", options.rest_port)) if p is not None}))
        while not stopping:
            time.sleep(0.1)
            for i, worker in enumerate(running):
                if not worker.is_alive() and not stopping:
                    log.error("worker %s ended with status %s: another is started", worker.pid, worker.exitcode)
                    time.sleep(PAUSE)
                    running[i] = _start(context, options, prepare)
    finally:
        for worker in running:
            worker.terminate()
        until = time.monotonic() + options.drain_seconds + 10
        for worker in running:
            worker.join(max(0.1, until - time.monotonic()))
            if worker.is_alive():
                worker.kill()
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(
    context: multiprocessing.context.SpawnContext, options: ServeOptions, prepare: Callable[[], object]
) -> BaseProcess:
    worker = context.Process(target=_work, args=(options, os.getpid(), prepare), daemon=True)
    worker.start()
    return worker


def _work(options: ServeOptions, parent: int, prepare: Callable[[], object]) -> None:
    prepare()
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def started(server: Server) -> None:
        import asyncio

        async def orphaned() -> None:
            while os.getppid() == parent:
                await asyncio.sleep(1)
            server.stopping.set()

        server.guard = asyncio.ensure_future(orphaned())

    serve(options, started)
