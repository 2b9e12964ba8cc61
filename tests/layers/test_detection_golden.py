"""Every recorded case of the detection layers of SSD, R-CNN, R-FCN and YOLOv2: outputs and gradients."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from caffepy.proto import caffe_pb2, text
from tests.support import ENGINES, GOLDEN, Built

FOLDER = GOLDEN / "dialect"

# Three layers of one name, whose definitions look alike; DARKNET is the default.
REORG = {"port_forward": "CAFFE_PORT", "space_to_depth": "SPACE_TO_DEPTH"}


def cases():
    return [path.stem for path in sorted(FOLDER.glob("*.h5")) if layer_of(path).type in TYPES]


TYPES = {
    "DetectionOutput", "Normalize", "PSROIPooling", "Permute", "PriorBox", "Proposal", "ROIAlign", "ROIPooling",
    "Reorg", "SmoothL1Loss",
}  # fmt: skip


def layer_of(path) -> caffe_pb2.LayerParameter:
    with h5py.File(path) as file:
        layer = text.parse(file.attrs["prototxt"], caffe_pb2.NetParameter()).layer[-1]
    for part, order in REORG.items():
        if part in path.stem:
            layer.reorg_param.order = caffe_pb2.ReorgParameter.Order.Value(order)
    return layer


def assert_within(ours, reference, tolerance: float) -> None:
    """As the recordings' README has it: relative to the reference's largest value, or to 1."""
    assert ours.shape == reference.shape
    limit = tolerance * max(1, np.abs(reference).max(initial=0))
    assert np.abs(ours - reference).max(initial=0) <= limit


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", cases())
def test_case(name, engine):
    layer = layer_of(FOLDER / f"{name}.h5")
    with h5py.File(FOLDER / f"{name}.h5") as file:
        phase, tolerance = caffe_pb2.Phase.Value(file.attrs["phase"]), float(file.attrs["tolerance"])
        recorded = {group: {key: value[()] for key, value in file[group].items()} for group in file}
    built = Built(text.to_text(layer), *(recorded["inputs"][b] for b in layer.bottom), engine=engine, phase=phase)
    for i, value in recorded.get("blobs", {}).items():
        assert built.layer.blobs[int(i)].shape == value.shape
        built.layer.blobs[int(i)].fill(value)
    for top, ours in zip(layer.top, built.forward(), strict=True):
        assert_within(ours, recorded["outputs"][top], tolerance)
    if "output_diffs" not in recorded:
        return
    wanted = [b in recorded["input_diffs"] for b in layer.bottom]
    ours = built.backward(*(recorded["output_diffs"][top] for top in layer.top), propagate_down=wanted)
    for bottom, gradient in zip(layer.bottom, ours):
        if bottom in recorded["input_diffs"]:
            assert_within(gradient, recorded["input_diffs"][bottom], tolerance)
    for i, gradient in recorded.get("blob_diffs", {}).items():
        assert_within(built.host(built.layer.blobs[int(i)].diff), gradient, tolerance)


def test_every_case_is_here():
    assert len(cases()) == 47
