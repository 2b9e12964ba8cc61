"""Memory of the NumPy engine: freed blocks that stay with the process, and pages that forked processes can share."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from threading import RLock
from weakref import WeakSet

import numpy as np

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's names for mallopt
_KEPT_BLOCK, _KEPT_IN_ALL = 256 << 20, 32 << 20
_REMAP_MAYMOVE, _REMAP_FIXED = 1, 2  # Linux's names for mremap
# From this size on the system is asked for large pages, as NumPy does for its own arrays.
_LARGE = 4 << 20


@cache
def keep_freed_memory() -> None:
    """Let the C library reuse large freed blocks instead of handing each back to the system.

    numpy's temporaries of a megabyte or two otherwise cost fresh, zeroed pages every time: LeNet's step took 16.0 ms
    with glibc's defaults and 14.8 with this. What is free beyond 32 MB at the heap's end is handed back, 40 MB of
    AlexNet's. Other C libraries have no such setting and are left alone.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_MMAP_THRESHOLD, _KEPT_BLOCK)
    mallopt(_TRIM_THRESHOLD, _KEPT_IN_ALL)


def give_back() -> None:
    """Hand freed blocks back to the system, where the C library can."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


can_share = sys.platform == "linux" and ctypes.sizeof(ctypes.c_void_p) == 8
"""Whether `share` works here."""

lock = RLock()
"""Held while pages are counted, exchanged or forked, so that all three see them whole."""


class _Pages(mmap.mmap):
    """Pages of this process's own, or, once shared, of all processes forked from then on."""

    shared = False


_pages: WeakSet[_Pages] = WeakSet()
"""All that there are."""


def zeros(count: int) -> np.ndarray:
    """`count` float32 zeros on pages of their own, which `share` can share."""
    if not can_share:
        return np.zeros(count, np.float32)
    size = max(4, 4 * count)
    try:
        pages = _Pages(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise MemoryError(f"no memory for {size} bytes") from None
        raise
    if size >= _LARGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a system without them
            pages.madvise(mmap.MADV_HUGEPAGE)
    with lock:
        _pages.add(pages)
    return np.frombuffer(pages, np.float32, count)


def share(array: np.ndarray) -> bool:
    """Let processes forked from now on see what is written to `array`, and this one what they write.

    The array stays where it is; nobody else may write to it meanwhile. False for memory that is not from `zeros`.
    """
    pages = _pages_of(array)
    if pages is None:
        return False
    with lock:
        if not pages.shared:
            _exchange(pages, mmap.MAP_SHARED)
            pages.shared = True
    return True


def any_shared() -> bool:
    with lock:
        return any(pages.shared for pages in _pages)


def keep_to_oneself() -> None:
    """Make all shared memory this process's own again: what it holds stays, others no longer see what is written."""
    with lock:
        for pages in _pages:
            if pages.shared:
                _exchange(pages, mmap.MAP_PRIVATE)
                pages.shared = False


@contextmanager
def leaving_out(arrays: Iterable[np.ndarray]) -> Iterator[None]:
    """Of all that `zeros` made, a process forked here gets the pages of `arrays`, and nothing of the rest.

    The rest would stay with it as it was: this process's next write to a page would make a second one.
    """
    with lock:
        kept = {id(_pages_of(array)) for array in arrays}
        rest = [pages for pages in _pages if id(pages) not in kept]
        try:
            for pages in rest:
                pages.madvise(mmap.MADV_DONTFORK)
            yield
        finally:
            for pages in rest:
                pages.madvise(mmap.MADV_DOFORK)


def _pages_of(array: np.ndarray) -> _Pages | None:
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    owner = base.obj if isinstance(base, memoryview) else base
    return owner if isinstance(owner, _Pages) else None


@cache
def _system() -> ctypes.CDLL:
    """The C library, with the calls that `_exchange` needs."""
    library = ctypes.CDLL(None, use_errno=True)
    address, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    library.mmap.argtypes, library.mmap.restype = [address, size, number, number, number, ctypes.c_long], address
    library.mremap.argtypes, library.mremap.restype = [address, size, size, number, address], address
    library.munmap.argtypes = [address, size]
    return library


def _exchange(pages: _Pages, kind: int) -> None:
    """Put pages of another kind, private or shared, with the same contents in the place of these, in one step."""
    system, values, size = _system(), np.frombuffer(pages, np.uint32), len(pages)
    address = values.ctypes.data
    new = system.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, kind | mmap.MAP_ANONYMOUS, -1, 0)
    if new in (None, ctypes.c_void_p(-1).value):
        raise MemoryError(f"no memory for {size} bytes: {os.strerror(ctypes.get_errno())}")
    if values.any():  # what nobody has written to takes no memory, and stays so
        ctypes.memmove(new, address, size)
    if system.mremap(new, size, size, _REMAP_MAYMOVE | _REMAP_FIXED, address) != address:
        reason = os.strerror(ctypes.get_errno())
        system.munmap(new, size)
        raise MemoryError(f"memory cannot be shared: {reason}")
