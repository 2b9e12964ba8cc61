"""Where a draft's blobs come from: data that are here, else shapes given, told by the definition, or guessed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from google.protobuf.message import Message

from caffepy import permissions, plugins
from caffepy.engine import Engine
from caffepy.errors import CaffeError, ConfigError, did_you_mean
from caffepy.layers.batches import BatchLayer
from caffepy.net.layer import Layer, LossLayer, create, layer_class
from caffepy.proto.caffe_pb2 import LayerParameter, NetParameter
from caffepy.show.draft import files, python_layers
from caffepy.show.draft.deploys import Deploys, input_shapes
from caffepy.show.draft.stand_in import Shape, StandIn, scalars, unknown

GUESS = (3, 224, 224)
"""A picture of which nothing is known."""


class Absent(NamedTuple):
    """Something that a layer needs and that is not here."""

    layer: str
    field: str
    what: str
    """`"train_lmdb"`, `the module "rpn.proposal_layer"`."""
    path: str = ""


class Assumed(NamedTuple):
    """What is taken for the shapes of a source, and what tells it."""

    shapes: list[Shape | None]
    by: str
    """"--shape", "the definition", the name of a file; "" for a guess."""
    tops: tuple[str, ...] = ()


class Sources:
    """Makes the layers of drafts that would read data, or run code, that may not be here.

    `shapes` are given by the name of a top; `batch` is how many items sources are to have, 0 for as they say. `near`
    are definitions among which, and in whose folders, a deploy net may say what a picture is.
    """

    def __init__(self, shapes: Mapping[str, Shape] | None = None, batch: int = 0, near: Sequence[str] = ()):
        self.given, self.batch, self._deploys = dict(shapes or {}), batch, Deploys(near)
        self.tops: set[str] = set()
        """All that sources of nets make."""
        self.absent: dict[Absent, Assumed | None] = {}
        """And which shapes the layer has got all the same."""
        self.guessed: set[str] = set()
        """Layers whose shapes are guesses."""
        self._missed: list[Absent] = []

    def layer(self, param: LayerParameter, net: NetParameter, engine: Engine) -> Layer | None:
        """What to build of this definition; None for the layer as it is."""
        self._missed = []
        if param.type == "Input":
            return self._input(param, engine)
        if param.type == "Python":
            return self._python(param, net, engine)
        kind = layer_class(param.type)
        absent = files.missing(param)
        for named in absent:
            self._miss(param, named.field, f'"{named.path}"', named.path)
        says = issubclass(kind, BatchLayer) and self._says(param)
        without_data = any(named.field == "source" for named in absent)
        if issubclass(kind, BatchLayer) and (says or without_data):
            return self._fixed(param, self._expected(param, kind, net), engine)
        if without_data:
            return StandIn(param, engine, scalars if issubclass(kind, LossLayer) else unknown, kind)
        if absent:
            return create(files.without(param, [named.field for named in absent]), param.phase, engine)
        return None

    def _says(self, param: LayerParameter) -> bool:
        """Whether a shape, or a batch size, is given for this source."""
        self.tops.update(param.top)
        return bool(self.given.keys() & set(param.top) or self.batch)

    def check_used(self) -> None:
        """Raises ConfigError for a shape that is given for the top of no source."""
        check_names(self.given, self.tops)

    def _miss(self, param: LayerParameter, field: str, what: str, path: str = "") -> None:
        absent = Absent(param.name, field, what, path)
        self._missed.append(absent)
        self.absent[absent] = None

    def _input(self, param: LayerParameter, engine: Engine) -> Layer | None:
        shapes: list[Shape | None] = list(input_shapes(param))
        says = self._says(param)
        if param.input_param.shape and not (shapes and says):
            return None
        found = Assumed(shapes, "the definition") if shapes else Assumed([(1, *GUESS)] * len(param.top), "")
        return self._fixed(param, found, engine)

    def _python(self, param: LayerParameter, net: NetParameter, engine: Engine) -> Layer | None:
        module, allowed = param.python_param.module, permissions.python_layers()
        says = not param.bottom and self._says(param)
        if allowed and not says and (not module or plugins.is_there(module)):
            return None
        self._miss(param, "module", f'the module "{module}"' + ("" if allowed else ", which may not run"))
        shapes = python_layers.expected(param)
        if param.bottom:
            return StandIn(param, engine, shapes or (scalars if any(param.loss_weight) else unknown))
        if shapes:
            return self._fixed(param, Assumed(list(shapes([])), "what is known of the class"), engine)
        return self._fixed(param, self._guessed(param, [None] * len(param.top), net), engine)

    def _expected(self, param: LayerParameter, kind: type[BatchLayer], net: NetParameter) -> Assumed:
        expected, by = kind.expected(param), "the definition" if kind.tells_shapes else ""
        deploy = self._deploys.of(net) if None in expected else None
        if deploy and len(picture := deploy.inputs.get(param.top[0], ())) == 4:
            expected, by = kind.expected(param, (picture[1], picture[2], picture[3])), deploy.file
        elif expected and expected[0] is None:  # so that other tops, labels of pixels, fit the picture
            expected, by = kind.expected(param, GUESS), ""
        return self._guessed(param, expected, net) if None in expected else Assumed(expected, by)

    def _guessed(self, param: LayerParameter, expected: Sequence[Shape | None], net: NetParameter) -> Assumed:
        """Where nothing tells: a deploy net's input of the same name, a label an item, or a picture."""
        deploy, batch, labels = self._deploys.of(net), _batch_size(param), _labels(net)
        shapes, guesses = list(expected), 0
        for i, (top, shape) in enumerate(zip(param.top, expected)):
            if shape is None and deploy and top in deploy.inputs:
                shapes[i] = (batch, *deploy.inputs[top][1:])
            elif shape is None:
                guesses += top not in labels
                shapes[i] = (batch,) if top in labels or "label" in top else (batch, *GUESS)
        return Assumed(shapes, deploy.file if deploy and not guesses else "")

    def _fixed(self, param: LayerParameter, found: Assumed, engine: Engine) -> Layer:
        """A stand-in for a source, with what is given instead of what was found."""
        tops = tuple(param.top)
        given = self.given.get(tops[0]) if tops else None
        batch = given[0] if given else self.batch
        shapes = [_with_batch(shape, found.shapes[0], batch) for shape in found.shapes]
        shapes = [self.given.get(top, shape) for top, shape in zip(tops, shapes)]
        by = "--shape" if self.given.keys() & set(tops) else found.by
        self.absent.update(dict.fromkeys(self._missed, Assumed(shapes, by, tops)))
        self.guessed = self.guessed - {param.name} if by else self.guessed | {param.name}
        return StandIn(param, engine, lambda bottoms: shapes)


def check_names(given: Iterable[str], tops: set[str]) -> None:
    """Raises ConfigError for a shape that is given for none of these."""
    if unused := sorted(set(given) - tops):
        hint = did_you_mean(unused[0], tops) or (f"There are: {', '.join(sorted(tops))}." if tops else "")
        raise ConfigError(f"--shape {unused[0]}: no source of data has a top of this name", hint=hint)


def _batch_size(param: LayerParameter) -> int:
    found = (getattr(value, "batch_size", None) for _, value in param.ListFields() if isinstance(value, Message))
    return next((size for size in found if size), 1)


def _with_batch(shape: Shape | None, first: Shape | None, batch: int) -> Shape | None:
    """The shape with `batch` items, if it has as many as the first top."""
    if not shape or not first or not batch or shape[0] != first[0]:
        return shape
    return (batch, *shape[1:])


def _labels(net: NetParameter) -> set[str]:
    """Blobs that something is compared with."""
    found = set()
    for layer in net.layer:
        try:
            if layer.bottom and layer_class(layer.type).takes_label:
                found.add(layer.bottom[-1])
        except CaffeError:
            continue
    return found
