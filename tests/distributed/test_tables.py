"""Tables whose rows several processes keep: training, tests, snapshots and resumes are those of one process."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("torch")

from caffepy.engine import get_engine
from caffepy.errors import ConfigError
from caffepy.net import spread
from caffepy.net.blob import Blob
from caffepy.net.net import Net
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import NetParameter
from tests.distributed.test_group import train
from tests.support import assert_close

ROWS = 9  # which neither 2 nor 4 divide
NET = """
layer {{ name: "data" type: "HDF5Data" top: "id" top: "label" include {{ phase: TRAIN }}
  hdf5_data_param {{ source: "list.txt" batch_size: {batch} }} }}
layer {{ name: "data" type: "HDF5Data" top: "id" top: "label" include {{ phase: TEST }}
  hdf5_data_param {{ source: "list.txt" batch_size: 12 }} }}
layer {{ name: "table" type: "Embed" bottom: "id" top: "e" param {{ spread: true }}
  embed_param {{ input_dim: {rows} num_output: 3 combine: SUM weight_filler {{ type: "gaussian" std: 0.5 }} }} }}
layer {{ name: "ip" type: "InnerProduct" bottom: "e" top: "ip"
  inner_product_param {{ num_output: 2 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "label" top: "loss" }}
"""
SOLVER = """net: "net{n}.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: {iterations} random_seed: 1 snapshot: 4
snapshot_prefix: "out{n}" snapshot_format: {format} solver_mode: CPU {more}
"""
TESTS = "test_iter: 2 test_interval: 5"
MOMENTUM = "momentum: 0.9 weight_decay: 0.01"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    with h5py.File("data.h5", "w") as file:
        file["id"] = random.integers(-1, ROWS, (24, 3)).astype("f4")
        file["label"] = random.standard_normal((24, 2)).astype("f4")
    Path("list.txt").write_text("data.h5\n")
    for name in ("OMP_NUM_THREADS", "CAFFEPY_THREADS"):
        monkeypatch.setenv(name, "1")
    return tmp_path


def write(n: int, more: str = "", iterations: int = 10, kind: str = "HDF5") -> None:
    Path(f"net{n}.prototxt").write_text(NET.format(batch=12 // n, rows=ROWS))
    Path(f"solver{n}.prototxt").write_text(SOLVER.format(n=n, more=more, iterations=iterations, format=kind))


def weights(path: str) -> list[np.ndarray]:
    with h5py.File(path) as file:
        return [file[name][()] for name in ("data/table/0", "data/table/1", "data/ip/0", "data/ip/1")]


def losses(log: str) -> list[float]:
    return [float(value) for value in re.findall(r"Test net output #0: loss = (\S+)", log)]


def check_as_one_process(n: int, engine: str, more: str) -> None:
    """From the weights of one process, which differ from those that several draw."""
    write(1, iterations=1)
    assert train(1, "numpy").returncode == 0
    Path("out1_iter_1.caffemodel.h5").rename("begin.caffemodel.h5")  # the next run sets this one's snapshots apart
    found = {}
    for count in (1, n):
        write(count, more)
        found[count] = train(count, engine, "--weights", "begin.caffemodel.h5")
        assert found[count].returncode == 0, found[count].stderr
    for ours, reference in zip(weights(f"out{n}_iter_10.caffemodel.h5"), weights("out1_iter_10.caffemodel.h5")):
        assert_close(ours, reference, 1e-5)
    np.testing.assert_allclose(losses(found[n].stderr), losses(found[1].stderr), rtol=1e-4)
    assert len(losses(found[n].stderr)) == (3 if TESTS in more else 0)


def test_two_processes_are_as_one(folder):
    check_as_one_process(2, "numpy", f"{MOMENTUM} {TESTS}")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["numpy", "torch"])
@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("more", [f"type: 'Adam' {TESTS}", f"{MOMENTUM} clip_gradients: 0.2 iter_size: 2"])
def test_processes_are_as_one(folder, engine, n, more):
    check_as_one_process(n, engine, more)


@pytest.mark.slow
def test_resume_is_exact_and_may_have_other_numbers_of_processes(folder):
    write(2, f"{MOMENTUM} {TESTS}")
    assert train(2, "numpy").returncode == 0
    straight = weights("out2_iter_10.caffemodel.h5")
    assert len(np.unique(straight[0].round(4), axis=0)) == ROWS  # each process has drawn its own
    state = "out2_iter_8.solverstate.h5"
    for n, tolerance in ((2, 0), (4, 1e-5), (1, 1e-5)):
        write(n, f"{MOMENTUM} {TESTS}")
        run = train(n, "numpy", "--snapshot", state)
        assert run.returncode == 0, run.stderr
        for ours, reference in zip(weights(f"out{n}_iter_10.caffemodel.h5"), straight):
            assert_close(ours, reference, tolerance)


@pytest.mark.slow
def test_other_formats_hold_no_spread_tables(folder):
    write(2, kind="BINARYPROTO")
    run = train(2, "numpy")
    assert run.returncode == 1
    assert "solver2.prototxt:2:25: tables that are spread over processes can be written as HDF5 alone" in run.stderr


class Fake:
    """The share of process 1 of 4."""

    rank, size = 1, 4


def built(definition: str) -> Net:
    with spread.use(Fake()):
        return Net(text.parse(definition, NetParameter()), engine=get_engine("numpy"))


EMBED = """layer { name: "in" type: "DummyData" top: "id" dummy_data_param { shape { dim: 2 } } }
layer { name: "table" type: "Embed" bottom: "id" top: "e" PARAM embed_param { input_dim: 9 num_output: 3 } }"""


def test_a_process_keeps_its_rows_alone():
    table: Blob = built(EMBED.replace("PARAM", "param { spread: true }")).layer_dict["table"].blobs[0]
    assert (table.shape, table.whole_shape) == ((3, 3), (9, 3))
    index, values = table.spread.own_of(np.array([0, 1, 4, 5]), np.arange(4))
    assert (index.tolist(), values.tolist()) == ([0, 1], [1, 3])
    assert built(EMBED.replace("PARAM", "param { sparse: true }")).layer_dict["table"].blobs[0].shape == (9, 3)


def test_only_tables_are_spread():
    definition = EMBED.replace("PARAM", "param { } param { spread: true }")
    with pytest.raises(ConfigError, match=r"param { spread: true } is for tables of which a batch touches a few rows"):
        built(definition)
