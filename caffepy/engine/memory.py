"""Memory of the NumPy engine: freed blocks that stay with the process, and pages that forked processes can share."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from weakref import WeakSet

import numpy as np

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's names for mallopt
_KEPT_BYTES = 256 << 20
_REMAP_MAYMOVE, _REMAP_FIXED = 1, 2  # Linux's names for mremap
# From this size on the system is asked for large pages, as NumPy does for its own arrays.
_LARGE = 4 << 20


def keep_freed_memory() -> None:
    """Let the C library reuse large freed blocks instead of handing each back to the system.

    numpy's temporaries of a megabyte or two otherwise cost fresh, zeroed pages every time: LeNet's step took 16.0 ms
    with glibc's defaults and 14.8 with this. Other C libraries have no such setting and are left alone.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_MMAP_THRESHOLD, _KEPT_BYTES)
    mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)


can_share = sys.platform == "linux" and ctypes.sizeof(ctypes.c_void_p) == 8
"""Whether `share` works here."""


class _Pages(mmap.mmap):
    """Pages of this process's own, or, once shared, of all processes forked from then on."""

    shared = False


_pages: WeakSet[_Pages] = WeakSet()
"""All that there are."""


def zeros(count: int) -> np.ndarray:
    """`count` float32 zeros on pages of their own, which `share` can share."""
    size = max(4, 4 * count)
    if not can_share:
        return np.zeros(count, np.float32)
    pages = _Pages(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= _LARGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a system without them
            pages.madvise(mmap.MADV_HUGEPAGE)
    _pages.add(pages)
    return np.frombuffer(pages, np.float32, count)


def share(array: np.ndarray) -> bool:
    """Let processes forked from now on see what is written to `array`, and this one what they write.

    The array stays where it is. False for memory that did not come from `zeros`.
    """
    pages = _pages_of(array)
    if pages is None:
        return False
    if not pages.shared:
        _exchange(pages, mmap.MAP_SHARED)
        pages.shared = True
    return True


def keep_to_oneself() -> None:
    """Make all shared memory this process's own again: what it holds stays, others no longer see what is written."""
    for pages in _pages:
        if pages.shared:
            _exchange(pages, mmap.MAP_PRIVATE)
            pages.shared = False


@contextmanager
def shared_alone() -> Iterator[None]:
    """Of all that `zeros` made, processes forked here get what is shared, and nothing of the rest.

    The rest would stay with them as it was: this process's next write to a page would make a second one.
    """
    private = [pages for pages in _pages if not pages.shared]
    for pages in private:
        pages.madvise(mmap.MADV_DONTFORK)
    try:
        yield
    finally:
        for pages in private:
            pages.madvise(mmap.MADV_DOFORK)


def give_back() -> None:
    """Hand freed blocks back to the system, where the C library can."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _pages_of(array: np.ndarray) -> _Pages | None:
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    owner = base.obj if isinstance(base, memoryview) else base
    return owner if isinstance(owner, _Pages) else None


def _exchange(pages: _Pages, kind: int) -> None:
    """Put pages of another kind, private or shared, with the same contents in the place of these, in one step."""
    values = np.frombuffer(pages, np.uint8)
    address, size = values.ctypes.data, len(pages)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = libc.mremap.restype = ctypes.c_void_p
    word = ctypes.c_size_t
    access = mmap.PROT_READ | mmap.PROT_WRITE
    new = libc.mmap(None, word(size), access, kind | mmap.MAP_ANONYMOUS, -1, word(0))
    if new in (None, ctypes.c_void_p(-1).value):
        raise MemoryError(f"no memory for {size} bytes: {os.strerror(ctypes.get_errno())}")
    if np.frombuffer(pages, np.uint32).any():  # what nobody has written to takes no memory, and stays so
        ctypes.memmove(new, address, size)
    moved = libc.mremap(word(new), word(size), word(size), _REMAP_MAYMOVE | _REMAP_FIXED, word(address))
    if moved != address:
        libc.munmap(word(new), word(size))
        raise MemoryError(f"memory cannot be shared: {os.strerror(ctypes.get_errno())}")
