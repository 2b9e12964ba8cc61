"""The options of `fit`, as the signatures of its methods show them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

DEFAULTS: dict[str, Any] = {
    "epochs": 1, "batch_size": None, "validation_split": 0.0, "validation_data": None, "shuffle": True,
    "callbacks": (), "progress": None,
}  # fmt: skip
"""Those of `fit_solver`, whose module takes long to import."""


def shows_options(function: F) -> F:
    """Decorator: `inspect.signature`, and with it `help` and completion, have the options in place of `**options`."""
    signature = inspect.signature(function)
    own = list(signature.parameters.values())[:-1]
    options = [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=value) for n, value in DEFAULTS.items()]
    function.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
    return function
