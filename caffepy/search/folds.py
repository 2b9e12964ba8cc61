"""Cross-validation of a model: the folds of its training data, and the model with one of them held out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np

from caffepy import rng
from caffepy.data.folds import divide
from caffepy.errors import ConfigError
from caffepy.files import atomic_write
from caffepy.layers.batches import BatchLayer
from caffepy.net.alone import Alone
from caffepy.net.layer import layer_class
from caffepy.net.wiring import filter_layers
from caffepy.proto.caffe_pb2 import TEST, TRAIN, LayerParameter, NetParameter, NetState, SolverParameter
from caffepy.search.model import Model
from caffepy.solver import nets

_SOURCE = {
    "data_param": ("source", "backend", "reader"),
    "image_data_param": ("source", "root_folder"),
    "dense_image_data_param": ("source", "root_folder"),
    "hdf5_data_param": ("source",),
    "table_data_param": ("source",),
}
"""The fields that say where a layer's records are, not what it does with them."""


class Folds(NamedTuple):
    """How the records are divided."""

    count: int  # type: ignore[assignment]  # a tuple's method of this name is not needed
    seed: int = 0
    stratify: str = ""
    group: str = ""

    def make(self, model: Model, path: Path) -> None:
        """Write the fold of each record of the model's training source to `path`."""
        sources = [_opened(layer, TRAIN) for layer in foldable(*training(model))]
        if not sources:
            raise ConfigError(
                "the training net has no data layer whose records can be divided",
                hint="Data, ImageData, HDF5Data and TableData have records.",
            )
        lengths = {layer.name: layer.num_records for layer in sources}
        if len(set(lengths.values())) > 1:
            found = ", ".join(f'"{name}" {count}' for name, count in lengths.items())
            raise ConfigError(f"the data layers have different numbers of records: {found}")
        strata, groups = (column(sources, name) if name else None for name in (self.stratify, self.group))
        folds = divide(sources[0].num_records, self.count, self.seed, strata, groups)
        with atomic_write(path) as temporary, open(temporary, "wb") as file:
            np.save(file, folds)


def column(sources: list[BatchLayer], name: str) -> np.ndarray:
    """A value for each record, from the first layer that knows it."""
    problem: ConfigError | None = None
    for layer in sources:
        try:
            return layer.column(name)
        except ConfigError as error:
            problem = problem or error.at(f'layer "{layer.name}"')  # type: ignore[assignment]
    assert problem is not None
    raise problem


def held_out(model: Model, fold: int, path: Path) -> Model:
    """The model trained on all records but those of a fold, and tested on these, each once a test."""
    net, state = training(model)
    p = SolverParameter()
    p.CopyFrom(model.solver)
    train = _copy(net)
    for layer in foldable(train, state):
        _choose(layer, path, fold, held_out=False)
    sources = foldable(net, state)
    tests = [_test(source, state, sources, path, fold) for source, state in testing(model)]
    if not tests:
        raise ConfigError("there is no test net: set test_iter", hint="Any number: a test goes through the fold.")
    for field in ("net", "net_param", "train_net", "train_net_param", "test_net", "test_net_param"):
        p.ClearField(field)  # type: ignore[arg-type]
    names = [f"test{i}" for i in range(len(tests))]
    p.train_net, p.test_net[:], p.test_iter[:] = "train", names, [batches for _, batches in tests]
    return Model(p, {"train": train, **{name: test for name, (test, _) in zip(names, tests)}})


def training(model: Model) -> tuple[NetParameter, NetState]:
    """The net that is trained, in its state."""
    p = model.solver
    source = getattr(p, nets.train_field(p))
    net = model.nets[source] if isinstance(source, str) else source
    return net, nets.merged_state(net, TRAIN, p.train_state if p.HasField("train_state") else None)


def testing(model: Model) -> Iterator[tuple[NetParameter, NetState]]:
    """The nets that are tested, in their states."""
    p = model.solver
    for source, state in zip(nets.test_sources(p), list(p.test_state) or repeat(None)):
        net = model.nets[source] if isinstance(source, str) else source
        yield net, nets.merged_state(net, TEST, state)


def foldable(net: NetParameter, state: NetState) -> list[LayerParameter]:
    """The layers of the net, in this state, that go through records."""
    return [layer for layer, _ in filter_layers(net, repeat(""), state) if _has_records(layer)]


def _has_records(layer: LayerParameter) -> bool:
    kind = layer_class(layer.type).form(layer)
    return issubclass(kind, BatchLayer) and kind.foldable


def _test(
    net: NetParameter, state: NetState, sources: list[LayerParameter], path: Path, fold: int
) -> tuple[NetParameter, int]:
    """The test net with the fold in place of its own records, and how many batches that has."""
    test = _copy(net)
    batches = []
    for layer in foldable(test, state):
        same = [s for s in sources if s.type == layer.type]
        same = [s for s in same if s.top == layer.top] or same
        if not same:
            continue
        _take_source(layer, same[0])
        _choose(layer, path, fold, held_out=True)
        opened = _opened(layer, TEST)
        batches.append(math.ceil(opened.length / opened.batch_size))
    if not batches:
        raise ConfigError(
            "the test net has no data layer like one of the training net's",
            hint="It needs one of the same type, with the same tops.",
        )
    return test, max(batches)


def _take_source(layer: LayerParameter, other: LayerParameter) -> None:
    """Let a layer read where another does."""
    for field, names in _SOURCE.items():
        mine, theirs = getattr(layer, field), getattr(other, field)
        for name in names:
            if theirs.HasField(name):
                setattr(mine, name, getattr(theirs, name))
            else:
                mine.ClearField(name)


def _choose(layer: LayerParameter, path: Path, fold: int, held_out: bool) -> None:
    layer.fold_param.source, layer.fold_param.fold, layer.fold_param.held_out = str(path), fold, held_out


def _opened(layer: LayerParameter, phase: int) -> BatchLayer:
    """The layer by itself; random numbers that it draws are nobody's."""
    with rng.use(rng.Stream(0)):
        found = Alone(layer, phase=phase, tops=max(1, len(layer.top))).layer
    assert isinstance(found, BatchLayer)
    return found


def _copy(net: NetParameter) -> NetParameter:
    out = NetParameter()
    out.CopyFrom(net)
    return out
