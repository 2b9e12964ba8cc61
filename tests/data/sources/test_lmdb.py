"""LMDB: reading in key order without a trace, writing whole or not at all, refusing what is none."""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from caffepy.data.sources import opened
from caffepy.data.sources.databases import create_database, write_lmdb
from caffepy.data.sources.lmdb import LmdbReader, filling
from caffepy.data.sources.lmdb_pages import Pages, Tree, read_meta
from caffepy.data.sources.opened import AHEAD, OpenFile
from caffepy.errors import DataError

MAKE = "Caffe-style databases are made with `caffepy convert-mnist`, `caffepy convert-imageset` and their like."
KILLED = """
import os, signal, sys
from caffepy.data.sources.databases import write_lmdb
def records():
    yield from ((b"%08d" % i, b"value") for i in range(2500))
    os.kill(os.getpid(), signal.SIGKILL)
write_lmdb(sys.argv[1], records())
"""


def records(count: int = 5) -> list[tuple[bytes, bytes]]:
    return [(b"%08d" % i, b"value %d" % i) for i in range(count)]


def refused(path) -> str:
    with pytest.raises(DataError) as caught:
        LmdbReader(path)
    return str(caught.value)


@pytest.fixture
def db(tmp_path) -> Path:
    write_lmdb(tmp_path / "db", records())
    return tmp_path / "db"


def test_records_come_in_key_order(tmp_path):
    assert write_lmdb(tmp_path / "db", reversed(records())) == 5
    reader = LmdbReader(tmp_path / "db")
    assert len(reader) == 5
    assert [reader[i] for i in range(5)] == records()


@pytest.mark.parametrize("batch", [1, 2, 5, 6])
def test_transactions_of_any_size(tmp_path, batch):
    with filling(str(tmp_path / "db"), batch) as put:
        for record in records():
            put(*record)
    assert [LmdbReader(tmp_path / "db")[i] for i in range(5)] == records()


def test_what_cannot_be_written_is_said(tmp_path):
    with pytest.raises(DataError, match=r"db: cannot write the LMDB: mdb_put: MDB_BAD_VALSIZE"):
        write_lmdb(tmp_path / "db", [(b"k" * 600, b"value")])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("code", "said"), [(28, "No space left on device"), (0, "mdb_txn_commit: Input/output error")])
def test_a_full_disk_is_said(tmp_path, monkeypatch, code, said):
    """LMDB has no word for it: what it could write only half is an input/output error."""

    def fsync(file):
        if code:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(DataError) as caught, create_database(tmp_path / "db", "lmdb"):
        raise lmdb.DiskError("mdb_txn_commit: Input/output error")
    assert str(caught.value) == f"{tmp_path}/db: cannot write the LMDB: {said}"
    assert not list(tmp_path.iterdir())


def test_any_order_of_access(db):
    reader = LmdbReader(db)
    for i in (3, 4, 0, 0, 1, 4, 2, 3, 1):
        assert reader[i] == records()[i]


def test_reading_leaves_no_trace(db):
    before = {path.name: path.stat().st_mtime_ns for path in db.iterdir()}
    LmdbReader(db)[0]
    assert {path.name: path.stat().st_mtime_ns for path in db.iterdir()} == before
    assert list(before) == ["data.mdb"]


def test_several_readers_of_one_database(db):
    first, second = LmdbReader(db), LmdbReader(str(db))
    assert first[0] == second[0]
    del first
    assert second[1] == records()[1]
    del second
    assert LmdbReader(db)[2] == records()[2]


def test_a_single_file_is_a_database_too(tmp_path):
    with lmdb.open(str(tmp_path / "one.mdb"), subdir=False) as env, env.begin(write=True) as transaction:
        transaction.put(b"k", b"v")
    assert LmdbReader(tmp_path / "one.mdb")[0] == (b"k", b"v")


def test_what_is_missing(db):
    assert refused(db.parent / "dbb") == f'{db.parent}/dbb: there is no such LMDB\n  Did you mean "db"?'
    assert refused(db.parent / "zzzzzz") == f"{db.parent}/zzzzzz: there is no such LMDB\n  {MAKE}"
    assert refused(db.parent / "no" / "db") == (
        f"{db.parent}/no/db: there is no such LMDB\n  There is no folder {db.parent}/no."
    )


def test_what_is_empty(tmp_path):
    write_lmdb(tmp_path / "db", [])
    assert refused(tmp_path / "db") == f"{tmp_path}/db: the LMDB is empty\n  {MAKE}"


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("db", b"text", "this is no LMDB (MDB_INVALID: File is not an LMDB file)\n  " + MAKE),
        ("db/data.mdb", b"text" * 5000, "this is no LMDB (MDB_INVALID: File is not an LMDB file)\n  " + MAKE),
        ("db/readme", b"text", "this is no LMDB: the folder has no file data.mdb\n  " + MAKE),
        ("db/CURRENT", b"MANIFEST", "this is a LevelDB, not an LMDB\n  Set data_param { backend: LEVELDB }."),
    ],
)
def test_what_is_no_lmdb(tmp_path, file, content, problem):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_bytes(content)
    assert refused(tmp_path / "db") == f"{tmp_path}/db: {problem}"
    assert refused(tmp_path / "db") == f"{tmp_path}/db: {problem}"  # nothing of the first attempt is left


@pytest.mark.parametrize("count", [100, 10])
def test_a_truncated_database_is_refused(tmp_path, count):
    write_lmdb(tmp_path / "db", ((b"%d" % i, bytes(3000)) for i in range(count)))
    file = tmp_path / "db" / "data.mdb"
    whole = file.stat().st_size
    os.truncate(file, whole // 2)
    assert refused(tmp_path / "db") == (
        f"{tmp_path}/db: the LMDB is truncated: it needs {whole} bytes and has {whole // 2}\n"
        "  Copy or make the database again."
    )


@pytest.mark.parametrize("pages", [1, 16])
def test_a_database_without_its_last_pages_is_refused(tmp_path, pages):
    """Also one that has free pages, elsewhere."""
    with lmdb.open(str(tmp_path / "db"), map_size=1 << 26) as env:
        for name in ("a", "b"):
            with env.begin(write=True) as transaction:
                for i in range(300):
                    transaction.put(b"%s%d" % (name.encode(), i), bytes(3000))
        with env.begin(write=True) as transaction:
            for i in range(200):
                transaction.delete(b"a%d" % i)
    assert len(LmdbReader(tmp_path / "db")) == 400
    file = tmp_path / "db" / "data.mdb"
    os.truncate(file, file.stat().st_size - pages * 4096)
    assert "the LMDB is truncated" in refused(tmp_path / "db")


def test_a_database_whose_file_ends_before_free_pages(tmp_path):
    """LMDB counts the pages that a transaction took and gave back, but does not write them."""
    with lmdb.open(str(tmp_path / "db"), map_size=1 << 26) as env:
        for name, size, count, kept in (("a", 5000, 50, 45), ("b", 1000, 50, 25), ("c", 5000, 500, 125)):
            with env.begin(write=True) as transaction:
                for i in range(count):
                    transaction.put(b"%s%06d" % (name.encode(), i), bytes(size))
                for i in range(kept, count):
                    transaction.delete(b"%s%06d" % (name.encode(), i))
        counted = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    if (tmp_path / "db" / "data.mdb").stat().st_size == counted:
        pytest.skip("this LMDB has written all pages")
    reader = LmdbReader(tmp_path / "db")
    assert [len(value) for _, value in reader] == [5000] * 45 + [1000] * 25 + [5000] * 125


def test_a_database_that_the_script_itself_has_open(db):
    with lmdb.open(str(db), readonly=True, lock=False):
        assert list(LmdbReader(db)) == records()


def test_a_database_that_may_not_be_read(db, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("data.mdb"))
    assert refused(db) == f"{db}: cannot read the LMDB: Permission denied"


@pytest.mark.parametrize("backend", ["lmdb", "leveldb"])
def test_a_folder_that_may_not_be_written_is_said(tmp_path, monkeypatch, backend):
    if backend == "leveldb":
        pytest.importorskip("plyvel")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(DataError) as caught, create_database(tmp_path / "db", backend):
        pass
    assert str(caught.value) == f"{tmp_path}/db: there is no permission to write into {tmp_path}"


def test_an_existing_database_is_not_touched(db):
    with pytest.raises(DataError) as caught:
        write_lmdb(db, records(9))
    assert str(caught.value) == f"{db}: the database exists already\n  Remove it or choose another name."
    assert len(LmdbReader(db)) == 5


def test_an_error_leaves_no_database(tmp_path):
    def broken():
        yield from records(2500)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_lmdb(tmp_path / "db", broken())
    assert not any(tmp_path.iterdir())


def test_a_kill_leaves_no_database(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "db")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "db").exists()
    assert write_lmdb(tmp_path / "db", records()) == 5


LARGE = [(b"%08d" % i, bytes([i % 256]) * 3000) for i in range(1000)]
SMALL = [(b"%08d" % i, bytes([i % 256]) * 700) for i in range(1000)]


def damage(db: Path, at: int, new: bytes) -> None:
    with open(db / "data.mdb", "rb+") as file:
        file.seek(at)
        file.write(new)


def leaves(db: Path) -> list[int]:
    """Where the leaves of a database begin."""
    file = OpenFile(db / "data.mdb")
    meta = read_meta(file)
    return [page.number * meta.page_size for page in Pages(file, meta.page_size).leaves(meta.main)]


def damaged_at(reader: LmdbReader, i: int) -> str:
    with pytest.raises(DataError) as caught:
        reader[i]
    return str(caught.value)


@pytest.mark.parametrize("sizes", [[0], [1, 700], [3000], [1, 2000, 100_000], [1 << 20]])
@pytest.mark.parametrize("count", [1, 3, 1500])
def test_what_the_library_itself_reads(tmp_path, sizes, count):
    """Also after records were deleted and replaced, whose pages are used again."""
    count = min(count, (20 << 20) // max([*sizes, 1]))  # of the largest values fewer
    with lmdb.open(str(tmp_path / "db"), map_size=1 << 28) as env:
        for turn in range(3):
            with env.begin(write=True) as transaction:
                for i in range(turn, count, turn + 1):
                    transaction.put(b"%d" % i * (1 + i % 60), bytes([turn]) * sizes[i % len(sizes)])
                for i in range(turn, count - 1, 3 + turn):
                    transaction.delete(b"%d" % i * (1 + i % 60))
        with env.begin() as transaction:
            expected = list(transaction.cursor())
    reader = LmdbReader(tmp_path / "db")
    assert list(reader) == expected
    order = list(range(len(expected)))
    random.Random(1).shuffle(order)
    reader = LmdbReader(tmp_path / "db")
    assert all(reader[i] == expected[i] for i in order)


@pytest.mark.parametrize(("written", "new"), [(LARGE, b"\0" * 16), (SMALL, b"\0" * 4096), (SMALL, b"\xff" * 4096)])
def test_a_damaged_page_ends_in_an_error(tmp_path, written, new):
    write_lmdb(tmp_path / "db", written)
    at = leaves(tmp_path / "db")[len(leaves(tmp_path / "db")) // 2]
    damage(tmp_path / "db", at, new)
    for order in (range(1000), [900, *range(1000)]):  # going forward, or with a jump to behind it first
        reader, read = LmdbReader(tmp_path / "db"), []
        for i in order:
            try:
                assert reader[i] == written[i]
                read.append(i)
            except DataError as error:
                assert str(error) == (
                    f"{tmp_path}/db: the LMDB is damaged at record {i}: page {at // 4096} is none of the tree\n"
                    "  Copy or make the database again."
                )
        assert 300 < len(read) < 700 and read == list(range(len(read)))


def test_a_false_number_of_records_ends_in_an_error(tmp_path):
    write_lmdb(tmp_path / "db", SMALL)
    for page in (0, 4096):
        damage(tmp_path / "db", page + 120, (9999).to_bytes(8, "little"))
    reader = LmdbReader(tmp_path / "db")
    assert [reader[i] for i in range(1000)] == SMALL
    for _ in range(2):
        assert damaged_at(reader, 1000) == (
            f"{tmp_path}/db: the LMDB is damaged at record 1000: 1000 records are there, its root says 9999\n"
            "  Copy or make the database again."
        )


@pytest.mark.parametrize("count", [10**6, 2**63, 2**64 - 1])
def test_more_records_than_fit_are_refused(db, count):
    for page in (0, 4096):
        damage(db, page + 120, count.to_bytes(8, "little"))
    size = (db / "data.mdb").stat().st_size
    assert refused(db) == (
        f"{db}: the LMDB is damaged: {count} records do not fit into {size} bytes\n  Copy or make the database again."
    )


def test_a_tree_that_names_pages_again_and_again_ends(tmp_path):
    """Each level names one page of the next 200 times: a million million leaves, of a file of eight pages."""

    def page(number: int, kind: int, below: int) -> bytes:
        nodes, count = struct.pack("=HHHH", below, 0, 0, 0), 200
        starts = struct.pack(f"={count}H", *range(4096 - 8 * count, 4096, 8))
        return (
            struct.pack("=QHHHH", number, 0, kind, 16 + 2 * count, 4096 - 8 * count)
            + starts
            + bytes(4096 - 16 - 10 * count)
            + nodes * count
        )

    pages = [bytes(4096)] * 2 + [page(number, 1 if number < 7 else 2, number + 1) for number in range(2, 8)]
    (tmp_path / "file").write_bytes(b"".join(pages))
    tree, found = Tree(0, 6, 5, 1, 0, 1, root=2), []
    with pytest.raises(ValueError, match="a page belongs to its tree several times"):
        for leaf in Pages(OpenFile(tmp_path / "file"), 4096).leaves(tree):
            found.append(leaf.number)
    assert found == [7] * 9


@pytest.mark.parametrize("how", ["cut", "emptied", "written over", "written to"])
def test_a_database_that_changes_while_it_is_read(tmp_path, how):
    written = [(b"%08d" % i, bytes([i % 256]) * 3000) for i in range(2000)]
    write_lmdb(tmp_path / "db", written)
    reader = LmdbReader(tmp_path / "db")
    assert [reader[i] for i in range(50)] == written[:50]
    file = tmp_path / "db" / "data.mdb"
    if how == "written to":
        with lmdb.open(str(tmp_path / "db"), map_size=1 << 28) as env, env.begin(write=True) as transaction:
            transaction.put(b"new", b"record")
    elif how == "written over":
        size = file.stat().st_size
        file.write_bytes(b"\xff" * size)
    else:
        os.truncate(file, 300_000 if how == "cut" else 0)
    with pytest.raises(DataError) as caught:
        for i in range(50, 2000):
            assert reader[i] == written[i]  # what was read ahead before
    assert str(caught.value) == (
        f"{tmp_path}/db: the LMDB has changed since it was opened\n  Write to no database that is being read."
    )


def test_a_file_that_is_replaced_is_read_on(db):
    """Renaming another file to its name leaves the one that was opened as it is."""
    reader = LmdbReader(db)
    write_lmdb(db.parent / "other", records(9))
    os.replace(db.parent / "other" / "data.mdb", db / "data.mdb")
    assert list(reader) == records()


def test_several_values_of_a_key_are_refused(tmp_path):
    write_lmdb(tmp_path / "db", records())
    for page in (0, 4096):
        damage(tmp_path / "db", page + 92, b"\4")
    assert refused(tmp_path / "db") == (
        f"{tmp_path}/db: this LMDB has several values of a key, a Caffe database has one\n  {MAKE}"
    )


def test_indices_are_those_of_a_list(db):
    reader = LmdbReader(db)
    assert [reader[i] for i in range(-5, 0)] == list(reader) == records()
    for i in (-6, 5):
        with pytest.raises(IndexError):
            reader[i]


@pytest.mark.parametrize("step", [2, 64, 299])
def test_going_forward_by_steps(tmp_path, step):
    write_lmdb(tmp_path / "db", records(300))
    reader = LmdbReader(tmp_path / "db")
    assert [reader[i] for i in range(1, 300, step)] == records(300)[1::step]


def test_going_forward_reads_large_pieces(tmp_path, monkeypatch):
    """A call of the system for every record costs more than its copy."""
    write_lmdb(tmp_path / "db", LARGE)
    reader = LmdbReader(tmp_path / "db")
    calls, pread = [], opened._pread
    monkeypatch.setattr(opened, "_pread", lambda *args: calls.append(args) or pread(*args))
    assert list(reader) == LARGE
    assert len(calls) < 20 + 3 * len(LARGE) * 4096 / AHEAD


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_reads_on(db):
    reader = LmdbReader(db)
    assert reader[1] == records()[1]
    with reader._lock:  # as another thread may hold it at this moment
        child = os.fork()
        if not child:
            os._exit(reader[2] != records()[2])
    assert os.waitpid(child, 0)[1] == 0
    assert reader[2] == records()[2]
