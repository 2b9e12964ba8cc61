"""Models to serve, and a server of them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

if not all(map(find_spec, ("grpc", "starlette", "orjson", "fsspec"))):
    collect_ignore_glob = ["test_*.py"]  # the extra `serve` is not installed


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Path:
    """The base path of a small model with the versions 1 and 2."""
    from tests.serve.running import publish_net

    base = tmp_path_factory.mktemp("models") / "small"
    publish_net(base, 1, seed=1)
    publish_net(base, 2, seed=2)
    return base


@pytest.fixture(scope="module")
def server(small):
    from tests.serve.running import both, served

    with served(small, models=[both(small)]) as running:
        yield running
