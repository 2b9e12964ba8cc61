"""The models of a net that speak for it: one alone, or several with the weights of a Blend."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from caffepy.errors import ConfigError
from caffepy.net.net import Net
from caffepy.recommend.layers.blend import Blend
from caffepy.recommend.layers.model import RatingModel


class Folded(NamedTuple):
    """Scores of all items (I,) for somebody new, and the members that cannot give them: there the baseline is."""

    scores: np.ndarray
    without: list[str]


class Members:
    """What models know of items and of new users, joined as the net joins their predictions."""

    def __init__(self, net: Net):
        self.models = [layer for layer in net.layers if isinstance(layer, RatingModel)]
        self._blend = next((layer for layer in net.layers if isinstance(layer, Blend)), None)
        tops = {layer.param.top[0]: layer for layer in self.models}
        self._parts = {name: tops.get(name) for name in (self._blend.param.bottom if self._blend else tops)}

    @property
    def clip(self) -> bool:
        """Whether they predict ratings, which stay within their range."""
        return bool(self.models) and all(model.clips for model in self.models)

    def fold_in(self, items: np.ndarray, ratings: np.ndarray, base: np.ndarray) -> Folded | None:
        """For somebody with these ratings, of whom the baseline says `base` (I,); None where no member can say."""
        bias, weights = self._weights()
        found = {
            name: model.fold_in(_values(model), items, ratings) if model else None
            for name, model in self._parts.items()
        }
        without = [name for name, scores in found.items() if scores is None]
        if len(without) == len(found):
            return None
        scores = [base if scores is None else scores for scores in found.values()]
        return Folded(bias + np.tensordot(weights, scores, 1), without)

    def alike(self, item: np.ndarray) -> np.ndarray | None:
        """How similar all items are to these (n,), (n, I): the mean of the members that say, by weights above 0."""
        _, weights = self._weights()
        total, said = 0.0, None
        for model, weight in zip(self._parts.values(), weights):
            found = model.alike(_values(model), item) if model and weight > 0 else None
            if found is not None:
                said = found * weight if said is None else said + found * weight
                total += weight
        return None if said is None else said / np.float32(total)

    def _weights(self) -> tuple[float, list[float]]:
        """The constant, and the weight of each part. Raises ConfigError where the net does not say how they join."""
        if self._blend:
            bias, *weights = self._blend.blobs[0].host().tolist()
            return bias, weights
        if len(self.models) > 1:
            raise ConfigError(
                f"the models {', '.join(model.name for model in self.models)} have no Blend that weighs them",
                hint="Ask about a user, whom the net answers, or give the deploy.prototxt of one of them.",
            )
        return 0.0, [1.0] * len(self.models)


def _values(model: RatingModel) -> list[np.ndarray]:
    return [blob.host() for blob in model.blobs]
