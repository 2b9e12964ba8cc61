"""WindowData: windows of pictures, a share of them showing an object, the rest background (as R-CNN is trained)."""

from __future__ import annotations

from typing import Any

import numpy as np

from caffepy import rng
from caffepy.data.order import Cursor
from caffepy.data.pictures import image
from caffepy.data.pictures.data_transformer import DataTransformer
from caffepy.data.pictures.shaping import OF_PICTURES, refuse
from caffepy.data.sources.windows import ImageWindow, cut, lies_in, outside, read_windows
from caffepy.errors import ConfigError, DataError, ShapeError
from caffepy.layers.batches import Batch, BatchLayer, Picture, Position, new_array
from caffepy.net.blob import Blob
from caffepy.net.layer import register
from caffepy.proto.caffe_pb2 import LayerParameter


@register("WindowData")
class WindowData(BatchLayer):
    """Random windows from the file `window_data_param.source`: data (N, 3, crop, crop), labels (N), background 0.

    A batch has floor(batch_size fg_fraction) foreground windows (overlap >= fg_threshold), after those of the
    background (overlap < bg_threshold). Crop size, mirror and mean come from `transform_param`, `scale` from
    `window_data_param`. Surroundings outside the picture are 0.
    """

    num_top = 2
    rank = 0

    @classmethod
    def expected(cls, param: LayerParameter, picture: Picture | None = None) -> list[tuple[int, ...] | None]:
        size, crop = param.window_data_param.batch_size, param.transform_param.crop_size
        return [(size, 3, crop, crop), (size,)]

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, t = self.param.window_data_param, self.param.transform_param
        self._check()
        self.transformer = DataTransformer(t, self.phase)
        file = read_windows(p.source)
        self.file = file
        self.foreground = [w for w in file.windows if w.overlap >= p.fg_threshold]
        self.background = [
            w._replace(label=0) for w in file.windows if w.overlap < p.bg_threshold and w.overlap < p.fg_threshold
        ]
        self.num_foreground = int(np.float32(p.batch_size) * np.float32(p.fg_fraction))
        self._check_windows()
        self._cache: dict[int, np.ndarray] = {}
        if self.transformer.random:
            rng.draw()
        self.seed = rng.draw()
        if self.transformer.random:
            rng.draw()
        rng.draw()  # Caffe seeds the thread with it
        random = rng.mt19937(self.seed).bit_generator.state
        self.start(Position(Cursor(), random), self.param.data_param.prefetch, top)

    def _check(self) -> None:
        p, t = self.param.window_data_param, self.param.transform_param
        if p.batch_size <= 0:
            raise ConfigError(
                "window_data_param.batch_size must be at least 1", hint="Set window_data_param { batch_size: 128 }."
            )
        if not p.source:
            raise ConfigError("window_data_param.source is not set", hint="It names the window file.")
        refuse(t, OF_PICTURES, self.type)
        if not t.crop_size:
            raise ConfigError(
                "WindowData needs transform_param.crop_size, the size that windows are resized to",
                hint="Set transform_param { crop_size: 227 }, for example.",
            )
        if p.crop_mode not in ("warp", "square"):
            raise ConfigError(f'crop_mode "{p.crop_mode}" is neither "warp" nor "square"')
        if 2 * p.context_pad >= t.crop_size:
            raise ConfigError(f"context_pad {p.context_pad} leaves nothing of crop_size {t.crop_size}")
        if not 0 <= p.fg_fraction <= 1:
            raise ConfigError(f"fg_fraction {p.fg_fraction:g} is not in [0, 1]")

    def _check_windows(self) -> None:
        p = self.param.window_data_param
        for window in self.foreground:
            if window.label <= 0:
                raise DataError(
                    f"a foreground window of {self.file.images[window.image]} has label {window.label}",
                    where=p.source,
                    hint="Labels of objects start at 1; 0 is background.",
                )
        counts = (p.batch_size - self.num_foreground, self.num_foreground)
        names = ("background", "foreground")
        for name, windows, count in zip(names, (self.background, self.foreground), counts):
            if count and not windows:
                raise DataError(
                    f"the file has no {name} window, a batch needs {count}",
                    where=p.source,
                    hint="Look at fg_threshold, bg_threshold and fg_fraction.",
                )
        mean = self.transformer.mean
        if mean is not None and mean.shape[0] not in (1, 3):
            raise ShapeError(
                f"the mean has {mean.shape[0]} channels, windows have 3", hint="Give one mean_value, or three."
            )
        crop = self.param.transform_param.crop_size
        if mean is not None and self.param.transform_param.HasField("mean_file"):
            off = (mean.shape[2] - crop) // 2
            if off < 0 or off + crop > mean.shape[1]:
                raise ShapeError(
                    f"the mean file has shape {mean.shape}, which is smaller than crop_size {crop}",
                    hint="Give a mean of pictures at least as large as the crop, or mean_value.",
                )

    def read(self, number: int) -> np.ndarray:
        """A picture of the window file."""
        p = self.param.window_data_param
        picture = self._cache.get(number)
        if picture is None:
            picture = image.read(p.root_folder + self.file.images[number], 3, self._place_of(number))
            if p.cache_images:
                self._cache[number] = picture
        return picture

    def _place_of(self, number: int) -> str:
        """The line of the window file that names a picture."""
        return f"{self.param.window_data_param.source}:{self.file.lines[number]}"

    def items(self, position: Position) -> tuple[int, int]:
        return self.param.window_data_param.batch_size, 3 * self.param.transform_param.crop_size**2

    def make(self, position: Position, recycled: Batch | None) -> tuple[Batch, Position]:
        p, crop = self.param.window_data_param, self.param.transform_param.crop_size
        random = self._random(position)
        batch = [new_array(recycled, 0, (p.batch_size, 3, crop, crop)), new_array(recycled, 1, (p.batch_size,))]
        batch[0][...] = 0
        for i in range(p.batch_size):
            windows = self.background if i < p.batch_size - self.num_foreground else self.foreground
            window = windows[int(random.bit_generator.random_raw()) % len(windows)]
            mirror = bool(self.param.transform_param.mirror and int(random.bit_generator.random_raw()) % 2)
            self._place(window, mirror, batch[0][i])
            batch[1][i] = window.label
        state = position.random if self.rank else random.bit_generator.state
        return batch, Position(Cursor(0, position.cursor.index + 1), state)

    def _random(self, position: Position) -> np.random.Generator:
        """Caffe's generator, which goes on and on; in further processes one of each batch's own, since rank 0's alone
        is in the snapshot."""
        if self.rank:
            return np.random.Generator(np.random.MT19937([self.seed, self.rank, position.cursor.index]))
        random = rng.mt19937(0)
        random.bit_generator.state = position.random
        return random

    def _place(self, window: ImageWindow, mirror: bool, out: np.ndarray) -> None:
        p, crop = self.param.window_data_param, self.param.transform_param.crop_size
        picture = self.read(window.image)
        _, height, width = picture.shape
        if not lies_in(window, height, width):  # the file gives the picture another size
            raise outside(window, self.file, height, width, self._place_of(window.image))
        pixels, top, left = cut(picture, window, crop, p.context_pad, p.crop_mode == "square", mirror)
        rows = slice(top, top + pixels.shape[1])
        columns = slice(left, left + pixels.shape[2])
        out[:, rows, columns] = (pixels - self._mean(rows, columns)) * np.float32(p.scale)

    def _mean(self, rows: slice, columns: slice) -> np.ndarray | np.float32:
        """The part of the mean for a part of the crop; a mean file is centred by its width, as in Caffe."""
        mean = self.transformer.mean
        if mean is None:
            return np.float32(0)
        if not self.param.transform_param.HasField("mean_file"):
            return mean
        off = (mean.shape[2] - self.param.transform_param.crop_size) // 2
        return mean[:, rows.start + off : rows.stop + off, columns.start + off : columns.stop + off]

    def shard(self, rank: int, size: int) -> None:
        """Every process draws windows of its own."""
        self.rank = rank
        self.prefetcher.restart(self.prefetcher.state)

    def state(self) -> dict[str, Any]:
        return {**super().state(), "seed": self.seed}

    def set_state(self, state: dict[str, Any]) -> None:
        self.seed = state.get("seed", self.seed)
        super().set_state(state)
