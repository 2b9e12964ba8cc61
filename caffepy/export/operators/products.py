"""Convolutions and products with weights."""

from __future__ import annotations

from math import prod

import numpy as np

from caffepy.errors import ConfigError
from caffepy.export.convert import At, converts
from caffepy.export.onnx_graph import OnnxGraph


@converts("Convolution", "ConvolutionDepthwise", "DepthwiseConvolution")
def convolution(g: OnnxGraph, at: At) -> list[str]:
    return _convolution(g, at, "Conv")


@converts("Deconvolution")
def deconvolution(g: OnnxGraph, at: At) -> list[str]:
    return _convolution(g, at, "ConvTranspose")


def _convolution(g: OnnxGraph, at: At, kind: str) -> list[str]:
    layer, window = at.layer, at.layer.window
    if not window.kernel:
        return _without_kernel(g, at)
    weights = [g.constant(values, name=f"{layer.name}.{i}") for i, values in enumerate(at.weights)]
    attributes = {
        "kernel_shape": list(window.kernel),
        "strides": list(window.stride),
        "pads": [*window.pad, *window.pad],
        "dilations": list(window.dilation),
        "group": layer.channels if "Depthwise" in layer.type else layer.param.convolution_param.group,
    }
    return [_unfolded(g, at, g.op(kind, _folded(g, at, x), *weights, **attributes)) for x in at.x]


def _folded(g: OnnxGraph, at: At, x: str) -> str:
    """x with all axes before the channels made one."""
    axis = at.layer.axis
    return x if axis == 1 else g.reshape(x, (None, *at.bottom[0][axis:]))


def _unfolded(g: OnnxGraph, at: At, y: str) -> str:
    return y if at.layer.axis == 1 else g.reshape(y, at.top[0])


def _without_kernel(g: OnnxGraph, at: At) -> list[str]:
    """x (N, C) alone: a product with the weights of all groups."""
    layer = at.layer
    parts = np.split(at.weights[0], layer.param.convolution_param.group)
    matrix = np.zeros((at.weights[0].shape[0], layer.channels), np.float32)
    for k, part in enumerate(parts):
        outputs, inputs = part.shape
        matrix[k * outputs : (k + 1) * outputs, k * inputs : (k + 1) * inputs] = part
    if layer.transposed:
        raise ConfigError("a Deconvolution without spatial axes cannot be exported", hint="Use InnerProduct.")
    names = [g.constant(matrix), *(g.constant(values) for values in at.weights[1:])]
    return [g.op("Gemm", x, *names, transB=1) for x in at.x]


@converts("InnerProduct")
def inner_product(g: OnnxGraph, at: At) -> list[str]:
    layer = at.layer
    weights = at.weights[0] if not layer.param.inner_product_param.transpose else at.weights[0].T
    names = [g.constant(weights, name=f"{layer.name}.0")]
    if len(at.weights) > 1:
        names.append(g.constant(at.weights[1], name=f"{layer.name}.1"))
    rows = at.x[0] if at.rank == 2 and layer.axis == 1 else g.op("Flatten", at.x[0], axis=layer.axis)
    y = g.op("Gemm", rows, *names, transB=1)
    return [y if layer.axis == 1 else g.reshape(y, at.top[0])]


@converts("Im2col")
def im2col(g: OnnxGraph, at: At) -> list[str]:
    layer = at.layer
    window = layer.window
    positions = prod(window.kernel)
    kernels = np.zeros((layer.channels, positions, 1, positions), np.float32)
    kernels[:, np.arange(positions), 0, np.arange(positions)] = 1
    weights = g.constant(kernels.reshape(layer.channels * positions, 1, *window.kernel))
    attributes = {
        "kernel_shape": list(window.kernel),
        "strides": list(window.stride),
        "pads": [*window.pad, *window.pad],
        "dilations": list(window.dilation),
        "group": layer.channels,
    }
    return [_unfolded(g, at, g.op("Conv", _folded(g, at, x), weights, **attributes)) for x in at.x]
