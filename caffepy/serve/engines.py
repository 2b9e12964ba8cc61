"""What computes a served net: onnxruntime, or nets of our own that share their weights."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from queue import Empty, LifoQueue
from typing import Protocol

import numpy as np

from caffepy.engine import Engine
from caffepy.errors import CaffeError, ConfigError, MissingExtraError, SnapshotError
from caffepy.net.net import Net
from caffepy.net.stepwise import Stepwise
from caffepy.passes.whole import Whole
from caffepy.proto.caffe_pb2 import TEST, NetParameter
from caffepy.serve.ids import Span
from caffepy.serve.signature import Arrays

log = logging.getLogger("caffepy.serve")

ALLOWED = 1e-3
"""How much onnxruntime may differ from us, as a share of an output's largest value."""


class Computer(Protocol):
    """Computes outputs by blob from inputs by blob; from several threads at once."""

    name: str

    def run(self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str]) -> Arrays: ...


class Nets:
    """Passes `Whole` of our own: a net for each thread that computes, all on the weights of the first."""

    def __init__(self, net: Net):
        self.name = net.engine.name
        self._first = net
        self._free: LifoQueue[Net] = LifoQueue()
        self._free.put(net)

    def run(self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str]) -> Arrays:
        try:
            net = self._free.get_nowait()
        except Empty:
            net = self._another()
        try:
            for layer in self._remembering(net):
                layer.restart(0)  # what another request has left
            return computed(net, feeds, outputs)
        finally:
            self._free.put(net)

    @staticmethod
    def _remembering(net: Net) -> list[Stepwise]:
        return [layer for layer in net.layers if isinstance(layer, Stepwise)]

    def _another(self) -> Net:
        return twin(self._first)


def twin(first: Net) -> Net:
    """Another net of the same definition on the same weights."""
    param = NetParameter()
    param.CopyFrom(first.param)
    net = Net(param, TEST, engine=first.engine)
    net.share_trained_layers_with(first)
    return net


def computed(net: Net, feeds: Mapping[str, np.ndarray], outputs: Sequence[str]) -> Arrays:
    """Copies of the blobs `outputs` after a pass over `feeds`."""
    if net.executor is None:
        net.executor = Whole(net)
    with net.lock:
        for name, values in feeds.items():
            blob = net.engine_blobs[name]
            if blob.shape != values.shape:
                blob.reshape(*values.shape)
            blob.fill(values)
        net.executor.forward()
        net.settle()
        return {name: np.array(net.engine_blobs[name].host()) for name in outputs}


class OnnxModel:
    """onnxruntime on a model in memory."""

    name = "onnxruntime"

    def __init__(self, model: bytes, threads: int = 0):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle models cost nothing
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of types of its own
            raise SnapshotError(f"onnxruntime does not load the model: {str(error).splitlines()[0]}") from None
        self.inputs = {value.name: value for value in self._session.get_inputs()}
        self.outputs = {value.name: value for value in self._session.get_outputs()}

    def run(self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str]) -> Arrays:
        known = self.inputs
        try:
            values = self._session.run(list(outputs), {name: feeds[name] for name in feeds if name in known})
        except Exception as error:
            raise ConfigError(f"onnxruntime: {str(error).splitlines()[0]}") from None
        return dict(zip(outputs, values))


def choose(net: Net, name: str | None, threads: int = 0, ids: Mapping[str, Span] | None = None) -> Computer:
    """`name`, or onnxruntime where it is installed and can compute the net to the same values; else the net itself."""
    ours = Nets(net)
    if name in ("numpy", "torch") or net.engine.name != "numpy":
        return ours
    try:
        return exported(net, ours, threads, ids or {})
    except (CaffeError, ImportError) as error:
        if name == "onnxruntime":
            raise
        level = logging.DEBUG if isinstance(error, (MissingExtraError, ImportError)) else logging.INFO
        log.log(level, "NumPy computes: %s", str(error).splitlines()[0])
        return ours


def exported(net: Net, ours: Nets, threads: int, ids: Mapping[str, Span]) -> OnnxModel:
    """The net in onnxruntime, compared with our own pass for one item and for three."""
    from caffepy.export.onnx_file import model_of

    session = OnnxModel(model_of(net).SerializeToString(), threads)
    random = np.random.default_rng(0)
    outputs = net.outputs
    shapes = {name: net.engine_blobs[name].shape for name in net.inputs}
    grows = all(isinstance(value.shape[0], str) for value in session.inputs.values() if value.shape)
    for items in (1, 3) if grows else (None,):
        feeds = {}
        for name, shape in shapes.items():
            shape = (items or shape[0], *shape[1:]) if shape else shape
            if name in ids:
                feeds[name] = random.integers(0, ids[name][1], shape, endpoint=True).astype(np.float32)
            else:
                feeds[name] = random.standard_normal(shape, np.float32)
        theirs, mine = session.run(feeds, outputs), ours.run(feeds, outputs)
        for name in outputs:
            scale = max(float(np.abs(mine[name]).max(initial=0)), 1e-6)
            if theirs[name].shape != mine[name].shape or not np.abs(theirs[name] - mine[name]).max() <= ALLOWED * scale:
                raise SnapshotError(f'onnxruntime computes "{name}" otherwise than we do')
    return session


def engine_for(name: str | None, gpu: bool) -> Engine:
    """NumPy's engine, or torch's, on the first GPU with `gpu`."""
    from caffepy.engine import get_engine, gpu_engine

    return gpu_engine(0) if gpu else get_engine("torch" if name == "torch" else "numpy")


def check_engine(name: str | None, gpu: bool) -> None:
    """Raises CaffeError for an engine that cannot be had here, before anything is loaded that needs it."""
    if gpu or name == "torch":
        engine_for(name, gpu)
    elif name == "onnxruntime" and find_spec("onnxruntime") is None:
        raise MissingExtraError("onnxruntime", "onnx", "serving with onnxruntime")


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
