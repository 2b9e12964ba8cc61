"""The REST server's paths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.routing import Route, Router

from caffepy.serve import page, tfs_rest, v2_rest
from caffepy.serve.refusal import Refused
from caffepy.serve.rest import Endpoint, Reply, Request, Rules, dumped, failure

if TYPE_CHECKING:
    from caffepy.serve.server import Server


def application(server: Server) -> Any:
    """All of them, as an ASGI application."""
    options, service = server.options, server.service
    rules = Rules(options.max_message, options.rest_seconds or None, server.tokens)

    async def metrics(request: Request) -> Reply:
        return Reply(server.metrics.text(), headers=[(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")])

    async def live(request: Request) -> Reply:
        return Reply(dumped({"live": True}))

    async def ready(request: Request) -> Reply:
        fine = service.catalog.ready() and not server.stopping.is_set()
        return Reply(dumped({"ready": fine}), 200 if fine else 503)

    async def unknown(request: Request) -> Reply:
        return failure(Refused("NOT_FOUND", f"Malformed request: {request.scope['method']} {request.scope['path']}"))

    found = [
        *tfs_rest.routes(service, rules),
        *v2_rest.routes(service, rules),
        ("/v1/health/live", Endpoint(live, rules, public=True)),
        ("/v1/health/ready", Endpoint(ready, rules, public=True)),
        *((path, Endpoint(metrics, rules)) for path in server.metrics_paths),
        *page.routes(service, rules),
    ]
    router = Router([Route(path, endpoint=endpoint) for path, endpoint in found], redirect_slashes=False)

    async def default(scope: Any, receive: Any, send: Any) -> None:
        await Endpoint(unknown, rules, method=scope["method"] if scope["method"] != "HEAD" else "GET")(
            scope, receive, send
        )

    router.default = default
    return router
