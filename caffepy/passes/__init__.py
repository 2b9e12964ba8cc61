"""How a net's passes run: layer by layer (`Whole`), in parts of the batch (`Divided`), as a CUDA graph (`Recorded`)."""

from __future__ import annotations

from caffepy.net.executor import Executor
from caffepy.net.net import Net
from caffepy.net.observer import Observer
from caffepy.passes.divided import Divided
from caffepy.passes.recorded import Recorded
from caffepy.passes.whole import Whole

__all__ = ["Divided", "Executor", "Observer", "Recorded", "Whole", "of"]


def of(net: Net) -> Executor:
    """The net's executor: who runs its passes may set `net.executor`; else what its engine is fastest with."""
    if net.executor is None:
        net.executor = Divided(net) if net.engine.divides else Whole(net)
    return net.executor
