"""What all gRPC services have in common: methods by name, errors as codes, tokens, deadlines."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from caffepy.errors import CaffeError
from caffepy.serve.refusal import Refused, as_refusal
from caffepy.serve.tokens import Tokens

log = logging.getLogger("caffepy.serve")

Method = Callable[[Any, Any], Awaitable[Message]]


def handlers(
    service: str, methods: Mapping[str, tuple[type[Message], Method]], tokens: Tokens | None
) -> grpc.GenericRpcHandler:
    """The methods of a service: by name the request's type and what answers it."""
    return grpc.method_handlers_generic_handler(
        service,
        {
            name: grpc.unary_unary_rpc_method_handler(
                _guarded(method, tokens),
                request_deserializer=_reader(kind),
                response_serializer=lambda message: message.SerializeToString(),
            )
            for name, (kind, method) in methods.items()
        },
    )


def stream_handler(
    service: str, name: str, kind: type[Message], method: Callable[[AsyncIterator[Any], Any], AsyncIterator[Message]]
) -> grpc.GenericRpcHandler:
    """A method that takes and gives a stream."""
    handler = grpc.stream_stream_rpc_method_handler(
        method, request_deserializer=_reader(kind), response_serializer=lambda message: message.SerializeToString()
    )
    return grpc.method_handlers_generic_handler(service, {name: handler})


def _reader(kind: type[Message]) -> Callable[[bytes], Message | None]:
    def read(data: bytes) -> Message | None:
        try:
            return kind.FromString(data)
        except (DecodeError, ValueError):
            return None

    return read


def _guarded(method: Method, tokens: Tokens | None) -> Method:
    async def call(request: Any, context: Any) -> Message:
        try:
            if tokens is not None:
                tokens.check(context.invocation_metadata())
            if request is None:
                raise Refused("INVALID_ARGUMENT", "the request is no message of this method")
            return await method(request, context)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            refused = as_refusal(error)
            if not isinstance(error, CaffeError):
                log.exception("A request failed")
        await context.abort(getattr(grpc.StatusCode, refused.code), str(refused))
        raise AssertionError("abort raises")

    return call


def deadline_of(context: Any) -> float | None:
    """time.monotonic() at which the client stops waiting."""
    rest = context.time_remaining()
    return None if rest is None else time.monotonic() + rest
