"""The GPU's path on a machine that has none: tensors that know shape and device, but hold no values.

Every recorded layer case runs forward and backward on them. PyTorch refuses what mixes the host's and the device's
arrays, and what fetches a value, so that a layer which would fail or wait on a GPU fails here. Values are not checked.
"""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode

from caffepy.engine.torch.engine import TorchEngine, namespace
from caffepy.net.blob import Blob
from caffepy.net.layer import create
from caffepy.proto import caffe_pb2, text
from tests.layers.test_golden import FOLDER, cases, read
from tests.solver.test_lazy import solver

FETCHING = {"Filter": "its tops take the number of items that are selected", "HDF5Output": "it writes values"}


class PretendedGpu(TorchEngine):
    """The engine of a GPU, but for streams, pinned memory and generators, which need a real one."""

    def __init__(self) -> None:
        self.device = torch.device("meta")
        self.precision = "float32"
        self.on_host, self.on_gpu, self.lazy = False, True, True
        self.xp, self.generator = namespace(self.device), None
        self.xp.asarray = None  # it would copy a number, and wait: full makes it on the device

    def _to_device(self, tensor):
        return tensor.to(self.device)

    def _uniform(self, shape):
        return torch.rand(shape, device=self.device)


class Calls(TorchDispatchMode):
    """Remembers what was called, and which calls copied from the host: on a GPU these wait for all work before."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.copies: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.names.append(func.name())
        host = any(isinstance(a, torch.Tensor) and a.device.type == "cpu" for a in args)
        if host and isinstance(result, torch.Tensor) and result.device.type == "meta":
            self.copies.append(func.name())
        return result


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
        with Calls() as calls:
            layer.forward(bottom, top)
            if top_diffs:
                layer.backward(top, [i in bottom_diffs for i in range(len(bottom))], bottom)
        assert not calls.copies
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
        trained.update()
    with pytest.raises(RuntimeError, match="meta"):
        _ = trained.smoothed_loss.value


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
def test_pooling_writes_straight_only_in_one_memory_order(pool, engine):
    """On a GPU torch's kernels write in the order of their input, and would mix up values of another one."""
    layer = create(
        text.parse(
            f'type: "Pooling" pooling_param {{ pool: {pool} kernel_size: 2 stride: 2 }}', caffe_pb2.LayerParameter()
        ),
        0,
        engine,
    )
    for channels_last in (True, False):
        bottom, top = Blob((2, 3, 4, 4), engine, channels_last), Blob((), engine)
        layer.set_up([bottom], [top])
        layer.reshape([bottom], [top])
        with Calls() as calls:
            layer.forward([bottom], [top])
        assert any(name.endswith(("pool2d.out", "indices.out")) for name in calls.names) == channels_last


@pytest.mark.parametrize("count", [1, 100, 5000])
def test_values_of_any_number_are_copied_without_waiting(count, monkeypatch):
    pinned, engine = [], PretendedGpu()
    engine._copying = None
    stream = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self) or self)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: None)
    TorchEngine._to_device(engine, torch.zeros(count))
    assert len(pinned) == 1
