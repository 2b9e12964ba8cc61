"""AllItems: pairs of users and every item, for nets that score pairs."""

from __future__ import annotations

import numpy as np

from caffepy.data.tables.table import open_table
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register


@register("AllItems")
class AllItems(Layer):
    """Each user (B,) with all items of `ratings_param.source`: tops users (B I,) and items (B I,), a user's together.

    What a net makes of these pairs, of any shape with B I values, `Ranking` takes as scores (B, I).
    """

    num_bottom = 1
    num_top = 2
    recordable = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.ratings_param
        table = open_table(p.source)
        self.count = table.size(p.item)
        top[0].num_ids, top[1].num_ids = table.size(p.user), self.count

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        for blob in top:
            blob.reshape((bottom[0].count * self.count,))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        users = bottom[0].host().reshape(-1)
        top[0].data[...] = self.engine.asarray(np.repeat(users, self.count))
        top[1].data[...] = self.engine.asarray(np.tile(np.arange(self.count, dtype=np.float32), len(users)))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """Nobody asks for a gradient of ids."""
