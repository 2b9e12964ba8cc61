"""Fillers: initial values of parameters. Pure functions of (generator, shape, FillerParameter)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import ceil, prod, sqrt

import numpy as np

from caffepy import rng
from caffepy.errors import ConfigError, did_you_mean
from caffepy.net.blob import Blob
from caffepy.proto.caffe_pb2 import FillerParameter

Filler = Callable[[np.random.Generator, tuple[int, ...], FillerParameter], np.ndarray]

_fillers: dict[str, Filler] = {}
_local = threading.local()


@contextmanager
def left_out() -> Iterator[None]:
    """In the block, on this thread: parameters are made, but not filled, for nets that are to be looked at alone."""
    before, _local.left_out = getattr(_local, "left_out", False), True
    try:
        yield
    finally:
        _local.left_out = before


def register(name: str) -> Callable[[Filler], Filler]:
    """Function decorator: `type: "name"` in a filler calls this function."""

    def decorate(fn: Filler) -> Filler:
        _fillers[name] = fn
        return fn

    return decorate


def fill(shape: Sequence[int], param: FillerParameter) -> np.ndarray:
    """A float32 array of `shape`. Raises ConfigError for unknown types and impossible parameters."""
    check(param)
    return np.asarray(_fillers[param.type](rng.generator, tuple(shape), param), np.float32)


def fill_blob(blob: Blob, param: FillerParameter) -> None:
    """Fill a blob's values; where that is left out, only find out what is wrong with the filler."""
    if getattr(_local, "left_out", False):
        fill((0, *blob.shape[1:]) if blob.shape else (), param)
    else:
        blob.data[...] = blob.engine.asarray(fill(blob.shape, param))


def check(param: FillerParameter) -> None:
    """Raises ConfigError for what no shape makes right; draws no random number."""
    if param.type not in _fillers:
        raise ConfigError(f'unknown filler type "{param.type}"', hint=did_you_mean(param.type, _fillers))
    if param.sparse < -1:
        raise ConfigError(f"filler sparse must be -1 (off) or more, got {param.sparse}")
    if param.sparse != -1 and param.type != "gaussian":
        raise ConfigError(f'filler "{param.type}": only gaussian can be sparse')
    if param.type == "gaussian" and param.std < 0:
        raise ConfigError(f"filler std must not be negative, got {param.std:g}")
    if param.type == "uniform" and param.min > param.max:
        raise ConfigError(f"filler min {param.min:g} is greater than max {param.max:g}")


def _fans(shape: tuple[int, ...], param: FillerParameter) -> float:
    """Inputs, outputs or their mean, as `variance_norm` says; of a shape (O, I, ...)."""
    count = prod(shape) or 1  # nothing is drawn for a parameter without values
    fan_in = count / shape[0] if shape and shape[0] else count
    fan_out = count / shape[1] if len(shape) > 1 and shape[1] else count
    return {
        FillerParameter.FAN_IN: fan_in,
        FillerParameter.FAN_OUT: fan_out,
        FillerParameter.AVERAGE: (fan_in + fan_out) / 2,
    }[param.variance_norm]


def _items(shape: tuple[int, ...], param: FillerParameter) -> int:
    """The first axis, over which some fillers spread."""
    if not shape:
        raise ConfigError(f'the filler "{param.type}" needs at least one axis, a scalar has none')
    return shape[0]


def _uniform(random: np.random.Generator, low: float, high: float, shape: tuple[int, ...]) -> np.ndarray:
    """One 32-bit draw a value, scaled as Boost does for floats: Caffe's weights under Caffe's seed."""
    first, last = np.float32(low), np.nextafter(np.float32(high), np.float32(np.inf))
    out = np.empty(prod(shape), np.float32)
    for a in range(0, len(out), _STRETCH):  # 64-bit draws of a whole table would be twice as large as it
        part = out[a : a + _STRETCH]
        part[...] = random.bit_generator.random_raw(len(part))
        part /= np.float32(2**32 - 1)
        part *= last - first
        part += first
    return out.reshape(shape)


_STRETCH = 1 << 20


@register("constant")
def constant(random, shape, param):
    """`value` everywhere."""
    return np.full(shape, param.value, np.float32)


@register("uniform")
def uniform(random, shape, param):
    """Uniform between `min` and `max`."""
    return _uniform(random, param.min, param.max, shape)


@register("gaussian")
def gaussian(random, shape, param):
    """Normal with `mean` and `std`; with `sparse` n, an output unit keeps n of its incoming weights on average."""
    values = np.asarray(random.standard_normal(shape, np.float32))
    values *= param.std
    values += param.mean
    if param.sparse >= 0:
        # Caffe's rule: each weight is kept with probability sparse / number of outputs.
        values *= random.random(shape, np.float32) < param.sparse / (_items(shape, param) or 1)
    return values


@register("positive_unitball")
def positive_unitball(random, shape, param):
    """Uniform in [0, 1), then scaled so that the values of each item (first axis) sum to 1."""
    values = _uniform(random, 0, 1, (_items(shape, param), prod(shape[1:])))
    return (values / values.sum(axis=1, keepdims=True)).reshape(shape)


@register("xavier")
def xavier(random, shape, param):
    """Uniform in [-a, a], a = sqrt(3 / fan) (Glorot and Bengio 2010)."""
    limit = sqrt(3 / _fans(shape, param))
    return _uniform(random, -limit, limit, shape)


@register("msra")
def msra(random, shape, param):
    """Normal with std = sqrt(2 / fan) (He et al. 2015)."""
    return sqrt(2 / _fans(shape, param)) * random.standard_normal(shape, np.float32)


@register("bilinear")
def bilinear(random, shape, param):
    """Bilinear interpolation for an upsampling Deconvolution: (C, 1, K, K), the same kernel everywhere."""
    if len(shape) != 4:
        raise ConfigError(f"the bilinear filler needs four axes, got shape {shape}")
    if shape[2] != shape[3]:
        raise ConfigError(f"the bilinear filler needs a square kernel, got {shape[2]}x{shape[3]}")
    half = ceil(shape[3] / 2)
    centre = (shape[3] - 1) / (2 * half)
    ramp = 1 - np.abs(np.arange(shape[3]) / half - centre)
    return np.broadcast_to(np.outer(ramp, ramp), shape)
