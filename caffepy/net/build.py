"""How a definition becomes layers wired over named blobs, as Caffe wires them, and what takes part in backward."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from caffepy import limits
from caffepy.engine import Engine
from caffepy.errors import ConfigError, ShapeError, did_you_mean, locate
from caffepy.net import footprint, wiring
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, create
from caffepy.net.named import Named
from caffepy.net.rows import Rows
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
    has_gradient: bool = False
    """Whether backward adds to its gradient: also where lr_mult is 0, but not in all layers that share it."""


@dataclass(eq=False)
class Node:
    """A layer in its net, with the blobs that it reads and writes."""

    layer: Layer
    place: str
    """File, line and name, for messages."""
    bottom_names: list[str]
    top_names: list[str]
    bottom: list[Blob]
    top: list[Blob]
    bottom_need_backward: list[bool]
    need_backward: bool = False
    params: list[int] = field(default_factory=list)
    """Of the layer's blobs: their numbers among the net's learnable parameters."""
    owned: list[bool] = field(default_factory=list)
    """Of the layer's blobs: whether it created them, or shares an earlier layer's."""
    shapes: tuple[tuple[int, ...], ...] = ()
    """The bottoms' shapes that the tops are shaped for."""

    @property
    def is_shaped(self) -> bool:
        """Whether the tops are shaped for the bottoms as they are."""
        return self.shapes == tuple([blob.shape for blob in self.bottom])

    def reshape(self) -> None:
        """Shape the tops, and what the layer keeps, for the bottoms as they are."""
        self.layer.reshape(self.bottom, self.top)
        self.shapes = tuple([blob.shape for blob in self.bottom])


class Builder:
    """Sets up the layers of a definition that its state keeps, in order, over their blobs.

    Raises ConfigError and ShapeError with the file, line and layer at fault.
    """

    def __init__(self, definition: text.Definition, engine: Engine):
        self.param = definition.param
        self.engine = engine
        self.nodes: list[Node] = []
        self.blobs: dict[str, Blob] = Named("blob")
        self.loss_weights: dict[str, float] = Named("blob")
        self.inputs: list[str] = []
        self.learnable_params: list[LearnableParam] = []
        self.split_from: dict[str, str] = {}
        """A Split's top to what it copies."""
        self._param_owner: dict[str, int] = {}  # name to index in learnable_params
        self._available: set[str] = set()
        self._need_backward: set[int] = set()  # ids of blobs
        with limits.adding_up():
            self._build(definition)

    @property
    def outputs(self) -> list[str]:
        """The blobs that nobody reads, sorted."""
        return sorted(self._available)

    # What others may do otherwise: a draft of a net, whose data are not there, say

    def keep(self, definition: text.Definition) -> list[tuple[LayerParameter, str]]:
        """The layers that the net's state has, each with its place in the file."""
        kept = list(wiring.filter_layers(self.param, _place_of(self.param.layer, definition.places)))
        for _, place in kept:
            if refusal := definition.refusals.get(place.removesuffix(": ")):
                raise refusal.error()
        return kept

    def create(self, param: LayerParameter) -> Layer:
        """The layer of a definition that says its phase."""
        return create(param, param.phase, self.engine)

    def set_up(self, layer: Layer, bottom: list[Blob], top: list[Blob]) -> None:
        """Shape its tops and make its parameters."""
        layer.set_up(bottom, top)

    # Layers, one after the other

    def _build(self, definition: text.Definition) -> None:
        kept = self.keep(definition)
        layers, found = [layer for layer, _ in kept], [place for _, place in kept]
        at: dict[str, list[str]] = defaultdict(list)
        for layer, place in kept:
            at[layer.name].append(place)
        for layer_param in wiring.insert_splits(layers, found, wiring.left_out(self.param, layers)):
            place = at[layer_param.name].pop(0) if at[layer_param.name] else ""  # "": a Split
            where = f'{place}layer "{layer_param.name}"'
            try:
                self._append_layer(layer_param, where)
            except Exception as error:
                locate(error, where)
                raise
        self._prune_backward()
        if self.param.force_backward:
            self._force_backward()
        for name in self.outputs:
            log.debug("This network produces output %s", name)
        self._share_params()

    def _append_layer(self, source: LayerParameter, place: str) -> None:
        param = LayerParameter()
        param.CopyFrom(source)
        if not param.HasField("phase"):
            param.phase = self.param.state.phase
        if param.propagate_down and len(param.propagate_down) != len(param.bottom):
            raise ConfigError(
                f"propagate_down is given {len(param.propagate_down)} time(s) for {len(param.bottom)} bottom(s)"
            )
        layer = self.create(param)
        layer.bottom_names = [self.split_from.get(name, name) for name in param.bottom]
        if param.type == "Split":
            self.split_from.update(dict.fromkeys(param.top, layer.bottom_names[0]) if param.bottom else {})
        log.debug("Creating Layer %s", param.name)
        bottom = [self._consume(name) for name in param.bottom]
        needs = [id(blob) in self._need_backward for blob in bottom]
        names = _top_names(layer)
        top = [self._produce(param, i, name) for i, name in enumerate(names)]
        if param.type == "Input":
            self.inputs += names
        self.set_up(layer, bottom, top)
        footprint.count(layer, bottom, top)
        self._check_name(layer)
        wanted = [bool(w) for w in param.propagate_down or needs]
        node = Node(layer, place, list(param.bottom), names, bottom, top, wanted)
        node.shapes = tuple(blob.shape for blob in bottom)
        for name, blob, weight in zip(names, top, layer.loss_weights):
            self.loss_weights[name] = weight
            log.debug("Top shape: %s (%d)", " ".join(map(str, blob.shape)), blob.count)
        self.nodes.append(node)
        self._append_params(node, source)
        node.need_backward = any(needs) or any(layer.param_propagate_down)
        if node.need_backward:
            self._need_backward.update(id(blob) for blob in top)

    def _check_name(self, layer: Layer) -> None:
        """Layers of one name have no parameters: Caffe, when it loads or tests such a net, mixes them up or stops."""
        namesakes = [node.layer for node in self.nodes if node.layer.name == layer.name]
        if namesakes and (layer.blobs or namesakes[-1].blobs):
            raise ConfigError("the net has two layers of this name", hint="Give each layer a name of its own.")

    def _consume(self, name: str) -> Blob:
        if name not in self._available:
            raise ConfigError(f'unknown bottom "{name}"', hint=did_you_mean(name, self._available))
        self._available.discard(name)
        return self.blobs[name]

    def _produce(self, param: LayerParameter, i: int, name: str) -> Blob:
        if name == AUTOMATIC:  # outside the namespace: not an output, no bottom can name it
            self.blobs[name] = Blob((), self.engine)
            return self.blobs[name]
        if i < len(param.bottom) and name == param.bottom[i]:
            self._available.add(name)
            return self.blobs[name]  # in place
        if name in self.blobs:
            maker = next((node.layer.name for node in self.nodes if name in node.top_names), param.name)
            hint = "Rename the top; to run in place, name it as bottom of the same index, too."
            if i < len(param.bottom) and self.split_from.get(param.bottom[i]) == name:
                hint = "Other layers read this blob, too, so this layer cannot run in place: rename its top."
            raise ConfigError(f'top "{name}" is already made by layer "{maker}"', hint=hint)
        self._available.add(name)
        self.blobs[name] = blob = Blob((), self.engine)
        blob.name = name
        return blob

    # Parameters

    def _append_params(self, node: Node, source: LayerParameter) -> None:
        """Register the layer's parameters, and which are to be trained by what the definition says.

        A layer may have changed its own specs when it was set up: they count for the solver, but not for whether the
        layer needs backward. (So a BatchNorm without `param` needs it, though nothing of it is trained.)
        """
        layer = node.layer
        specs = list(layer.param.param)
        if len(specs) > len(layer.blobs):
            raise ConfigError(f"{len(specs)} param {{ }} given, the layer has {len(layer.blobs)} parameter blob(s)")
        specs += [ParamSpec()] * (len(layer.blobs) - len(specs))
        defined = [spec.lr_mult != 0 for spec in source.param]
        if source.freeze:
            specs, defined = [_frozen(spec) for spec in specs], [False] * len(specs)
        layer.param_propagate_down = defined + [True] * (len(layer.blobs) - len(defined))
        for i, (blob, spec) in enumerate(zip(layer.blobs, specs)):
            blob.name = f"{layer.name}[{i}]"
            shared = self._param_owner.get(spec.name) if spec.name else None
            node.owned.append(shared is None)
            if shared is None:
                shared = self._new_param(blob, spec)
                if spec.sparse or spec.spread:
                    _make_sparse(layer, i)
            else:
                _join(self.learnable_params[shared], blob, spec)
                _join_rows(self.learnable_params[shared], layer, i, spec)
            self.learnable_params[shared].has_gradient |= layer.param_propagate_down[i] and spec.lr_mult != 0
            node.params.append(shared)

    def _new_param(self, blob: Blob, spec: ParamSpec) -> int:
        number = len(self.learnable_params)
        if spec.name:
            self._param_owner[spec.name] = number
        has = spec.HasField("lr_mult"), spec.HasField("decay_mult")
        self.learnable_params.append(LearnableParam(blob, spec.lr_mult, spec.decay_mult, *has, owner=blob.name))
        return number

    def _share_params(self) -> None:
        for node in self.nodes:
            for blob, number in zip(node.layer.blobs, node.params):
                owner = self.learnable_params[number].blob
                if blob is not owner:
                    blob.share_data(owner)
                    blob.share_gradient(owner)

    # Which layers go backward

    def _prune_backward(self) -> None:
        """Switch off what leads to no loss, and what nobody wants a gradient of (Caffe's backward analysis)."""
        under_loss: set[str] = set()
        skip: set[str] = set()
        for node in reversed(self.nodes):
            contributes = any(w or t in under_loss for t, w in zip(node.top_names, node.layer.loss_weights))
            if not contributes or all(t in skip for t in node.top_names):
                node.need_backward = False
                node.bottom_need_backward = [False] * len(node.bottom)
            for bottom, wanted in zip(node.bottom_names, node.bottom_need_backward):
                if contributes:
                    under_loss.add(bottom)
                if not wanted:
                    skip.add(bottom)

    def _force_backward(self) -> None:
        for node in self.nodes:
            node.need_backward = True
            node.bottom_need_backward = [
                need or node.layer.allow_force_backward(j) for j, need in enumerate(node.bottom_need_backward)
            ]
            node.layer.param_propagate_down = [True] * len(node.layer.blobs)
            for number in node.params:
                self.learnable_params[number].has_gradient = True


def _top_names(layer: Layer) -> list[str]:
    names = list(layer.param.top)
    if layer.auto_top:
        least = layer.num_top if isinstance(layer.num_top, int) else layer.num_top[0]
        names += [AUTOMATIC] * (least - len(names))
    return names


def _make_sparse(layer: Layer, i: int) -> None:
    if i not in layer.sparse_params:
        has = f"{layer.type} can have it for parameter {layer.sparse_params[0]}" if layer.sparse_params else ""
        raise ConfigError(
            f"param {{ {_flag(layer.param.param[i])}: true }} is for tables of which a batch touches a few rows, not "
            f"for parameter {i} of a layer of type {layer.type}",
            hint=f"Leave it out{f'; {has}' if has else ', or use Embed'}.",
        )
    blob = layer.blobs[i]
    blob.rows = Rows(layer.engine, blob.whole_shape)


def _flag(spec: ParamSpec) -> str:
    return "spread" if spec.spread else "sparse"


def _join_rows(shared: LearnableParam, layer: Layer, i: int, spec: ParamSpec) -> None:
    """Raises ConfigError where a shared parameter would have rows as its gradient in one of its layers alone."""
    name, flag = spec.name, _flag(spec)
    if shared.blob.rows is None and (spec.sparse or spec.spread):
        raise ConfigError(
            f'param "{name}" is {flag} here, but not in {shared.owner}, its owner',
            hint=f"Set {flag}: true there, or leave it out here.",
        )
    if shared.blob.rows is not None and i not in layer.sparse_params:
        raise ConfigError(
            f'param "{name}" is sparse in {shared.owner}, its owner, but {layer.type} gives a gradient of all rows',
            hint="Leave out sparse: true there, or give this layer a parameter of its own.",
        )


def _frozen(spec: ParamSpec) -> ParamSpec:
    """As it is, but not to be trained."""
    frozen = ParamSpec()
    frozen.CopyFrom(spec)
    frozen.lr_mult = frozen.decay_mult = 0
    return frozen


def _join(shared: LearnableParam, blob: Blob, spec: ParamSpec) -> None:
    """Let a layer's blob be a parameter that an earlier layer has made."""
    permissive = spec.share_mode == ParamSpec.PERMISSIVE
    if shared.blob.count != blob.count if permissive else shared.blob.shape != blob.shape:
        raise ShapeError(
            f'param "{spec.name}" has shape {blob.shape} here and {shared.blob.shape} in {shared.owner}, its owner',
            hint="" if permissive else "share_mode: PERMISSIVE shares shapes that differ but have one count.",
        )
    for name in ("lr_mult", "decay_mult"):
        if spec.HasField(name):  # type: ignore[arg-type]
            value = getattr(spec, name)
            if getattr(shared, f"has_{name}") and getattr(shared, name) != value:
                raise ConfigError(
                    f'param "{spec.name}": {name} {value:g} here, {getattr(shared, name):g} in {shared.owner}',
                    hint="Shared parameters are updated once: give the multiplier in one place.",
                )
            setattr(shared, f"has_{name}", True)
            setattr(shared, name, value)


def _place_of(layers: Sequence[LayerParameter], places: dict[str, list[str]]) -> Iterator[str]:
    """`file:line:column: ` of each layer; layers of one name stand in the file in the same order."""
    seen: dict[str, int] = defaultdict(int)
    for layer in layers:
        at = places.get(layer.name, [])
        yield f"{at[seen[layer.name]]}: " if seen[layer.name] < len(at) else ""
        seen[layer.name] += 1
