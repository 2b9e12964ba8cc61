"""Training trajectories and snapshots of real Caffe: 12 iterations, snapshots at 6, in both formats."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from caffepy.engine import get_engine
from caffepy.net.observer import Observer
from caffepy.proto.blobs import proto_to_array
from caffepy.proto.caffe_pb2 import NetParameter, SolverState
from caffepy.pycaffe.solvers import Solver
from caffepy.solver import Listener
from tests.support import ENGINES, GOLDEN, SHARED, assert_close

HERE = GOLDEN / "solver"
ALL = SHARED / "golden" / "solver"
FILES = sorted((ALL if ALL.is_dir() else HERE).glob("*.h5"))
"""All 120 where the complete recordings are at hand, else the selection that the repository holds."""


class Run(Observer):
    """A solver built from a golden file in the current folder, and its feed."""

    def __init__(self, golden: h5py.File, engine: str, snapshot_format: str = ""):
        attrs = golden.attrs
        self.golden, self.feed = golden, attrs["feed"]
        self.tops, self.batch = json.loads(attrs["tops"]), int(attrs["batch_size"])
        self.rows = {top: golden[top][()] for top in self.tops}
        self.served = 0
        if self.feed == "hdf5":
            with h5py.File("train.h5", "w") as file:
                for top, values in self.rows.items():
                    file[top] = values
            Path("train_list.txt").write_text("train.h5\n")
        Path("net.prototxt").write_text(attrs["net"])
        Path("solver.prototxt").write_text(attrs["solver"] + snapshot_format)
        self.solver = Solver("solver.prototxt", engine=get_engine(engine))
        self.net = self.solver.net
        if self.feed == "memory":
            layer = next(layer for layer in self.net.layers if layer.type == "MemoryData")
            layer.reset(*self.rows.values())
        if self.feed == "input":
            self.net.observers.append(self)

    def before_pass(self, layers, backward: bool) -> None:
        if not backward:
            count = len(self.rows[self.tops[0]])
            index = (self.served + np.arange(self.batch)) % count
            for top, values in self.rows.items():
                self.net.blobs[top].data[...] = self.solver.engine.asarray(values[index])
            self.served = (self.served + self.batch) % count

    def set_params(self, group) -> None:
        for layer in group:
            for i, blob in enumerate(self.net.layer_dict[layer].blobs):
                blob.data[...] = self.solver.engine.asarray(group[layer][str(i)][()])

    def check_iteration(self, k: int) -> None:
        expected = self.golden[f"iter/{k}"]
        self.solver.step(1)
        loss = self.solver.smoothed_loss.losses[-1]
        assert loss == pytest.approx(float(expected["loss"][()]), rel=1e-5)
        for layer in expected["params"]:
            for i, blob in enumerate(self.net.layer_dict[layer].blobs):
                ours = self.solver.engine.to_host(blob.data)
                assert_close(ours, expected["params"][layer][str(i)][()], 1e-4, floor=0.1)


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def golden(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with h5py.File(request.param) as file:
        yield file


@pytest.mark.parametrize("engine", ENGINES)
def test_trajectory_and_snapshot(golden, engine):
    run = Run(golden, engine)
    run.set_params(golden["init"])
    record = Record()
    run.solver.listeners.append(record)
    for k in range(1, 13):
        run.check_iteration(k)
        assert record.norms[-1] == pytest.approx(float(golden[f"iter/{k}/grad_l2"][()]), rel=1e-4, abs=1e-7)
        assert record.rates[-1] == pytest.approx(float(golden[f"iter/{k}/lr"][()]), rel=1e-6)
    assert len(run.solver.history) == len(golden["history"])
    for i, blob in enumerate(run.solver.history):
        assert_close(run.solver.engine.to_host(blob.data), golden["history"][str(i)][()], 1e-4, floor=0.1)
    check_files(golden)


class Record(Listener):
    """The gradient norm before clipping, and the rate, of every update."""

    def __init__(self):
        self.norms, self.rates = [], []

    def gradients(self, solver):
        flats = (solver.engine.to_host(p.blob.flat("diff")).astype(np.float64) for p in solver.net.learnable_params)
        self.norms.append(float(np.sqrt(sum((flat * flat).sum() for flat in flats))))

    def update(self, solver):
        self.rates.append(solver.rate)


def check_files(golden) -> None:
    """The snapshot at iteration 6 holds what Caffe's holds."""
    ours, caffes = NetParameter(), NetParameter()
    ours.ParseFromString(Path("snap_iter_6.caffemodel").read_bytes())
    caffes.ParseFromString(golden["snapshot/caffemodel"][()].tobytes())
    assert [(a.name, a.type, list(a.bottom), list(a.top)) for a in ours.layer] == [
        (b.name, b.type, list(b.bottom), list(b.top)) for b in caffes.layer
    ]
    for a, b in zip(ours.layer, caffes.layer):
        assert a.phase == b.phase and a.HasField("phase")
        assert len(a.blobs) == len(b.blobs)
        for mine, theirs in zip(a.blobs, b.blobs):
            assert_close(proto_to_array(mine), proto_to_array(theirs), 1e-4, floor=0.1)
            assert len(mine.diff) == len(theirs.diff)
            if theirs.diff:
                assert_close(proto_to_array(mine, "diff"), proto_to_array(theirs, "diff"), 1e-4, floor=0.1)
    state, expected = SolverState(), SolverState()
    state.ParseFromString(Path("snap_iter_6.solverstate").read_bytes())
    expected.ParseFromString(golden["snapshot/solverstate"][()].tobytes())
    assert (state.iter, state.learned_net, state.current_step) == (
        expected.iter, expected.learned_net, expected.current_step,
    )  # fmt: skip
    for mine, theirs in zip(state.history, expected.history, strict=True):
        assert_close(proto_to_array(mine), proto_to_array(theirs), 1e-4, floor=0.1)


@pytest.mark.parametrize("suffix", ["", ".h5"])
@pytest.mark.parametrize("engine", ENGINES)
def test_resume_from_caffes_snapshot(golden, engine, suffix):
    for kind in ("caffemodel", "solverstate"):
        Path(f"snap_iter_6.{kind}{suffix}").write_bytes(golden[f"snapshot/{kind}{suffix}"][()].tobytes())
    run = Run(golden, engine)
    run.solver.restore(f"snap_iter_6.solverstate{suffix}")
    assert run.solver.iter == 6
    for k in range(7, 13):
        run.check_iteration(k)


def tree(group) -> dict:
    """Names, shapes and types of an HDF5 file, and what its small fields hold."""
    found = {}
    group.visititems(lambda name, item: found.update({name: getattr(item, "shape", None)}))
    return found


@pytest.mark.parametrize("engine", ENGINES)
def test_hdf5_snapshot_has_caffes_form(golden, engine, tmp_path):
    run = Run(golden, engine, "\nsnapshot_format: HDF5\n")
    run.set_params(golden["init"])
    run.solver.step(6)
    for kind in ("caffemodel", "solverstate"):
        (tmp_path / "caffes.h5").write_bytes(golden[f"snapshot/{kind}.h5"][()].tobytes())
        with h5py.File(f"snap_iter_6.{kind}.h5") as ours, h5py.File("caffes.h5") as caffes:
            assert tree(ours) == tree(caffes)
            if kind == "solverstate":
                for name in ("iter", "current_step"):
                    assert ours[name][()] == caffes[name][()] and ours[name].dtype == caffes[name].dtype
                assert ours["learned_net"].dtype == caffes["learned_net"].dtype
                assert np.asarray(ours["learned_net"]) == np.asarray(caffes["learned_net"])


def test_the_selection_covers_what_there_is():
    names = [path.stem.split("_") for path in HERE.glob("*.h5")]
    assert {n[0] for n in names} == {"sgd", "nesterov", "adagrad", "rmsprop", "adadelta", "adam"}
    assert {n[-1] for n in names} == {"hdf5", "memory", "input"}
