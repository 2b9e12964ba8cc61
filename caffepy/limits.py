"""How much memory a file or a definition may ask for: compared before it is allocated.

The limit is the machine's memory, or less where a control group, `ulimit -v`, `--max-memory` or CAFFEPY_MAX_MEMORY says
so. Besides, what a file unpacks to is compared with the file's size.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from caffepy.errors import CaffeError, ConfigError, DataError

EXPANSION = 1100
"""Bytes that a byte of a file may unpack to: Deflate, the densest that we read, reaches 1032."""
FLOOR = 1 << 26
"""Bytes that even the smallest file may unpack to."""
PIXELS = 178_956_970
"""Of a picture, where Pillow refuses one, too: half a gigabyte in colour."""

_NAMES = ("B", "KB", "MB", "GB", "TB")
_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_MORE = "Allow more with --max-memory, or CAFFEPY_MAX_MEMORY, if the machine has it."

_chosen: int | None = None
_local = threading.local()


def set_max_memory(size: int | str | None) -> None:
    """The limit of this process, as bytes or "4G"; None for the machine's."""
    global _chosen
    _chosen = parse(size) if isinstance(size, str) else size


def parse(text: str) -> int:
    """The bytes of a size such as 4G, 512M, 1.5GiB or 1000000. Raises ConfigError for what is none."""
    found = _SIZE.fullmatch(text.strip())
    if not found or not float(found[1]):
        raise ConfigError(f'"{text}" is no amount of memory', hint="Write it as 4G, 512M or in bytes.")
    return int(float(found[1]) * 1024 ** _UNITS[found[2].upper()])


def max_memory() -> int:
    """The limit in bytes."""
    if _chosen is not None:
        return _chosen
    if given := os.environ.get("CAFFEPY_MAX_MEMORY"):
        try:
            return parse(given)
        except ConfigError as error:
            raise error.at("CAFFEPY_MAX_MEMORY") from None
    return machine_memory()


def check(size: int, what: str, error: type[CaffeError] = DataError, where: str = "", hint: str = _MORE) -> None:
    """Raises `error` if `what` takes more bytes than there may be, besides those of the net that is being built."""
    limit = max_memory()
    spent = getattr(_local, "spent", None) or 0
    if spent + size <= limit:
        return
    before = f" besides {readable(spent)} for the layers before it" if spent else ""
    raise error(f"{what} needs {readable(size)}{before}; the limit is {readable(limit)}", where=where, hint=hint)


def check_unpacked(size: int, packed: int, what: str, error: type[CaffeError] = DataError, where: str = "") -> None:
    """`check`, and that so many bytes can have been packed into a file of `packed` bytes at all."""
    if size > max(FLOOR, EXPANSION * packed):
        raise error(
            f"{what} would unpack to {readable(size)}, the file has {readable(packed)}",
            where=where,
            hint="No data are packed so densely: the file is damaged, or made to fill the memory.",
        )
    check(size, what, error, where)


@contextmanager
def adding_up() -> Iterator[None]:
    """In the block, on this thread: what `spend` has counted is no longer there for what comes after it."""
    before, _local.spent = getattr(_local, "spent", None), 0
    try:
        yield
    finally:
        _local.spent = before


def spend(size: int) -> None:
    """Count `size` bytes of the net that is being built; outside `adding_up` nothing."""
    if (spent := getattr(_local, "spent", None)) is not None:
        _local.spent = spent + size


def readable(size: int) -> str:
    """1536 as 1.5 KB; powers of 1024."""
    power = min(max(size.bit_length() - 1, 0) // 10, 4)
    number = size / 1024**power
    return f"{number:.3g} {_NAMES[power]}" if number < 1000 else f"{number:.0f} {_NAMES[power]}"


def peak_memory() -> int:
    """The most bytes that this process has held so far, without what it was started from."""
    with suppress(OSError):
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
        if found:
            return 1024 * int(found[1])
    import resource

    # Elsewhere the system's own count, which on Linux would begin with the memory of the process that started this one.
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


@cache
def machine_memory() -> int:
    """The least of the machine's memory, the control group's and the address space that this process may use."""
    return min(_physical(), *_control_groups(), *_address_space())


def _physical() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # a system that does not say
        return 1 << 62


def _address_space() -> Iterator[int]:
    with suppress(ImportError):
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            yield limit


def _control_groups(root: Path = Path("/")) -> Iterator[int]:
    """The limits of the groups that this process is in, and of those above them; both versions of Linux's."""
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if number == "0":
                top, name = root / "sys/fs/cgroup", "memory.max"
            elif "memory" in controllers.split(","):
                top, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
            else:
                continue
            group = top / path.lstrip("/")
            for folder in (group, *group.parents):
                with suppress(OSError, ValueError):  # "max", or a part of the tree that is not shown here
                    yield int((folder / name).read_text())
                if folder == top:
                    break
