"""What long work shows: log lines in glog's form on stderr, and a progress bar where stderr is a terminal."""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, cast


def printable(text: str) -> str:
    """`text` with what would steer the terminal shown instead: names in files may hold anything."""
    return _STEERING.sub(_shown, text)


# Control characters but for tab and newline, marks that turn the direction of writing, bytes that are no UTF-8.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def _shown(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # as Python keeps a byte that is no UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


class Deaf:
    """A stream whose readers may be gone, or that was never open: what cannot be written is lost, and nothing else."""

    def __init__(self, stream: IO[str] | None):
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError, AttributeError):
            self._stream.write(text)  # type: ignore[union-attr]
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError, AttributeError):
            self._stream.flush()  # type: ignore[union-attr]

    def isatty(self) -> bool:
        with suppress(OSError, ValueError, AttributeError):
            return self._stream.isatty()  # type: ignore[union-attr]
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class GlogFormatter(logging.Formatter):
    """`I1121 03:20:52.917130 11923 solver.py:239] text`: people's log parsers read it."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%m%d %H:%M:%S", time.localtime(record.created))
        micros = int(record.created % 1 * 1e6)
        thread = threading.get_native_id()
        place = f"{record.filename}:{record.lineno}"
        return printable(f"{record.levelname[0]}{stamp}.{micros:06d} {thread} {place}] {super().format(record)}")


class Lines(logging.Handler):
    """Writes lines above the progress bar, if there is one."""

    write: Callable[[str], object] = staticmethod(lambda line: print(line, file=Deaf(sys.stderr), flush=True))

    def emit(self, record: logging.LogRecord) -> None:
        self.write(self.format(record))


def start_logging(verbose: bool = False) -> Lines:
    """Show the package's log on stderr. Calling it again changes the level alone."""
    logger = logging.getLogger("caffepy")
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    for handler in logger.handlers:
        if isinstance(handler, Lines):
            return handler
    handler = Lines()
    handler.setFormatter(GlogFormatter())
    logger.addHandler(handler)
    logger.propagate = False
    return handler


class LogFile(Lines):
    """Keeps lines, and from `open` on writes them to the end of a file, if it has a name; what cannot be is lost."""

    def __init__(self, path: str):
        super().__init__()
        self.setFormatter(GlogFormatter())
        self._path = path
        self._file: IO[str] | None = None
        self._lines: list[str] = []
        self.write = self._lines.append  # type: ignore[method-assign]

    def open(self) -> None:
        """Write to the file from here on, the lines so far first; once."""
        if not self._path:
            return
        path, self._path = self._path, ""
        try:
            file = open(path, "a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        except OSError as error:
            logging.getLogger("caffepy").warning("%s: the log cannot be written here: %s", path, error.strerror)
            return
        self._file = file
        self.write = lambda line: print(line, file=Deaf(file), flush=True)  # type: ignore[method-assign]
        for line in self._lines:
            self.write(line)

    def close(self) -> None:
        super().close()
        if self._file is not None:
            with suppress(OSError):
                self._file.close()


@contextmanager
def also_into(path: str) -> Iterator[LogFile]:
    """Within it the package's log goes into a file, too, once that is opened."""
    logger, handler = logging.getLogger("caffepy"), LogFile(path)
    logger.addHandler(handler)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        handler.close()


@contextmanager
def progress(handler: Lines, description: str, total: int | None, done: int = 0) -> Iterator[Callable[..., None]]:
    """A bar with rate and time left, on a terminal; yields a function that takes how much is done, and a note."""
    stream = Deaf(sys.stderr)
    if not stream.isatty():
        yield lambda done, note=None: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(file=cast(IO[str], stream))
    start, first = time.perf_counter(), done
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]:.1f}/s"),
        TimeRemainingColumn(), TextColumn("{task.fields[note]}", markup=False),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(description, total=total, completed=done, rate=0.0, note="")

        def advance(done: int, note: Callable[[], str] | None = None) -> None:
            seconds = time.perf_counter() - start
            bar.update(
                task, completed=done, rate=(done - first) / seconds if seconds else 0.0, note=note() if note else ""
            )

        handler.write = lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True)
        try:
            yield advance
        finally:
            del handler.write
