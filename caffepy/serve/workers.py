"""Several processes behind the same ports, started before any of them has a gRPC object."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from caffepy.errors import CaffeError, ConfigError
from caffepy.serve.engines import check_engine
from caffepy.serve.metrics import Metrics
from caffepy.serve.options import ServeOptions, bracketed
from caffepy.serve.refusal import as_refusal
from caffepy.serve.server import serve
from caffepy.serve.wanted import ConfigFile, Wanted

log = logging.getLogger("caffepy.serve")

PAUSE = 1.0
"""Seconds between the death of a worker and the next one's start."""


def run(options: ServeOptions, echo: Callable[[str], None], prepare: Callable[[], object] = int) -> None:
    """Serve until told to stop; `echo` prints the line that says where, `prepare` starts the log of a worker."""
    if options.workers <= 1:
        serve(options, lambda server: echo(where(server.options, server.ports)))
        return
    options.check()
    check_engine(options.engine, options.gpu)
    workers = Workers(options, prepare)
    held = [_hold(options, name) for name in ("port", "rest_port")]  # so that no other program gets them
    try:
        workers.run(echo)
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


@dataclass(eq=False)
class Worker:
    process: BaseProcess
    pipe: Connection
    up: bool = False
    """Whether it carries out orders at once: before, they wait for it in the pipe."""
    counted: Metrics | None = None
    """What it had counted when it was last asked."""

    def send(self, *message: Any) -> None:
        try:
            self.pipe.send(message)
        except OSError:  # it has died: its end of the pipe tells soon
            log.debug("worker %s is gone", self.process.pid)


@dataclass(eq=False)
class Instruction:
    """What all are told, until all have answered the one that asked for it."""

    kind: str
    asker: Worker
    number: int
    """The asker's."""
    waiting: set[Worker]
    answers: list[Any] = field(default_factory=list)


class Workers:
    """The parent: it starts processes, replaces those that die, and passes on what one of them is asked to all."""

    def __init__(self, options: ServeOptions, prepare: Callable[[], object]):
        self.options, self.prepare = options, prepare
        self.wanted, self.file = Wanted(options.configured()), ConfigFile(options)
        self.running: list[Worker] = []
        self.orders: dict[int, Instruction] = {}
        self.past = Metrics()
        """What workers counted that have died: counters never fall."""
        self._context = multiprocessing.get_context("spawn")
        self._due: list[float] = []  # when others are started for those that died
        self._number, self._look_at = 0, time.monotonic() + self.file.seconds
        self._stopping = False

    def run(self, echo: Callable[[str], None]) -> None:
        """Until SIGTERM or SIGINT; then all drain."""

        def stop(number: int, frame: object) -> None:
            self._stopping = True

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            for _ in range(self.options.workers):
                self._start()
            ports = {"grpc": self.options.port, "rest": self.options.rest_port}
            echo(where(self.options, {kind: port for kind, port in ports.items() if port is not None}))
            while not self._stopping:
                self._turn()
                self._start_others()
                self._look_at_file()
            for worker in self.running:
                worker.process.terminate()
            until = time.monotonic() + self.options.drain_seconds + 10
            while self.running and time.monotonic() < until:
                self._turn()
        finally:
            for worker in self.running:
                worker.process.kill()
                worker.process.join()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self) -> None:
        ours, theirs = self._context.Pipe()
        arguments = self.options, self.wanted, theirs, self.prepare
        process = self._context.Process(target=_work, args=arguments, daemon=True)
        process.start()
        theirs.close()  # so that its death ends ours
        self.running.append(Worker(process, ours))

    def _turn(self) -> None:
        """Take what workers say in a tenth of a second."""
        found = {worker.pipe: worker for worker in self.running}
        for pipe in wait(list(found), 0.1):
            worker = found[pipe]  # type: ignore[index]
            try:
                message = worker.pipe.recv()
            except (EOFError, OSError):
                self._ended(worker)
            else:
                self._received(worker, *message)

    def _start_others(self) -> None:
        while self._due and self._due[0] <= time.monotonic():
            del self._due[0]
            self._start()

    def _look_at_file(self) -> None:
        if self.file.seconds and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + self.file.seconds
            if (models := self.file.changed(self.wanted)) is not None:
                self._tell("reload", models)

    def _received(self, worker: Worker, what: str, number: int, *rest: Any) -> None:
        if what == "up":
            worker.up = True
        elif what == "done":
            order = self.orders.get(number)
            if order is not None and worker in order.waiting:
                order.answers.append(rest[0])
                if order.kind == "metrics":
                    worker.counted = rest[0]
                self._answered(number, order, worker)
        else:
            kind, payload = rest
            try:
                payload = self.wanted.change(kind, payload)
            except CaffeError as error:
                refused = as_refusal(error)
                worker.send("answers", number, [(refused.code, str(refused))])
                return
            self._tell(kind, payload, Instruction(kind, worker, number, {one for one in self.running if one.up}))

    def _tell(self, kind: str, payload: Any, order: Instruction | None = None) -> None:
        self._number += 1
        if order is not None:
            self.orders[self._number] = order
        for worker in list(self.running):
            worker.send("do", self._number, kind, payload)

    def _answered(self, number: int, order: Instruction, worker: Worker) -> None:
        order.waiting.discard(worker)
        if not order.waiting:
            del self.orders[number]
            more = [self.past] if order.kind == "metrics" else []
            order.asker.send("answers", order.number, order.answers + more)

    def _ended(self, worker: Worker) -> None:
        worker.process.join()
        worker.pipe.close()
        self.running.remove(worker)
        if not self._stopping:
            log.error("worker %s ended with status %s: another is started", worker.process.pid, worker.process.exitcode)
            self._due.append(time.monotonic() + PAUSE)
        if worker.counted is not None:
            self.past.add(worker.counted)
            self.past.states.clear()
            self.past.recent.clear()
        for number, order in list(self.orders.items()):
            if worker in order.waiting:
                self._answered(number, order, worker)


def _work(options: ServeOptions, wanted: Wanted, pipe: Connection, prepare: Callable[[], object]) -> None:
    prepare()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(options, wanted=wanted, pipe=pipe)
