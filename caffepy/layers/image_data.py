"""ImageData: batches of pictures that a text file lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from caffepy import rng
from caffepy.data.order import Cursor, ListOrder
from caffepy.data.pictures import image
from caffepy.data.sources.lists import missing_slash, read_list
from caffepy.errors import ConfigError, DataError
from caffepy.layers.batches import Picture, PictureLayer
from caffepy.net.blob import Blob
from caffepy.net.layer import register
from caffepy.proto.caffe_pb2 import ImageDataParameter, LayerParameter

_FARTHEST = 10**10
"""Pictures behind which no training stands: a shuffled list is mixed anew for every epoch up to there, in hours."""


@register("ImageData")
class ImageData(PictureLayer):
    """Pictures of the files in the list `image_data_param.source` (path, blank, label): data (N, C, H, W), labels (N).

    Resized to `new_height` x `new_width` if these are set, in colour unless `is_color: false`; `root_folder` is put in
    front of the names as it stands. `shuffle` mixes the list in every epoch as Caffe does; `rand_skip` begins at a
    random line below it. Reads `transform_param`, `data_param.prefetch` and, beyond Caffe, `threads`.
    """

    size_hint = "Set new_height and new_width, or crop_size, or give all pictures one size."

    @property
    def settings(self) -> ImageDataParameter:
        return getattr(self.param, self.param_field)

    @classmethod
    def expected_batch(cls, param: LayerParameter) -> int:
        return getattr(param, cls.param_field).batch_size

    @classmethod
    def expected_picture(cls, param: LayerParameter, picture: Picture | None) -> Picture | None:
        p = getattr(param, cls.param_field)
        channels = 3 if p.is_color else 1
        resized = (channels, p.new_height, p.new_width) if p.new_height else picture
        return super().expected_picture(param, resized)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.settings
        if p.batch_size <= 0:
            raise ConfigError(
                f"{self.param_field}.batch_size must be at least 1",
                hint=f"Set {self.param_field} {{ batch_size: 64 }}.",
            )
        if not p.source:
            raise ConfigError(f"{self.param_field}.source is not set", hint="It names the list of images.")
        if bool(p.new_height) != bool(p.new_width):
            raise ConfigError("new_height and new_width are set together or not at all")
        self.batch_size = p.batch_size
        self.entries = self.read_entries()
        self.begin_order(ListOrder(len(self.entries)))
        self.begin(top, p.threads, self._begin)

    def read_entries(self) -> Sequence[Any]:
        """What the list holds."""
        return read_list(self.settings.source)

    def _begin(self) -> Cursor:
        p = self.settings
        if p.shuffle:
            self.seed = rng.draw()
            self.order = self.order._replace(shuffle=True, seed=self.seed)
        skip = rng.draw() % p.rand_skip if p.rand_skip else 0
        if skip >= self.length:
            raise ConfigError(
                f"rand_skip {p.rand_skip} skips {skip} lines of a list of {self.length}",
                hint="Make rand_skip at most the number of lines.",
            )
        return Cursor(0, skip)

    def fetch(self, i: int) -> Any:
        return self.entries[i]

    def column(self, name: str) -> np.ndarray:
        return np.array([entry.label for entry in self.entries]) if name == "label" else super().column(name)

    def decode(self, record: Any) -> tuple[np.ndarray, Any]:
        p = self.settings
        picture = self.read_file(
            record.name, record, lambda path, place: image.read(path, 3 if p.is_color else 1, place)
        )
        return image.resize(picture, p.new_height, p.new_width) if p.new_height else picture, record.label

    def set_state(self, state: dict[str, Any]) -> None:
        (epoch, _), _ = state["position"]
        if self.order.shuffle and epoch * len(self.entries) > _FARTHEST:
            raise ValueError(f"it stands in epoch {epoch} of {len(self.entries)} pictures")
        super().set_state(state)

    def read_file(self, name: str, record: Any, read: Callable[[str, str], np.ndarray]) -> np.ndarray:
        """A file below `root_folder`; what goes wrong says where it is listed."""
        root = self.settings.root_folder
        try:
            return read(root + name, self.place(record))
        except DataError as error:
            error.hint = missing_slash(root, name) or error.hint
            raise

    def place(self, record: Any) -> str:
        return f"{self.settings.source}:{record.line}"
