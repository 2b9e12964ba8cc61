"""A version's files as a model that computes: read, checked, warmed up."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from caffepy.errors import CaffeError, ConfigError, MissingExtraError, ShapeError, SnapshotError, did_you_mean
from caffepy.files import read_file
from caffepy.hdf5 import open_hdf5
from caffepy.net import weights as stored
from caffepy.net.net import Net
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import TEST
from caffepy.serve import recommender, servable
from caffepy.serve.api.servable_pb2 import Servable
from caffepy.serve.api.servable_pb2 import Tensor as Renamed
from caffepy.serve.engines import Computer, OnnxModel, choose, computed, engine_for, twin
from caffepy.serve.ids import Span, spans
from caffepy.serve.pictures import PictureInput
from caffepy.serve.servable import Parts
from caffepy.serve.sessions import Sessions, begin_anew, stepwise
from caffepy.serve.signature import FLOAT, Arrays, Signature, Tensor
from caffepy.serve.texts import TextInput

log = logging.getLogger("caffepy.serve")


ONNX_TYPES = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16, "tensor(bool)": np.bool_,
    "tensor(int8)": np.int8, "tensor(int16)": np.int16, "tensor(int32)": np.int32, "tensor(int64)": np.int64,
    "tensor(uint8)": np.uint8, "tensor(uint16)": np.uint16, "tensor(uint32)": np.uint32, "tensor(uint64)": np.uint64,
}  # fmt: skip


@dataclass(frozen=True)
class Computing:
    """How models compute."""

    engine: str | None = None
    """numpy, torch or onnxruntime; None: the fastest that is installed."""
    gpu: bool = False
    threads: int = 0
    """Of onnxruntime, for one batch; 0: one a core."""


@dataclass
class LoadedModel:
    """A loaded version. `run` may be called from several threads."""

    signature: Signature
    computer: Computer
    settings: Servable = field(default_factory=Servable)
    labels: Sequence[str] = ()
    pictures: Mapping[str, PictureInput] = field(default_factory=dict)
    """By the name of the input."""
    words: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Ids by the words that stand for them, by the name of the input."""

    texts: Mapping[str, TextInput] = field(default_factory=dict)
    """What makes ids of texts, by the name of the input."""
    sessions: Sessions | None = None
    """Of a net that remembers earlier steps."""

    @cached_property
    def exact(self) -> frozenset[str]:
        """The names of inputs whose numbers must not be rounded to float32 on the way."""
        return frozenset(t.name for t in self.signature.inputs if t.dtype != FLOAT or t.span is not None)

    def run(self, feeds: Mapping[str, np.ndarray], outputs: Iterable[Tensor]) -> Arrays:
        """The outputs by their names, of inputs by blob."""
        outputs = tuple(outputs)
        found = self.computer.run(feeds, list(dict.fromkeys(tensor.blob for tensor in outputs)))
        return {tensor.name: found[tensor.blob] for tensor in outputs}

    def zeros(self, items: int = 1) -> Arrays:
        """Inputs of zeros, by blob."""
        inputs = self.signature.inputs
        return {t.blob: np.zeros([items if i == 0 and d < 0 else abs(d) for i, d in enumerate(t.shape)], t.dtype)
                for t in inputs}  # fmt: skip


def load(folder: Path, computing: Computing | None = None) -> LoadedModel:
    """The model of a version's folder, its warm-up done. Raises CaffeError for what cannot be served."""
    try:
        parts = servable.find(folder)
        model = (_load_onnx if parts.is_onnx else _load_net)(parts, computing or Computing())
        warm_up(model, parts.warmup)
    except RecursionError:
        raise ConfigError("the definition nests too deeply", where=str(folder)) from None
    return model


def _load_net(parts: Parts, computing: Computing) -> LoadedModel:
    definition = text.read_net(parts.deploy)
    layers = definition.param.layer
    if recommender.is_one(layers):
        recommender.keep_inside(parts, layers)
        return _load_recommender(parts, Net(definition, TEST, engine=engine_for(computing.engine, computing.gpu)))
    servable.check_layers(list(layers))
    net = Net(definition, TEST, engine=engine_for(computing.engine, computing.gpu))
    if not net.inputs:
        raise ConfigError("the net has no Input layer to be given requests", where=str(parts.deploy))
    _copy_weights(net, str(parts.weights))
    grows = _grows(net)
    shapes = {name: net.engine_blobs[name].shape for name in (*net.inputs, *net.outputs)}
    if grows:
        shapes = {name: (-1, *shape[1:]) for name, shape in shapes.items()}
    ids = spans(net.param.layer, net.inputs)
    signature = _signature(parts, net.inputs, net.outputs, shapes, grows, ids=ids)
    varies = any(-1 in tensor.shape[1:] for tensor in signature.inputs)
    computer = choose(net, "numpy" if varies and not computing.engine else computing.engine, computing.threads, ids)
    model = _with_settings(parts, signature, computer)
    model.sessions = Sessions(twin(net)) if stepwise(net) else None
    return model


def _load_recommender(parts: Parts, net: Net) -> LoadedModel:
    _copy_weights(net, str(parts.weights))
    asked = recommender.Recommender(net, parts.settings)
    model = _with_settings(parts, asked.signature, asked)
    model.words = asked.words
    if asked.top and not model.labels:
        model.labels = asked.scorer.table.vocabulary("item")
    return model


def _copy_weights(net: Net, path: str) -> None:
    """Like Caffe, but every parameter must be in the file: a net that is half random is not served."""
    if stored.is_hdf5(path):
        net.load_hdf5(path)
        with stored.open_hdf5(path) as file:
            found = set(file.group("data"))
    else:
        layers = stored.read_weights(path).layer
        stored.copy_layers(net, layers, path)
        found = {layer.name for layer in layers if layer.blobs}
    missing = [layer.name for layer in net.layers if layer.blobs and layer.name not in found]
    if missing:
        raise SnapshotError(
            f"the file has no parameters for the layer {', '.join(missing)}",
            where=path,
            hint=did_you_mean(missing[0], found),
        )


def _grows(net: Net) -> bool:
    """Whether the first axis of all inputs and outputs counts items, of which there may be any number."""
    before = {name: net.engine_blobs[name].shape for name in net.inputs}
    if not all(before.values()) or len({shape[0] for shape in before.values()}) != 1:
        return False
    try:
        for items in (2, 3, 1):
            for name, shape in before.items():
                net.engine_blobs[name].reshape(items, *shape[1:])
            net.reshape()
            if any(net.engine_blobs[name].shape[:1] != (items,) for name in net.outputs):
                return _back(net, before)
        return not stepwise(net) or _apart(net, before) or _back(net, before)
    except (ShapeError, ConfigError):
        return _back(net, before)


def _apart(net: Net, before: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether items do not see each other: the first axis of a layer that remembers may be time instead."""
    feeds = {name: np.ones((3, *shape[1:]), np.float32) for name, shape in before.items()}  # markers: it goes on
    feeds[net.inputs[0]][:2] = 0  # which the last item must not notice
    together, last = (_fresh(net, {n: v[at:] for n, v in feeds.items()}) for at in (0, 2))
    _back(net, before)
    return all(np.allclose(together[name][2:], last[name], atol=1e-5) for name in net.outputs)


def _fresh(net: Net, feeds: Arrays) -> Arrays:
    begin_anew(net)
    return computed(net, feeds, net.outputs)


def _back(net: Net, before: Mapping[str, tuple[int, ...]]) -> bool:
    for name, shape in before.items():
        net.engine_blobs[name].reshape(shape)
    net.reshape()
    return False


def _load_onnx(parts: Parts, computing: Computing) -> LoadedModel:
    if computing.engine in ("numpy", "torch"):
        raise ConfigError(f"an ONNX file is computed by onnxruntime, not by {computing.engine}")
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(error.name or "onnx", "onnx", "serving an ONNX file") from None
    data = read_file(parts.weights)
    try:
        model = onnx.load_model_from_string(data)
    except Exception:  # protobuf's
        raise SnapshotError("this is no complete ONNX file", where=str(parts.weights)) from None
    if _outside_data(model.graph):
        raise ConfigError("the ONNX file keeps values in other files, which are not read", where=str(parts.weights))
    session = OnnxModel(data, computing.threads)
    shapes, kinds = {}, {}
    for name, value in (session.inputs | session.outputs).items():
        if value.type not in ONNX_TYPES:
            raise ConfigError(f'"{name}" is a {value.type}; tensors of numbers are served', where=str(parts.weights))
        kinds[name] = np.dtype(ONNX_TYPES[value.type])
        shapes[name] = tuple(dim if isinstance(dim, int) else -1 for dim in value.shape)
    grows = all(shape[:1] == (-1,) for shape in shapes.values())
    signature = _signature(parts, list(session.inputs), list(session.outputs), shapes, grows, kinds=kinds)
    return _with_settings(parts, signature, session)


def _outside_data(graph) -> bool:
    """Whether a tensor of the graph, or of one inside it, lies in another file."""
    tensors = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            tensors += [attribute.t, *attribute.tensors]
            if any(_outside_data(inner) for inner in (attribute.g, *attribute.graphs) if inner.ByteSize()):
                return True
    return any(tensor.data_location == tensor.EXTERNAL for tensor in tensors)


def _signature(
    parts: Parts, inputs: Sequence[str], outputs: Sequence[str], shapes: Mapping[str, tuple[int, ...]], grows: bool, *,
    kinds: Mapping[str, np.dtype] | None = None, ids: Mapping[str, Span] | None = None,
) -> Signature:  # fmt: skip
    settings = parts.settings
    ins = _renamed(settings.input, inputs, shapes, "input") if settings.input else _as_they_are(inputs, shapes)
    if left_out := {*inputs} - {tensor.blob for tensor in ins}:
        raise ConfigError(f"servable.prototxt leaves out the input {', '.join(sorted(left_out))}")
    outs = _renamed(settings.output, outputs, shapes, "output") if settings.output else _as_they_are(outputs, shapes)
    ins, outs = (
        tuple(replace(t, dtype=(kinds or {}).get(t.blob, FLOAT), span=(ids or {}).get(t.blob)) for t in tensors)
        for tensors in (ins, outs)
    )
    return Signature(ins, outs, grows)


def _as_they_are(names: Sequence[str], shapes: Mapping[str, tuple[int, ...]]) -> tuple[Tensor, ...]:
    return tuple(Tensor(name, name, shapes[name]) for name in names)


def _renamed(
    given: Iterable[Renamed], known: Sequence[str], shapes: Mapping[str, tuple[int, ...]], what: str
) -> tuple[Tensor, ...]:
    tensors = []
    for tensor in given:
        blob = tensor.blob or tensor.name
        if blob not in known:
            raise ConfigError(
                f'servable.prototxt: the net has no {what} "{blob}"', hint=did_you_mean(blob, known) or ", ".join(known)
            )
        shape = tuple(tensor.dim) or shapes[blob]
        if len(shape) != len(shapes[blob]):
            raise ShapeError(f'servable.prototxt: {what} "{blob}" has {len(shapes[blob])} axes, not {len(shape)}')
        tensors.append(Tensor(tensor.name or blob, blob, shape))
    return tuple(tensors)


def _with_settings(parts: Parts, signature: Signature, computer: Computer) -> LoadedModel:
    settings = parts.settings
    labels: list[str] = []
    if settings.labels_file:
        labels = text.read_text(servable.inside(parts.folder, settings.labels_file)).splitlines()
    pictures = {}
    for tensor in signature.inputs:
        if len(tensor.shape) == 4 and tensor.shape[1] in (1, 3):
            try:
                pictures[tensor.name] = PictureInput(settings.transform, parts.folder, tensor.shape[1:])
            except CaffeError as error:
                if settings.HasField("transform"):
                    raise error.at("transform") from None
    return LoadedModel(signature, computer, settings, labels, pictures, texts=dict(_texts(parts, signature)))


def _texts(parts: Parts, signature: Signature) -> Iterator[tuple[str, TextInput]]:
    for given in parts.settings.input:
        tensor = next((t for t in signature.inputs if t.name == (given.name or given.blob)), None)
        if tensor is not None and given.vocabulary:
            if len(tensor.shape) != 2:
                raise ShapeError(
                    f'servable.prototxt: "{tensor.name}" has a vocabulary and is no (N, T): {tensor.shape}'
                )
            yield tensor.name, TextInput(servable.inside(parts.folder, given.vocabulary))


def warm_up(model: LoadedModel, path: Path | None = None) -> None:
    """Passes before the first request, over the inputs of `path` (HDF5, by their names) or over zeros.

    Raises SnapshotError where what comes out is not finite.
    """
    feeds = model.zeros()
    if path is not None:
        with open_hdf5(str(path)) as file:
            given = {name: np.asarray(file.dataset(name).numbers()) for name in file}
        try:
            feeds = model.signature.feeds(given)
            model.signature.items(feeds)
        except CaffeError as error:
            raise error.at(str(path)) from None
    for _ in range(max(1, model.settings.warmup_passes)):
        for name, values in model.run(feeds, model.signature.outputs).items():
            if not np.isfinite(values).all():
                raise SnapshotError(f'the output "{name}" is not finite')
