"""Every batch is divided here, however small."""

from __future__ import annotations

import pytest

from caffepy.passes import divided as parts


@pytest.fixture(autouse=True)
def any_batch(monkeypatch):
    monkeypatch.setattr(parts, "LEAST_ELEMENTS", 0)
    monkeypatch.setattr(parts, "PASSES_ALONE", 1)
    monkeypatch.delenv("CAFFEPY_WORKERS", raising=False)
