"""What can go wrong, one family: every error says where it is and what to do about it."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from operator import index
from typing import Any


class CaffeError(Exception):
    """Base of all errors that a user can cause and mend.

    `where` is a place such as `train_val.prototxt:41:5` or `layer "conv1"`; `hint` is the remedy.
    `str()` gives `where: message` and, on a second line, the hint.
    """

    def __init__(self, message: str, *, where: str = "", hint: str = ""):
        super().__init__(message)
        self.message, self.where, self.hint = message, where, hint

    def at(self, where: str) -> CaffeError:
        """Prefix the place; callers further out know more of it."""
        self.where = f"{where}: {self.where}" if self.where else where
        return self

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}\n  {self.hint}" if self.hint else text


class ConfigError(CaffeError):
    """A definition that cannot be right: unknown field or type, missing blob, impossible parameter."""


class FieldError(ConfigError):
    """A value that cannot be right, in the `field` of a definition, such as `multi_task.task[1].loss`."""

    def __init__(self, message: str, field: str, *, hint: str = ""):
        super().__init__(message, hint=hint)
        self.field = field


@contextmanager
def in_field(field: str) -> Iterator[None]:
    """A ConfigError of the block is one of this field."""
    try:
        yield
    except ConfigError as error:
        raise FieldError(error.message, field, hint=error.hint) from None


class ShapeError(ConfigError):
    """Shapes that do not fit each other."""


class DataError(CaffeError):
    """A data source that is missing, foreign, corrupt or does not fit the net."""


class SnapshotError(CaffeError):
    """A weight or state file that is missing, truncated, foreign or of another net."""


class NotFiniteError(CaffeError):
    """Training produced NaN or infinity."""


class MissingExtraError(CaffeError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str):
        super().__init__(
            f"{purpose} needs the package {package}, which is not installed",
            hint=f'Install it with: pip install "caffepy[{extra}]"',
        )


# Exceptions of other people's code: they reach the caller as they are, with a note of what a CaffeError would say


def blame(error: Exception, cls: Any, action: str) -> None:
    """Note on an exception of a user's class or function which it is, what it was doing, file and line."""
    if blamed(error) is not None:
        return
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    said = ConfigError(
        f"{cls.__module__}.{cls.__qualname__}: {action} raised {described(error).splitlines()[0]}",
        hint=origin(error, file),
    )
    error.blamed = said  # type: ignore[attr-defined]
    add_note(error, str(said))


def blamed(error: BaseException) -> CaffeError | None:
    """What `blame` has noted: the error as one of the family, for who prints it."""
    return getattr(error, "blamed", None)


def locate(error: Exception, where: str) -> None:
    """Prefix the place where an error happened, on an exception of another family in its note."""
    said = error if isinstance(error, CaffeError) else blamed(error)
    if said is None:
        add_note(error, where)
    elif said is error:
        said.at(where)
    else:
        before = str(said)
        error.__notes__ = [str(said.at(where)) if note == before else note for note in error.__notes__]


def add_note(error: BaseException, note: str) -> None:
    """What tracebacks show below the error. (`BaseException.add_note` is not there before Python 3.11.)"""
    error.__notes__ = [*getattr(error, "__notes__", ()), note]


def described(error: BaseException) -> str:
    """`Type: message` of any exception."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def origin(error: BaseException, file: str | None = None) -> str:
    """`At FILE:LINE.`, the last place in `file` that led to the error, or else outside of installed packages."""
    if isinstance(error, SyntaxError):
        return f"At {error.filename}:{error.lineno}."
    ours = (os.path.join(os.path.dirname(__file__), ""), os.path.join(os.path.dirname(os.__file__), "importlib"), "<")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(ours)]
    theirs = [f for f in frames if "-packages" not in f.filename]  # site-packages, and Debian's dist-packages
    own = [f for f in frames if f.filename == file] or theirs or frames
    return f"At {own[-1].filename}:{own[-1].lineno}." if own else ""


def whole_number(name: str, value: Any, least: int = 0) -> int:
    """`value` of the argument `name` as an int. Raises ConfigError for what is none, or smaller than `least`."""
    try:
        number = index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise ConfigError(f"{name} must be a whole number, at least {least}, got {value!r}")
    return number


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The sentence that offers the nearest known name, or an empty string."""
    near = nearest(name, known)
    return f'Did you mean "{near}"?' if near else ""


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like `name`, upper and lower case alike, or an empty string if none is near."""
    by_lower = {k.lower(): k for k in known}
    near = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[near[0]] if near else ""
