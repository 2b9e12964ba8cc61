"""DWA without a period: the mean losses of epochs of the net's data."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from caffepy.proto import text
from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.solver import Solver

NET = """
layer { name: "rows" type: "HDF5Data" top: "x" top: "t" top: "u" hdf5_data_param { source: "list" batch_size: 4 } }
layer { name: "trunk" type: "InnerProduct" bottom: "x" top: "h"
        inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "a" type: "EuclideanLoss" bottom: "h" bottom: "t" top: "a" }
layer { name: "b" type: "EuclideanLoss" bottom: "h" bottom: "u" top: "b" }
"""


def solver(folder, monkeypatch, more: str = "") -> Solver:
    monkeypatch.chdir(folder)
    with h5py.File("rows.h5", "w") as file:
        for i, name in enumerate("xtu"):
            file[name] = np.random.default_rng(i).normal(size=(30, 2)).astype("f4")
    (folder / "list").write_text("rows.h5\n")
    p = text.parse(f'base_lr: 0.1 lr_policy: "fixed" multi_task {{ method: DWA }} {more}', SolverParameter())
    p.net_param.CopyFrom(text.parse(NET, type(p.net_param)()))
    return Solver(p)


@pytest.mark.parametrize("iter_size, processes, period", [(1, 1, 8), (2, 1, 4), (1, 3, 3), (2, 3, 2), (9, 9, 1)])
def test_an_epoch_is_counted_in_iterations_of_all_processes(tmp_path, monkeypatch, iter_size, processes, period):
    found = solver(tmp_path, monkeypatch, f"iter_size: {iter_size}")
    found.net.layer_dict["rows"].shard(0, processes)
    found.step(2 * period)
    assert found.multi_task.weights.tolist() == [1, 1]
    found.step(1)
    assert found.multi_task.weights.tolist() != [1, 1]
