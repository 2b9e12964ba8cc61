"""Layers of Caffe's forks, against recordings of independent implementations, each a whole net of one layer."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from caffepy import passes
from caffepy.engine import get_engine
from caffepy.net.net import Net
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import NetParameter, Phase
from tests.support import ENGINES, GOLDEN

PREFIXES = ("axpy", "bn", "dw", "hard", "interp", "mish", "nvbn", "pooling", "relu6", "shuffle", "upsample")
PATHS = [path for path in sorted((GOLDEN / "dialect").glob("*.h5")) if path.stem.startswith(PREFIXES)]
GROUPS = ("inputs", "blobs", "outputs", "output_diffs", "input_diffs", "blob_diffs", "blobs_after")


def check(ours, reference, tolerance: float, what: str) -> None:
    """As the recordings say: no difference above `tolerance` of the largest value, or of 1."""
    assert ours.shape == reference.shape, what
    assert np.abs(ours - reference).max() <= tolerance * max(1, np.abs(reference).max()), what


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_case(path, engine):
    with h5py.File(path) as file:
        attrs = dict(file.attrs)
        case = {group: {name: file[group][name][()] for name in file.get(group, ())} for group in GROUPS}
    param = text.parse(attrs["prototxt"], NetParameter())
    param.force_backward = True
    net = Net(param, Phase.Value(attrs["phase"]), engine=get_engine(engine))
    blobs = net.layer_dict[attrs["layer"]].blobs
    assert [b.shape for b in blobs] == [case["blobs"][str(i)].shape for i in range(len(case["blobs"]))]
    for i, values in case["blobs"].items():
        blobs[int(i)].fill(values)
    for name, values in case["inputs"].items():
        net.engine_blobs[name].fill(values)
    passes.of(net).forward()
    for name, values in case["outputs"].items():
        check(net.engine_blobs[name].host(), values, attrs["tolerance"], name)
    for i, values in case["blobs_after"].items():
        check(blobs[int(i)].host(), values, attrs["tolerance"], f"parameter {i} after")
    for name, values in case["output_diffs"].items():
        net.engine_blobs[name].fill(values, "diff")
    if case["output_diffs"]:
        passes.of(net).backward()
    for name, values in case["input_diffs"].items():
        check(net.engine_blobs[name].host("diff"), values, attrs["tolerance"], f"gradient of {name}")
    for i, values in case["blob_diffs"].items():
        check(blobs[int(i)].host("diff"), values, attrs["tolerance"], f"gradient of parameter {i}")


def test_every_case_is_here():
    assert len(PATHS) == 45
