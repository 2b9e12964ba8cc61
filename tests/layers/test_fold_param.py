"""fold_param: data layers that read some records of their source, of every kind of source."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from caffepy import passes, rng
from caffepy.data.folds import divide
from caffepy.net.net import Net
from caffepy.proto import caffe_pb2, text
from caffepy.solver import testing
from tests.data.databases import database
from tests.data.tables import small

COUNT = 11
FOLDS = divide(COUNT, 3, seed=2)
HELD = np.flatnonzero(FOLDS == 1).tolist()
REST = np.flatnonzero(FOLDS != 1).tolist()


def lmdb(folder, backend="lmdb"):
    database(folder / "db", [np.full((1, 1, 1), i, np.uint8) for i in range(COUNT)], backend)
    return f'type: "Data" top: "x" data_param {{ source: "{folder}/db" batch_size: 3 SHUFFLE }}'


def leveldb(folder):
    pytest.importorskip("plyvel")
    return lmdb(folder, "leveldb")


def images(folder):
    pil = pytest.importorskip("PIL.Image")
    for i in range(COUNT):
        pil.fromarray(np.full((2, 2), i, np.uint8)).save(folder / f"{i}.png")
    (folder / "list").write_text("".join(f"{folder}/{i}.png {i % 2}\n" for i in range(COUNT)))
    settings = f'source: "{folder}/list" batch_size: 3 is_color: false SHUFFLE'
    return f'type: "ImageData" top: "x" top: "label" image_data_param {{ {settings} }}'


def hdf5(folder):
    for name, rows in (("a", range(4)), ("b", range(4, 9)), ("c", range(9, COUNT))):
        with h5py.File(folder / name, "w") as file:
            file["x"] = np.array(rows, "f4")[:, None]
            file["label"] = np.array(rows, "f4") % 2
    (folder / "list").write_text("".join(f"{folder}/{name}\n" for name in "abc"))
    return f'type: "HDF5Data" top: "x" top: "label" hdf5_data_param {{ source: "{folder}/list" batch_size: 3 SHUFFLE }}'


def table(folder):
    with h5py.File(folder / "t.h5", "w") as file:
        file["x"] = np.arange(COUNT, dtype="f4")
        file["label"] = np.arange(COUNT) % 2
    return f'type: "TableData" top: "x" table_data_param {{ source: "{folder}/t.h5" batch_size: 3 SHUFFLE }}'


SOURCES = [lmdb, leveldb, images, hdf5, table]


def built(layer, folder, held_out=False, shuffle=False, more=""):
    np.save(folder / "folds.npy", FOLDS)
    fold = f'fold_param {{ source: "{folder}/folds.npy" fold: 1 held_out: {str(held_out).lower()} }}'
    layer = layer.replace("SHUFFLE", "shuffle: true" if shuffle else "")
    with rng.use(rng.Stream(4)):
        definition = f'layer {{ name: "data" {layer} {fold} }} {more}'
        return Net(text.parse(definition, caffe_pb2.NetParameter()), caffe_pb2.TRAIN)


def batch(net):
    passes.of(net).forward()
    x = np.array(net.engine_blobs["x"].host())
    return x.reshape(len(x), -1)[:, 0].tolist()


@pytest.mark.parametrize("source", SOURCES)
def test_the_rest_goes_round_without_the_fold(source, tmp_path):
    net = built(source(tmp_path), tmp_path)
    assert [x for _ in range(5) for x in batch(net)] == (REST * 3)[:15]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("source", SOURCES)
def test_the_fold_is_read_once_a_round(source, shuffle, tmp_path):
    net = built(source(tmp_path), tmp_path, held_out=True, shuffle=shuffle)
    for _ in range(3):
        batches = [batch(net) for _ in range(2)]
        assert [len(one) for one in batches] == [3, len(HELD) - 3]
        found = [x for one in batches for x in one]
        assert sorted(found) == HELD and (shuffle or found == HELD)


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("source", SOURCES)
def test_a_resume_is_exact(source, held_out, tmp_path):
    layer = source(tmp_path)
    net = built(layer, tmp_path, held_out, shuffle=True)
    for _ in range(4):
        batch(net)
    state = net.layers[0].state()
    expected = [batch(net) for _ in range(7)]
    other = built(layer, tmp_path, held_out, shuffle=True)
    other.layers[0].set_state(state)
    assert [batch(other) for _ in range(7)] == expected


@pytest.mark.parametrize("source", SOURCES)
def test_a_test_weighs_records_not_batches(source, tmp_path):
    mean = 'layer { name: "m" type: "Reduction" bottom: "x" top: "mean" reduction_param { operation: MEAN } }'
    net = built(source(tmp_path), tmp_path, held_out=True, more=mean)
    assert len(HELD) == 4  # a batch of 3, then one of 1
    found = testing.test(net, [1, 1], single=True).scores()
    assert found["mean"] == pytest.approx(np.mean(HELD))


@pytest.mark.parametrize("source", SOURCES)
def test_labels_are_those_of_all_records(source, tmp_path):
    layer = built(source(tmp_path), tmp_path).layers[0]
    assert layer.num_records == COUNT
    expected = np.arange(COUNT) if source in (lmdb, leveldb) else np.arange(COUNT) % 2
    assert layer.column("label").tolist() == expected.tolist()


def test_groups_of_a_table_are_those_of_its_rows(tmp_path):
    path = small.write(tmp_path / "t.h5")
    np.save(tmp_path / "f.npy", np.arange(len(small.ITEM)) % 2)
    tops = 'name: "t" type: "TableData" top: "user" top: "item" top: "mask"'
    fold = f'fold_param {{ source: "{tmp_path}/f.npy" fold: 0 held_out: true }}'
    layer = f'layer {{ {tops} table_data_param {{ source: "{path}" group_by: "user" }} {fold} }}'
    net = Net(text.parse(layer, caffe_pb2.NetParameter()))
    passes.of(net).forward()
    user, item, mask = (np.array(net.engine_blobs[name].host()) for name in ("user", "item", "mask"))
    found = sorted((u, i) for u, items, there in zip(user, item, mask) for i, m in zip(items, there) if m)
    assert found == sorted(zip(small.USER[::2], small.ITEM[::2]))
