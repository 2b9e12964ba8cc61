"""Changes by request, and what has been counted: of this process, or of all that share its ports."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from caffepy.errors import CaffeError
from caffepy.serve.api.tensorflow_serving_pb2 import ReloadConfigRequest
from caffepy.serve.catalog import Catalog
from caffepy.serve.metrics import Metrics
from caffepy.serve.refusal import Refused, as_refusal
from caffepy.serve.wanted import Wanted, unpacked

log = logging.getLogger("caffepy.serve")


class Control:
    """Of a server in one process."""

    def __init__(self, catalog: Catalog, metrics: Metrics, wanted: Wanted):
        self.catalog, self.metrics, self.wanted = catalog, metrics, wanted

    async def reload(self, request: ReloadConfigRequest) -> None:
        """Serve what the request says. Raises Refused for what cannot be served, or cannot be loaded."""
        await self._order("reload", request.SerializeToString())

    async def load(self, name: str) -> None:
        """Load a model again. Raises Refused if no version can be loaded."""
        await self._order("load", name)

    async def unload(self, name: str) -> None:
        """Unload a model until it is loaded by request."""
        await self._order("unload", name)

    async def numbers(self) -> Metrics:
        """All that has been counted."""
        return self.metrics

    async def _order(self, kind: str, payload: Any) -> None:
        for answer in await self._all(kind, payload):
            if answer is not None:
                raise Refused(*answer)

    async def _all(self, kind: str, payload: Any) -> list[Any]:
        """What each process says to it."""
        return [await self.carry_out(kind, self.wanted.change(kind, payload))]

    async def carry_out(self, kind: str, payload: Any) -> Any:
        """Do it in this process: the metrics, or None, or code and text of why it could not be done."""
        try:
            if kind == "metrics":
                return self.metrics
            if kind == "reload":
                await self.catalog.serve(unpacked(payload))
            elif kind == "load":
                await self.catalog.resume(payload)
            else:
                self.catalog.suspend(payload)
        except Exception as error:
            refused = as_refusal(error)
            if not isinstance(error, CaffeError):
                log.exception("%s failed", kind)
            return refused.code, str(refused)
        return None


class Shared(Control):
    """Of a server in one of several processes: all goes through their parent, which tells it to everyone in one order.

    Up the pipe go `ask` (number, kind, payload), `done` (number, answer) and `up`; down come `do` (number, kind,
    payload) and `answers` (number, list).
    """

    def __init__(self, catalog: Catalog, metrics: Metrics, wanted: Wanted, pipe: Connection):
        super().__init__(catalog, metrics, wanted)
        self._pipe = pipe
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future] = {}
        self._tasks: set[asyncio.Task] = set()

    def listen(self, orphaned: Callable[[], object]) -> None:
        """From now on orders are carried out; `orphaned` is called when the parent is gone."""
        loop = asyncio.get_running_loop()

        def read() -> None:
            try:
                while True:
                    loop.call_soon_threadsafe(self._received, *self._pipe.recv())
            except (EOFError, OSError):
                loop.call_soon_threadsafe(orphaned)
            except RuntimeError:  # the loop is closed
                return

        threading.Thread(target=read, name="orders", daemon=True).start()
        self._pipe.send(("up", 0))

    async def numbers(self) -> Metrics:
        whole = Metrics()
        for part in await self._all("metrics", None):
            whole.add(part)
        return whole

    async def _all(self, kind: str, payload: Any) -> list[Any]:
        number = next(self._numbers)
        future = self._asked[number] = asyncio.get_running_loop().create_future()
        self._pipe.send(("ask", number, kind, payload))
        return await future

    def _received(self, what: str, number: int, *rest: Any) -> None:
        if what == "answers":
            future = self._asked.pop(number)
            if not future.done():
                future.set_result(rest[0])
            return
        task = asyncio.get_running_loop().create_task(self._done(number, *rest))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _done(self, number: int, kind: str, payload: Any) -> None:
        self._pipe.send(("done", number, await self.carry_out(kind, payload)))
