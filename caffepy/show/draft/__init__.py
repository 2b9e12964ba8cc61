"""Drafts: nets built as far as they can be, without their data and without values, to be looked at."""

from __future__ import annotations

from typing import NamedTuple

from caffepy.engine import Engine, get_engine
from caffepy.errors import CaffeError, blamed
from caffepy.net import fillers, wiring
from caffepy.net.blob import Blob
from caffepy.net.build import Builder
from caffepy.net.layer import Layer
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import LayerParameter, NetState
from caffepy.show.draft.sources import Sources
from caffepy.show.draft.stand_in import StandIn

__all__ = ["Draft", "Problem", "Sources", "StandIn", "draft"]


class Problem(NamedTuple):
    """Why a layer, or the net, cannot be built."""

    error: CaffeError
    layer: str = ""
    guessed: bool = False
    """Whether it may come from a shape that is a guess."""
    left_out: bool = False
    """Whether it is that the net's state leaves out what makes a bottom."""


class Draft(Builder):
    """The net of a definition that its state keeps, as far as it can be built.

    What cannot is among the `problems`, with all that is wrong; layers behind it are not looked at.
    """

    def __init__(self, definition: text.Definition, sources: Sources, engine: Engine | None = None):
        self.sources, self.refusals = sources, definition.refusals
        self.problems: list[Problem] = []
        self.unchecked: list[str] = []
        """Layers behind a problem, or behind shapes that nobody knows."""
        self.is_wired = False
        """Whether all layers are there, be it without shapes, so that one may ask who reads what."""
        self._lost_reads: set[str] = set()
        self._unknown: set[int] = set()
        self._guessed: set[int] = set()
        self._unknown_types = False
        self._place = self._layer = ""
        self._on_guess = False
        try:
            with fillers.left_out():
                super().__init__(definition._replace(refusals={}), engine or get_engine("numpy"))
            self.is_wired = not self._lost_reads and not self._unknown_types
        except CaffeError as error:
            self.problems.append(Problem(error, self._layer, self._on_guess))

    @property
    def is_whole(self) -> bool:
        """Whether all layers are there, with shapes."""
        return not self.problems and not self.unchecked and not self._unknown

    @property
    def read_names(self) -> set[str]:
        """The blobs that some layer reads last, and not only in place."""
        made = {self.split_from.get(name, name) for node in self.nodes for name in node.top_names}
        return (made - set(self.outputs)) | self._lost_reads

    def keep(self, definition: text.Definition) -> list[tuple[LayerParameter, str]]:
        kept = super().keep(definition)
        layers = [layer for layer, _ in kept]
        dropped = wiring.left_out(self.param, layers)
        there: set[str] = set()
        lost: set[str] = set()
        connected = []
        for layer, place in kept:
            if refusal := self.refusals.get(place.removesuffix(": ")):
                self.problems.append(Problem(refusal.error(), layer.name))
            missing = [name for name in layer.bottom if name not in there]
            if not missing:
                there.update(layer.top)
                connected.append((layer, place))
                continue
            self.unchecked.append(layer.name)
            self._lost_reads.update(layer.bottom)
            if not lost & set(missing):
                error = wiring.unknown_bottom(layer, missing[0], layers, place, dropped)
                self.problems.append(Problem(error, layer.name, left_out=missing[0] in dropped))
                self.unchecked.pop()
            lost |= set(layer.top) - there
        return connected

    def _append_layer(self, source: LayerParameter, place: str) -> None:
        self._place, self._layer, self._on_guess = place, source.name, False
        super()._append_layer(source, place)

    def create(self, param: LayerParameter) -> Layer:
        try:
            return self.sources.layer(param, self.param, self.engine) or super().create(param)
        except Exception as error:
            self._note(param.name, error)
            self._unknown_types = True
            return StandIn(param, self.engine)

    def set_up(self, layer: Layer, bottom: list[Blob], top: list[Blob]) -> None:
        if any(id(blob) in self._unknown for blob in bottom):
            self.unchecked.append(layer.name)
            self._give_up(layer, top)
            return
        guessed = any(id(blob) in self._guessed for blob in bottom) or self._is_guess(layer)
        self._guessed.update(id(blob) for blob in top if guessed)
        self._on_guess = guessed  # also for what goes wrong when the layer is set up
        try:
            layer.set_up(bottom, top)
        except Exception as error:
            self._note(layer.name, error, guessed)
            self._give_up(layer, top)
        if isinstance(layer, StandIn):
            self._unknown.update(map(id, layer.unknown))

    def _is_guess(self, layer: Layer) -> bool:
        return isinstance(layer, StandIn) and layer.name in self.sources.guessed

    def _give_up(self, layer: Layer, top: list[Blob]) -> None:
        self._unknown.update(map(id, top))
        layer.blobs = []
        del layer.param.param[:]
        layer.loss_weights = list(layer.param.loss_weight) or [layer.default_loss_weight(i) for i in range(len(top))]

    def _note(self, layer: str, error: Exception, guessed: bool = False) -> None:
        """Keep what is wrong with a layer. What is no mistake of the definition's goes on."""
        said = error if isinstance(error, CaffeError) else blamed(error)
        if said is None:
            raise error
        self.problems.append(Problem(said.at(self._place), layer, guessed))


def draft(definition: text.Definition, state: NetState, sources: Sources) -> Draft:
    """The draft of a definition in a state, which replaces its own."""
    param = type(definition.param)()
    param.CopyFrom(definition.param)
    param.state.CopyFrom(state)
    return Draft(definition._replace(param=param), sources)
