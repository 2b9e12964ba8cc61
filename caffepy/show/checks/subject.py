"""What is checked: a layer that can be built again and again, the same to the bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from caffepy import rng
from caffepy.engine import Engine
from caffepy.net.alone import Alone
from caffepy.net.layer import Layer, NoGradientError
from caffepy.proto.caffe_pb2 import LayerParameter

FLOOR = 0.1
"""The least that counts as the largest value of an array, of which tolerances are parts."""


class Bottom(NamedTuple):
    """The shape of a bottom, and what is in it: `normal` or `positive` numbers, or an `index` below `classes`."""

    shape: tuple[int, ...]
    kind: str = "normal"
    classes: int = 0

    def values(self, random: np.random.Generator, items: int | None = None) -> np.ndarray:
        """Random values; with another first axis, where `items` is given."""
        shape = self.shape if items is None else (items, *self.shape[1:])
        if self.kind == "index":
            return random.integers(0, self.classes, shape).astype(np.float32)
        made = random.uniform(0.5, 2, shape) if self.kind == "positive" else random.standard_normal(shape)
        return np.asarray(made, np.float32)


class Check(NamedTuple):
    """What has become of one check."""

    engine: str
    name: str
    outcome: str
    """"passes", "fails" or "skipped"."""
    text: str


class Fails(Exception):
    """What a check has found."""


class Skipped(Exception):
    """Why a check says nothing."""


class Subject:
    """The definition of a layer, the bottoms to try it on, and the engine that computes."""

    def __init__(self, param: LayerParameter, bottoms: Sequence[Bottom], engine: Engine, phase: int, tops: int):
        self.param, self.bottoms, self.engine, self.phase, self.tops = param, bottoms, engine, phase, tops

    def values(self, items: int | None = None) -> list[np.ndarray]:
        """Values of all bottoms."""
        random = np.random.default_rng(1)
        return [bottom.values(random, items) for bottom in self.bottoms]

    def build(self, items: int | None = None, in_place: bool = False) -> Alone:
        """A new layer, its trained parameters moved away from zero and other special values."""
        rng.seed(1)
        param = LayerParameter()
        param.CopyFrom(self.param)
        values = self.values(items)
        alone = Alone(param, *values, engine=self.engine, phase=self.phase, tops=self.tops, in_place=in_place)
        random = np.random.default_rng(2)
        for blob, trained in zip(alone.layer.blobs, self.trained(alone.layer)):
            if trained:
                blob.fill(blob.host() + 0.1 * random.standard_normal(blob.shape))
        return alone

    def forward(self, alone: Alone, values: Sequence[np.ndarray] | None = None) -> list[np.ndarray]:
        """The tops for these values of the bottoms, or for `values()`, with the same random numbers each time."""
        for blob, new in zip(alone.bottom, self.values() if values is None else values):
            blob.reshape(new.shape)
            blob.fill(new)
        rng.seed(3)
        return alone.forward()

    def backward(self, alone: Alone, tops: Sequence[np.ndarray]) -> list[np.ndarray]:
        """All gradients, of wanted bottoms and trained parameters, for some of tops like these. They start from 0.

        Raises Skipped where there are none.
        """
        for blob in (*alone.bottom, *alone.layer.blobs):
            blob.diff[...] = 0
        wanted = self.wanted(alone.layer)
        try:
            alone.backward(*weights(tops), propagate_down=wanted)
        except (NoGradientError, NotImplementedError) as error:
            raise Skipped(str(error)) from None
        blobs = [*alone.bottom, *alone.layer.blobs]
        return [np.array(blob.host("diff")) for blob, w in zip(blobs, [*wanted, *self.trained(alone.layer)]) if w]

    def wanted(self, layer: Layer) -> list[bool]:
        """Which bottoms may have a gradient."""
        return [b.kind != "index" and layer.allow_force_backward(i) for i, b in enumerate(self.bottoms)]

    def trained(self, layer: Layer) -> list[bool]:
        """Which parameters may have a gradient: not so, for example, the statistics of a BatchNorm."""
        specs = layer.param.param
        return [i >= len(specs) or specs[i].lr_mult != 0 for i in range(len(layer.blobs))]


def weights(tops: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Gradients of the tops: what each value counts in the sum that is differentiated."""
    random = np.random.default_rng(4)
    return [random.standard_normal(y.shape).astype(np.float32) for y in tops]


def check_same(
    found: Sequence[np.ndarray], expected: Sequence[np.ndarray], here: str, there: str, tolerance: float
) -> None:
    """Raises Fails with the worst difference between what `here` gives and what `there` gives."""
    for ours, theirs in zip(found, expected):
        if ours.shape != theirs.shape:
            raise Fails(f"{here} gives shape {ours.shape}, {there} {theirs.shape}")
        off = np.abs(ours - theirs)
        if not (off <= tolerance * max(float(np.abs(theirs).max(initial=0)), FLOOR)).all():
            at = np.unravel_index(int(np.argmax(off)), off.shape)
            raise Fails(f"{here} gives {ours[at]:.6g}, {there} {theirs[at]:.6g}")
