"""Training: what a solver shows to those who follow it, write it down or test its nets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from caffepy import rng
from caffepy.engine import Engine
from caffepy.net.blob import Blob
from caffepy.net.net import Net
from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.solver.claim import Claim
from caffepy.solver.loss import SmoothedLoss


class Training(Protocol):
    """`caffepy.solver.Solver`, as its own parts and its listeners see it."""

    param: SolverParameter
    engine: Engine
    random: rng.Stream
    test_nets: list[Net]
    smoothed_loss: SmoothedLoss
    snapshot_prefix: str
    claim: Claim
    scores: dict[str, float]
    """Of the last test."""
    current_step: int
    rate: float
    """The learning rate of the last update."""
    root: bool
    """Whether this process tests and writes snapshots: the first of several, or the only one."""
    testing: bool
    before_test: dict[str, Any] | None
    stopped_early: bool
    written: str
    """The state file that was written last."""
    last_snapshot: str
    """The one to resume from."""
    requests: Any
    _iter: int

    @property
    def listeners(self) -> Any: ...

    @property
    def iter(self) -> int: ...

    @property
    def net(self) -> Net: ...

    @property
    def history(self) -> Sequence[Blob]: ...

    def announce(self, event: str) -> None: ...

    def request(self, action: Any) -> None: ...

    def stop(self) -> None: ...

    def snapshot(self, name: str | None = None) -> str: ...

    def snapshot_if_possible(self, name: str | None = None) -> None: ...

    def state(self) -> dict[str, Any]: ...

    def set_state(self, state: dict[str, Any]) -> None: ...
