"""Data layers against real Caffe: every batch of every recorded case."""

from __future__ import annotations

import shutil

import h5py
import numpy as np
import pytest

from caffepy import rng
from caffepy.proto import caffe_pb2, text
from caffepy.pycaffe.net import Net
from tests.support import GOLDEN

DB = GOLDEN / "db"


def cases() -> list[str]:
    with h5py.File(DB / "expected.h5") as file:
        return [f"{group}/{case}" for group in file for case in file[group]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    copy = tmp_path_factory.mktemp("golden") / "db"
    shutil.copytree(DB, copy)
    return copy


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)


@pytest.mark.parametrize("name", cases())
def test_batches(name):
    with h5py.File("expected.h5") as file:
        case = file[name]
        rng.seed(int(case.attrs.get("random_seed", 1)))
        net = Net(text.parse(case.attrs["net"], caffe_pb2.NetParameter()), caffe_pb2.Phase.Value(case.attrs["phase"]))
        for k in range(case.attrs["batches"]):
            net.forward_from_to()
            for top, expected in case["batch"][str(k)].items():
                np.testing.assert_allclose(net.blobs[top].data, expected[()], rtol=1e-6, err_msg=f"batch {k}, {top}")
