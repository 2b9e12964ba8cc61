"""HDF5 from anywhere: nothing that lies outside the file is read, and no more than the file can hold."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from caffepy.errors import DataError, SnapshotError
from caffepy.hdf5 import open_hdf5
from caffepy.net.net import Net
from caffepy.proto.caffe_pb2 import TRAIN, NetParameter, SolverParameter
from caffepy.proto.text import parse
from caffepy.solver import Solver
from tests.data.databases import layer

SECRET = b"a key that no net may read......"
"""Eight floats long."""
OUTSIDE = "\n  A file from elsewhere could read any file of yours so. Store the numbers in the file itself."


def external_storage(group, name: str) -> None:
    group.create_dataset(name, (1, 8), "f4", external=[("secret", 0, h5py.h5f.UNLIMITED)])


def external_link(group, name: str) -> None:
    group[name] = h5py.ExternalLink("secret.h5", "/secret")


def link_to_an_external_link(group, name: str) -> None:
    group.file["door"] = h5py.ExternalLink("secret.h5", "/")
    group[name] = h5py.SoftLink("/door/secret")


def virtual_dataset(group, name: str) -> None:
    layout = h5py.VirtualLayout((1, 8), "f4")
    layout[:] = h5py.VirtualSource("secret.h5", "secret", (1, 8), "f4")
    group.create_virtual_dataset(name, layout)


WAYS_OUT = {
    external_storage: "lies in another file, which is not read",
    external_link: "is a link to another file, which is not followed",
    link_to_an_external_link: "is a link to another file, which is not followed",
    virtual_dataset: "lies in another file, which is not read",
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A file that is not to be read, as bytes and as HDF5."""
    monkeypatch.chdir(tmp_path)
    Path("secret").write_bytes(SECRET)
    with h5py.File("secret.h5", "w") as file:
        file["secret"] = np.frombuffer(SECRET, "f4").reshape(1, 8)


NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 8 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 1 bias_term: false } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "ip" top: "loss" }
"""


@pytest.mark.parametrize("way", WAYS_OUT)
def test_weights_from_another_file_are_refused(way):
    with h5py.File("w.caffemodel.h5", "w") as file:
        way(file.create_group("data/ip"), "0")
    net = Net(parse(NET, NetParameter()), TRAIN)
    with pytest.raises(SnapshotError) as caught:
        net.copy_from("w.caffemodel.h5")
    assert WAYS_OUT[way] in str(caught.value) and str(caught.value).endswith(OUTSIDE)
    assert not net.layer_dict["ip"].blobs[0].data.any()


@pytest.mark.parametrize("way", WAYS_OUT)
def test_a_whole_group_from_another_file_is_refused(way):
    with h5py.File("w.caffemodel.h5", "w") as file:
        way(file, "data")
    with pytest.raises(SnapshotError):
        Net(parse(NET, NetParameter()), TRAIN).copy_from("w.caffemodel.h5")


@pytest.mark.parametrize("way", WAYS_OUT)
def test_history_from_another_file_is_refused(way):
    definition = f'net_param {{ {NET} }} base_lr: 0.1 lr_policy: "fixed" snapshot_format: HDF5'
    solver = Solver(parse(definition, SolverParameter()), file="s.prototxt")
    solver.snapshot("snap_iter_0")
    Path("snap_iter_0.resume").unlink()
    with h5py.File("snap_iter_0.solverstate.h5", "r+") as file:
        del file["history/0"]
        way(file["history"], "0")
    with pytest.raises(SnapshotError) as caught:
        solver.restore("snap_iter_0.solverstate.h5")
    assert WAYS_OUT[way] in str(caught.value)


@pytest.mark.parametrize("way", WAYS_OUT)
def test_data_from_another_file_are_refused(way):
    with h5py.File("data.h5", "w") as file:
        way(file, "data")
    Path("list.txt").write_text("data.h5")
    with pytest.raises(DataError) as caught:
        layer("HDF5Data", 'hdf5_data_param { source: "list.txt" batch_size: 1 }', tops="data")
    assert WAYS_OUT[way] in str(caught.value)


def test_links_within_the_file_are_followed():
    with h5py.File("data.h5", "w") as file:
        file["a/b"] = [1, 2]
        file["a/c"] = h5py.SoftLink("b")
        file["hard"] = file["a/b"]
        file["soft"] = h5py.SoftLink("/a/c")
        file["group"] = h5py.SoftLink("./a/.")
    with open_hdf5("data.h5") as file:
        for name in ("a/b", "/a/b", "a/c", "hard", "soft", "group/c"):
            assert file.dataset(name).numbers().tolist() == [1, 2]
        assert file.is_group("group") and not file.is_group("soft")


@pytest.mark.parametrize("name", ["nowhere", "dangling", "dangling/x", "data/x", "", "data\0x", "b/data"])
def test_names_that_lead_nowhere(name):
    with h5py.File("data.h5", "w") as file:
        file["data"] = [1.0]
        file["dangling"] = h5py.SoftLink("/not/there")
    with open_hdf5("data.h5") as file:
        assert name == "" or name not in file
        if name:
            with pytest.raises(KeyError):
                file.dataset(name)
    Path("list.txt").write_text("data.h5")
    escaped = name.replace("\0", "\\0")
    with pytest.raises(DataError, match=r"there is no dataset|is no array of numbers|no dataset"):
        layer("HDF5Data", 'hdf5_data_param { source: "list.txt" batch_size: 1 }', tops=escaped or "/")


def test_links_in_a_circle():
    with h5py.File("data.h5", "w") as file:
        file["a"], file["b"] = h5py.SoftLink("/b"), h5py.SoftLink("/a")
    with pytest.raises(DataError, match=r'"/[ab]" is an endless row of links'), open_hdf5("data.h5") as file:
        file.dataset("a")


@pytest.mark.parametrize("how", ["never written", "packed", "without end"])
def test_a_few_bytes_that_are_gigabytes(how):
    with h5py.File("data.h5", "w") as file:
        if how == "packed":  # twice, so that a block of zeros becomes next to nothing
            file.create_dataset("data", (1 << 16, 1 << 14), "f8", chunks=(1 << 10, 1 << 10), compression="gzip")
            file["data"][: 1 << 10, : 1 << 10] = 0
        else:
            shape = (1 << 16, 1 << 14) if how == "never written" else (1 << 40, 1 << 20)
            file.create_dataset("data", shape, "f8", chunks=(1 << 10, 1 << 10), fillvalue=1)
    size = Path("data.h5").stat().st_size
    Path("list.txt").write_text("data.h5")
    with (
        open_hdf5("data.h5") as file,
        pytest.raises(DataError, match=r"would unpack to .*, the file has .* KB\n  No data"),
    ):
        file.dataset("data").numbers()
    with pytest.raises(DataError, match=r"data.h5: "):
        layer("HDF5Data", 'hdf5_data_param { source: "list.txt" batch_size: 1 }', tops="data")
    assert size < 1 << 20


@pytest.mark.parametrize("content", [[["a"] * 8], np.zeros((1, 8), "V8"), h5py.Empty("f4")])
def test_what_is_no_numbers(content):
    with h5py.File("w.caffemodel.h5", "w") as file:
        file["data/ip/0"] = content
    with pytest.raises(SnapshotError, match=r'w.caffemodel.h5: dataset "0" is no array'):
        Net(parse(NET, NetParameter()), TRAIN).copy_from("w.caffemodel.h5")


def test_a_damaged_piece_leaves_the_net_as_it_was():
    net = Net(parse(NET.replace("num_output: 1", "num_output: 2"), NetParameter()), TRAIN)
    with h5py.File("w.caffemodel.h5", "w") as file:
        file.create_dataset("data/ip/0", data=np.ones((2, 8), "f4"), chunks=(1, 8), fletcher32=True)
    raw = Path("w.caffemodel.h5").read_bytes()
    ones = np.ones(8, "f4").tobytes()
    at = raw.rindex(ones)
    Path("w.caffemodel.h5").write_bytes(raw[:at] + b"\xff" + raw[at + 1 :])
    with pytest.raises(SnapshotError, match=r"w.caffemodel.h5: this is no complete HDF5 file"):
        net.copy_from("w.caffemodel.h5")
    assert not net.layer_dict["ip"].blobs[0].data.any()
