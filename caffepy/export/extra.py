"""The packages of the extra `onnx`, asked for where they are used."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from caffepy.errors import MissingExtraError


def needed(package: str, purpose: str) -> ModuleType:
    """The package. Raises MissingExtraError that says what needs it."""
    try:
        return import_module(package)
    except ModuleNotFoundError:
        raise MissingExtraError(package, "onnx", purpose) from None
