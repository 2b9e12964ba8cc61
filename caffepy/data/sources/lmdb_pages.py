"""The pages of an LMDB, each checked before it is believed.

LMDB's own library maps the file and follows what it finds there: a damaged page, or a file that is cut or written over
while it is read, ends the process. Layout: LMDB's mdb.c, of 64 bits. A page has a header of 16 bytes (number, kind,
where its nodes lie); the first two hold what the last two transactions left, in turn; a tree has branches, leaves and,
for values that fit into no leaf, runs of overflow pages.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from caffepy.data.sources.opened import OpenFile

NO_PAGE = 2**64 - 1
"""The root of a tree without records."""
SEVERAL_VALUES = 4
"""A tree's flag: a key may have several values."""
SMALLEST_RECORD = 11
"""Bytes of a key of one byte, its node's header and the place where that stands."""

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_HEADER = struct.Struct("=QHHHH")  # number, unused, kind, end of the offsets, start of the nodes
_OVERFLOW_HEADER = struct.Struct("=QHHI")  # number, unused, kind, how many pages
_META = struct.Struct("=II16x")
_TREE = struct.Struct("=4xHHQQQQQ")  # flags, depth, branches, leaves, overflow pages, entries, root
_OFFSET = struct.Struct("=H")
_NODE = struct.Struct("=HHHH")  # of a leaf: size of the value in two parts, flags, size of the key
_BRANCH, _LEAF, _OVERFLOW, _META_PAGE = 1, 2, 4, 8
_KINDS = 0x7F & ~0x10  # but for the mark of a page that was being written
_BIG = 1
_DEEPEST = 32


class Tree(NamedTuple):
    """Where a tree begins, and what is said of it."""

    flags: int
    depth: int
    branches: int
    leaves: int
    overflow_pages: int
    entries: int
    root: int


class Meta(NamedTuple):
    """What the newest transaction left."""

    page_size: int
    free: Tree
    main: Tree
    last_page: int
    transaction: int


def read_meta(file: OpenFile) -> Meta:
    """The newer of the two pages that every LMDB begins with. Raises ValueError for what is no LMDB."""
    try:
        first = _meta_at(file, 0)
        return max(first, _meta_at(file, first.page_size), key=lambda meta: meta.transaction)
    except EOFError:
        raise ValueError("MDB_INVALID: File is not an LMDB file") from None


def _meta_at(file: OpenFile, at: int) -> Meta:
    page = file.read(at, 152)
    _, _, kind, _, _ = _HEADER.unpack_from(page)
    magic, version = _META.unpack_from(page, 16)
    (page_size,) = struct.unpack_from("=I", page, 40)
    if not kind & _META_PAGE or magic != _MAGIC or page_size not in (1 << n for n in range(8, 16)):
        raise ValueError("MDB_INVALID: File is not an LMDB file")
    if version != _VERSION:
        raise ValueError(f"MDB_VERSION_MISMATCH: its format is number {version}, not {_VERSION}")
    last_page, transaction = struct.unpack_from("=QQ", page, 136)
    free, main = (Tree(*_TREE.unpack_from(page, place)) for place in (40, 88))
    return Meta(page_size, free, main, last_page, transaction)


class Page(NamedTuple):
    """A branch or a leaf."""

    number: int
    content: bytes
    nodes: int
    """How many it has; behind the header stands where each begins."""


class Pages:
    """The pages of a file. Whatever cannot be right is a ValueError that says what, or an EOFError."""

    def __init__(self, file: OpenFile, size: int):
        self.file, self.size = file, size

    def leaves(self, tree: Tree) -> Iterator[Page]:
        """The leaves of a tree in key order."""
        if tree.root == NO_PAGE:
            return
        if not 1 <= tree.depth <= _DEEPEST:
            raise ValueError(f"a tree is {tree.depth} pages deep")
        most = self.file.size // self.size  # a tree that leads back to itself never ends
        for number in self._below(tree.root, tree.depth - 1):
            yield self.leaf(number)
            most -= 1
            if most < 0:
                raise ValueError("a page belongs to its tree several times")

    def _below(self, root: int, depth: int) -> Iterator[int]:
        """The numbers of the leaves below a page."""
        if not depth:
            yield root
            return
        page = self._page(root, _BRANCH)
        for i in range(page.nodes):
            low, middle, high, _ = _NODE.unpack_from(page.content, self._start(page, i))
            yield from self._below(low | middle << 16 | high << 32, depth - 1)

    def leaf(self, number: int) -> Page:
        return self._page(number, _LEAF)

    def _page(self, number: int, kind: int) -> Page:
        content = self.file.read(number * self.size, self.size)
        own, _, flags, lower, upper = _HEADER.unpack_from(content)
        if own != number or flags & _KINDS != kind:
            raise ValueError(f"page {number} is none of the tree")
        if not _HEADER.size + 2 <= lower <= upper <= self.size:
            raise ValueError(f"page {number} holds no nodes")
        return Page(number, content, (lower - _HEADER.size) // 2)

    def _start(self, page: Page, i: int) -> int:
        """Where node `i` begins, and at least has a header."""
        (start,) = _OFFSET.unpack_from(page.content, _HEADER.size + 2 * i)
        if not _HEADER.size + 2 * page.nodes <= start <= self.size - _NODE.size:
            raise ValueError(f"a node of page {page.number} lies outside it")
        return start

    def record(self, page: Page, i: int) -> tuple[bytes, bytes]:
        """Key and value of node `i` of a leaf."""
        content, start = page.content, self._start(page, i)
        low, high, flags, length = _NODE.unpack_from(content, start)
        key_end, size = start + _NODE.size + length, low | high << 16
        end = key_end + (8 if flags & _BIG else size)
        if end > len(content):
            raise ValueError(f"a record of page {page.number} does not fit into it")
        value = content[key_end:end]
        if flags & _BIG:
            value = self._overflow(struct.unpack("=Q", value)[0], size)
        return content[start + _NODE.size : key_end], value

    def _overflow(self, number: int, size: int) -> bytes:
        run = self.file.read(number * self.size, _OVERFLOW_HEADER.size + size)
        own, _, flags, count = _OVERFLOW_HEADER.unpack_from(run)
        if own != number or flags & _KINDS != _OVERFLOW or count * self.size < len(run):
            raise ValueError(f"page {number} holds no value of {size} bytes")
        return run[_OVERFLOW_HEADER.size :]

    def free(self, tree: Tree) -> set[int]:
        """The numbers of the pages that nobody uses; those that can be found out."""
        found: set[int] = set()
        try:
            for page in self.leaves(tree):
                for i in range(page.nodes):
                    _, value = self.record(page, i)
                    count, *numbers = struct.unpack_from(f"={len(value) // 8}Q", value)
                    found.update(numbers[:count])
        except (ValueError, EOFError, struct.error):
            pass
        return found


class TreeRecords:
    """Record i of a tree, in key order.

    Going forward reads one leaf after the other; a jump ahead passes over those in between, and of each it is
    remembered which record comes first there (16 bytes a leaf). Not for several threads at once.
    """

    def __init__(self, pages: Pages, tree: Tree):
        self._pages, self._tree = pages, tree
        self._rest = pages.leaves(tree)
        self._numbers, self._firsts = array("Q"), array("Q")
        self._seen = 0
        self._leaf, self._first = Page(0, b"", 0), 0
        self._broken: Exception | None = None
        """What ended the walk: it cannot be taken up again behind it."""

    def __getitem__(self, i: int) -> tuple[bytes, bytes]:
        """Raises ValueError and EOFError where the record cannot be read."""
        if not 0 <= i - self._first < self._leaf.nodes:
            self._turn_to(i)
        return self._pages.record(self._leaf, i - self._first)

    def _turn_to(self, i: int) -> None:
        if i < self._seen:
            at = bisect_right(self._firsts, i) - 1
            leaf, first = self._pages.leaf(self._numbers[at]), self._firsts[at]
            if i - first >= leaf.nodes:
                raise ValueError(f"page {leaf.number} holds fewer records than before")
            self._leaf, self._first = leaf, first
        while i >= self._seen:
            self._leaf, self._first = self._next(), self._seen
            self._numbers.append(self._leaf.number)
            self._firsts.append(self._first)
            self._seen += self._leaf.nodes

    def _next(self) -> Page:
        if self._broken is None:
            try:
                for leaf in self._rest:
                    return leaf
                self._broken = ValueError(f"{self._seen} records are there, its root says {self._tree.entries}")
            except (ValueError, EOFError) as error:
                self._broken = error.with_traceback(None)
        raise self._broken
