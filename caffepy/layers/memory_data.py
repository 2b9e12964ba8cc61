"""MemoryData: batches of arrays that the caller hands over."""

from __future__ import annotations

from typing import Any

import numpy as np

from caffepy.errors import ConfigError, DataError, ShapeError
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register


@register("MemoryData")
class MemoryData(Layer):
    """Rows of the arrays given to `reset`, batch by batch and from the start again: data (N, C, H, W), labels (N).

    `memory_data_param`: batch_size, channels, height, width. Running without data raises DataError.
    """

    num_bottom = 0
    num_top = 2

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.memory_data_param
        self.batch, self.image = p.batch_size, (p.channels, p.height, p.width)
        if self.batch <= 0 or min(self.image) <= 0:
            raise ConfigError("memory_data_param needs batch_size, channels, height and width of at least 1")
        top[0].reshape((self.batch, *self.image))
        top[1].reshape(self.batch)
        self.data: np.ndarray | None = None
        self.labels: np.ndarray | None = None
        self.position = 0

    def reset(self, data: np.ndarray, labels: np.ndarray) -> None:
        """Use these rows: data (n, C, H, W), labels of n values; n must be a multiple of the batch size."""
        data, labels = np.asarray(data, np.float32), np.asarray(labels, np.float32).reshape(-1)
        if data.shape[1:] != self.image:
            raise ShapeError(f"the data has items of shape {data.shape[1:]}, the layer expects {self.image}")
        if len(data) != len(labels):
            raise ShapeError(f"{len(data)} items but {len(labels)} labels")
        if not len(data) or len(data) % self.batch:
            raise ShapeError(f"{len(data)} items are no multiple of the batch size {self.batch}")
        self.data, self.labels, self.position = data, labels, 0

    def set_batch_size(self, batch_size: int) -> None:
        """Change the batch size; the data must be handed over anew."""
        if batch_size <= 0:
            raise ConfigError(f"the batch size must be at least 1, got {batch_size}")
        self.batch, self.data = batch_size, None

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        """The tops follow the batch size."""

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        if self.data is None or self.labels is None:
            raise DataError(
                "MemoryData has no data", hint="Call net.set_input_arrays(data, labels), or reset of the layer, first."
            )
        if self.position + self.batch > len(self.data):  # a snapshot's, of other data
            self.position = 0
        rows = slice(self.position, self.position + self.batch)
        top[0].reshape((self.batch, *self.image))
        top[1].reshape(self.batch)
        top[0].data[...] = self.engine.asarray(self.data[rows])
        top[1].data[...] = self.engine.asarray(self.labels[rows])
        self.position = rows.stop % len(self.data)

    def state(self) -> dict[str, Any]:
        return {"position": self.position}

    def set_state(self, state: dict[str, Any]) -> None:
        self.position = state["position"]
