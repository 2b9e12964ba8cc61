"""Checks of one layer: shapes, gradients, in place, in parts, exact resume, both engines; what `check-layer` prints.

for check in caffepy.check_layer('type: "Leaky" param_str: "slope: 0.2"', [(2, 3, 4, 5)]):
    assert check.outcome != "fails", check
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec

from caffepy.engine import get_engine
from caffepy.errors import CaffeError, described, origin
from caffepy.proto import caffe_pb2, text
from caffepy.show.checks.engines import same_numbers
from caffepy.show.checks.gradients import gradient
from caffepy.show.checks.parts import in_parts
from caffepy.show.checks.places import in_place
from caffepy.show.checks.resume import exact_resume
from caffepy.show.checks.shapes import shapes
from caffepy.show.checks.subject import Bottom, Check, Fails, Skipped, Subject

__all__ = ["Bottom", "Check", "check_layer"]


def check_layer(
    layer: str | caffe_pb2.LayerParameter,
    bottoms: Sequence[Bottom | Sequence[int]] = (),
    engines: Sequence[str] = ("numpy", "torch"),
    phase: int = caffe_pb2.TRAIN,
    tops: int = 1,
) -> list[Check]:
    """Check a layer, given by its definition, on bottoms of these shapes. What fails is said, not raised.

    Raises CaffeError where the layer refuses to be built so.
    """
    param = text.parse(layer, caffe_pb2.LayerParameter()) if isinstance(layer, str) else layer
    shaped = [b if isinstance(b, Bottom) else Bottom(tuple(b)) for b in bottoms]
    subjects: list[Subject] = []
    failed = False
    found: list[Check] = []
    for name in engines:
        if name == "torch" and find_spec("torch") is None:
            found.append(Check(name, "all", "skipped", 'PyTorch is not installed: pip install "caffepy[torch]"'))
            continue
        subjects.append(Subject(param, shaped, get_engine(name), phase, tops))
        if not (failure := _setup(subjects[-1])):
            found += _on_one_engine(subjects[-1])
        else:
            found.append(failure)
            failed = True
    if len(subjects) > 1 and not failed:
        found.append(_checked("both", "same numbers", partial(same_numbers, subjects)))
    return found


def _setup(subject: Subject) -> Check | None:
    """What the layer's own code raises when it is built. Raises CaffeError where it refuses its parameters."""
    try:
        subject.build()
    except CaffeError:
        raise
    except Exception as error:
        return Check(subject.engine.name, "setup", "fails", _one_line(f"{described(error)} {origin(error)}"))
    return None


def _on_one_engine(subject: Subject) -> Iterator[Check]:
    engine, built = subject.engine.name, subject.build()
    yield _checked(engine, "shapes", partial(shapes, subject))
    for i in range(len(built.bottom)):
        yield _checked(engine, f"gradient of bottom {i}", partial(gradient, subject, i))
    for i in range(len(built.layer.blobs)):
        yield _checked(engine, f"gradient of parameter {i}", partial(gradient, subject, len(built.bottom) + i))
    yield _checked(engine, "in place", partial(in_place, subject))
    yield _checked(engine, "in parts", partial(in_parts, subject))
    yield _checked(engine, "exact resume", partial(exact_resume, subject))


def _checked(engine: str, name: str, check: Callable[[], str]) -> Check:
    try:
        outcome, said = "passes", check()
    except Skipped as reason:
        outcome, said = "skipped", str(reason)
    except Fails as reason:
        outcome, said = "fails", str(reason)
    except Exception as error:  # of the layer's own code
        outcome, said = "fails", f"{described(error)} {origin(error)}"
    return Check(engine, name, outcome, _one_line(said))


def _one_line(text: str) -> str:
    return " ".join(text.split())
