"""The GPU's path on a machine that has none: tensors that know shape and device, but hold no values.

Every recorded layer case runs forward and backward on them. PyTorch refuses what mixes the host's and the device's
arrays, and what fetches a value, so that a layer which would fail or wait on a GPU fails here. Values are not checked.
"""

from __future__ import annotations

import h5py
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from caffepy.blob import Blob  # noqa: E402
from caffepy.engine.torch import TorchEngine, namespace  # noqa: E402
from caffepy.layer import create  # noqa: E402
from caffepy.proto import caffe_pb2, text  # noqa: E402
from tests.layers.test_golden import FOLDER, cases, read  # noqa: E402
from tests.solver.test_lazy import solver  # noqa: E402

FETCHING = {"Filter": "its tops take the number of items that are selected", "HDF5Output": "it writes values"}


class PretendedGpu(TorchEngine):
    """The engine of a GPU, but for streams, pinned memory and generators, which need a real one."""

    def __init__(self) -> None:
        self.device = torch.device("meta")
        self.precision = "float32"
        self.on_host, self.on_gpu, self.lazy = False, True, True
        self.xp, self.generator, self._refused = namespace(self.device), None, {}

    def _to_device(self, tensor):
        return tensor.to(self.device)

    def _uniform(self, shape):
        return torch.rand(shape, device=self.device)


@pytest.fixture
def engine():
    return PretendedGpu()


@pytest.mark.parametrize("layer_type, name", list(cases()))
def test_case(layer_type, name, engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with h5py.File(FOLDER / f"{layer_type}.h5") as file:
        case = file[name]
        attrs = dict(case.attrs)
        bottoms, tops, top_diffs, bottom_diffs = (
            read(case, kind) for kind in ("bottom", "top", "top_diff", "bottom_diff")
        )
        for file_name, content in case.get("file", {}).items():
            (tmp_path / file_name).write_bytes(content[()].tobytes())
    bottom = [Blob(np.shape(values), engine) for values in bottoms.values()]
    for blob, values in zip(bottom, bottoms.values()):
        blob.data[...] = engine.asarray(values)
    layer = create(
        text.parse(attrs["layer"], caffe_pb2.LayerParameter()), caffe_pb2.Phase.Value(attrs["phase"]), engine
    )
    top = [Blob((), engine) for _ in range(len(layer.param.top) or len(tops))]
    layer.set_up(bottom, top)
    try:
        layer.reshape(bottom, top)
        layer.forward(bottom, top)
        if top_diffs:
            layer.backward(top, [i in bottom_diffs for i in range(len(bottom))], bottom)
    except RuntimeError:
        if layer_type not in FETCHING:
            raise
    assert [t.shape for t in top] == [np.shape(values) for values in tops.values()] or layer_type in FETCHING
    assert all(blob.data.device.type == "meta" for blob in (*top, *layer.blobs))


@pytest.mark.parametrize(
    "more", ["", "iter_size: 2", "clip_gradients: 0.3", 'type: "Adam"', 'type: "AdaDelta" delta: 1']
)
def test_a_training_step_fetches_nothing(more, engine):
    trained = solver(engine, more)
    for _ in range(2):
        trained.net.clear_param_diffs()
        trained.smoothed_loss.add(trained._passes())
        trained._update(display=False)
    with pytest.raises(RuntimeError, match="meta"):
        _ = trained.smoothed_loss.value
