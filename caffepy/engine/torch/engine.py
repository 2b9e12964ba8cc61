"""The torch engine: the same equations on PyTorch's kernels, on a GPU or on the CPU."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any

import array_api_compat.torch as compat
import numpy as np
import torch
from torch import Tensor

from caffepy import rng
from caffepy.engine.threads import available_cores
from caffepy.engine.torch import lrn as torch_lrn
from caffepy.engine.torch import pool as torch_pool
from caffepy.engine.window import Window

aten = torch.ops.aten

# Elements of a tile on the CPU where a kernel is a chain of elementwise operations: its temporaries stay in cache.
ROW_TILE = 1 << 18


class TorchEngine:
    """Arrays are torch.Tensor of float32; kernels see (N, C, H, W) views of channels-last memory.

    `device` is PyTorch's name ("cpu", "cuda:0"). `precision` is "float32", "tf32" (a GPU's products only) or "bf16"
    (products of rounded factors, summed in float32 and rounded).
    """

    name = "torch"
    lazy = False
    """Whether values are computed later than asked for, so that looking at one waits: so on a GPU."""

    def __init__(self, device: str | None = None, precision: str = "float32"):
        self.device = torch.device(device or "cpu")
        self.precision = precision
        self.on_host = self.device.type == "cpu"
        self.on_gpu = not self.on_host
        self.lazy = self.on_gpu
        self.xp: Any = namespace(self.device)
        self.generator = None if self.on_host else torch.Generator(self.device)
        self.seeds_each = True
        """Whether `generator` is seeded for each array of random numbers, not once for all by who runs the passes."""
        self._copying = None if self.on_host else torch.cuda.Stream(self.device)
        if self.on_host:
            torch.set_num_threads(available_cores())
        else:
            torch.cuda.set_device(self.device)
            # Of the whole process. So convolutions repeat their bits; some gradients of pooling add in any order.
            torch.backends.cudnn.deterministic = True
            torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False

    parts, forks = 1, False
    """Into how many parts a batch is divided, and whether processes compute them: PyTorch's kernels use all cores."""

    # Memory

    def zeros(self, count: int) -> Tensor:
        return torch.zeros(count, dtype=torch.float32, device=self.device)

    memory = zeros

    def asarray(self, host: Any) -> Tensor:
        """A float32 array of this engine with the host's values; may share memory."""
        if isinstance(host, Tensor):
            return host.to(self.device, torch.float32)
        values = np.asarray(host, np.float32)
        if not values.flags.writeable or any(s < 0 for s in values.strides):  # torch refuses such memory
            values = values.copy()
        tensor = torch.from_numpy(values)
        return tensor if self.on_host else self._to_device(tensor)

    def _to_device(self, tensor: Tensor) -> Tensor:
        """Copy from pinned memory on a stream of its own, while earlier work still computes.

        Small ones, too, such as labels: a plain copy waits for all that was asked for before.
        """
        current = torch.cuda.current_stream(self.device)
        if torch.cuda.is_current_stream_capturing():
            return tensor.to(self.device)
        with torch.cuda.stream(self._copying):
            copied = tensor.pin_memory().to(self.device, non_blocking=True)
        current.wait_stream(self._copying)
        copied.record_stream(current)
        return copied

    def to_host(self, array: Tensor) -> np.ndarray:
        """The values as a numpy array; may share memory. An array of numpy's is returned as it is."""
        return array if isinstance(array, np.ndarray) else array.detach().cpu().numpy()

    def copy(self, array: Tensor) -> Tensor:
        return array.clone()

    def same_memory(self, a: Tensor, b: Tensor) -> bool:
        """Whether writing to one writes to the other, for two shapes of what was one array."""
        return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()

    def wait(self) -> None:
        """Return when all that was asked for is computed."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    # Elementwise work and products

    def map(self, fn: Callable, *args: Any, out: Tensor | tuple[Tensor, ...]) -> None:
        """`out[...] = fn(xp, *args)`; with a tuple of outputs `fn` returns as many arrays. Outputs may be arguments."""
        outs = out if isinstance(out, tuple) else (out,)
        for part in self._tiles(args, outs):
            result = fn(self.xp, *part[: len(args)])
            for target, value in zip(part[len(args) :], result if isinstance(out, tuple) else (result,)):
                target[...] = value

    def _tiles(self, args: tuple, outs: tuple[Tensor, ...]) -> Iterator[Sequence[Any]]:
        """Arguments and outputs together: large arrays on the CPU cut into pieces whose temporaries stay in cache."""
        every, first = (*args, *outs), outs[0]
        # Tensors without axes are numbers.
        arrays = [i for i, a in enumerate(every) if isinstance(a, Tensor) and a.ndim]
        if self.on_gpu or first.numel() <= ROW_TILE or not all(_alike(every[i], first) for i in arrays):
            yield every
            return
        flats = {i: every[i].as_strided((first.numel(),), (1,)) for i in arrays}
        for start in range(0, first.numel(), ROW_TILE):
            yield [flats[i][start : start + ROW_TILE] if i in flats else a for i, a in enumerate(every)]

    def relu(self, x: Tensor, y: Tensor) -> None:
        """y = max(x, 0)."""
        torch.clamp(x, min=0, out=y)

    def relu_grad(self, dy: Tensor, x: Tensor, dx: Tensor) -> None:
        """dx = dy where x > 0, else 0."""
        aten.threshold_backward.grad_input(dy, x, 0, grad_input=dx)

    def gemm(self, a: Tensor, b: Tensor, out: Tensor, accumulate: bool = False) -> None:
        """out (M, N) = a (M, K) @ b (K, N), or += with `accumulate`; transposed views cost nothing."""
        self._choose_tf32()
        if self.precision == "bf16":
            product = self._factor(a) @ self._factor(b)
            out.add_(product) if accumulate else out.copy_(product)
        elif accumulate:
            out.addmm_(a, b)
        else:
            torch.mm(a, b, out=out)

    def _choose_tf32(self) -> None:
        """Set PyTorch's switches, which the process has but once, for the next product: engines may differ in them."""
        if self.on_gpu:
            wanted = self.precision == "tf32"
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = wanted

    def _factor(self, x: Tensor) -> Tensor:
        """A factor of a product in the engine's precision."""
        return x.to(torch.bfloat16) if self.precision == "bf16" else x

    # Convolution: x (N, C, *size), w (O, C / group, *kernel), y (N, O, *out)

    def conv(self, x: Tensor, w: Tensor, bias: Tensor | None, y: Tensor, window: Window, group: int = 1) -> None:
        """y = cross-correlation of x with w, + bias (O,)."""
        self._choose_tf32()
        if not _in_torch(window):
            _conv_by_positions(x, w, y, window, group)
            _add_bias(y, bias)
            return
        options = (window.stride, window.pad, window.dilation, False, [0] * len(window.kernel), group)
        bias = None if bias is None else self._factor(bias)
        y.copy_(aten.convolution(self._factor(x), self._factor(w), bias, *options))

    def conv_grad_weights(
        self, x: Tensor, dy: Tensor, dw: Tensor, window: Window, group: int = 1, db: Tensor | None = None
    ) -> None:
        """dw += gradient of the weights, db += that of the bias."""
        if db is not None:
            self.add_sum_over_channels(dy, db)
        self._choose_tf32()
        if self.on_host and set(window.kernel) == {1} and set(window.stride) != {1}:
            # torch 2.13 on the CPU sums wrongly here, differently from run to run: do the stride first.
            x, window = _seen_by_points(x, dy, window)
        if _in_torch(window):
            factors = self._factor(dy), self._factor(x), self._unread(dw)
            dw.add_(self._conv_backward(factors, window, group, (False, True, False))[1])
        else:
            _grad_weights_by_positions(x, dy, dw, window, group)

    def conv_grad_data(
        self, dy: Tensor, w: Tensor, dx: Tensor, window: Window, group: int = 1, bias: Tensor | None = None
    ) -> None:
        """dx = gradient of the input; with w and bias taken as a deconvolution's, its forward pass."""
        self._choose_tf32()
        if _in_torch(window):
            factors = self._factor(dy), self._unread(dx), self._factor(w)
            dx.copy_(self._conv_backward(factors, window, group, (True, False, False))[0])
        else:
            _grad_data_by_positions(dy, w, dx, window, group)
        _add_bias(dx, bias)

    def _unread(self, x: Tensor) -> Tensor:
        """In the place of a factor whose shape alone counts."""
        return torch.empty_like(x, dtype=torch.bfloat16) if self.precision == "bf16" else x

    @staticmethod
    def _conv_backward(factors: tuple[Tensor, Tensor, Tensor], window: Window, group: int, wanted: tuple):
        options = (window.stride, window.pad, window.dilation, False, [0] * len(window.kernel), group)
        return aten.convolution_backward(*factors, None, *options, wanted)

    def add_sum_over_channels(self, x: Tensor, out: Tensor, times: Tensor | None = None) -> None:
        """out (C,) += sum of x (N, C, *size), or of x * times, over all but the channels: a bias's gradient."""
        out.add_(torch.sum(x if times is None else x * times, dim=_but_channels(x)))

    def channel_moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (C,) of x (N, C, *size) a channel."""
        if not x.numel():
            return self.zeros(x.shape[1]), self.zeros(x.shape[1])
        variance, mean = torch.var_mean(x, _but_channels(x), correction=0)
        return mean, variance

    # Pooling: x (N, C, H, W), y (N, C, h, w)

    def pool_choice(self, shape: tuple[int, ...], window: Window) -> Tensor:
        """Memory for `max_pool`'s choices: an index within H * W, -1 for none."""
        n, c, h, w = shape
        return torch.zeros((n, h, w, c), dtype=torch.int64, device=self.device).permute(0, 3, 1, 2)

    def max_pool(self, x: Tensor, y: Tensor, choice: Tensor, window: Window) -> None:
        torch_pool.max_pool(x, y, choice, window)

    def max_pool_grad(self, dy: Tensor, choice: Tensor, dx: Tensor, window: Window) -> None:
        torch_pool.max_pool_grad(dy, choice, dx, window)

    def max_pool_mask(self, choice: Tensor, window: Window, size: tuple[int, int]) -> Tensor:
        """The index within H * W of each window's largest value, as Caffe's second top has it."""
        return choice

    def ave_pool(self, x: Tensor, y: Tensor, window: Window) -> None:
        torch_pool.ave_pool(x, y, window)

    def ave_pool_grad(self, dy: Tensor, dx: Tensor, window: Window) -> None:
        torch_pool.ave_pool_grad(dy, dx, window)

    def stochastic_pool(self, x: Tensor, y: Tensor, choice: Tensor, window: Window, sample: bool) -> None:
        """A value of each window drawn with probability proportional to it, or the mean that this weights by."""
        if not sample:
            torch_pool.stochastic_mean(x, y, window)
            return
        n, c, h, w = y.shape
        # In (0, 1]: a threshold above 0 never picks a value of 0.
        level = 1 - self._uniform((n, h, w, c)).permute(0, 3, 1, 2)
        torch_pool.stochastic_draw(x, y, choice, level, window)

    # Local response normalization across channels

    def lrn(self, x: Tensor, y: Tensor, size: int, alpha: float, beta: float, k: float) -> None:
        self._by_rows(torch_lrn.across, x, y, size=size, alpha=alpha, beta=beta, k=k)

    def lrn_grad(self, dy: Tensor, x: Tensor, dx: Tensor, size: int, alpha: float, beta: float, k: float) -> None:
        self._by_rows(torch_lrn.across_grad, dy, x, dx, size=size, alpha=alpha, beta=beta, k=k)

    def _by_rows(self, fn: Callable, *arrays: Tensor, **options: Any) -> None:
        """Run `fn` over the rows of channels of (N, C, H, W) arrays: in tiles on the CPU, at once on a GPU."""
        channels = arrays[0].shape[1]
        rows = [a.permute(0, 2, 3, 1).reshape(-1, channels) for a in arrays] if arrays[0].numel() else []
        count = rows[0].shape[0] if rows else 0
        step = max(1, ROW_TILE // channels) if self.on_host else max(1, count)
        for start in range(0, count, step):
            fn(*(a[start : start + step] for a in rows), **options)

    # Gather, scatter, random numbers

    def gather(self, table: Tensor, index: Tensor, out: Tensor) -> None:
        """out[i] = table[index[i]] for integer indices (n,)."""
        out.copy_(torch.index_select(table, 0, index))

    def scatter_add(self, table: Tensor, index: Tensor, rows: Tensor) -> None:
        """table[index[i]] += rows[i]; repeated indices add up in order."""
        if self.on_host:
            table.index_add_(0, index, rows)
        else:  # index_add_ adds in any order there; this one sorts
            table.index_put_((index,), rows, accumulate=True)

    def scatter(self, table: Tensor, index: Tensor, values: Tensor) -> None:
        """table[index[i]] = values[i], all of one axis; of a repeated index the last value stays."""
        # Of several values for one place torch takes any: find the last first.
        order = torch.arange(len(index), device=self.device)
        last = torch.full(table.shape, -1, dtype=order.dtype, device=self.device)
        last.scatter_reduce_(0, index, order, "amax")
        table.copy_(torch.where(last < 0, table, values[last.clamp_min(0)]) if len(index) else table)

    def random_mask(self, keep: float, out: Tensor) -> None:
        """out = 1 with probability `keep`, else 0."""
        out.copy_(self._uniform(tuple(out.shape)) < keep)

    def _uniform(self, shape: tuple[int, ...]) -> Tensor:
        """Numbers in [0, 1): NumPy's on the CPU; on a GPU its own, seeded by the next of the process's generator.

        So the state of caffepy.rng is all that a snapshot needs, on every device.
        """
        if self.generator is None:
            return torch.from_numpy(rng.generator.random(shape, np.float32))
        if self.seeds_each:
            self.generator.manual_seed(rng.draw())
        return torch.rand(shape, device=self.device, generator=self.generator)


def namespace(device: torch.device) -> types.ModuleType:
    """The array API of torch whose new arrays lie on `device`, and whose maximum and minimum take Python numbers."""
    xp = types.ModuleType("caffepy.engine.torch.xp")
    xp.__dict__.update(vars(compat))
    for name in ("arange", "asarray", "empty", "eye", "full", "linspace", "ones", "zeros"):
        setattr(xp, name, _on(device, getattr(compat, name)))
    xp.__dict__.update(
        maximum=lambda x, y: torch.clamp_min(x, y) if _is_number(y) else compat.maximum(x, y),
        minimum=lambda x, y: torch.clamp_max(x, y) if _is_number(y) else compat.minimum(x, y),
    )
    return xp


def _on(device: torch.device, create: Callable) -> Callable:
    def created(*args: Any, **options: Any) -> Tensor:
        return create(*args, **{"device": device, **options})

    return created


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _alike(a: Tensor, b: Tensor) -> bool:
    """Whether two arrays have one shape and fill their memory in one order, without holes."""
    return a.shape == b.shape and a.stride() == b.stride() and _dense(a)


def _dense(a: Tensor) -> bool:
    return a.is_contiguous() or (a.ndim == 4 and a.is_contiguous(memory_format=torch.channels_last))


def _but_channels(x: Tensor) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def _add_bias(y: Tensor, bias: Tensor | None) -> None:
    if bias is not None:
        y.add_(bias.reshape(-1, *[1] * (y.ndim - 2)))


def _seen_by_points(x: Tensor, dy: Tensor, window: Window) -> tuple[Tensor, Window]:
    """The cells of x that the windows of a 1 x 1 kernel see, and the window of stride 1 that sees them all."""
    seen = x.new_zeros(*x.shape[:2], *dy.shape[2:])
    outputs, cells = window.reach((0,) * len(window.kernel), x.shape[2:], dy.shape[2:])
    seen[(..., *outputs)] = x[(..., *cells)]
    ones, zeros = (1,) * len(window.kernel), (0,) * len(window.kernel)
    memory = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.ndim, torch.contiguous_format)
    return seen.contiguous(memory_format=memory), Window(ones, ones, zeros, ones)


# Convolutions over no axis, or more than three, which torch does not have: one product a kernel position.


def _in_torch(window: Window) -> bool:
    return 1 <= len(window.kernel) <= 3


def _positions(window: Window, size: tuple[int, ...], out: tuple[int, ...], group: int, channels: int, outputs: int):
    """(at of x, at of w, at of y) for every group and kernel position, such that the three multiply."""
    c, o = channels // group, outputs // group
    for g in range(group):
        for position in np.ndindex(*window.kernel):
            seen, cells = window.reach(position, size, out)
            inputs, produced = slice(g * c, (g + 1) * c), slice(g * o, (g + 1) * o)
            yield (slice(None), inputs, *cells), (produced, slice(None), *position), (slice(None), produced, *seen)


def _conv_by_positions(x: Tensor, w: Tensor, y: Tensor, window: Window, group: int) -> None:
    y.zero_()
    for of_x, of_w, of_y in _positions(window, x.shape[2:], y.shape[2:], group, x.shape[1], y.shape[1]):
        y[of_y] += torch.einsum("nc...,oc->no...", x[of_x], w[of_w])


def _grad_weights_by_positions(x: Tensor, dy: Tensor, dw: Tensor, window: Window, group: int) -> None:
    for of_x, of_w, of_y in _positions(window, x.shape[2:], dy.shape[2:], group, x.shape[1], dy.shape[1]):
        left, right = (a.movedim(1, 0).reshape(a.shape[1], prod(a.shape) // a.shape[1]) for a in (dy[of_y], x[of_x]))
        dw[of_w] += left @ right.T


def _grad_data_by_positions(dy: Tensor, w: Tensor, dx: Tensor, window: Window, group: int) -> None:
    dx.zero_()
    for of_x, of_w, of_y in _positions(window, dx.shape[2:], dy.shape[2:], group, dx.shape[1], dy.shape[1]):
        dx[of_x] += torch.einsum("no...,oc->nc...", dy[of_y], w[of_w])
