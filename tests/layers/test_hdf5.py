"""HDF5Data and HDF5Output beyond the recorded batches."""

from __future__ import annotations

import shutil
import weakref
from itertools import pairwise

import h5py
import numpy as np
import pytest

from caffepy.errors import CaffeError
from caffepy.proto.caffe_pb2 import TEST
from caffepy.pycaffe.net import Net
from tests.data.databases import batches, layer, same
from tests.support import GOLDEN, Built, assert_close


@pytest.fixture
def source(tmp_path):
    """Rows 0 .. 10 in three files."""
    names = []
    for i, rows in enumerate((range(4), range(4, 5), range(5, 11))):
        with h5py.File(tmp_path / f"{i}.h5", "w") as file:
            file["label"] = np.array(rows)
            file["data"] = np.array(rows, np.float64)[:, None] + [0, 0.5]
        names.append(str(tmp_path / f"{i}.h5"))
    (tmp_path / "list.txt").write_text("\n".join(names))
    return tmp_path / "list.txt"


def options(source, more: str = "", batch: int = 3) -> str:
    return f'hdf5_data_param {{ source: "{source}" batch_size: {batch} {more} }}'


@pytest.mark.parametrize("more", ["", "shuffle: true"])
def test_resumes_to_the_bit(more, source):
    straight = batches(layer("HDF5Data", options(source, more)), 9)
    net = layer("HDF5Data", options(source, more))
    batches(net, 4)
    other = layer("HDF5Data", options(source, more), seed=99)
    other.layers[0].set_state(net.layers[0].state())
    assert same(batches(other, 5), straight[4:])


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("more", ["", "shuffle: true"])
def test_shards_do_not_overlap(more, batch, size, source):
    seen = []
    for rank in range(size):
        net = layer("HDF5Data", options(source, more, batch))
        net.layers[0].shard(rank, size)
        seen.append([int(x) for _, label in batches(net, 11) for x in label])
    together = [label for step in zip(*seen) for label in step]
    assert sorted(together) == sorted([*range(11)] * (size * batch))
    if batch == 1:
        assert sorted(together[:11]) == list(range(11))


@pytest.mark.parametrize("rank", [0, 1, 2])
@pytest.mark.parametrize("more", ["", "shuffle: true"])
def test_shards_resume_from_the_state_of_the_first(more, rank, source):
    nets = [layer("HDF5Data", options(source, more)) for _ in range(3)]
    for i, net in enumerate(nets):
        net.layers[0].shard(i, 3)
        batches(net, 3)
    other = layer("HDF5Data", options(source, more), seed=99)
    other.layers[0].set_state(nets[0].layers[0].state())
    other.layers[0].shard(rank, 3)
    assert same(batches(other, 5), batches(nets[rank], 5))


def test_shuffle_mixes_rows_and_files(source):
    first, second = (list(label) for _, label in batches(layer("HDF5Data", options(source, "shuffle: true", 11)), 2))
    assert first != second
    assert sorted(first) == sorted(second) == list(range(11))
    file_of = [0 if x < 4 else 1 if x < 5 else 2 for x in first]
    assert len([a for a, b in pairwise(file_of) if a != b]) == 2  # one file after the other


def test_an_empty_list(tmp_path):
    (tmp_path / "list.txt").write_text("\n")
    with pytest.raises(CaffeError, match="the list names no HDF5 file"):
        layer("HDF5Data", options(tmp_path / "list.txt"))


def test_a_list_that_is_none(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\x89PNG\xff")
    with pytest.raises(CaffeError, match=r"list.txt: the list names .*, which does not exist"):
        layer("HDF5Data", options(tmp_path / "list.txt"))


def test_no_list():
    with pytest.raises(CaffeError, match="source is not set\n  It names a list of HDF5 files"):
        layer("HDF5Data", options(""))


def test_datasets_without_rows(source, tmp_path):
    with h5py.File(tmp_path / "1.h5", "w") as file:
        file["label"], file["data"] = np.zeros(0), np.zeros((0, 2))
    with pytest.raises(
        CaffeError, match=r"1.h5: the datasets have no rows\n  Write some, or take the file off .*list.txt"
    ):
        layer("HDF5Data", options(source))


def test_datasets_of_different_length(source, tmp_path):
    with h5py.File(tmp_path / "1.h5", "w") as file:
        file["label"], file["data"] = np.zeros(3), np.zeros((2, 2))
    with pytest.raises(CaffeError, match=r'1.h5: the datasets differ in their number of rows: "data" 2, "label" 3'):
        layer("HDF5Data", options(source))


def test_a_missing_dataset(source):
    with pytest.raises(CaffeError, match=r'0.h5: there is no dataset "other"\n.*the file has: data, label'):
        layer("HDF5Data", options(source), tops="data other")


def test_a_file_instead_of_a_list(source, tmp_path):
    with pytest.raises(CaffeError, match=r"0.h5: this is an HDF5 file, not a list of HDF5 files"):
        layer("HDF5Data", options(tmp_path / "0.h5"))


def test_a_file_that_may_not_be_read(source, monkeypatch):
    def forbidden(path, mode):
        raise PermissionError(13, "Unable to open file")

    monkeypatch.setattr(h5py, "File", forbidden)
    with pytest.raises(CaffeError, match=r"0.h5: cannot read the file: Permission denied"):
        layer("HDF5Data", options(source))


def test_a_group_is_no_dataset(source, tmp_path):
    with h5py.File(tmp_path / "0.h5", "w") as file:
        file["label"] = np.zeros(3)
        file.create_group("data")
    with pytest.raises(CaffeError, match=r'0.h5: dataset "data" is no array of numbers'):
        layer("HDF5Data", options(source))


def test_a_file_that_is_cut_off(source, tmp_path):
    path = tmp_path / "2.h5"
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(CaffeError, match=r"2.h5: this is no complete HDF5 file"):
        layer("HDF5Data", options(source))


def test_rows_of_another_shape(source, tmp_path):
    with h5py.File(tmp_path / "1.h5", "w") as file:
        file["label"], file["data"] = np.zeros(1), np.zeros((1, 3))
    with pytest.raises(CaffeError, match=r'1.h5: rows of "data" have shape \(3,\), the batch began with \(2,\)\n  All'):
        batches(layer("HDF5Data", options(source)), 2)


def test_a_file_that_changes_during_training(source, tmp_path):
    net = layer("HDF5Data", options(source, batch=11))
    with h5py.File(tmp_path / "1.h5", "w") as file:
        file["label"], file["data"] = np.zeros(2), np.zeros((2, 2))
    with pytest.raises(
        CaffeError, match=r"1.h5: the file has another number of rows than when it was opened first\n  "
    ):
        batches(net, 1)


def test_one_file_is_in_memory(source):
    net = layer("HDF5Data", options(source, batch=2))
    rows, loaded, alive = net.layers[0].rows, [], []
    load, opened = rows.load, rows._open

    def watch(file: int) -> list[np.ndarray]:
        arrays = load(file)
        loaded.extend(map(weakref.ref, arrays))
        return arrays

    rows.load = watch
    rows._open = lambda path: (alive.append([r() for r in loaded if r() is not None]), opened(path))[1]
    batches(net, 6)
    net.layers[0].prefetcher.close()
    assert len(alive) >= 2
    assert not any(alive)


def test_output_is_what_caffe_wrote(tmp_path, monkeypatch):
    shutil.copytree(GOLDEN / "db" / "hdf5", tmp_path / "hdf5")
    for name in ("hdf5_output.prototxt", "hdf5_output.caffemodel", "hdf5_maps.txt"):
        shutil.copy(GOLDEN / "db" / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    Net("hdf5_output.prototxt", TEST, weights="hdf5_output.caffemodel").forward_from_to()
    for name in ("hdf5_output.h5", "hdf5_output_4d.h5"):
        with h5py.File(name) as ours, h5py.File(GOLDEN / "db" / name) as reference:
            assert set(ours) == set(reference)
            for key in ours:
                assert ours[key].dtype == reference[key].dtype
                assert_close(ours[key][()], reference[key][()], 1e-6)


def test_output_takes_one_pass(tmp_path):
    path = tmp_path / "out.h5"
    built = Built(
        f'type: "HDF5Output" hdf5_output_param {{ file_name: "{path}" }}', np.ones((2, 3)), np.ones(2), tops=0
    )
    built.forward()
    with pytest.raises(CaffeError, match="writes one forward pass, this is the second"):
        built.forward()


@pytest.mark.parametrize(
    ("shapes", "message"),
    [(((2, 3), (3,)), "must have the same number of items"), (((2, 1, 1, 1, 1), (2,)), "more than four axes")],
)
def test_output_shapes(shapes, message, tmp_path):
    with pytest.raises(CaffeError, match=message):
        Built('type: "HDF5Output" hdf5_output_param { file_name: "x" }', *map(np.ones, shapes), tops=0)
