"""A solver definition, and drafts of the nets that it names."""

from __future__ import annotations

from dataclasses import dataclass, field

from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.show.draft import Draft


@dataclass
class SolverSubject:
    """What rules about solvers look at."""

    file: str
    param: SolverParameter
    train: Draft | None = None
    """None where there is none that can be read."""
    tests: list[Draft] = field(default_factory=list)
