"""Interp: bilinear interpolation, corners on corners."""

from __future__ import annotations

import numpy as np

from caffepy.errors import ConfigError, ShapeError
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer, register


def weights(size: int, out: int) -> np.ndarray:
    """(out, size): each output's share of the inputs; output i lies at i (size - 1) / (out - 1)."""
    at = np.arange(out) * ((size - 1) / (out - 1) if out > 1 else 0.0)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(size))).astype(np.float32)


@register("Interp")
class Interp(Layer):
    """y = A x B^T, rows of A and B interpolating linearly between neighbours; x (N, C, H, W), y (N, C, h, w).

    `interp_param` (DeepLab, PSPNet), by what is given: `shrink_factor` s alone: h = (H - 1) div s + 1; `zoom_factor` z
    alone: h = H + (H - 1)(z - 1); `height` and `width`; s and z: shrink, then zoom. `use_blob_size`: those of a second
    bottom, which gets no gradient. `pad_beg` and `pad_end`, 0 or negative, first cut rows and columns off.
    """

    num_bottom = (1, 2)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.interp_param
        if p.pad_beg > 0 or p.pad_end > 0:
            raise ConfigError(f"pad_beg {p.pad_beg} and pad_end {p.pad_end} must be 0 or negative: they only cut")
        if p.zoom_factor < 1 or p.shrink_factor < 1:
            raise ConfigError("zoom_factor and shrink_factor must be at least 1")
        if p.use_blob_size != (len(bottom) == 2):
            raise ConfigError("use_blob_size: true and a second bottom, which gives the size, belong together")
        given = [p.HasField(field) for field in ("zoom_factor", "shrink_factor", "height", "width")]
        if not p.use_blob_size and not (given[0] or given[1] or all(given[2:])):
            raise ConfigError(
                "the size of the top is not set", hint="Set height and width, zoom_factor, shrink_factor or both."
            )

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index == 0

    def divisible(self) -> bool:
        return True

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        for i, blob in enumerate(bottom):
            if len(blob.shape) != 4:
                raise ShapeError(f"Interp needs bottoms (N, C, H, W), {self.bottom_name(i)} is {blob.shape}")
        p = self.param.interp_param
        n, c, *size = bottom[0].shape
        kept = [s + p.pad_beg + p.pad_end for s in size]
        if min(kept) < 1:
            raise ShapeError(f"pad_beg and pad_end leave nothing of {self.bottom_name(0)} {bottom[0].shape}")
        out = list(bottom[1].shape[2:]) if p.use_blob_size else [self._out(s, i) for i, s in enumerate(kept)]
        if min(out) < 1:
            raise ShapeError(f"the top of Interp cannot be {out[0]}x{out[1]}")
        self.inside = (..., *(slice(-p.pad_beg, -p.pad_beg + s) for s in kept))
        self.down, self.across = (self.engine.asarray(weights(s, o)) for s, o in zip(kept, out))
        top[0].reshape(n, c, *out)

    def _out(self, size: int, axis: int) -> int:
        """The extent of the top for what is left of this axis (0: H, 1: W)."""
        p = self.param.interp_param
        shrink, zoom = p.HasField("shrink_factor"), p.HasField("zoom_factor")
        if not (shrink or zoom) or (shrink and zoom and p.HasField("height") and p.HasField("width")):
            return (p.height, p.width)[axis]
        if shrink:
            size = (size - 1) // p.shrink_factor + 1
        return size + (size - 1) * (p.zoom_factor - 1) if zoom else size

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        self._product(self.down, self.across, bottom[0].data[self.inside], top[0].data)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            dx = bottom[0].diff
            if dx[self.inside].shape != dx.shape:
                dx[...] = 0
            self._product(self.down.T, self.across.T, top[0].diff, dx[self.inside])

    def _product(self, down: Array, across: Array, x: Array, y: Array) -> None:
        """y = down x across^T of each plane, computed channels-last, as images lie in memory."""
        xp = self.xp
        n, c, height, width = x.shape
        rows = xp.matmul(down, xp.permute_dims(x, (0, 2, 3, 1)).reshape((n, height, width * c)))
        rows = xp.matmul(across, rows.reshape((n * down.shape[0], width, c)))
        y[...] = xp.permute_dims(rows.reshape((n, down.shape[0], across.shape[0], c)), (0, 3, 1, 2))
