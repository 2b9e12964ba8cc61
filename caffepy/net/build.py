"""Graph: layers wired over named blobs as Caffe wires them, and what takes part in backward."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from caffepy.engine import Engine, default_engine
from caffepy.errors import CaffeError, ConfigError, ShapeError, did_you_mean
from caffepy.net import wiring
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, create
from caffepy.net.named import Named
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import LayerParameter, ParamSpec

log = logging.getLogger("caffepy.net")

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


class Graph:
    """The layers of `definition` that its state keeps, set up in order over their blobs.

    Raises ConfigError and ShapeError with the file, line and layer at fault.
    """

    def __init__(self, definition: text.Definition, engine: Engine | None = None):
        self.engine = engine or default_engine()
        self.param = definition.param
        self.name = self.param.name
        self.phase = self.param.state.phase

        self.layers: list[Layer] = []
        self.layer_dict: dict[str, Layer] = Named("layer")
        self.engine_blobs: dict[str, Blob] = Named("blob")
        self.bottoms: list[list[Blob]] = []
        self.tops: list[list[Blob]] = []
        self.top_names: dict[str, list[str]] = Named("layer")
        self.bottom_names: dict[str, list[str]] = Named("layer")
        self.names_of_tops: list[list[str]] = []
        self.names_of_bottoms: list[list[str]] = []
        """By index of the layer, as `tops` and `bottoms`: layers without parameters may have one name."""
        self.blob_loss_weights: dict[str, float] = Named("blob")
        self.layer_need_backward: list[bool] = []
        self.bottom_need_backward: list[list[bool]] = []
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.learnable_params: list[LearnableParam] = []
        self.places: list[str] = []
        """Of each layer: its file, line and name, for messages."""
        self.shapes: list[tuple[tuple[int, ...], ...]] = []
        """Of each layer: the bottoms' shapes that its tops are shaped for."""
        self._split_from: dict[str, str] = {}  # a Split's top to what it copies
        self._param_index: list[list[int]] = []
        self._param_owner: dict[str, int] = {}  # name to index in learnable_params
        self._owned: set[tuple[str, int]] = set()
        self._build(definition)

    def _build(self, definition: text.Definition) -> None:
        if log.isEnabledFor(logging.DEBUG):  # the text of a definition with weights takes minutes
            log.debug("Initializing net from parameters: \n%s", text.to_text(self.param))
        kept = list(wiring.filter_layers(self.param, _place_of(self.param.layer, definition.places)))
        layers, found = [layer for layer, _ in kept], [place for _, place in kept]
        at: dict[str, list[str]] = defaultdict(list)
        for layer, place in kept:
            at[layer.name].append(place)
            if refusal := definition.refusals.get(place.removesuffix(": ")):
                raise refusal.error()
        available: set[str] = set()
        need_backward: dict[int, bool] = {}  # by id of the blob
        for layer_param in wiring.insert_splits(layers, found, wiring.left_out(self.param, layers)):
            place = at[layer_param.name].pop(0) if at[layer_param.name] else ""  # "": a Split
            where = f'{place}layer "{layer_param.name}"'
            self.places.append(where)
            try:
                self._append_layer(layer_param, available, need_backward)
            except CaffeError as error:
                error.at(where)
                raise
        self._prune_backward()
        if self.param.force_backward:
            self._force_backward()
        self.outputs = sorted(available)
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
        if param.name in self.layer_dict and (layer.blobs or self.layer_dict[param.name].blobs):
            # Caffe builds the net, and when it loads or tests it, mixes the parameters up or stops.
            raise ConfigError("the net has two layers of this name", hint="Give each layer a name of its own.")
        for name, blob, weight in zip(names, top, layer.loss_weights):
            self.blob_loss_weights[name] = weight
            log.debug("Top shape: %s (%d)", " ".join(map(str, blob.shape)), blob.count)

        self.layers.append(layer)
        self.layer_dict[param.name] = layer
        self.bottoms.append(bottom)
        self.tops.append(top)
        self.bottom_names[param.name] = list(param.bottom)
        self.top_names[param.name] = names
        self.names_of_bottoms.append(list(param.bottom))
        self.names_of_tops.append(names)
        self.bottom_need_backward.append([bool(w) for w in wanted])
        self.shapes.append(tuple(blob.shape for blob in bottom))
        needs |= self._append_params(layer, source)
        self.layer_need_backward.append(needs)
        if needs:
            need_backward.update((id(blob), True) for blob in top)

    def is_shaped(self, i: int) -> bool:
        """Whether layer i's tops are shaped for its bottoms as they are."""
        return self.shapes[i] == tuple([blob.shape for blob in self.bottoms[i]])

    def source_of(self, blob: str) -> str:
        """The blob that a Split's top copies, or the blob itself."""
        return self._split_from.get(blob, blob)

    def _consume(self, name: str, available: set[str]) -> Blob:
        if name not in available:
            raise ConfigError(f'unknown bottom "{name}"', hint=did_you_mean(name, available))
        available.discard(name)
        return self.engine_blobs[name]

    def _produce(self, param: LayerParameter, i: int, name: str, available: set[str]) -> Blob:
        if name == AUTOMATIC:  # outside the namespace: not an output, no bottom can name it
            self.engine_blobs[name] = Blob((), self.engine)
            return self.engine_blobs[name]
        if i < len(param.bottom) and name == param.bottom[i]:
            available.add(name)
            return self.engine_blobs[name]  # in place
        if name in self.engine_blobs:
            maker = next((n for n, tops in self.top_names.items() if name in tops), param.name)
            hint = "Rename the top; to run in place, name it as bottom of the same index, too."
            if i < len(param.bottom) and self._split_from.get(param.bottom[i]) == name:
                hint = "Other layers read this blob, too, so this layer cannot run in place: rename its top."
            raise ConfigError(f'top "{name}" is already made by layer "{maker}"', hint=hint)
        available.add(name)
        self.engine_blobs[name] = blob = Blob((), self.engine)
        blob.name = name
        return blob

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
        blob.name = f"{layer.name}[{i}]"
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
            layer, tops = self.layers[i], self.names_of_tops[i]
            contributes = any(w or t in under_loss for t, w in zip(tops, layer.loss_weights))
            if all(t in skip for t in tops):
                self.layer_need_backward[i] = False
                self.bottom_need_backward[i] = [False] * len(self.bottoms[i])
            if not contributes:
                self.layer_need_backward[i] = False
                self.bottom_need_backward[i] = [False] * len(self.bottoms[i])
            for j, bottom in enumerate(self.names_of_bottoms[i]):
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


def _place_of(layers: Sequence[LayerParameter], places: dict[str, list[str]]) -> Iterator[str]:
    """`file:line:column: ` of each layer; layers of one name stand in the file in the same order."""
    seen: dict[str, int] = defaultdict(int)
    for layer in layers:
        at = places.get(layer.name, [])
        yield f"{at[seen[layer.name]]}: " if seen[layer.name] < len(at) else ""
        seen[layer.name] += 1
