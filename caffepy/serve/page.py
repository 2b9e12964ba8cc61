"""The page at `/`: one file without a framework, and the state that it shows."""

from __future__ import annotations

import time
from importlib.resources import files

from caffepy.serve import signature_def
from caffepy.serve.metrics import Metrics
from caffepy.serve.rest import Endpoint, Reply, Request, Rules, dumped
from caffepy.serve.service import Service

WINDOW = 10.0
"""Seconds over which rate and latency are told."""


def routes(service: Service, rules: Rules) -> list[tuple[str, Endpoint]]:
    page = files("caffepy.serve").joinpath("page.html").read_bytes()
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-security-policy", b"default-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"),
    ]

    async def show(request: Request) -> Reply:
        return Reply(page, headers=headers)

    async def state(request: Request) -> Reply:
        return Reply(dumped({"models": models(service), **traffic(await service.control.numbers())}))

    return [("/", Endpoint(show, rules, public=True)), ("/page/state", Endpoint(state, rules))]


def models(service: Service) -> list[dict]:
    rows = []
    for name, served in sorted(service.catalog.models.items()):
        versions = sorted([*served.versions.values(), *served.renewals.values()], key=lambda v: -v.number)
        rows.append({
            "name": name, "base_path": served.config.base_path, "problem": served.problem,
            "labels": dict(served.labels),
            "canary": {"version": served.config.canary.version, "percent": served.config.canary.percent}
            if served.config.HasField("canary") else None,
            "versions": [
                signature_def.status_json(version) | {
                    "engine": version.model.computer.name if version.model else "",
                    "waiting": version.batcher.waiting if version.batcher else 0,
                    "inputs": [{"name": t.name, "shape": list(t.shape), "picture": t.name in version.model.pictures}
                               for t in version.model.signature.inputs] if version.model else [],
                }
                for version in versions
            ],
        })  # fmt: skip
    return rows


def traffic(metrics: Metrics) -> dict:
    """Requests a second and their latency of the last seconds."""
    now = time.monotonic()
    recent = sorted(seconds for at, seconds in metrics.recent if now - at <= WINDOW)
    if not recent:
        return {"rate": 0.0, "p50": None, "p99": None}
    full = len(metrics.recent) == metrics.recent.maxlen
    span = max(1e-3, now - metrics.recent[0][0]) if full else WINDOW
    return {
        "rate": round(len(recent) / min(span, WINDOW), 2),
        "p50": round(recent[len(recent) // 2] * 1e3, 3),
        "p99": round(recent[min(len(recent) - 1, int(len(recent) * 0.99))] * 1e3, 3),
    }
