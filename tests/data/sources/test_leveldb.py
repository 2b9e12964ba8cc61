"""The LevelDB reader against databases that LevelDB itself wrote."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import pytest

from caffepy.data.sources.crc32c import masked
from caffepy.data.sources.databases import create_database, guess_backend, open_database
from caffepy.data.sources.leveldb import LevelDbReader
from caffepy.data.sources.snappy import decompress
from caffepy.errors import DataError
from caffepy.temporary import temporary_name
from tests.support import GOLDEN

DB = GOLDEN / "db"


def content(reader) -> dict[bytes, bytes]:
    return dict(reader[i] for i in range(len(reader)))


@pytest.mark.parametrize("name", ["color", "mnist", "big"])
def test_log_and_table_hold_the_same(name):
    assert content(LevelDbReader(DB / f"{name}_leveldb")) == content(LevelDbReader(DB / f"{name}_leveldb_table"))


@pytest.mark.parametrize("name", ["color", "mnist"])
def test_holds_what_the_lmdb_holds(name):
    assert content(LevelDbReader(DB / f"{name}_leveldb")) == content(open_database(DB / f"{name}_lmdb", "lmdb"))


@pytest.mark.parametrize("compression", [None, "snappy"])
def test_many_tables_overwritten_and_deleted_keys(tmp_path, compression):
    plyvel = pytest.importorskip("plyvel")
    options = {"write_buffer_size": 1 << 16, "block_size": 2000, "compression": compression}
    expected = {}
    for part in range(3):
        db = plyvel.DB(str(tmp_path / "db"), create_if_missing=True, **options)
        for i in range(part * 300, part * 300 + 600):
            key, value = b"%05d" % i, (b"%d/%d " % (part, i)) * (i % 97)
            db.put(key, value)
            expected[key] = value
        for i in range(part * 300, part * 300 + 600, 7):
            db.delete(b"%05d" % i)
            del expected[b"%05d" % i]
        db.close()
    assert list((tmp_path / "db").glob("*.ldb"))
    reader = LevelDbReader(tmp_path / "db")
    assert [reader[i] for i in range(len(reader))] == sorted(expected.items())
    assert [reader[i] for i in reversed(range(len(reader)))] == sorted(expected.items(), reverse=True)


def test_what_we_write_leveldb_reads(tmp_path):
    plyvel = pytest.importorskip("plyvel")
    records = [(b"%04d" % i, b"x" * i) for i in range(2500)]
    with create_database(tmp_path / "db", "leveldb") as put:
        for record in records:
            put(*record)
    assert guess_backend(tmp_path / "db") == "leveldb"
    assert sorted(content(LevelDbReader(tmp_path / "db")).items()) == records
    db = plyvel.DB(str(tmp_path / "db"))
    assert list(db) == records
    db.close()


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(DB / "mnist_leveldb_table", tmp_path / "db")


def test_a_missing_table(copy):
    (copy / "000005.ldb").unlink()
    with pytest.raises(DataError, match=r"db: the table 000005.ldb is missing"):
        LevelDbReader(copy)


def test_a_truncated_table(copy):
    table = copy / "000005.ldb"
    table.write_bytes(table.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"db: the LevelDB is damaged: 000005.ldb is truncated or no table"):
        LevelDbReader(copy)


def test_a_damaged_block(copy):
    table = copy / "000005.ldb"
    table.write_bytes(b"\xff" * 300 + table.read_bytes()[300:])
    with pytest.raises(DataError, match=r"db: the LevelDB is damaged"):
        LevelDbReader(copy)


@pytest.mark.parametrize("at", [5, 200, 400])
def test_one_wrong_byte_of_a_table(copy, at):
    flip(copy / "000005.ldb", at)
    with pytest.raises(DataError, match=r"db: the LevelDB is damaged: the checksum of a block of 000005.ldb is wrong"):
        LevelDbReader(copy)


@pytest.mark.parametrize("at", [20, 300, 33000])
def test_one_wrong_byte_of_a_log(tmp_path, at):
    copy = shutil.copytree(DB / "big_leveldb", tmp_path / "db")
    (log,) = copy.glob("*.log")
    flip(log, at)
    with pytest.raises(DataError, match=rf"db: the LevelDB is damaged: the checksum of a fragment of {log.name}"):
        LevelDbReader(copy)


def test_a_table_that_goes_bad_while_it_is_read(tmp_path):
    plyvel = pytest.importorskip("plyvel")
    db = plyvel.DB(str(tmp_path / "db"), create_if_missing=True, write_buffer_size=1 << 16, compression="snappy")
    for i in range(40):
        db.put(b"%04d" % i, b"value" * 1000)
    db.compact_range()
    db.close()
    reader = LevelDbReader(tmp_path / "db")
    for table in (tmp_path / "db").glob("*.ldb"):
        with open(table, "r+b") as file:  # in place, so that the reader sees it
            file.write(b"\xff" * 300)
    with pytest.raises(DataError, match=r'db, key "0000": the record is damaged: '):
        reader[0]


def test_a_table_that_is_cut_while_it_is_read(copy):
    reader = LevelDbReader(copy)
    os.truncate(copy / "000005.ldb", 10)
    with pytest.raises(DataError, match=r"the record is damaged: the file has changed since it was opened"):
        reader[0]


def test_a_number_without_an_end(copy):
    """A megabyte of it took a minute."""
    (manifest,) = copy.glob("MANIFEST-*")
    log_of(manifest, b"\xff" * (1 << 20))
    with pytest.raises(DataError, match=r"db: the LevelDB is damaged: a number does not end"):
        LevelDbReader(copy)


def log_of(path: Path, record: bytes) -> None:
    """Write a log of one record, cut into fragments as LevelDB cuts it."""
    blocks = [record[at : at + 32761] for at in range(0, len(record), 32761)]
    with open(path, "wb") as file:
        for i, block in enumerate(blocks):
            kind = 1 if len(blocks) == 1 else 2 if not i else 4 if i == len(blocks) - 1 else 3
            file.write(struct.pack("<IHB", masked(bytes([kind]) + block), len(block), kind) + block)


@pytest.mark.parametrize("name", ["../MANIFEST-000004", "/etc/passwd", "", "CURRENT"])
def test_a_manifest_lies_in_the_folder(copy, name):
    (copy / "CURRENT").write_text(name)
    (copy.parent / "MANIFEST-000004").write_bytes(next(copy.glob("MANIFEST-*")).read_bytes())
    with pytest.raises(DataError, match=r"db: the LevelDB is damaged: CURRENT names no manifest"):
        LevelDbReader(copy)


def flip(path, at: int) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def test_an_empty_database(tmp_path):
    plyvel = pytest.importorskip("plyvel")
    plyvel.DB(str(tmp_path / "db"), create_if_missing=True).close()
    with pytest.raises(DataError, match="the LevelDB is empty"):
        LevelDbReader(tmp_path / "db")


def test_a_database_is_not_overwritten(copy):
    with pytest.raises(DataError, match="the database exists already"), create_database(copy, "leveldb"):
        pass


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x00", b""),
        (b"\x05\x10hello", b"hello"),
        (b"\x0a\x00a\x15\x01", b"aaaaaaaaaa"),
        (b"\x0a\x04ab\x1e\x02\x00", b"ababababab"),  # a copy that overlaps itself
        (b"\x07\x08abc\x01\x03", b"abcabca"),
        (b"\x05\x10hell", None),
        (b"\x04\x00a\x0a\x09\x00", None),
        (b"\x80", None),
    ],
)
def test_snappy(data, expected):
    if expected is None:
        with pytest.raises(ValueError, match="compressed block"):
            decompress(data)
    else:
        assert decompress(data) == expected


def test_a_database_that_may_not_be_read(monkeypatch):
    def forbidden(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_file", forbidden)
    with pytest.raises(DataError) as caught:
        LevelDbReader("db")
    assert str(caught.value) == "db: cannot read the LevelDB: Permission denied"
    assert guess_backend("db") == "lmdb"


def test_what_the_library_cannot_write_is_said(tmp_path):
    plyvel = pytest.importorskip("plyvel")
    path = tmp_path / "db"
    with pytest.raises(DataError) as caught, create_database(path, "leveldb"):
        raise plyvel.IOError(f"IO error: {temporary_name(path)}/000003.log: No space left on device".encode())
    # The name that it has while it is written is nothing to the user.
    reason = f"IO error: {path}/000003.log: No space left on device"
    assert str(caught.value) == f"{path}: cannot write the LevelDB: {reason}"
    assert not any(tmp_path.iterdir())
