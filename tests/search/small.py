"""A training that takes milliseconds: two classes of points in HDF5."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

COUNT = 60

NET = """name: "small"
layer { name: "data" type: "HDF5Data" top: "x" top: "label" include { phase: TRAIN }
  hdf5_data_param { source: "list.txt" batch_size: 10 shuffle: true } }
layer { name: "data" type: "HDF5Data" top: "x" top: "label" include { phase: TEST }
  hdf5_data_param { source: "list.txt" batch_size: 8 } }
layer { name: "ip1" type: "InnerProduct" bottom: "x" top: "ip1"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "drop" type: "Dropout" bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip2" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }
"""
SOLVER = """net: "net.prototxt"
base_lr: 0.05 lr_policy: "fixed" momentum: 0.9
max_iter: 12 test_iter: 4 test_interval: 4 solver_mode: CPU
"""
SEARCH = """solver: "solver.prototxt"
metric: "loss"
trials: 4
param { path: "base_lr" log { min: 1e-3 max: 1 } }
param { path: "net.layer.ip1.inner_product_param.num_output" choice: "2" choice: "4" choice: "8" }
param { path: "weight_decay" range { min: 0 max: 0.01 step: 0.0005 } }
seed: 1
"""


def points() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    label = np.arange(COUNT) % 2
    x = random.normal(size=(COUNT, 3)) + label[:, None]
    return x.astype("f4"), label.astype("f4")


def write(folder: Path, search: str = SEARCH, solver: str = SOLVER, net: str = NET) -> None:
    x, label = points()
    with h5py.File(folder / "points.h5", "w") as file:
        file["x"], file["label"], file["user"] = x, label, np.arange(COUNT) // 5
    (folder / "list.txt").write_text("points.h5\n")
    (folder / "net.prototxt").write_text(net)
    (folder / "solver.prototxt").write_text(solver)
    (folder / "search.prototxt").write_text(search)
