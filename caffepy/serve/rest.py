"""What all REST endpoints have in common: bodies with limits, JSON with NaN, errors, tokens, clients that go away."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from caffepy.errors import CaffeError
from caffepy.limits import readable
from caffepy.serve.refusal import Refused, as_refusal, invalid
from caffepy.serve.tokens import Tokens

log = logging.getLogger("caffepy.serve")

JSON = [(b"content-type", b"application/json")]
VERSION = b"x-model-version"
"""The header of a reply that names the version that made it."""


@dataclass
class Request:
    """A request whose body has been read."""

    scope: Any
    body: bytes
    deadline: float | None

    @property
    def path(self) -> dict[str, str]:
        """The parts of the path that the route names."""
        return self.scope.get("path_params", {})

    def header(self, name: bytes) -> bytes:
        return next((value for key, value in self.scope["headers"] if key == name), b"")


@dataclass
class Reply:
    body: bytes
    status: int = 200
    headers: list[tuple[bytes, bytes]] = field(default_factory=lambda: JSON)


Handler = Callable[[Request], Awaitable[Reply]]


@dataclass(frozen=True)
class Rules:
    """What holds for all endpoints."""

    largest: int = 64 << 20
    """Bytes of a body."""
    seconds: float | None = 30.0
    """How long a request may take."""
    tokens: Tokens | None = None


class Endpoint:
    """An ASGI application that reads a body and sends what `handler` makes of it."""

    def __init__(self, handler: Handler, rules: Rules, *, method: str = "GET", public: bool = False):
        self.handler, self.rules, self.method, self.public = handler, rules, method, public

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            reply = await self._reply(scope, receive)
        except Exception as error:
            refused = as_refusal(error)
            if not isinstance(error, CaffeError):
                log.exception("A request failed")
            reply = failure(refused)
        if reply is None:
            return
        length = b"%d" % len(reply.body)
        await send({
            "type": "http.response.start", "status": reply.status,
            "headers": [*reply.headers, (b"content-length", length)],
        })  # fmt: skip
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else reply.body})

    async def _reply(self, scope: Any, receive: Any) -> Reply | None:
        if scope["method"] != self.method and not (scope["method"] == "HEAD" and self.method == "GET"):
            raise Refused("UNIMPLEMENTED", f"{scope['path']} takes {self.method}, not {scope['method']}", status=405)
        if self.rules.tokens is not None and not self.public:
            self.rules.tokens.check(scope["headers"])
        deadline = None if self.rules.seconds is None else time.monotonic() + self.rules.seconds
        if self.method == "GET":
            return await self.handler(Request(scope, b"", deadline))
        body = await self._body(scope, receive)
        if body is None:
            return None
        # A client that goes away cancels what it has asked for.
        answer = asyncio.ensure_future(self.handler(Request(scope, body, deadline)))
        gone = asyncio.ensure_future(receive())
        gone.add_done_callback(lambda _: answer.cancel())
        try:
            return await answer
        except asyncio.CancelledError:
            if gone.done():
                return None
            answer.cancel()
            raise
        finally:
            gone.cancel()

    async def _body(self, scope: Any, receive: Any) -> bytes | None:
        """The whole body, unpacked; None of a client that has gone."""
        coding = next((value for key, value in scope["headers"] if key == b"content-encoding"), b"")
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            size += len(message.get("body", b""))
            if size > self.rules.largest:
                raise too_large(self.rules.largest)
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                break
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        return unpacked(body, coding, self.rules.largest) if coding else body


def too_large(limit: int) -> Refused:
    return Refused(
        "RESOURCE_EXHAUSTED",
        f"the request is larger than {readable(limit)}",
        hint="The server takes more with --max-message-size.",
        status=413,
    )


def unpacked(body: bytes, coding: bytes, limit: int) -> bytes:
    """A compressed body, no larger than may be."""
    if coding not in (b"gzip", b"deflate", b"identity"):
        raise Refused("UNIMPLEMENTED", f"content-encoding {coding[:40].decode('latin-1')}: gzip or deflate", status=415)
    if coding == b"identity":
        return body
    try:
        unpacker = zlib.decompressobj(31 if coding == b"gzip" else 15)
        out = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise invalid(f"the body does not unpack: {error}") from None
    if len(out) > limit:
        raise too_large(limit)
    if not unpacker.eof:
        raise invalid("the packed body is not complete")
    return out


def failure(refused: Refused) -> Reply:
    return Reply(orjson.dumps({"error": str(refused)}), refused.status)


def parsed(body: bytes | memoryview) -> dict[str, Any]:
    """A JSON object; NaN, Infinity and -Infinity are numbers. Raises Refused."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raw = bytes(body)
        if b"NaN" not in raw and b"Infinity" not in raw:
            raise invalid(f"JSON Parse error: {error}") from None
        try:
            found = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise invalid(f"JSON Parse error: {error}") from None
    if not isinstance(found, dict):
        raise invalid(f"a request is a JSON object, this is a {type(found).__name__}")
    return found


def dumped(value: Any) -> bytes:
    """JSON in which arrays may stand; numbers that are not finite are written as NaN and Infinity."""
    if _finite(value):
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY, default=_listed)
    return json.dumps(value, default=_listed, separators=(",", ":")).encode()


def _finite(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind != "f" or bool(np.isfinite(value).all())
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_finite, value))
    return not isinstance(value, float) or value - value == 0


def _listed(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    raise TypeError
