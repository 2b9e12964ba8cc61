"""The loss as it is displayed: the mean of the last ones."""

from __future__ import annotations

from typing import Any

from caffepy.engine import Engine


class SmoothedLoss:
    """Mean of the last `window` losses, of those seen so far until there are as many.

    A loss may still be on a device: it comes to the host when somebody looks.
    """

    def __init__(self, window: int):
        self.window = max(1, window)
        self._losses: list[Any] = []
        self.count = 0

    def add(self, loss: Any) -> None:
        if len(self._losses) < self.window:
            self._losses.append(loss)
        else:
            self._losses[self.count % self.window] = loss
        self.count += 1

    def is_known(self, engine: Engine) -> bool:
        """Whether a look waits for nothing."""
        return all(engine.known(loss) is not None for loss in self._losses)

    @property
    def losses(self) -> list[float]:
        self._losses = [float(loss) for loss in self._losses]
        return self._losses

    @property
    def value(self) -> float:
        return sum(self.losses) / len(self.losses) if self._losses else 0.0

    def state(self) -> dict[str, Any]:
        return {"losses": list(self.losses), "count": self.count}

    def set_state(self, state: dict[str, Any]) -> None:
        self._losses, self.count = list(state["losses"]), state["count"]
