"""Net: layers over named blobs, and their parameters. How its passes run: `caffepy.passes`."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from os import PathLike, fspath
from threading import RLock
from typing import Any

from caffepy import rng
from caffepy.engine import Engine, default_engine
from caffepy.errors import ConfigError, ShapeError, locate
from caffepy.files import check_writable
from caffepy.net import weights as stored
from caffepy.net.build import Builder, Node
from caffepy.net.executor import Executor
from caffepy.net.layer import Layer
from caffepy.net.named import Named
from caffepy.net.observer import Observer
from caffepy.net.spread import Share
from caffepy.net.weights import Paths
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import TEST, TRAIN, NetParameter, NetState

log = logging.getLogger("caffepy.net")

Source = str | PathLike[str] | NetParameter | text.Definition


class Net:
    """A graph of layers built from a definition: the path of a prototxt, or a NetParameter.

    `phase`, `level` and `stages` override and extend the definition's own `state`, which `state` replaces. `weights`
    names trained weights to load.
    Raises ConfigError and ShapeError with the file, line and layer at fault.
    """

    def __init__(
        self,
        source: Source,
        phase: int | None = None,
        level: int | None = None,
        stages: Sequence[str] | None = (),
        weights: Paths | None = None,
        *,
        engine: Engine | None = None,
        state: NetState | None = None,
    ):
        definition = text.definition(source)
        self.param = _with_state(definition.param, phase, level, stages, state)
        self.name = self.param.name
        self.phase = self.param.state.phase
        self.engine = engine or default_engine()
        self.random = rng.current()
        """The random numbers that its layers draw."""
        self._lock, self._lock_of = RLock(), os.getpid()
        self.observers: list[Observer] = []
        self.executor: Executor | None = None
        """Runs its passes: see `caffepy.passes.of`."""
        self.inference: Net | None = None
        """A net of the TEST phase on the same weights, where one was needed."""
        if log.isEnabledFor(logging.DEBUG):  # the text of a definition with weights takes minutes
            log.debug("Initializing net from parameters: \n%s", text.to_text(self.param))
        built = Builder(definition._replace(param=self.param), self.engine)
        self.nodes: list[Node] = built.nodes
        self.engine_blobs = built.blobs
        self.inputs, self.outputs = built.inputs, built.outputs
        self.learnable_params = built.learnable_params
        self.blob_loss_weights = built.loss_weights
        self._split_from = built.split_from
        self.layer_dict: dict[str, Layer] = Named("layer", ((node.layer.name, node.layer) for node in self.nodes))
        if weights:
            self.copy_from(weights)

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """Held by whoever runs a pass, changes blobs, or reads what a pass has left; in a forked process a new one."""
        if self._lock_of != os.getpid():
            self._lock, self._lock_of = RLock(), os.getpid()
        return self._lock

    @property
    def layers(self) -> list[Layer]:
        return [node.layer for node in self.nodes]

    @property
    def layer_names(self) -> list[str]:
        return [node.layer.name for node in self.nodes]

    def source_of(self, blob: str) -> str:
        """The blob that a Split's top copies, or the blob itself."""
        return self._split_from.get(blob, blob)

    @property
    def share(self) -> Share | None:
        """The processes over which tables of this net are spread, as this one sees them."""
        return next((param.blob.spread.share for param in self.learnable_params if param.blob.spread), None)

    @property
    def data_bytes(self) -> int:
        """Memory for all tops, every Split and in-place top counted, as Caffe reports it."""
        return 4 * sum(blob.count for node in self.nodes for blob in node.top)

    def output_values(self) -> Iterator[tuple[str, float, Any]]:
        """Name, loss weight and host array of each output blob."""
        self.settle()
        for name in self.outputs:
            yield name, self.blob_loss_weights.get(name, 0.0), self.engine_blobs[name].host()

    def settle(self) -> None:
        """Where the engine is lazy, raise what this net's layers have refused since the last call: labels, indices."""
        self.engine.settle({node.layer: node.place for node in self.nodes})

    def reshape(self) -> None:
        """Propagate the inputs' shapes to all layers. A forward pass does so by itself."""
        with self.lock:
            for node in self.nodes:
                try:
                    node.reshape()
                except Exception as error:
                    locate(error, node.place)
                    raise

    # Parameters

    def clear_param_diffs(self) -> None:
        """Set the gradients of all parameters to zero."""
        with self.lock:
            for param in self.learnable_params:
                param.blob.clear_diff()

    def copy_from(self, source: Paths) -> None:
        """Copy trained layers by name from `.caffemodel` or HDF5 files; refuses shapes that do not fit."""
        with self.lock:
            stored.load(self, source)

    def save(self, path: str | PathLike[str], write_diff: bool = False) -> None:
        """Write the weights as a binary caffemodel."""
        check_writable(path)
        with self.lock:
            stored.save(self, fspath(path), write_diff)

    def save_hdf5(self, path: str | PathLike[str], write_diff: bool = False) -> None:
        """Write the weights as HDF5."""
        check_writable(path)
        with self.lock:
            stored.save_hdf5(self, fspath(path), write_diff)

    def load_hdf5(self, path: str | PathLike[str]) -> None:
        """Copy trained layers by name from an HDF5 file."""
        with self.lock:
            stored.load_hdf5(self, fspath(path))

    def owns_param(self, layer: str, i: int) -> bool:
        """Whether the blob is the layer's own, not shared from an earlier layer."""
        return any(node.layer.name == layer and i < len(node.owned) and node.owned[i] for node in self.nodes)

    def share_trained_layers_with(self, other: Net) -> None:
        """Use the parameters of the other net's layers of the same names, as test nets do."""
        for source in other.layers:
            target = self.layer_dict.get(source.name)
            if target is None:
                log.info("Ignoring source layer %s", source.name)
                continue
            if [b.shape for b in target.blobs] != [b.shape for b in source.blobs]:
                raise ShapeError(
                    f'layer "{source.name}" has parameters {[b.shape for b in target.blobs]} in one net '
                    f"and {[b.shape for b in source.blobs]} in the other"
                )
            for mine, theirs in zip(target.blobs, source.blobs):
                mine.share_data(theirs)


def _with_state(
    definition: NetParameter,
    phase: int | None,
    level: int | None,
    stages: Sequence[str] | None,
    state: NetState | None,
) -> NetParameter:
    """The definition with the state that the net is to be built in."""
    param = NetParameter()
    param.CopyFrom(definition)
    if state is not None:
        param.state.CopyFrom(state)
    if phase is not None:
        if phase not in (TRAIN, TEST):
            raise ConfigError(f"the phase is caffepy.TRAIN (0) or caffepy.TEST (1), got {phase!r}")
        param.state.phase = phase  # type: ignore[assignment]
    if level is not None:
        param.state.level = level
    param.state.stage.extend([stages] if isinstance(stages, str) else stages or ())
    return param
