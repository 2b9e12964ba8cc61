"""Net: layers in order over named blobs, wired and run as Caffe does."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

from caffepy import debug, weights, wiring
from caffepy.blob import Array, Blob
from caffepy.engine import Engine, default_engine
from caffepy.errors import CaffeError, ConfigError, ShapeError, did_you_mean
from caffepy.layer import Layer, create
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import LayerParameter, NetParameter, NetState, ParamSpec

log = logging.getLogger(__name__)

AUTOMATIC = "(automatic)"


@dataclass
class LearnableParam:
    """A parameter that the solver updates once, however many layers share it."""

    blob: Blob
    lr_mult: float
    decay_mult: float
    has_lr_mult: bool
    has_decay_mult: bool
    owner: str
    """`layer[index]` that created it, for messages."""


class Net:
    """A graph of layers built from a definition.

    `network` is the path of a prototxt or a NetParameter; `phase`, `level` and `stages` override and extend the
    definition's own `state`. `weights` names trained weights to load, several separated by commas.
    Raises ConfigError and ShapeError with the file, line and layer at fault.
    """

    def __init__(
        self,
        network: str | PathLike[str] | NetParameter | text.Definition,
        phase: int | None = None,
        level: int | None = None,
        stages: Sequence[str] = (),
        weights: weights.Paths | None = None,
        *,
        engine: Engine | None = None,
        state: NetState | None = None,
    ):
        definition = text.definition(network)
        self.engine = engine or default_engine()
        self.param = NetParameter()
        self.param.CopyFrom(definition.param)
        if state is not None:
            self.param.state.CopyFrom(state)
        if phase is not None:
            self.param.state.phase = phase
        if level is not None:
            self.param.state.level = level
        self.param.state.stage.extend(stages)
        self.name = self.param.name
        self.phase = self.param.state.phase

        self.layers: list[Layer] = []
        self.layer_dict: dict[str, Layer] = {}
        self.blobs: dict[str, Blob] = {}
        self.bottoms: list[list[Blob]] = []
        self.tops: list[list[Blob]] = []
        self.top_names: dict[str, list[str]] = {}
        self.bottom_names: dict[str, list[str]] = {}
        self.blob_loss_weights: dict[str, float] = {}
        self.layer_need_backward: list[bool] = []
        self.bottom_need_backward: list[list[bool]] = []
        self.inputs: list[str] = []
        self.learnable_params: list[LearnableParam] = []
        self.hooks: dict[str, list[Callable[[int], None]]] = defaultdict(list)
        """Functions of a layer index under "before_forward", "after_forward", "before_backward", "after_backward"."""

        self._places: list[str] = []
        self._shapes: list[tuple] = []
        self._split_from: dict[str, str] = {}  # a Split's top to what it copies
        self._param_index: list[list[int]] = []
        self._param_owner: dict[str, int] = {}  # name to index in learnable_params
        self._owned: set[tuple[str, int]] = set()
        self._build(definition.places)
        if weights:
            self.copy_from(weights)

    # Building

    def _build(self, places: dict[str, list[str]]) -> None:
        log.debug("Initializing net from parameters: \n%s", text.to_text(self.param))
        kept = list(wiring.filter_layers(self.param, _place_of(self.param.layer, places)))
        layers, found = [layer for layer, _ in kept], [place for _, place in kept]
        at = dict(zip((layer.name for layer in layers), found))
        available: set[str] = set()
        need_backward: dict[int, bool] = {}  # by id of the blob
        for layer_param in wiring.insert_splits(layers, found, wiring.left_out(self.param, layers)):
            place = at.get(layer_param.name, "")
            where = f'{place}layer "{layer_param.name}"'
            self._places.append(where)
            try:
                self._append_layer(layer_param, available, need_backward)
            except CaffeError as error:
                error.at(where)
                raise
        self._prune_backward()
        if self.param.force_backward:
            self._force_backward()
        self.outputs: list[str] = sorted(available)
        for name in self.outputs:
            log.debug("This network produces output %s", name)
        self._share_params()

    def _append_layer(self, source: LayerParameter, available: set[str], need_backward: dict[int, bool]) -> None:
        param = LayerParameter()
        param.CopyFrom(source)
        if not param.HasField("phase"):
            param.phase = self.phase
        if param.propagate_down and len(param.propagate_down) != len(param.bottom):
            raise ConfigError(
                f"propagate_down is given {len(param.propagate_down)} time(s) for {len(param.bottom)} bottom(s)"
            )
        if param.name in self.layer_dict:
            raise ConfigError("the net has two layers of this name", hint="Give each layer a name of its own.")
        layer = create(param, param.phase, self.engine)
        layer.bottom_names = [self._split_from.get(name, name) for name in param.bottom]
        if param.type == "Split":
            self._split_from.update(dict.fromkeys(param.top, layer.bottom_names[0]) if param.bottom else {})
        log.debug("Creating Layer %s", param.name)
        bottom = [self._consume(name, available) for name in param.bottom]
        needs = any(need_backward.get(id(blob), False) for blob in bottom)
        wanted = param.propagate_down or [need_backward.get(id(blob), False) for blob in bottom]
        names = list(param.top)
        if layer.auto_top:
            least = layer.num_top if isinstance(layer.num_top, int) else layer.num_top[0]
            names += [AUTOMATIC] * (least - len(names))
        top = [self._produce(param, i, name, available) for i, name in enumerate(names)]
        if param.type == "Input":
            self.inputs += names
        layer.set_up(bottom, top)
        for name, blob, weight in zip(names, top, layer.loss_weights):
            self.blob_loss_weights[name] = weight
            log.debug("Top shape: %s (%d)", " ".join(map(str, blob.shape)), blob.count)

        self.layers.append(layer)
        self.layer_dict[param.name] = layer
        self.bottoms.append(bottom)
        self.tops.append(top)
        self.bottom_names[param.name] = list(param.bottom)
        self.top_names[param.name] = names
        self.bottom_need_backward.append([bool(w) for w in wanted])
        self._shapes.append(tuple(blob.shape for blob in bottom))
        needs |= self._append_params(layer, source)
        self.layer_need_backward.append(needs)
        if needs:
            need_backward.update((id(blob), True) for blob in top)

    def _consume(self, name: str, available: set[str]) -> Blob:
        if name not in available:
            raise ConfigError(f'unknown bottom "{name}"', hint=did_you_mean(name, available))
        available.discard(name)
        return self.blobs[name]

    def _produce(self, param: LayerParameter, i: int, name: str, available: set[str]) -> Blob:
        if name == AUTOMATIC:  # outside the namespace: not an output, no bottom can name it
            self.blobs[name] = Blob((), self.engine)
            return self.blobs[name]
        if i < len(param.bottom) and name == param.bottom[i]:
            available.add(name)
            return self.blobs[name]  # in place
        if name in self.blobs:
            maker = next((n for n, tops in self.top_names.items() if name in tops), param.name)
            raise ConfigError(
                f'top "{name}" is already made by layer "{maker}"',
                hint="Rename the top; to run in place, name it as bottom of the same index, too.",
            )
        available.add(name)
        self.blobs[name] = Blob((), self.engine)
        return self.blobs[name]

    def _append_params(self, layer: Layer, source: LayerParameter) -> bool:
        """Register the layer's parameters; whether one of them is to be trained by what the definition says.

        A layer may have changed its own specs when it was set up: they count for the solver, but not for whether the
        layer needs backward. (So a BatchNorm without `param` needs it, though nothing of it is trained.)
        """
        specs = list(layer.param.param)
        if len(specs) > len(layer.blobs):
            raise ConfigError(f"{len(specs)} param {{ }} given, the layer has {len(layer.blobs)} parameter blob(s)")
        specs += [ParamSpec()] * (len(layer.blobs) - len(specs))
        defined = [spec.lr_mult != 0 for spec in source.param]
        layer.param_propagate_down = defined + [True] * (len(layer.blobs) - len(defined))
        self._param_index.append([self._append_param(layer, i, spec) for i, spec in enumerate(specs)])
        return any(layer.param_propagate_down)

    def _append_param(self, layer: Layer, i: int, spec: ParamSpec) -> int:
        blob = layer.blobs[i]
        if not spec.name or spec.name not in self._param_owner:
            self._owned.add((layer.name, i))
            if spec.name:
                self._param_owner[spec.name] = len(self.learnable_params)
            has = spec.HasField("lr_mult"), spec.HasField("decay_mult")
            self.learnable_params.append(
                LearnableParam(blob, spec.lr_mult, spec.decay_mult, *has, owner=f"{layer.name}[{i}]")
            )
            return len(self.learnable_params) - 1
        index = self._param_owner[spec.name]
        shared = self.learnable_params[index]
        permissive = spec.share_mode == ParamSpec.PERMISSIVE
        if shared.blob.count != blob.count if permissive else shared.blob.shape != blob.shape:
            raise ShapeError(
                f'param "{spec.name}" has shape {blob.shape} here and {shared.blob.shape} in {shared.owner}, its owner',
                hint="" if permissive else "share_mode: PERMISSIVE shares shapes that differ but have one count.",
            )
        for field in ("lr_mult", "decay_mult"):
            if spec.HasField(field):
                value = getattr(spec, field)
                if getattr(shared, f"has_{field}") and getattr(shared, field) != value:
                    raise ConfigError(
                        f'param "{spec.name}": {field} {value:g} here, {getattr(shared, field):g} in {shared.owner}',
                        hint="Shared parameters are updated once: give the multiplier in one place.",
                    )
                setattr(shared, f"has_{field}", True)
                setattr(shared, field, value)
        return index

    def _share_params(self) -> None:
        for layer, indices in zip(self.layers, self._param_index):
            for blob, index in zip(layer.blobs, indices):
                owner = self.learnable_params[index].blob
                if blob is not owner:
                    blob.share_data(owner)
                    blob.share_diff(owner)

    def _prune_backward(self) -> None:
        """Switch off what leads to no loss, and what nobody wants a gradient of (Caffe's backward analysis)."""
        under_loss: set[str] = set()
        skip: set[str] = set()
        for i in reversed(range(len(self.layers))):
            layer, name = self.layers[i], self.layers[i].name
            tops = self.top_names[name]
            contributes = any(w or t in under_loss for t, w in zip(tops, layer.loss_weights))
            if all(t in skip for t in tops):
                self.layer_need_backward[i] = False
                self.bottom_need_backward[i] = [False] * len(self.bottoms[i])
            if not contributes:
                self.layer_need_backward[i] = False
                self.bottom_need_backward[i] = [False] * len(self.bottoms[i])
            for j, bottom in enumerate(self.bottom_names[name]):
                if contributes:
                    under_loss.add(bottom)
                if not self.bottom_need_backward[i][j]:
                    skip.add(bottom)

    def _force_backward(self) -> None:
        for i, layer in enumerate(self.layers):
            self.layer_need_backward[i] = True
            self.bottom_need_backward[i] = [
                need or layer.allow_force_backward(j) for j, need in enumerate(self.bottom_need_backward[i])
            ]
            layer.param_propagate_down = [True] * len(layer.blobs)

    # Running

    def forward_from_to(self, start: int = 0, end: int | None = None) -> Array:
        """Run layers `start` .. `end` (inclusive, default: the last); the weighted sum of losses they made."""
        loss: Any = 0.0
        i = start
        try:
            for i in range(start, len(self.layers) if end is None else end + 1):
                loss = loss + self.forward_layer(i)
        except CaffeError as error:
            error.at(self._places[i])
            raise
        return loss

    def forward_layer(self, i: int) -> Array:
        """Run one layer, reshaping it first where a bottom's shape has changed; its part of the loss."""
        layer, bottom, top = self.layers[i], self.bottoms[i], self.tops[i]
        self._call("before_forward", i)
        shapes = tuple([blob.shape for blob in bottom])
        if shapes != self._shapes[i]:
            layer.reshape(bottom, top)
            self._shapes[i] = shapes
        layer.forward(bottom, top)
        loss: Any = 0.0
        for blob, weight in zip(top, layer.loss_weights):
            if weight:
                loss = loss + self.xp_sum(blob)
        if self.param.debug_info:
            debug.forward(self, i)
        self._call("after_forward", i)
        return loss

    def xp_sum(self, blob: Blob) -> Array:
        """sum(data * diff): the loss of a top whose gradient holds its weight."""
        return self.engine.xp.sum(blob.data * blob.diff)

    def backward_from_to(self, start: int | None = None, end: int = 0) -> None:
        """Run the backward passes of layers `start` (default: the last) down to `end`."""
        i = end
        try:
            for i in range(len(self.layers) - 1 if start is None else start, end - 1, -1):
                if self.layer_need_backward[i]:
                    self.backward_layer(i)
        except CaffeError as error:
            error.at(self._places[i])
            raise
        if self.param.debug_info:
            debug.backward_total(self)

    def backward_layer(self, i: int) -> None:
        self._call("before_backward", i)
        self.layers[i].backward(self.tops[i], self.bottom_need_backward[i], self.bottoms[i])
        if self.param.debug_info:
            debug.backward(self, i)
        self._call("after_backward", i)

    def forward_backward(self) -> Array:
        """One forward and one backward pass; the loss."""
        loss = self.forward_from_to()
        self.backward_from_to()
        return loss

    def reshape(self) -> None:
        """Propagate the inputs' shapes to all layers. Forward does so by itself."""
        for i, layer in enumerate(self.layers):
            try:
                layer.reshape(self.bottoms[i], self.tops[i])
            except CaffeError as error:
                error.at(self._places[i])
                raise
            self._shapes[i] = tuple(blob.shape for blob in self.bottoms[i])

    def clear_param_diffs(self) -> None:
        """Set the gradients of all parameters to zero."""
        for param in self.learnable_params:
            param.blob.flat("diff")[...] = 0

    def _call(self, when: str, i: int) -> None:
        for hook in self.hooks.get(when, ()):
            hook(i)

    # Parameters

    @property
    def params(self) -> dict[str, list[Blob]]:
        """Layer name to parameter blobs, for layers that have any."""
        return {layer.name: layer.blobs for layer in self.layers if layer.blobs}

    def owns_param(self, layer: str, i: int) -> bool:
        """Whether the blob is the layer's own, not shared from an earlier layer."""
        return (layer, i) in self._owned

    def copy_from(self, source: weights.Paths) -> None:
        """Copy trained layers by name from `.caffemodel` or HDF5 files; refuses shapes that do not fit."""
        weights.load(self, source)

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

    # Facts

    @property
    def layer_names(self) -> list[str]:
        return [layer.name for layer in self.layers]

    @property
    def data_bytes(self) -> int:
        """Memory for all tops, every Split and in-place top counted, as Caffe reports it."""
        return 4 * sum(blob.count for tops in self.tops for blob in tops)

    def output_values(self) -> Iterator[tuple[str, float, Any]]:
        """Name, loss weight and host array of each output blob."""
        for name in self.outputs:
            yield name, self.blob_loss_weights.get(name, 0.0), self.engine.to_host(self.blobs[name].data)


def _place_of(layers: Sequence[LayerParameter], places: dict[str, list[str]]) -> Iterator[str]:
    """`file:line:column: ` of each layer; layers of one name stand in the file in the same order."""
    seen: dict[str, int] = defaultdict(int)
    for layer in layers:
        at = places.get(layer.name, [])
        yield f"{at[seen[layer.name]]}: " if seen[layer.name] < len(at) else ""
        seen[layer.name] += 1
