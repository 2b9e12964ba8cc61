"""The REST server's paths."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from starlette.routing import Route, Router

from caffepy.serve import page, tfs_rest, v2_rest
from caffepy.serve.refusal import Refused
from caffepy.serve.rest import Endpoint, Reply, Request, Rules, dumped, failure
from caffepy.serve.service import Service


def application(service: Service, rules: Rules, metrics_paths: Iterable[str]) -> Any:
    """All of them, as an ASGI application."""

    async def metrics(request: Request) -> Reply:
        return Reply(
            (await service.control.numbers()).text(),
            headers=[(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")],
        )

    async def live(request: Request) -> Reply:
        return Reply(dumped({"live": True}))

    async def ready(request: Request) -> Reply:
        fine = service.catalog.ready() and not service.draining
        return Reply(dumped({"ready": fine}), 200 if fine else 503)

    async def unknown(request: Request) -> Reply:
        return failure(Refused("NOT_FOUND", f"Malformed request: {request.scope['method']} {request.scope['path']}"))

    found = [
        *tfs_rest.routes(service, rules),
        *v2_rest.routes(service, rules),
        ("/v1/health/live", Endpoint(live, rules, public=True)),
        ("/v1/health/ready", Endpoint(ready, rules, public=True)),
        *((path, Endpoint(metrics, rules)) for path in metrics_paths),
        *page.routes(service, rules),
    ]
    router = Router([Route(path, endpoint=endpoint) for path, endpoint in found], redirect_slashes=False)

    async def default(scope: Any, receive: Any, send: Any) -> None:
        await Endpoint(unknown, rules, method=scope["method"] if scope["method"] != "HEAD" else "GET")(
            scope, receive, send
        )

    router.default = default
    return router
