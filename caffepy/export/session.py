"""OnnxRuntime: a net's forward passes by onnxruntime, from the net exported in memory."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np

from caffepy.errors import ConfigError
from caffepy.export.convert import can_convert
from caffepy.export.extra import needed
from caffepy.export.onnx_file import ExportOptions, model_of
from caffepy.export.piece import Piece
from caffepy.net.blob import Blob
from caffepy.net.net import Net
from caffepy.passes.unseen import Unseen
from caffepy.passes.whole import LayerRun, Told, Whole, placed
from caffepy.proto.caffe_pb2 import TEST

MOST = 8
"""Sessions that are kept, of other layers or other shapes."""
SAMPLES = 64
"""Values of each parameter that are compared before each pass."""


class WeightWatch:
    """Whether parameters are what they were: some values of each, and all of what somebody has asked for."""

    def __init__(self, blobs: Iterable[Blob]):
        self._blobs = list({id(blob): blob for blob in blobs}.values())
        self._samples = [self._sample(blob) for blob in self._blobs]
        self._sums = [self._sum(blob) for blob in self._blobs]
        self._forget()

    def unchanged(self) -> bool:
        asked = [i for i, blob in enumerate(self._blobs) if blob.is_viewed]
        same = all(np.array_equal(self._sample(blob), old) for blob, old in zip(self._blobs, self._samples)) and all(
            self._sum(self._blobs[i]) == self._sums[i] for i in asked
        )
        self._forget()
        return same

    def _sample(self, blob: Blob) -> np.ndarray:
        values = blob.engine.to_host(blob.memory())[: blob.count]
        return values[:: max(1, len(values) // SAMPLES)].copy()

    def _sum(self, blob: Blob) -> int:
        return zlib.crc32(blob.engine.to_host(blob.flat()).tobytes())

    def _forget(self) -> None:
        for blob in self._blobs:
            blob.forget_views()


class Session:
    """Consecutive layers of a net as one graph."""

    def __init__(self, piece: Piece):
        self.piece, self.layers = piece, piece.layers
        kept = {id(blob) for blob in piece.outputs.values()}
        inside = {id(blob): blob for node in piece.nodes for blob in node.top if id(blob) not in kept}
        self._unseen = Unseen(piece.net, piece.layers, inside.values())
        data = model_of(piece.net, ExportOptions(dynamic_batch=False), piece.layers).SerializeToString()
        runtime = needed("onnxruntime", 'engine="onnxruntime"')
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        self._session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        self._read = {value.name for value in self._session.get_inputs()}
        self._weights = WeightWatch(blob for node in piece.nodes for blob in node.layer.blobs)
        self._of = self._shapes()

    def _shapes(self) -> list[tuple[int, ...]]:
        return [blob.shape for blob in self.piece.given.values()]

    def fits(self) -> bool:
        """Whether it computes what the layers would now."""
        return self._of == self._shapes() and self._weights.unchanged()

    def forward(self, told: Told) -> None:
        inputs = {name: blob.host() for name, blob in self.piece.inputs.items() if name in self._read}
        found = self._session.run(list(self.piece.outputs), {n: np.ascontiguousarray(x) for n, x in inputs.items()})
        for blob, values in zip(self.piece.outputs.values(), found):
            blob.reshape(values.shape)
            blob.fill(values)
        self._unseen.wait()

    def backward(self, told: Told, wanted: dict[int, list[bool]]) -> None:
        raise no_gradients()


def no_gradients() -> ConfigError:
    return ConfigError("onnxruntime computes no gradients", hint='Use engine="numpy", or "torch".')


class OnnxRuntime(Whole):
    """Runs stretches of layers that can be exported by onnxruntime, the others, data and scores, as ever.

    For nets of the TEST phase on the NumPy engine. Weights that change are noticed, and the layers exported anew; a
    blob between layers is computed when somebody reads it. Observers of every layer see every layer, run one by one.
    """

    gradients = False

    def __init__(self, net: Net):
        needed("onnx", 'engine="onnxruntime"')
        needed("onnxruntime", 'engine="onnxruntime"')
        if net.phase != TEST:
            raise ConfigError(
                "onnxruntime runs nets of the TEST phase, this one is of the TRAIN phase",
                hint='Use phase TEST, or engine="numpy" to train.',
            )
        super().__init__(net)
        self._pieces: dict[tuple[int, ...], Piece | None] = {}
        self._sessions: dict[tuple[Any, ...], Session] = {}

    def backward(
        self,
        layers: Iterable[int] | None = None,
        *,
        losses: Collection[str] | None = None,
        params: Collection[Blob] | None = None,
    ) -> None:
        raise no_gradients()

    def together(self) -> list[list[int]]:
        found: list[list[int]] = []
        rest: Sequence[int] = self.usual(False)
        while rest:
            piece = self._piece(rest)
            found.append(piece.layers if piece else [rest[0]])
            rest = rest[len(found[-1]) :]
        return found

    def _run_at(self, layers: Sequence[int]) -> LayerRun:
        piece = None if self._one_by_one else self._piece(layers)
        if piece is None:
            return super()._run_at(layers)
        for node in piece.nodes:
            if not node.is_shaped:
                placed(node, node.reshape)
        return self._session(piece)

    def _piece(self, layers: Sequence[int]) -> Piece | None:
        """The layers from the first on that run as one, if any."""
        key = tuple(layers)
        if key not in self._pieces:
            found = list(self._exportable(layers))
            self._pieces[key] = Piece(self._net, found) if found else None
        return self._pieces[key]

    def _exportable(self, layers: Sequence[int]) -> Iterator[int]:
        read: set[int] = set()  # blobs that others have made, which must stay what they are
        made: set[str] = set()
        for i, wanted in zip(count(layers[0]), layers):
            node = self._net.nodes[i]
            if i != wanted or not node.bottom or not can_convert(node):
                return
            read |= {id(blob) for name, blob in zip(node.bottom_names, node.bottom) if name not in made}
            if any(id(top) in read for top in node.top):
                return
            made.update(node.top_names)
            yield i

    def _session(self, piece: Piece) -> Session:
        key = (*piece.layers, *(blob.shape for blob in piece.given.values()))
        session = self._sessions.pop(key, None)
        if session is None or not session.fits():
            session = Session(piece)
        self._sessions[key] = session  # the last used is the last
        while len(self._sessions) > MOST:
            del self._sessions[next(iter(self._sessions))]
        return session
