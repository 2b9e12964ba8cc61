"""Pictures that matplotlib draws into files."""

from __future__ import annotations

from os import PathLike
from typing import Any

from caffepy.errors import MissingExtraError
from caffepy.files import check_writable


def pyplot(purpose: str) -> Any:
    """matplotlib's pyplot, for files alone. Raises MissingExtraError that says for what it was wanted."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise MissingExtraError("matplotlib", "plot", purpose) from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def check(path: str | PathLike[str], purpose: str = "--plot") -> None:
    """Find out before long work, not after it, that there can be no picture at `path`; "" is none."""
    if path:
        pyplot(purpose)
        check_writable(path)
