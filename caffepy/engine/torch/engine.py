"""The torch engine: the same equations on PyTorch's kernels, on a GPU or on the CPU."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import array_api_compat.torch as compat
import numpy as np
import torch
from torch import Tensor

from caffepy import rng
from caffepy.engine.after import NOTHING, After
from caffepy.engine.base import Engine
from caffepy.engine.held import Held, Undo
from caffepy.engine.threads import available_cores
from caffepy.engine.torch import conv, cuda_graph, lrn, pool
from caffepy.engine.torch.conv import ConvPlan
from caffepy.engine.torch.pool import PoolPlan
from caffepy.engine.window import Ints, Window

aten = torch.ops.aten

# Elements of a tile on the CPU where a kernel is a chain of elementwise operations: its temporaries stay in cache.
ROW_TILE = 1 << 18


class TorchEngine(Engine):
    """Arrays are torch.Tensor; on the CPU PyTorch's kernels use all cores.

    `device` is PyTorch's name ("cpu", "cuda:0"). `precision` is "float32", "tf32" (a GPU's products only) or "bf16"
    (products of rounded factors, summed in float32 and rounded).
    """

    name = "torch"

    def __init__(self, device: str | None = None, precision: str = "float32"):
        self.device = torch.device(device or "cpu")
        self.precision = precision
        self.on_host = self.device.type == "cpu"
        self.on_gpu = not self.on_host
        self.lazy = self.records = self.on_gpu
        if self.on_gpu:
            self.cheap_copy = 0
        self.xp: Any = namespace(self.device)
        self.generator = None if self.on_host else torch.Generator(self.device)
        self.seeds_each = True
        """Whether `generator` is seeded for each array of random numbers, not once for all by who runs the passes."""
        self._copying = None if self.on_host else torch.cuda.Stream(self.device)
        if self.on_gpu:  # pinned memory and recorded graphs would take memory of the first GPU
            torch.cuda.set_device(self.device)

    def computing(self) -> AbstractContextManager[Any]:
        return _all_cores if self.on_host else super().computing()

    def wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def record(self, fn: Callable[[], Any]) -> Callable[[], Any]:
        return cuda_graph.record(self, fn) if self.on_gpu else super().record(fn)

    @contextmanager
    def seeded_once(self) -> Iterator[None]:
        if self.generator is None:
            yield
            return
        self.generator.manual_seed(rng.draw())
        self.seeds_each = False
        try:
            yield
        finally:
            self.seeds_each = True

    # Memory

    def zeros(self, count: int) -> Tensor:
        return torch.zeros(count, dtype=torch.float32, device=self.device)

    def asarray(self, host: Any) -> Tensor:
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
        return array if isinstance(array, np.ndarray) else array.detach().cpu().numpy()

    def copy(self, array: Tensor) -> Tensor:
        return array.clone()

    def same_memory(self, a: Tensor, b: Tensor) -> bool:
        return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()

    # Elementwise work and products

    def map(self, fn: Callable, *args: Any, out: Tensor | tuple[Tensor, ...]) -> None:
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
        torch.clamp(x, min=0, out=y)

    def relu_grad(self, dy: Tensor, x: Tensor, dx: Tensor) -> None:
        aten.threshold_backward.grad_input(dy, x, 0, grad_input=dx)

    def gemm(self, a: Tensor, b: Tensor, out: Tensor, accumulate: bool = False) -> None:
        self._set_switches()
        if self.precision == "bf16":
            product = self._factor(a) @ self._factor(b)
            out.add_(product) if accumulate else out.copy_(product)
        elif accumulate:
            out.addmm_(a, b)
        else:
            torch.mm(a, b, out=out)

    def _set_switches(self) -> None:
        """Set PyTorch's switches, which the process has but once, for the next product: engines may differ in them.

        Convolutions then repeat their bits; some gradients of pooling add in any order.
        """
        if self.on_gpu:
            products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
            products.allow_tf32 = convolutions.allow_tf32 = self.precision == "tf32"
            products.allow_bf16_reduced_precision_reduction = False
            convolutions.deterministic = True

    def _factor(self, x: Tensor) -> Tensor:
        """A factor of a product in the engine's precision."""
        return x.to(torch.bfloat16) if self.precision == "bf16" else x

    def add_sum_over_channels(self, x: Tensor, out: Tensor, times: Tensor | None = None) -> None:
        out.add_(torch.sum(x if times is None else x * times, dim=_but_channels(x)))

    def channel_moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if not x.numel():
            return self.zeros(x.shape[1]), self.zeros(x.shape[1])
        variance, mean = torch.var_mean(x, _but_channels(x), correction=0)
        return mean, variance

    # Convolution

    def conv_plan(self, x: Ints, w: Ints, window: Window, group: int = 1) -> ConvPlan:
        return ConvPlan.of(x, w, window, group)

    def conv(
        self, x: Tensor, w: Tensor, bias: Tensor | None, y: Tensor, plan: ConvPlan, after: After = NOTHING
    ) -> None:
        self._set_switches()
        if plan.in_torch:
            bias = None if bias is None else self._factor(bias)
            y.copy_(aten.convolution(self._factor(x), self._factor(w), bias, *plan.options))
        else:
            conv.by_positions(x, w, y, plan)
            _add_bias(y, bias)
        shape = (1, -1, *[1] * (y.ndim - 2))
        if after.factor is not None:
            y.mul_(after.factor.reshape(shape))
        if after.offset is not None:
            y.add_(after.offset.reshape(shape))
        if after.add is not None:
            y.add_(after.add)
        if after.relu:
            y.clamp_(min=0)

    def conv_grad_weights(self, x: Tensor, dy: Tensor, dw: Tensor, plan: ConvPlan, db: Tensor | None = None) -> None:
        if db is not None:
            self.add_sum_over_channels(dy, db)
        self._set_switches()
        if self.on_host and conv.is_wrong_in_torch(plan):  # do the stride first
            x, plan = conv.seen_by_points(x, plan)
        if plan.in_torch:
            factors = self._factor(dy), self._factor(x), self._unread(dw)
            dw.add_(conv.backward(*factors, plan, (False, True, False))[1])
        else:
            conv.grad_weights_by_positions(x, dy, dw, plan)

    def conv_grad_data(self, dy: Tensor, w: Tensor, dx: Tensor, plan: ConvPlan, bias: Tensor | None = None) -> None:
        self._set_switches()
        if plan.in_torch:
            factors = self._factor(dy), self._unread(dx), self._factor(w)
            dx.copy_(conv.backward(*factors, plan, (True, False, False))[0])
        else:
            conv.grad_data_by_positions(dy, w, dx, plan)
        _add_bias(dx, bias)

    def _unread(self, x: Tensor) -> Tensor:
        """In the place of a factor whose shape alone counts."""
        return torch.empty_like(x, dtype=torch.bfloat16) if self.precision == "bf16" else x

    # Pooling

    def pool_plan(self, x: Ints, y: Ints, window: Window) -> PoolPlan:
        return PoolPlan(x, y, window, self.device)

    def pool_choice(self, plan: PoolPlan) -> Tensor:
        """An index within H * W, -1 for none."""
        n, c, h, w = plan.shape
        return torch.zeros((n, h, w, c), dtype=torch.int64, device=self.device).permute(0, 3, 1, 2)

    def max_pool(self, x: Tensor, y: Tensor, choice: Tensor, plan: PoolPlan) -> None:
        pool.max_pool(x, y, choice, plan)

    def max_pool_grad(self, dy: Tensor, choice: Tensor, dx: Tensor, plan: PoolPlan) -> None:
        pool.max_pool_grad(dy, choice, dx, plan)

    def max_pool_mask(self, choice: Tensor, plan: PoolPlan) -> Tensor:
        return choice

    def ave_pool(self, x: Tensor, y: Tensor, plan: PoolPlan) -> None:
        pool.ave_pool(x, y, plan)

    def ave_pool_grad(self, dy: Tensor, dx: Tensor, plan: PoolPlan) -> None:
        pool.ave_pool_grad(dy, dx, plan)

    def stochastic_pool(self, x: Tensor, y: Tensor, choice: Tensor, plan: PoolPlan, sample: bool) -> None:
        if not sample:
            pool.stochastic_mean(x, y, plan)
            return
        n, c, h, w = y.shape
        # In (0, 1]: a threshold above 0 never picks a value of 0.
        level = 1 - self._uniform((n, h, w, c)).permute(0, 3, 1, 2)
        pool.stochastic_draw(x, y, choice, level, plan)

    # Local response normalization

    def lrn(self, x: Tensor, y: Tensor, size: int, alpha: float, beta: float, k: float) -> None:
        self._by_rows(lrn.across, x, y, size=size, alpha=alpha, beta=beta, k=k)

    def lrn_grad(self, dy: Tensor, x: Tensor, dx: Tensor, size: int, alpha: float, beta: float, k: float) -> None:
        self._by_rows(lrn.across_grad, dy, x, dx, size=size, alpha=alpha, beta=beta, k=k)

    def _by_rows(self, fn: Callable, *arrays: Tensor, **options: Any) -> None:
        """Run `fn` over the rows of channels of (N, C, H, W) arrays: in tiles on the CPU, at once on a GPU."""
        channels = arrays[0].shape[1]
        rows = [a.permute(0, 2, 3, 1).reshape(-1, channels) for a in arrays] if arrays[0].numel() else []
        count = rows[0].shape[0] if rows else 0
        step = max(1, ROW_TILE // channels) if self.on_host else max(1, count)
        for start in range(0, count, step):
            fn(*(a[start : start + step] for a in rows), **options)

    # Rows, random numbers

    def gather(self, table: Tensor, index: Tensor, out: Tensor) -> None:
        out.copy_(torch.index_select(table, 0, index))

    def scatter_add(self, table: Tensor, index: Tensor, rows: Tensor) -> None:
        if self.on_host:
            table.index_add_(0, index, rows)
        else:  # index_add_ adds in any order there; this one sorts
            table.index_put_((index,), rows, accumulate=True)

    def merge_rows(self, index: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        touched, place = torch.unique(index, return_inverse=True)
        sums = torch.zeros((touched.shape[0], rows.shape[1]), device=rows.device)
        self.scatter_add(sums, place, rows)
        return touched, sums

    def put_rows(self, table: Tensor, index: Tensor, rows: Tensor) -> None:
        table.index_copy_(0, index, rows)

    def add_at(self, flat: Tensor, index: Tensor, values: Tensor) -> None:
        self.scatter_add(flat, index, values)

    def scatter(self, flat: Tensor, index: Tensor, values: Tensor) -> None:
        # Of several values for one place torch takes any: find the last first.
        order = torch.arange(len(index), device=self.device)
        last = torch.full(flat.shape, -1, dtype=order.dtype, device=self.device)
        last.scatter_reduce_(0, index, order, "amax")
        flat.copy_(torch.where(last < 0, flat, values[last.clamp_min(0)]) if len(index) else flat)

    def random_mask(self, keep: float, out: Tensor) -> None:
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


def _use_all_cores() -> Undo:
    before = torch.get_num_threads()
    torch.set_num_threads(available_cores())
    return lambda: torch.set_num_threads(before)


_all_cores = Held(_use_all_cores)
"""Within it PyTorch's kernels on the CPU use as many threads as ours would."""


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
