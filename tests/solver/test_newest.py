"""Which snapshot is the newest complete one, wherever they lie, and which are removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffepy.errors import SnapshotError
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.solver import Solver, snapshot, solverstate

NET = """
net_param {
  layer { name: "in" type: "DummyData" top: "x" dummy_data_param { shape { dim: 4 dim: 3 } } }
  layer { name: "w" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 } }
  layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "y" top: "loss" }
}
base_lr: 0.01 lr_policy: "fixed"
"""
FORMATS = {"BINARYPROTO": "", "HDF5": ".h5"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()


def written(iterations: int, format: str = "BINARYPROTO", more: str = "") -> None:
    fields = f'{NET} snapshot_prefix: "out/snap" snapshot: 1 snapshot_format: {format} {more}'
    Solver(text.parse(fields, SolverParameter()), file="s.prototxt").step(iterations)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("ours", [True, False])
def test_torn_weights_are_passed_over(format, ours, caplog):
    """With our file its checksum tells, without it, as for Caffe's, reading them."""
    written(2, format)
    if not ours:
        for path in Path("out").glob("*.resume"):
            path.unlink()
    suffix = FORMATS[format]
    assert snapshot.newest("out/snap") == f"out/snap_iter_2.solverstate{suffix}"
    torn = Path(f"out/snap_iter_2.caffemodel{suffix}")
    torn.write_bytes(torn.read_bytes()[:-9])
    caffes_hdf5 = suffix and not ours  # the state is whole, and HDF5 is read when it is restored
    assert snapshot.newest("out/snap") == f"out/snap_iter_{2 if caffes_hdf5 else 1}.solverstate{suffix}"
    assert ("Passing over an incomplete snapshot" in caplog.text) == (not caffes_hdf5)


def test_a_state_without_weights_is_passed_over():
    written(2)
    Path("out/snap_iter_2.caffemodel").unlink()
    assert snapshot.newest("out/snap") == "out/snap_iter_1.solverstate"


def test_snapshots_lie_where_the_prefix_says(monkeypatch):
    written(3)
    assert snapshot.snapshots("out/snap") == [f"out/snap_iter_{n}.solverstate" for n in (3, 2, 1)]
    assert snapshot.snapshots("snap") == []
    monkeypatch.chdir("out")
    assert snapshot.snapshots("snap") == [f"snap_iter_{n}.solverstate" for n in (3, 2, 1)]
    assert snapshot.newest("snap") == "snap_iter_3.solverstate"


def test_old_ones_are_removed_whatever_is_missing_of_them():
    written(3)
    Path("out/snap_iter_1.resume").unlink()
    snapshot.prune("out/snap", 2)
    assert sorted({path.name.split(".")[0] for path in Path("out").iterdir()}) == ["snap_iter_2", "snap_iter_3"]


def test_a_file_of_another_kind_is_not_removed():
    written(3)
    Path("out/snap_iter_1.caffemodel").write_text("a poem")
    snapshot.prune("out/snap", 1)
    assert Path("out/snap_iter_1.caffemodel").read_text() == "a poem"
    assert not Path("out/snap_iter_1.solverstate").exists() and not Path("out/snap_iter_2.resume").exists()


@pytest.mark.parametrize("missing", ["iter", "current_step", "learned_net", "history"])
def test_an_hdf5_state_without_one_of_its_parts_is_none(missing):
    import h5py

    written(1, "HDF5")
    with h5py.File("out/snap_iter_1.solverstate.h5", "a") as file:
        del file[missing]
    with pytest.raises(SnapshotError, match=rf"^out/snap_iter_1.solverstate.h5: this is no solver state: .*{missing}"):
        solverstate.read("out/snap_iter_1.solverstate.h5")
