"""Which token comes next, by the scores of all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from caffepy.errors import ConfigError


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn: from softmax(scores / temperature), of the `top_k` best (0: all), of these from the best on
    until they have `top_p` of the probability. Temperature 0 takes the best."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < np.inf:
            raise ConfigError(f"temperature must be at least 0, got {self.temperature:g}")
        if self.top_k < 0:
            raise ConfigError(f"top_k must be at least 0, got {self.top_k}", hint="0 draws from all tokens.")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must lie above 0 and not above 1, got {self.top_p:g}")

    def draw(self, scores: np.ndarray, random: np.random.Generator) -> int:
        """One of the tokens whose scores (V,) these are."""
        if self.temperature == 0:
            return int(scores.argmax())
        order = np.argsort(-scores, kind="stable")[: self.top_k or None]
        scaled = (scores[order] - scores[order[0]]).astype(np.float64) / self.temperature
        sums = np.cumsum(np.exp(scaled))
        kept = int(np.searchsorted(sums, self.top_p * sums[-1])) + 1
        at = np.searchsorted(sums[:kept], random.random() * sums[min(kept, len(sums)) - 1], side="right")
        return int(order[min(int(at), kept - 1, len(order) - 1)])
