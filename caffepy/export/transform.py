"""What a data layer does to pictures, built into an exported net: channel order, mean, scale."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np

from caffepy.errors import ConfigError, DataError, ShapeError
from caffepy.export.onnx_graph import OnnxGraph
from caffepy.files import near_names, read_file
from caffepy.net.net import Net


@dataclass
class Transform:
    """y = (x in BGR - mean) * scale, x (N, C, H, W)."""

    mean: np.ndarray | None = None
    """(C,) or (C, H, W)."""
    scale: float = 1.0
    swap: bool = False
    """Whether pictures come as RGB and the net takes BGR."""

    def write(self, g: OnnxGraph, net: Net) -> None:
        """Put it between the net's first input and whoever reads that."""
        name = net.inputs[0]
        self._check(net.engine_blobs[name].shape, name)
        before = len(g.operators)
        g.layer = "transform"
        y = name
        if self.swap:
            y = g.op("Gather", y, g.ints(2, 1, 0), axis=1)
        if self.mean is not None:
            y = g.op("Sub", y, g.constant(_spread(self.mean)))
        if self.scale != 1:
            y = g.op("Mul", y, g.constant(self.scale))
        added = g.operators[before:]
        for operator in g.operators[:before]:
            operator.inputs = [y if value == name else value for value in operator.inputs]
        g.operators[:] = added + g.operators[:before]

    def applied(self, x: np.ndarray) -> np.ndarray:
        """What `write` computes."""
        y = x[:, ::-1] if self.swap else x
        if self.mean is not None:
            y = y - _spread(self.mean)
        return (y * np.float32(self.scale)).astype(np.float32)

    def _check(self, shape: tuple[int, ...], name: str) -> None:
        if len(shape) != 4 or (self.swap and shape[1] != 3):
            raise ConfigError(f'the input "{name}" {shape} is no batch of pictures (N, 3, H, W)')
        if self.mean is not None and self.mean.shape not in ((shape[1],), shape[1:], (1,)):
            raise ShapeError(f'the mean has shape {self.mean.shape}, items of "{name}" have {shape[1:]}')


def _spread(mean: np.ndarray) -> np.ndarray:
    return np.asarray(mean, np.float32).reshape(mean.shape if mean.ndim == 3 else (-1, 1, 1))


def read_mean(text: str) -> np.ndarray:
    """The mean (C, H, W) of a file, or (C,) of numbers separated by commas. Raises ConfigError and DataError."""
    if text.endswith(".npy"):
        try:
            return np.load(BytesIO(read_file(text)), allow_pickle=False)
        except OSError as error:
            raise DataError(f"cannot read the mean: {error.strerror}", where=text, hint=near_names(text)) from None
        except (ValueError, EOFError, MemoryError) as error:
            raise DataError(f"this is no array of NumPy: {error}", where=text) from None
    if text.endswith(".binaryproto"):
        from caffepy.data.pictures.data_transformer import read_mean as read

        return read(text)
    try:
        return np.array([float(part) for part in text.split(",")], np.float32)
    except ValueError:
        raise ConfigError(
            f'"{text}" is no mean', hint='Give a .binaryproto or .npy file, or a number a channel: "104,117,123".'
        ) from None
