"""Convolution, Deconvolution and Im2col over any number of spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from caffepy.engine.after import After
from caffepy.engine.window import Ints, Window
from caffepy.errors import ConfigError, ShapeError
from caffepy.layers.pixels import window_map
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import CoordMap, Layer, register
from caffepy.proto.caffe_pb2 import ConvolutionParameter, LayerParameter


def read_window(p: ConvolutionParameter, num_spatial: int) -> Window:
    """Kernel, stride, pad and dilation: given once, once an axis, or (two axes) as `_h` and `_w`."""
    window = Window(
        _per_axis(p, "kernel_size", "kernel", num_spatial, None),
        _per_axis(p, "stride", "stride", num_spatial, 1),
        _per_axis(p, "pad", "pad", num_spatial, 0),
        _per_axis(p, "dilation", None, num_spatial, 1),
    )
    for field, values in (
        ("kernel_size", window.kernel),
        ("stride", window.stride),
        ("dilation", window.dilation),
    ):
        if any(v <= 0 for v in values):
            raise ConfigError(f"{field} must be at least 1, got {_text(values)}")
    return window


def _per_axis(p: ConvolutionParameter, field: str, short: str | None, n: int, default: int | None) -> Ints:
    values = tuple(getattr(p, field))
    if short and (p.HasField(f"{short}_h") or p.HasField(f"{short}_w")):
        if values:
            raise ConfigError(f"both {field} and {short}_h / {short}_w are given", hint="Keep one of the two forms.")
        if n != 2:
            raise ConfigError(f"{short}_h and {short}_w need two spatial axes, the bottom has {n}")
        if default is None and not (p.HasField(f"{short}_h") and p.HasField(f"{short}_w")):
            raise ConfigError(f"{short}_h and {short}_w must both be given")
        # A stride of which only one side is given is 0 on the other in Caffe, and refused; so it is here.
        return getattr(p, f"{short}_h"), getattr(p, f"{short}_w")
    if not values:
        if default is not None:
            return (default,) * n
        if n:
            raise ConfigError(f"{field} is not set", hint=f"Set {field}, or {short}_h and {short}_w.")
        return ()
    if len(values) not in (1, n):
        raise ConfigError(f"{field} is given {len(values)} time(s), for {n} spatial axes it must be once or {n} times")
    return values * n if len(values) == 1 else values


def _text(values: Sequence[int]) -> str:
    return "x".join(map(str, values))


class _Windowed(Layer):
    """What the three layers share: the channel axis, the window and shapes seen as (items, C, *size)."""

    num_bottom = (1, None)
    num_top = (1, None)
    param_field = "convolution_param"
    transposed = False

    @classmethod
    def coord_map(cls, param: LayerParameter, bottom: int = 0) -> CoordMap | None:
        return window_map(param.convolution_param, cls.transposed)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(bottom) != len(top):
            raise ConfigError(f"{len(bottom)} bottom(s) but {len(top)} top(s); there must be one top for each bottom")
        p = self.param.convolution_param
        self.axis = self.canonical_axis(p.axis, len(bottom[0].shape))
        self.window = read_window(p, len(bottom[0].shape) - self.axis - 1)
        self.channels = bottom[0].shape[self.axis]

    def check_bottoms(self, bottom: list[Blob]) -> Ints:
        """All bottoms have one shape with the channels of set-up; their spatial size."""
        self.check_same_shape(bottom)
        shape = bottom[0].shape
        if len(shape) != self.axis + 1 + len(self.window.kernel) or shape[self.axis] != self.channels:
            raise ShapeError(
                f"{self.bottom_name(0)} has shape {shape}; the layer was built for {self.channels} channels "
                f"on axis {self.axis} and {len(self.window.kernel)} spatial axes"
            )
        return shape[self.axis + 1 :]

    def divisible(self) -> bool:
        return self.axis > 0

    def conv_size(self, size: Ints) -> Ints:
        out = self.window.conv_shape(size)
        if any(o < 1 for o in out):
            padded = tuple(n + 2 * p for n, p in zip(size, self.window.pad))
            raise ShapeError(
                f"the kernel {_text(self.window.kernel)} (extent {_text(self.window.extent)}) is larger than the "
                f"padded input {_text(padded)} (bottom {self.bottom_name(0)} is {_text(size)})"
            )
        return out

    def folded(self, array: Array) -> Array:
        """`array` with all axes before the channels made one."""
        return array if self.axis == 1 else array.reshape(self.folded_shape(array.shape))

    def folded_shape(self, shape: Ints) -> Ints:
        return (prod(shape[: self.axis]), *shape[self.axis :])


class _Convolving(_Windowed):
    """Weights, bias and gradients; subclasses say which way the window goes."""

    in_place = "forward"
    colour = "#FF5050"

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().setup(bottom, top)
        p = self.param.convolution_param
        if p.num_output <= 0:
            raise ConfigError("convolution_param.num_output must be at least 1")
        if p.group <= 0 or self.channels % p.group or p.num_output % p.group:
            raise ConfigError(
                f"group {p.group} must divide both the {self.channels} input channels and num_output {p.num_output}"
            )
        if not self.channels:
            raise ShapeError(f"{self.bottom_name(0)} has shape {bottom[0].shape}: it has no channels")
        first, second = (self.channels, p.num_output) if self.transposed else (p.num_output, self.channels)
        self.add_blob((first, second // p.group, *self.window.kernel), p.weight_filler)
        if p.bias_term:
            self.add_blob((p.num_output,), p.bias_filler)
        self.takes_affine = self.axis == 1

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        size = self.output_size(self.check_bottoms(bottom))
        p = self.param.convolution_param
        for blob in top:
            blob.reshape((*bottom[0].shape[: self.axis], p.num_output, *size))
        convolved = self.folded_shape((top if self.transposed else bottom)[0].shape)
        self.plan = self.engine.conv_plan(convolved, self.blobs[0].shape, self.window, p.group)

    def output_size(self, size: Ints) -> Ints:
        raise NotImplementedError

    def flops(self, bottom: list[Blob], top: list[Blob]) -> int:
        # Each value of the smaller side meets every weight of its channel.
        side = bottom if self.transposed else top
        return sum(2 * blob.count * prod(self.blobs[0].shape[1:]) for blob in side)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        bias = self.blobs[1].data if len(self.blobs) > 1 else None
        for source, target in zip(bottom, top):
            with self.written_as(target.data, self.folded_shape(target.shape)) as y:
                self.apply(self.folded(source.data), bias, y)

    def with_affine(self, factor: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        weights, *bias = (blob.host().astype(np.float64) for blob in self.blobs)
        return self.times_outputs(weights, factor), (bias[0] * factor if bias else 0.0) + offset

    def times_outputs(self, weights: np.ndarray, factor: np.ndarray) -> np.ndarray:
        """The weights, those of each output times its factor."""
        return weights * factor.reshape(-1, *[1] * (weights.ndim - 1))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        for source, target, wanted in zip(bottom, top, propagate_down):
            dy = self.folded(target.diff)
            db = self.blobs[1].diff if len(self.blobs) > 1 and self.param_propagate_down[1] else None
            if self.param_propagate_down[0]:
                self.add_weight_gradient(self.folded(source.data), dy, db)
            elif db is not None:
                self.engine.add_sum_over_channels(dy, db)
            if wanted:
                with self.written_as(source.diff, self.folded_shape(source.shape)) as dx:
                    self.input_gradient(dy, dx)

    def apply(self, x: Array, bias: Array | None, out: Array) -> None:
        raise NotImplementedError

    def add_weight_gradient(self, x: Array, dy: Array, db: Array | None) -> None:
        """Add to the weights' gradient, and to `db`, the bias's."""
        raise NotImplementedError

    def input_gradient(self, dy: Array, out: Array) -> None:
        raise NotImplementedError


@register("Convolution")
class Convolution(_Convolving):
    """y[n, o] = b[o] + sum over c of x[n, c] * w[o, c], cross-correlation (the kernel is not flipped).

    x (N, C, *size), w (O, C / group, *kernel), y (N, O, *out), out = (size + 2 pad - extent) / stride + 1 rounded down
    with extent = dilation (kernel - 1) + 1. Several bottoms share w and b. `convolution_param.axis` is the channel
    axis; all axes before it count as items. Any number of spatial axes, also none.
    """

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().setup(bottom, top)
        self.takes_after = self.axis == 1 and len(bottom) == 1

    def forward_with(self, bottom: Blob, top: Blob, after: After) -> None:
        bias = self.blobs[1].data if len(self.blobs) > 1 else None
        self.engine.conv(bottom.data, self.blobs[0].data, bias, top.data, self.plan, after)

    def output_size(self, size: Ints) -> Ints:
        return self.conv_size(size)

    def apply(self, x: Array, bias: Array | None, out: Array) -> None:
        self.engine.conv(x, self.blobs[0].data, bias, out, self.plan)

    def add_weight_gradient(self, x: Array, dy: Array, db: Array | None) -> None:
        self.engine.conv_grad_weights(x, dy, self.blobs[0].diff, self.plan, db)

    def input_gradient(self, dy: Array, out: Array) -> None:
        self.engine.conv_grad_data(dy, self.blobs[0].data, out, self.plan)


@register("Deconvolution")
class Deconvolution(_Convolving):
    """The transpose of Convolution: its forward pass is the other's gradient with respect to x.

    x (N, C, *size), w (C, O / group, *kernel), y (N, O, *out), out = stride (size - 1) + extent - 2 pad.
    """

    transposed = True

    def times_outputs(self, weights: np.ndarray, factor: np.ndarray) -> np.ndarray:
        group = self.param.convolution_param.group
        of_groups = weights.reshape(group, -1, *weights.shape[1:])
        return (of_groups * factor.reshape(group, 1, -1, *[1] * (weights.ndim - 2))).reshape(weights.shape)

    def output_size(self, size: Ints) -> Ints:
        out = self.window.deconv_shape(size)
        if any(o < 1 for o in out):
            raise ShapeError(f"bottom {self.bottom_name(0)} of {_text(size)} gives an empty output {_text(out)}")
        return out

    def apply(self, x: Array, bias: Array | None, out: Array) -> None:
        self.engine.conv_grad_data(x, self.blobs[0].data, out, self.plan, bias)

    def add_weight_gradient(self, x: Array, dy: Array, db: Array | None) -> None:
        self.engine.conv_grad_weights(dy, x, self.blobs[0].diff, self.plan)
        if db is not None:
            self.engine.add_sum_over_channels(dy, db)

    def input_gradient(self, dy: Array, out: Array) -> None:
        self.engine.conv(dy, self.blobs[0].data, None, out, self.plan)


@register("Im2col")
class Im2col(_Windowed):
    """The columns a convolution multiplies: (N, C, *size) to (N, C * kernel, *out), channel before kernel position.

    Reads `convolution_param` and ignores its `group`.
    """

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.out = self.conv_size(self.check_bottoms(bottom))
        for blob in top:
            depth = self.channels * prod(self.window.kernel)
            blob.reshape((*bottom[0].shape[: self.axis], depth, *self.out))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        for source, target in zip(bottom, top):
            x = self.folded(source.data)
            with self.written_as(target.data, (x.shape[0], *self._split_channels())) as y:
                for item in range(x.shape[0]):  # one at a time stays in cache
                    if any(self.window.pad):
                        y[item, ...] = 0
                    for number, outputs, cells in self._positions(x.shape[2:]):
                        y[(item, slice(None), number, *outputs)] = x[(item, slice(None), *cells)]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        for source, target, wanted in zip(bottom, top, propagate_down):
            if not wanted:
                continue
            dy = target.diff.reshape((prod(source.shape[: self.axis]), *self._split_channels()))
            with self.written_as(source.diff, self.folded_shape(source.shape)) as dx:
                for item in range(dx.shape[0]):
                    dx[item, ...] = 0
                    for number, outputs, cells in self._positions(dx.shape[2:]):
                        dx[(item, slice(None), *cells)] += dy[(item, slice(None), number, *outputs)]

    def _split_channels(self) -> Ints:
        return (self.channels, prod(self.window.kernel), *self.out)

    def _positions(self, size: Ints):
        for number in range(prod(self.window.kernel)):
            position: list[int] = []
            rest = number
            for k in reversed(self.window.kernel):
                rest, index = divmod(rest, k)
                position.insert(0, index)
            yield number, *self.window.reach(tuple(position), size, self.out)
