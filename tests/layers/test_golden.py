"""Every recorded case of every layer: Caffe's outputs, gradients and losses."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from caffepy.proto import caffe_pb2
from tests.support import ENGINES, GOLDEN, Built, assert_close

FOLDER = GOLDEN / "layers"

# What only selects, copies or counts has to be equal.
EXACT_FORWARD = {
    "AbsVal", "ArgMax", "BatchReindex", "Clip", "Concat", "Crop", "Dropout", "DummyData", "Filter", "Flatten",
    "Im2col", "Reshape", "Silence", "Slice", "Split", "Threshold", "Tile",
}  # fmt: skip
EXACT_BACKWARD = EXACT_FORWARD - {"BatchReindex", "Im2col", "Split", "Tile"}


def cases():
    for path in sorted(FOLDER.glob("*.h5")):
        with h5py.File(path) as file:
            for name in file:
                yield pytest.param(path.stem, name, id=f"{path.stem}-{name}")


def read(group, name):
    return {int(i): group[name][i][()] for i in group[name]} if name in group else {}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("layer_type, name", list(cases()))
def test_case(layer_type, name, engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with h5py.File(FOLDER / f"{layer_type}.h5") as file:
        case = file[name]
        attrs = dict(case.attrs)
        bottoms, params, tops = (read(case, k) for k in ("bottom", "param", "top"))
        after, top_diffs, bottom_diffs = (read(case, k) for k in ("param_after", "top_diff", "bottom_diff"))
        param_diffs = read(case, "param_diff")
        for file_name, content in case.get("file", {}).items():
            (tmp_path / file_name).write_bytes(content[()].tobytes())
    phase = caffe_pb2.Phase.Value(attrs["phase"])
    built = Built(attrs["layer"], *bottoms.values(), engine=engine, phase=phase, tops=len(tops))
    assert [b.shape for b in built.layer.blobs] == [p.shape for p in params.values()]
    for blob, value in zip(built.layer.blobs, params.values()):
        blob.data[...] = built.engine.asarray(value)
    exact = layer_type in EXACT_FORWARD or (layer_type in ("Pooling", "Eltwise") and "MAX" in attrs["layer"])
    for _ in range(int(attrs["forward_passes"])):
        outputs = built.forward()
    for ours, reference in zip(outputs, tops.values()):
        assert_close(ours, reference, 0 if exact else 1e-5)
    for i, reference in after.items():
        assert_close(built.host(built.layer.blobs[i].data), reference)
    if "loss" in attrs:
        weights = built.layer.loss_weights
        terms = [w * np.sum(o) for w, o in zip(weights, outputs) if w]
        total = sum(float(np.sum(o * built.host(t.diff))) for w, o, t in zip(weights, outputs, built.top) if w)
        scale = max(abs(attrs["loss"]), sum(np.sum(np.abs(w * o)) for w, o in zip(weights, outputs)))
        assert abs(total - attrs["loss"]) <= 1e-5 * scale, terms
    if not top_diffs:
        return
    if "loss" in attrs:  # backward starts from what the weights left in the tops
        for i, reference in top_diffs.items():
            assert_close(built.host(built.top[i].diff), reference, 0)
    wanted = [i in bottom_diffs for i in range(len(bottoms))]
    ours = built.backward(*top_diffs.values(), propagate_down=wanted)
    for i, reference in bottom_diffs.items():
        assert_close(ours[i], reference, 0 if layer_type in EXACT_BACKWARD else 1e-5)
    for i, reference in param_diffs.items():
        assert_close(built.host(built.layer.blobs[i].diff), reference)


def test_every_case_is_here():
    assert len(list(cases())) == 423
