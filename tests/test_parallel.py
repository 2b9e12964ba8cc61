"""Training in several processes gives what one process gives with the whole batch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("torch")

from caffepy import weights
from tests.support import assert_close

NET = """
layer {{ name: "data" type: "HDF5Data" top: "data" top: "label"
  hdf5_data_param {{ source: "list.txt" batch_size: {batch} }} }}
layer {{ name: "ip1" type: "InnerProduct" bottom: "data" top: "ip1"
  inner_product_param {{ num_output: 5 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "tanh" type: "TanH" bottom: "ip1" top: "ip1" }}
layer {{ name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
  inner_product_param {{ num_output: 2 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "EuclideanLoss" bottom: "ip2" bottom: "label" top: "loss" }}
"""
SOLVER = """net: "net{n}.prototxt" base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.01
max_iter: {iterations} display: 1 random_seed: 1 snapshot: 4 snapshot_prefix: "out{n}" solver_mode: CPU {more}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    with h5py.File("data.h5", "w") as file:
        file["data"], file["label"] = (random.standard_normal((24, k)).astype("f4") for k in (4, 2))
    Path("list.txt").write_text("data.h5\n")
    return tmp_path


def train(n: int, engine: str, more: str = "", iterations: int = 10) -> subprocess.CompletedProcess:
    Path(f"net{n}.prototxt").write_text(NET.format(batch=12 // n))
    Path(f"solver{n}.prototxt").write_text(SOLVER.format(n=n, more=more, iterations=iterations))
    command = [sys.executable, "-m", "caffepy", "train", "--solver", f"solver{n}.prototxt", "--engine", engine]
    if n > 1:
        command[1:2] = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n}", "-m"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CAFFEPY_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def trained(path: str) -> list[np.ndarray]:
    return [weights.proto_to_array(blob) for layer in weights.read_weights(path).layer for blob in layer.blobs]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "numpy"])
@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("more", ["", "layer_wise_reduce: false clip_gradients: 0.5", "iter_size: 2"])
def test_as_one_process_with_the_whole_batch(folder, engine, n, more):
    for count in (1, n):
        run = train(count, engine, more)
        assert run.returncode == 0, run.stderr
    for ours, reference in zip(trained(f"out{n}_iter_10.caffemodel"), trained("out1_iter_10.caffemodel")):
        assert_close(ours, reference, 1e-5)
    assert run.stderr.count("Iteration 3 (") == 1  # one process logs
    assert not list(folder.glob("*.tmp"))


SHARES = """
import caffepy
from caffepy.parallel import Group
solver = caffepy.get_solver("shuffled_solver.prototxt")
Group(gpu=False).attach(solver)
rows = []
for _ in range(4):
    solver.net.forward()
    rows += solver.net.blobs["data"].data[:, 0].tolist()
print("rows", rows)
"""


@pytest.mark.slow
def test_shuffled_shares_do_not_overlap_without_a_seed(folder):
    net = NET.format(batch=3).replace("batch_size: 3", "batch_size: 3 shuffle: true")
    Path("net.prototxt").write_text(net)
    Path("shuffled_solver.prototxt").write_text('net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" solver_mode: CPU')
    Path("shares.py").write_text(SHARES)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "shares.py"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CAFFEPY_THREADS": "1", "CAFFEPY_ENGINE": "numpy"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    seen = [float(word) for word in re.findall(r"-?\d+\.\d+(?:e-\d+)?", run.stdout)]
    with h5py.File("data.h5") as file:
        assert sorted(seen) == sorted(file["data"][:, 0].tolist())
