"""Pooling: the largest value, the mean, or a random value of sliding windows."""

from __future__ import annotations

from caffepy.engine.window import Window
from caffepy.errors import ConfigError, ShapeError
from caffepy.layers.pixels import window_map
from caffepy.net.blob import Blob
from caffepy.net.layer import CoordMap, Layer, register
from caffepy.proto.caffe_pb2 import TRAIN, LayerParameter, PoolingParameter, UnpoolingParameter


def pooled_size(size: int, kernel: int, stride: int, pad: int, any_pad: bool, ceil: bool = True) -> int:
    """ceil((in + 2 pad - k) / stride) + 1; with padding on either axis, no window starts at or beyond in + pad."""
    span = size + 2 * pad - kernel
    out = (-(-span // stride) if ceil else span // stride) + 1
    if any_pad and (out - 1) * stride >= size + pad:
        out -= 1
    return out


def read_pair(p: PoolingParameter | UnpoolingParameter, field: str) -> tuple[int, int]:
    """Height and width of the "kernel", "stride" or "pad", given once or as `_h` and `_w`."""
    square = "kernel_size" if field == "kernel" else field
    if p.HasField(f"{field}_h") or p.HasField(f"{field}_w"):
        if p.HasField(square):
            raise ConfigError(f"both {square} and {field}_h / {field}_w are given", hint="Keep one of the two.")
        if not (p.HasField(f"{field}_h") and p.HasField(f"{field}_w")):
            raise ConfigError(f"{field}_h and {field}_w must both be given")
        return getattr(p, f"{field}_h"), getattr(p, f"{field}_w")
    if field == "kernel" and not p.HasField("kernel_size"):
        raise ConfigError("kernel_size is not set", hint="Set kernel_size, kernel_h and kernel_w, or global_pooling.")
    return (getattr(p, square),) * 2


def rounds_up(p: PoolingParameter) -> bool:
    """Whether the extent is rounded up: as `round_mode` says, or `ceil_mode` of forks."""
    if p.HasField("ceil_mode") and p.HasField("round_mode"):
        raise ConfigError("both round_mode and ceil_mode, two names for one thing, are given", hint="Keep one of them.")
    return p.ceil_mode if p.HasField("ceil_mode") else p.round_mode == PoolingParameter.CEIL


@register("Pooling")
class Pooling(Layer):
    """MAX: y = largest value of the window; AVE: mean over the window cut at in + pad; x (N, C, H, W), y (N, C, h, w).

    h = ceil((H + 2 pad - kernel) / stride) + 1 (`round_mode: FLOOR`, or `ceil_mode: false` of forks: floor). MAX
    ignores padding, takes the first of equal values and gives their index within H * W in a second top. STOCHASTIC
    (Zeiler and Fergus 2013) draws a value with probability proportional to it in TRAIN and weights all by it in TEST;
    Caffe has it on GPUs only.
    """

    num_top = (1, 2)
    colour = "#FF9900"

    @classmethod
    def coord_map(cls, param: LayerParameter, bottom: int = 0) -> CoordMap | None:
        return window_map(param.pooling_param)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.pooling_param
        self.method = p.pool
        if len(top) > 1 and p.pool != PoolingParameter.MAX:
            raise ConfigError("only MAX pooling has a second top, the mask")
        sized = any(p.HasField(f) for f in ("kernel_size", "kernel_h", "kernel_w"))
        if p.global_pooling:
            if sized:
                raise ConfigError("global_pooling covers the whole input: leave out kernel_size, kernel_h and kernel_w")
            if p.pad or p.pad_h or p.pad_w or p.stride != 1 or p.stride_h > 1 or p.stride_w > 1:
                raise ConfigError("global_pooling needs pad 0 and stride 1")
        else:
            kernel = read_pair(p, "kernel")
            if min(kernel) <= 0:
                raise ConfigError("the pooling kernel must be at least 1")
            pad = read_pair(p, "pad")
            if any(a >= k for a, k in zip(pad, kernel)):
                raise ConfigError(f"pad {pad[0]}x{pad[1]} must be smaller than the kernel {kernel[0]}x{kernel[1]}")
        if min(read_pair(p, "stride")) <= 0:
            raise ConfigError("the pooling stride must be at least 1")
        if p.pool == PoolingParameter.STOCHASTIC and (p.pad or p.pad_h or p.pad_w):
            raise ConfigError("STOCHASTIC pooling takes no padding")

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(bottom[0].shape) != 4:
            raise ShapeError(f"Pooling needs a bottom (N, C, H, W), {self.bottom_name(0)} is {bottom[0].shape}")
        p = self.param.pooling_param
        n, c, *size = bottom[0].shape
        kernel = tuple(size) if p.global_pooling else read_pair(p, "kernel")
        self.window = Window(kernel, read_pair(p, "stride"), read_pair(p, "pad"), (1, 1))
        any_pad, ceil = any(self.window.pad), rounds_up(p)
        out = [
            pooled_size(s, k, t, a, any_pad, ceil)
            for s, k, t, a in zip(size, kernel, self.window.stride, self.window.pad)
        ]
        if min(out) < 1:
            raise ShapeError(
                f"the kernel {kernel[0]}x{kernel[1]} is larger than the padded input "
                f"(bottom {self.bottom_name(0)} is {size[0]}x{size[1]}, pad {self.window.pad[0]}x{self.window.pad[1]})"
            )
        for blob in top:
            blob.reshape(n, c, *out)
        self.plan = self.engine.pool_plan(bottom[0].shape, top[0].shape, self.window)
        if self.method != PoolingParameter.AVE:
            self.choice = self.engine.pool_choice(self.plan)

    def divisible(self) -> bool:
        return self.method != PoolingParameter.STOCHASTIC

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x, y = bottom[0].data, top[0].data
        if self.method == PoolingParameter.AVE:
            self.engine.ave_pool(x, y, self.plan)
        elif self.method == PoolingParameter.STOCHASTIC:
            self.engine.stochastic_pool(x, y, self.choice, self.plan, sample=self.phase == TRAIN)
        else:
            self.engine.max_pool(x, y, self.choice, self.plan)
            if len(top) > 1:
                top[1].data[...] = self.engine.max_pool_mask(self.choice, self.plan)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        if self.method == PoolingParameter.AVE:
            self.engine.ave_pool_grad(top[0].diff, bottom[0].diff, self.plan)
        elif self.method == PoolingParameter.STOCHASTIC and self.phase != TRAIN:
            raise ConfigError(
                "STOCHASTIC pooling has no gradient in TEST, where no value is drawn",
                hint="Use phase: TRAIN, or propagate_down: false.",
            )
        else:
            self.engine.max_pool_grad(top[0].diff, self.choice, bottom[0].diff, self.plan)
