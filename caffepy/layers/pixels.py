"""Where the pixels of a bottom lie in the top of a layer with a sliding window."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from caffepy.errors import ConfigError
from caffepy.net.layer import CoordMap
from caffepy.proto.caffe_pb2 import ConvolutionParameter, PoolingParameter


def window_map(p: ConvolutionParameter | PoolingParameter, transposed: bool = False) -> CoordMap:
    """The map of a window that goes over the bottom, x to (x + pad - (extent - 1) / 2) / stride, or its inverse.

    a and b are arrays, an entry each spatial axis, or one for all. Raises ConfigError for windows that are not given by
    kernel_size, stride and pad.
    """
    for field in ("kernel_h", "kernel_w", "stride_h", "stride_w", "pad_h", "pad_w"):
        if p.HasField(field):
            raise ConfigError(f"{field} is given", hint="Write kernel_size, stride and pad.")
    kernel = _array(p.kernel_size, 0)
    if not kernel.all():
        raise ConfigError("kernel_size is not set")
    axis, half = getattr(p, "axis", 1), (kernel - 1) * _array(getattr(p, "dilation", ()), 1) / 2
    stride, pad = _array(p.stride, 1), _array(p.pad, 0)
    return (axis, stride, half - pad) if transposed else (axis, 1 / stride, (pad - half) / stride)


def _array(values: int | Iterable[int], default: int) -> np.ndarray:
    return np.array([values] if isinstance(values, int) else list(values) or [default], int)
