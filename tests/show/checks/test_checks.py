"""check_layer: what is right passes, and each mistake is found by its check."""

from __future__ import annotations

import re

import numpy as np
import pytest

import caffepy
from caffepy import rng
from caffepy.engine import get_engine
from caffepy.errors import ConfigError
from caffepy.net import layer as layers
from caffepy.net.layer import Layer
from caffepy.show.checks import Bottom, check_layer
from caffepy.show.checks.parts import in_parts
from caffepy.show.checks.places import in_place
from caffepy.show.checks.resume import exact_resume
from caffepy.show.checks.shapes import shapes
from caffepy.show.checks.subject import Skipped, Subject
from tests.layers import detection
from tests.layers.test_gradients import CASES
from tests.support import ENGINES


class Square(Layer):
    """y = w x^2, which is right in all respects; what is derived from it is wrong in one."""

    def setup(self, bottom, top):
        self.add_blob((1,))

    def reshape(self, bottom, top):
        top[0].reshape_like(bottom[0])
        self.kept = self.engine.zeros(bottom[0].shape)

    def forward(self, bottom, top):
        self.kept[...] = bottom[0].data
        top[0].data[...] = self.kept * self.kept * self.blobs[0].data[0]

    def backward(self, top, propagate_down, bottom):
        dy = top[0].diff + 0  # in place it is the bottom's, too
        self.blobs[0].diff[0] += self.xp.sum(dy * self.kept * self.kept)
        bottom[0].diff[...] = self.factor() * dy * self.kept * self.blobs[0].data[0]

    def factor(self):
        return 2


class WrongFactor(Square):
    def factor(self):
        return 2.1


class AddsToTheBottom(Square):
    def backward(self, top, propagate_down, bottom):
        before = bottom[0].diff + 0
        super().backward(top, propagate_down, bottom)
        bottom[0].diff[...] += before


class OverwritesItsParameter(Square):
    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[...] = 0
        super().backward(top, propagate_down, bottom)


class ForgetsLaterItems(Square):
    items = 0

    def reshape(self, bottom, top):
        super().reshape(bottom, top)
        self.items = self.items or bottom[0].shape[0]

    def forward(self, bottom, top):
        super().forward(bottom, top)
        top[0].data[self.items :] = 0


class NeedsTheBottom(Square):
    def backward(self, top, propagate_down, bottom):
        self.kept[...] = bottom[0].data
        super().backward(top, propagate_down, bottom)


class RefusesInPlace(NeedsTheBottom):
    in_place = "refused"


class SaysItNeedsTheBottom(NeedsTheBottom):
    in_place = "forward"


class Forgets(Square):
    calls = 0

    def forward(self, bottom, top):
        super().forward(bottom, top)
        self.calls += 1
        top[0].data[...] += self.calls


class Remembers(Forgets):
    def state(self):
        return {"calls": self.calls}

    def set_state(self, state):
        self.calls = state["calls"]


class RemembersAnObject(Remembers):
    def state(self):
        return {"calls": self}


class Divisible(Square):
    def divisible(self):
        return True


class MixesItems(Divisible):
    divisible = Divisible.divisible  # said by the class itself: what it inherits does not count

    def forward(self, bottom, top):
        super().forward(bottom, top)
        top[0].data[...] -= self.xp.mean(top[0].data)


class MeanOverItems(Divisible):
    """Its parameter's gradient is no sum."""

    divisible = Divisible.divisible

    def backward(self, top, propagate_down, bottom):
        before = self.blobs[0].diff + 0
        super().backward(top, propagate_down, bottom)
        self.blobs[0].diff[...] = before + (self.blobs[0].diff - before) / top[0].shape[0]


class FailsInSetup(Square):
    def setup(self, bottom, top):
        raise KeyError("size")


class NotFinite(Square):
    def forward(self, bottom, top):
        top[0].data[...] = np.inf


class Raises(Square):
    def backward(self, top, propagate_down, bottom):
        raise IndexError("none\nof those")


class KnowsTheEngine(Square):
    def factor(self):
        return 2.0 if self.engine.name == "numpy" else 2.002


class NoGradient(Square):
    backward = Layer.backward


class Random(Square):
    def forward(self, bottom, top):
        super().forward(bottom, top)
        top[0].data[...] += rng.draw() % 7


class Absolute(Layer):
    in_place = "refused"

    def reshape(self, bottom, top):
        top[0].reshape_like(bottom[0])

    def forward(self, bottom, top):
        top[0].data[...] = self.xp.abs(bottom[0].data)

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = self.xp.sign(bottom[0].data) * top[0].diff


class Corners(Absolute):
    """Kinks at all points where it is checked."""

    base = None

    def forward(self, bottom, top):
        if self.base is None or self.base.shape != bottom[0].shape:
            self.base = bottom[0].data + 0
        top[0].data[...] = self.xp.abs(bottom[0].data - self.base)


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    layers.layer_types()
    for cls in (v for v in globals().values() if isinstance(v, type) and issubclass(v, Layer) and v is not Layer):
        monkeypatch.setitem(layers._registry, cls.__name__, cls)
        monkeypatch.setattr(cls, "type", cls.__name__)


def outcomes(cls, *bottoms, engines=("numpy",)):
    return {
        check.name: f"{check.outcome}: {check.text}"
        for check in check_layer(f'type: "{cls.__name__}"', bottoms or [(2, 3, 4, 5)], engines=engines)
    }


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_right_passes(engine):
    assert outcomes(Square, engines=(engine,)) == {
        "shapes": "passes: (2, 3, 4, 5); as well with other numbers of items, and back",
        "gradient of bottom 0": "passes: 120 points",
        "gradient of parameter 0": "passes: 1 points",
        "in place": "passes: the same values and gradients",
        "in parts": "passes: over whole batches: it does not say divisible()"
        if engine == "numpy"
        else "skipped: this engine computes whole batches",
        "exact resume": "passes: the same bits",
    }


WRONG = {
    WrongFactor: {"gradient of bottom 0": r"at \(.*\) backward gives .*, differences give "},
    AddsToTheBottom: {"gradient of bottom 0": "backward must overwrite what is there, and adds to it", "in place": ""},
    OverwritesItsParameter: {"gradient of parameter 0": "backward must add to what is there, and overwrites it"},
    ForgetsLaterItems: {"shapes": r"with 3 item\(s\), where there were others, it gives 0, a new layer"},
    NeedsTheBottom: {
        "in place": "in place backward gives .* Keep what backward needs, or say in the class: in_place ="
    },
    Forgets: {
        "shapes": "with 3 item",
        "gradient of bottom 0": "the same pass with the same random seed gives",
        "gradient of parameter 0": "the same pass",
        "exact resume": r"after a resume it gives other values: state\(\) returns all that it remembers",
    },
    Remembers: {},
    RemembersAnObject: {"exact resume": "cannot store RemembersAnObject in a snapshot: state"},
    RefusesInPlace: {},
    Divisible: {},
    MixesItems: {"in parts": "in parts of the batch it gives .*, over the whole "},
    MeanOverItems: {"in parts": "backward in parts of the batch gives .* Gradients of parameters must be sums"},
    FailsInSetup: {"setup": r"^fails: KeyError: 'size' At .*test_checks\.py:\d+\.$"},
    SaysItNeedsTheBottom: {},
    NotFinite: {"shapes": "forward gives values that are not finite"},
    Raises: {
        "gradient of bottom 0": r"IndexError: none of those At .*test_checks\.py:\d+\.",
        "gradient of parameter 0": "IndexError",
        "in place": "IndexError",
    },
    NoGradient: {},
    Absolute: {},
    Corners: {"gradient of bottom 0": "all 120 points are at kinks"},
}


@pytest.mark.parametrize("cls", WRONG)
def test_each_mistake_is_found(cls):
    found = outcomes(cls)
    failed = {name: text for name, text in found.items() if text.startswith("fails")}
    if cls in (RemembersAnObject, NotFinite, Corners, MixesItems, MeanOverItems):
        failed = {name: failed[name] for name in WRONG[cls]}  # it trips over the others, too
    assert set(failed) == set(WRONG[cls])
    for name, message in WRONG[cls].items():
        assert re.search(message, failed[name])


def test_what_is_said_of_what_does_not_fail():
    assert outcomes(RefusesInPlace)["in place"] == "passes: refused: RefusesInPlace cannot run in place"
    assert outcomes(SaysItNeedsTheBottom)["in place"].startswith(
        "passes: the same values; it says that its gradient is"
    )
    assert outcomes(NoGradient)["gradient of bottom 0"].startswith("skipped: NoGradient has no gradient")
    assert outcomes(NoGradient)["in place"] == "passes: the same values"
    assert outcomes(Divisible)["in parts"] == "passes: the same values and gradients"
    assert outcomes(Divisible, (1, 3))["in parts"] == "skipped: its blobs do not all have several items"
    assert list(outcomes(FailsInSetup, engines=ENGINES)) == ["setup"]
    kinks = outcomes(Absolute)["gradient of bottom 0"]
    assert kinks.startswith("passes: 120 points, ") and kinks.endswith(" of them left out at kinks")


@pytest.mark.skipif(len(ENGINES) < 2, reason="one engine")
def test_both_engines_must_agree():
    both = lambda cls: outcomes(cls, engines=ENGINES)["same numbers"]  # noqa: E731
    assert both(Square) == "passes: the same values and gradients"
    assert both(KnowsTheEngine).startswith("fails: torch gives ")
    assert both(Random) == "skipped: the layer draws random numbers, and each engine has its own"
    assert both(NoGradient) == "passes: the same values and gradients"


def test_without_pytorch(monkeypatch):
    from caffepy.show import checks

    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    last = check_layer('type: "ReLU"', [(2, 3)])[-1]
    assert last == ("torch", "all", "skipped", 'PyTorch is not installed: pip install "caffepy[torch]"')


def test_bottoms_of_every_kind():
    found = {
        check.name: check.outcome
        for check in check_layer(
            'type: "Embed" embed_param { num_output: 2 input_dim: 3 }', [Bottom((4,), "index", 3)], engines=("numpy",)
        )
    }
    assert found.pop("in place") == found.pop("gradient of bottom 0") == "skipped"
    assert set(found.values()) == {"passes"}
    found = check_layer('type: "Log"', [Bottom((4,), "positive")], engines=("numpy",))
    assert {check.outcome for check in found} == {"passes"}


def test_what_refuses_to_be_built_is_an_error():
    with pytest.raises(ConfigError, match="kernel_size is not set"):
        caffepy.check_layer('type: "Convolution" convolution_param { num_output: 1 }', [(2, 3, 4, 5)])


class Made:
    """A bottom of a detection layer, the same whatever the number of items; it has no gradient."""

    kind = "index"

    def __init__(self, make, shape):
        self.make, self.shape = make, shape

    def values(self, random, items=None):
        return np.asarray(self.make(random, self.shape), np.float32)


def subject(layer_type, fields, bottoms, tops):
    from caffepy.proto import caffe_pb2, text

    kinds = {"marker": ("index", 2), "selector": ("index", 2), "target": ("index", 2), "positive": ("positive",)}
    shaped = []
    for spec in bottoms:
        kind, shape = spec if spec and isinstance(spec[0], str) else ("normal", spec)
        kind, _, number = kind.partition(" ")
        if kind in detection.VALUES:
            shaped.append(Made(detection.VALUES[kind], shape))
            continue
        indices = kind in ("index", "places", "list")
        shaped.append(Bottom(shape, *(("index", int(number)) if indices else kinds.get(kind, ()))))
    param = text.parse(f'type: "{layer_type}" {fields}', caffe_pb2.LayerParameter())
    number = {0: len(bottoms), -1: len(bottoms) - 1, None: 0}.get(tops[0], tops[0]) if tops else 1
    return Subject(param, shaped, get_engine("numpy"), caffepy.TRAIN, number)


@pytest.mark.parametrize("layer_type", CASES)
def test_caffes_layers_pass(layer_type):
    """All but gradients, which have a test of their own: tests/layers/test_gradients.py."""
    for fields, lists, *tops in CASES[layer_type]:
        for bottoms in lists:
            checked = subject(layer_type, fields, bottoms, tops)
            for check in (shapes, in_place, in_parts, exact_resume):
                try:
                    check(checked)
                except Skipped:
                    assert check in (in_place, in_parts)
