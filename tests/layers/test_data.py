"""The Data layer beyond the recordings: resuming, shards, shuffling, threads, augmentation, what goes wrong."""

from __future__ import annotations

import gc
import os
import re
import threading
import time
from contextlib import nullcontext

import numpy as np
import pytest

from caffepy.data.sources import databases
from caffepy.data.sources.databases import create_database
from caffepy.data.sources.lmdb import LmdbReader
from caffepy.errors import CaffeError, DataError
from caffepy.plugins import Registry
from caffepy.proto.caffe_pb2 import TEST, Datum
from caffepy.show.timing import time_layers
from caffepy.solver.resume_file import from_json, to_json
from tests.data.databases import batches, database, layer, pictures, same
from tests.support import GOLDEN

AUGMENTED = "brightness: 0.3 contrast: 0.3 saturation: 0.3 min_crop_area: 0.3 erase: 0.5 crop_size: 8 mirror: true"


def options(source, data: str = "", transform: str = "", batch: int = 4) -> str:
    return (
        f'data_param {{ source: "{source}" backend: LMDB batch_size: {batch} {data} }} '
        f"transform_param {{ {transform} }}"
    )


@pytest.fixture
def db(tmp_path):
    return database(tmp_path / "db", pictures(11))


@pytest.mark.parametrize("transform", ["", "crop_size: 7 mirror: true", AUGMENTED])
@pytest.mark.parametrize("data", ["", "shuffle: true", "shuffle: true threads: 3"])
def test_resumes_to_the_bit(db, data, transform):
    text = options(db, data, transform)
    straight = batches(layer("Data", text), 9)
    net = layer("Data", text)
    batches(net, 4)
    state = from_json(to_json(net.layers[0].state()))
    other = layer("Data", text, seed=99)  # a state brings its own randomness
    other.layers[0].set_state(state)
    assert same(batches(other, 5), straight[4:])


@pytest.mark.parametrize("transform", ["crop_size: 7 mirror: true scale: 0.5 mean_value: 9", AUGMENTED])
def test_threads_change_nothing(db, transform):
    one = batches(layer("Data", options(db, "", transform)), 5)
    assert same(batches(layer("Data", options(db, "threads: 4", transform)), 5), one)


@pytest.mark.parametrize("data", ["", "shuffle: true"])
@pytest.mark.parametrize("size", [2, 3])
def test_shards_do_not_overlap(db, data, size):
    seen = []
    for rank in range(size):
        net = layer("Data", options(db, data, batch=1))
        net.layers[0].shard(rank, size)
        seen.append([int(label[0]) for _, label in batches(net, 11)])
    together = [label for step in zip(*seen) for label in step]
    for epoch in range(size):
        assert sorted(together[11 * epoch : 11 * (epoch + 1)]) == list(range(11))


@pytest.mark.parametrize("rank", [0, 1, 2])
@pytest.mark.parametrize("transform", ["crop_size: 7 mirror: true", AUGMENTED])
@pytest.mark.parametrize("data", ["", "shuffle: true"])
def test_shards_resume_from_the_state_of_the_first(db, data, transform, rank):
    """A snapshot is written by process 0 and read by all."""
    nets = [layer("Data", options(db, data, transform)) for _ in range(3)]
    for i, net in enumerate(nets):
        net.layers[0].shard(i, 3)
        batches(net, 3)
    other = layer("Data", options(db, data, transform), seed=99)
    other.layers[0].set_state(nets[0].layers[0].state())
    other.layers[0].shard(rank, 3)
    assert same(batches(other, 5), batches(nets[rank], 5))


def test_shuffling_is_new_in_every_epoch_and_the_same_under_a_seed(db):
    labels = [list(label) for _, label in batches(layer("Data", options(db, "shuffle: true", batch=11)), 2)]
    assert labels[0] != labels[1]
    assert sorted(labels[0]) == sorted(labels[1]) == list(range(11))
    again = [list(label) for _, label in batches(layer("Data", options(db, "shuffle: true", batch=11)), 2)]
    assert again == labels


def test_pictures_of_different_sizes_may_be_cropped(tmp_path):
    images = [*pictures(2, 9, 9), *pictures(2, 12, 11)]
    net = layer("Data", options(database(tmp_path / "db", images), transform="crop_size: 7"), TEST)
    ((data, _),) = batches(net, 1)
    assert np.array_equal(data[0], images[0][:, 1:8, 1:8])
    assert np.array_equal(data[3], images[3][:, 2:9, 2:9])


def test_augmentation_is_off_in_test(db):
    text = options(db, transform="brightness: 0.5 erase: 1 crop_size: 8")
    assert same(
        batches(layer("Data", text, TEST), 2), batches(layer("Data", options(db, transform="crop_size: 8"), TEST), 2)
    )


def test_erasing_sets_a_rectangle_to_zero(tmp_path):
    ones = [np.full((3, 20, 20), 200, np.uint8)] * 4
    net = layer("Data", options(database(tmp_path / "db", ones), transform="erase: 1"))
    for image in batches(net, 1)[0][0]:
        rows, columns = np.nonzero(image[0] == 0)
        hole = image[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert np.all(hole == 0)
        assert 0.01 < hole[0].size / 400 < 0.35
        assert np.all(image[image != 0] == 200)


def test_jitter_stays_in_range_and_changes_brightness(db):
    plain, bright = (
        batches(layer("Data", options(db, transform=t)), 1)[0][0] for t in ("", "brightness: 0.9 contrast: 0.9")
    )
    assert bright.min() >= 0
    assert bright.max() <= 255
    assert not np.allclose(plain.mean((1, 2, 3)), bright.mean((1, 2, 3)), atol=5)


@pytest.mark.parametrize("backend", ["lmdb", "leveldb"])
def test_reading_leaves_the_folder_as_it_was(backend, tmp_path):
    if backend == "leveldb":
        pytest.importorskip("plyvel")
    path = database(tmp_path / "db", pictures(5), backend)
    before = {f.name: (f.stat().st_mtime_ns, f.read_bytes()) for f in path.iterdir()}
    batches(layer("Data", options(path).replace("LMDB", backend.upper())), 3)
    assert {f.name: (f.stat().st_mtime_ns, f.read_bytes()) for f in path.iterdir()} == before


def records(path, *values: bytes):
    with create_database(path, "lmdb") as put:
        for i, value in enumerate(values):
            put(b"key%d" % i, value)
    return path


def raw(height: int = 3, **changes) -> bytes:
    datum = Datum(channels=1, height=height, width=2, data=bytes(2 * height), label=1)
    for name, value in changes.items():
        setattr(datum, name, value)
    return datum.SerializeToString()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"\xff\xff\xff", "the record is damaged, or no Caffe Datum"),
        (raw(data=b"12345"), r"the record has 5 values, its shape \(1, 3, 2\) needs 6"),
        (raw(height=4), r"the picture has shape \(1, 4, 2\), the batch began with \(1, 3, 2\)"),
        (Datum(data=b"\x89PNG\r\n\x1a\n", encoded=True, label=1).SerializeToString(), "the picture does not decode"),
        (raw(data=b""), "the record is an empty Datum"),
    ],
)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("at", ["first batch", "later"])
def test_a_bad_record_is_named(bad, message, threads, at, tmp_path):
    good = [raw()] * (3 if at == "later" else 1)
    path = records(tmp_path / "db", *good, bad)
    began = time.perf_counter()
    with pytest.raises(CaffeError, match=f'db, key "key{len(good)}": {message}') as caught:
        batches(layer("Data", options(path, f"threads: {threads}", batch=2)), 3)
    assert time.perf_counter() - began < 5
    assert caught.value.hint


def test_a_failed_layer_fails_again_and_leaves_no_thread(tmp_path):
    net = layer("Data", options(records(tmp_path / "db", raw(), b"\xff\xff"), batch=1))
    batches(net, 1)
    for _ in range(2):
        with pytest.raises(DataError):
            net.forward_from_to()
    assert not net.layers[0].prefetcher._thread


@pytest.mark.parametrize("tops", ["data", "data label"])
def test_records_without_labels_are_reported_where_labels_are_wanted(tops, tmp_path, caplog):
    path = records(tmp_path / "db", *[Datum(channels=1, height=3, width=2, data=bytes(6)).SerializeToString()] * 3)
    for values in batches(layer("Data", options(path, batch=2), tops=tops), 3):
        assert not np.any(values[-1])
    said = [message for message in caplog.messages if "label" in message]
    expected = f'{path}, key "key0": the record has no label; it counts as 0, here and in all such records'
    assert said == ([expected] if "label" in tops else [])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('source: "db" backend: LMDB', "batch_size must be at least 1"),
        ('source: "db" backend: LMDB batch_size: 1 threads: 0', "threads must be at least 1"),
        ("backend: LMDB batch_size: 1", "source is not set"),
        ('source: "nowhere" backend: LMDB batch_size: 1', "nowhere: there is no such LMDB"),
        ('source: "nowhere" batch_size: 1', "nowhere: there is no such LMDB"),
        ('source: "nowhere" backend: LEVELDB batch_size: 1', "nowhere: there is no such LevelDB"),
        ('source: "db" reader: "lmbd" batch_size: 1', r'unknown reader "lmbd"\n  Did you mean "lmdb"\?'),
        ('source: "db" reader: "lmdb" backend: LMDB batch_size: 1', "both reader and backend\n  Leave out backend."),
        (
            'source: "db" backend: LEVELDB batch_size: 1',
            "db: there is no such LevelDB\n  The folder holds an LMDB: set data_param { backend: LMDB }.",
        ),
    ],
)
def test_bad_settings(settings, message, db, monkeypatch):
    monkeypatch.chdir(db.parent)
    with pytest.raises(CaffeError, match=message):
        layer("Data", f"data_param {{ {settings} }}")


def test_a_reader_of_ones_own(db, monkeypatch):
    class Backwards(LmdbReader):
        def __getitem__(self, i):
            return super().__getitem__(len(self) - 1 - i)

    monkeypatch.setattr(databases, "_readers", Registry("reader", "readers"))
    databases.register_reader("lmdb")(LmdbReader)
    databases.register_reader("Backwards")(Backwards)
    own = layer("Data", f'data_param {{ source: "{db}" reader: "Backwards" batch_size: 11 }}')
    ((data, labels),), ((in_order, _),) = batches(own, 1), batches(layer("Data", options(db, batch=11)), 1)
    assert list(labels) == list(range(10, -1, -1))
    np.testing.assert_array_equal(data, in_order[::-1])


@pytest.mark.parametrize("kind", ["lmdb", "leveldb"])
def test_without_a_backend_the_folder_tells_it(kind):
    found, told = (
        layer("Data", f'data_param {{ source: "{GOLDEN}/db/color_{kind}" {backend} batch_size: 2 }}')
        for backend in ("", f"backend: {kind.upper()}")
    )
    assert same(batches(found, 2), batches(told, 2))


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        ("crop_size: 13", r'db, key "0000": crop_size 13 is larger than the picture, 12x10'),
        ("min_crop_area: 0.5", "min_crop_area needs crop_size"),
        ("min_crop_area: 2", "min_crop_area 2 is no share of an area"),
        ("erase: 1.5", "erase 1.5 is no probability"),
        ("contrast: -1", r"contrast -1 is not in \[0, 1\]"),
        ('min_crop_area: 0.5 crop_size: 3 mean_file: "x"', "min_crop_area cannot go with mean_file"),
    ],
)
def test_bad_transformations(transform, message, db):
    with pytest.raises(CaffeError, match=message):
        layer("Data", options(db, transform=transform))


def test_the_queue_bounds_what_is_read_ahead(db):
    net = layer("Data", options(db, "prefetch: 2"))
    data = net.layers[0]
    made = []
    make = data.prefetcher._make
    data.prefetcher._make = lambda *args: (made.append(1), make(*args))[1]
    batches(net, 1)
    deadline = time.perf_counter() + 1
    while len(made) < 4 and time.perf_counter() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(made) <= 4  # one with the reader, two in the queue, one in the making
    data.prefetcher.close()
    assert "caffepy-prefetch" not in {t.name for t in threading.enumerate() if t is data.prefetcher._thread}


@pytest.mark.parametrize("seconds", [0, 0.03])
def test_timing_reports_the_wait_separately(db, seconds):
    net = layer("Data", options(db))
    data = net.layers[0]
    make = data.prefetcher._make
    data.prefetcher._make = lambda *args: (time.sleep(seconds), make(*args))[1]
    time_layers(net, 5)  # drains what was made ahead
    times = time_layers(net, 5)
    assert times.data_wait <= times.layer_forward[0] <= times.total
    if seconds:
        assert times.data_wait > 20  # milliseconds


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("bad", [False, True])
def test_a_dropped_net_leaves_no_thread(threads, bad, tmp_path):
    before = set(threading.enumerate())
    path = records(tmp_path / "db", raw(), raw(), b"\xff" if bad else raw())
    net = layer("Data", options(path, f"threads: {threads}", batch=2))
    with pytest.raises(DataError) if bad else nullcontext():
        batches(net, 2)
    started = set(threading.enumerate()) - before
    assert len(started) >= threads - 1
    del net
    gc.collect()
    for thread in started:
        thread.join(2)
    assert not any(thread.is_alive() for thread in started)


def test_paths_are_quoted_as_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    database(tmp_path / "mnist_train_lmdb", pictures(1))
    with pytest.raises(DataError, match=re.escape('Did you mean "mnist_train_lmdb"?')):
        layer("Data", options("mnist_trian_lmdb"))
    assert os.listdir(tmp_path) == ["mnist_train_lmdb"]
