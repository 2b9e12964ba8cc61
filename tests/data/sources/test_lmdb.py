"""LMDB: reading in key order without a trace, writing whole or not at all, refusing what is none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from caffepy.data.sources.databases import create_database
from caffepy.data.sources.lmdb import NEAR, LmdbReader, filling, write_lmdb
from caffepy.errors import DataError

MAKE = "Caffe-style databases are made with `caffepy convert-mnist`, `caffepy convert-imageset` and their like."
KILLED = """
import os, signal, sys
from caffepy.data.sources.lmdb import write_lmdb
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


def test_a_reader_may_be_dropped_while_another_opens(db, monkeypatch):
    """As the garbage collector does, at any allocation: it must not wait for the lock that its own thread holds."""
    readers = [LmdbReader(db)]
    real = os.path.isdir
    monkeypatch.setattr(os.path, "isdir", lambda path: readers.clear() or real(path))
    write_lmdb(db.parent / "other", records())
    assert LmdbReader(db.parent / "other")[1] == records()[1]
    assert not readers


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
        assert refused(db) == (
            f"{db}: this program has the LMDB open already, and the library opens it once\n"
            "  Close it first: env.close()."
        )
    assert len(LmdbReader(db)) == 5


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


class Damaged:
    """A cursor as the library's, at a page that it finds damaged (which pages it checks depends on its version)."""

    def __getattr__(self, name):
        raise lmdb.CorruptedError("Located page was wrong type")


def test_a_damaged_page_is_named(db):
    reader = LmdbReader(db)
    reader._cursor = Damaged()
    with pytest.raises(DataError) as caught:
        reader[3]
    assert str(caught.value) == (
        f"{db}: the LMDB is damaged at record 3: Located page was wrong type\n  Copy or make the database again."
    )
    assert reader[4] == records()[4]


def test_indices_are_those_of_a_list(db):
    reader = LmdbReader(db)
    assert [reader[i] for i in range(-5, 0)] == list(reader) == records()
    for i in (-6, 5):
        with pytest.raises(IndexError):
            reader[i]


class ListedInPart:
    """An environment whose keys can be listed up to a damaged page."""

    def __init__(self, env):
        self.env, self.times = env, 0

    def begin(self, **options):
        return self.env.begin(**options) if options else self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def cursor(self):
        return self

    def iternext(self, **options):
        self.times += 1
        yield from (key for key, _ in records(200))
        raise lmdb.CorruptedError("Located page was wrong type")


def test_behind_a_damaged_page_keys_are_listed_once(tmp_path):
    write_lmdb(tmp_path / "db", records(300))
    reader = LmdbReader(tmp_path / "db")
    reader._env = ListedInPart(reader._env)
    for i in (200, 280):
        with pytest.raises(DataError) as caught:
            reader[i]
        assert str(caught.value) == (
            f"{tmp_path}/db: the LMDB is damaged at record {i}: only the first 200 keys can be listed\n"
            "  Copy or make the database again."
        )
    assert reader[199] == records(300)[199]
    assert reader._env.times == 1


@pytest.mark.parametrize("step", [2, NEAR, NEAR + 1])
def test_going_forward_by_steps(tmp_path, step):
    write_lmdb(tmp_path / "db", records(300))
    reader = LmdbReader(tmp_path / "db")
    assert [reader[i] for i in range(1, 300, step)] == records(300)[1::step]
    assert (reader._keys is None) == (step <= NEAR)  # far jumps alone need the list of keys


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
