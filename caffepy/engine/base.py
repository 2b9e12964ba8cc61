"""The engine's contract: all that layers, nets and solvers ask of the place where arrays live.

Arrays are float32 unless said, `data` in Caffe's axis order: x (N, C, *size). Four axes are stored channels-last,
N, H, W, C in memory; kernels take any order, and are fast with that one. A kernel writes to the arrays named `y`,
`dx`, `out`, whose values before do not matter, and adds to those of parameters, `dw`, `db`. It returns when the work
is done or, on a lazy engine, asked for; results are those of the same call repeated, bit by bit, on the CPU.
Shapes are the caller's to check: a kernel raises nothing of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from caffepy.engine import recurrent
from caffepy.engine.after import NOTHING, After
from caffepy.engine.refusals import Refusals
from caffepy.engine.window import Window
from caffepy.errors import CaffeError, ConfigError

if TYPE_CHECKING:
    import numpy as np

Array = Any  # numpy.ndarray or torch.Tensor, the engine knows
Shape = tuple[int, ...]


class Engine(ABC):
    """Memory, the array namespace `xp`, and the kernels that are too slow in it. What is not here, nobody calls."""

    name: ClassVar[str]
    """As `--engine` and CAFFEPY_ENGINE have it."""
    xp: Any
    """The array API's functions over this engine's arrays; new arrays lie where the engine's do."""
    on_gpu: bool = False
    """Whether arrays lie in a GPU's memory: then `to_host` copies."""
    lazy: bool = False
    """Whether values are computed later than asked for, so that looking at one waits: as on a GPU."""

    records: bool = False
    """Whether `record` works: a GPU's engine can repeat what it has computed."""

    cheap_copy: int = 1 << 15
    """Elements up to which copying an array costs less than a call of `map` for it alone."""

    # How work is divided

    divides: bool = False
    """Whether batches are divided into parts that threads compute: see `caffepy.passes.divided`."""

    def among(self, number: int, count: int) -> Engine:
        """This engine with its share of the threads: for part `number` of `count` that are computed at once."""
        return self

    def run(self, task: Callable[[int], None], n: int) -> None:
        """`task(0)` .. `task(n - 1)`, at once where there are threads; raises what one of them raises."""
        for i in range(n):
            task(i)

    def run_in_step(self, steps: Sequence[Callable[[int], None]], n: int, between: Callable[[int], None]) -> None:
        """The n tasks of each step as `run` does, all before those of the next; `between(number)` is called then."""
        for number, step in enumerate(steps):
            self.run(step, n)
            between(number)

    def computing(self) -> AbstractContextManager[Any]:
        """Around passes and updates: within it the process has the settings that this engine computes best with.

        They say how many threads a product takes. Threads may be within it side by side, and one thread several times;
        the last to leave restores what was. Numpy's kernels enter it by themselves, and are faster within.
        """
        return nullcontext()

    @abstractmethod
    def wait(self) -> None:
        """Return when all that was asked for is computed."""

    def known(self, number: Array) -> float | None:
        """A number as a float, None where looking at it would wait for all that was asked for before."""
        return None if self.lazy and not isinstance(number, float) else float(number)

    def record(self, fn: Callable[[], Any]) -> Callable[[], Any]:
        """A function that repeats what `fn` does on a GPU, all kernels at once, and returns its result.

        The result lies in the same memory each time. `fn` must have run before, so that nothing is chosen or allocated
        for the first time while it is recorded. Raises RuntimeError where `fn` does what cannot be recorded, such as
        fetching a value, and ConfigError where there is no GPU.
        """
        raise ConfigError("a CUDA graph needs a GPU", hint="Leave it out, or add --gpu 0.")

    def seeded_once(self) -> AbstractContextManager[Any]:
        """Within it random numbers that a GPU draws go on from one seed; else each array of them has its own.

        What is recorded cannot seed: a plain pass within it draws the numbers of a recorded one.
        """
        return nullcontext()

    # Memory

    @abstractmethod
    def zeros(self, count: int) -> Array:
        """(count,) zeros."""

    def host_bytes(self, count: int) -> int:
        """Bytes of the machine's memory that `count` values take: none where they lie in a GPU's, which has its own."""
        return 0 if self.on_gpu else 4 * count

    @abstractmethod
    def asarray(self, host: Any) -> Array:
        """A float32 array of this engine with the host's values; may share memory."""

    @abstractmethod
    def to_host(self, array: Array) -> np.ndarray:
        """The values as a numpy array, computed by then; may share memory. One of numpy's is returned as it is."""

    @abstractmethod
    def copy(self, array: Array) -> Array:
        """The same values in memory of their own."""

    @abstractmethod
    def same_memory(self, a: Array, b: Array) -> bool:
        """Whether writing to one writes to the other, for two shapes of what was one array."""

    # Wrong values

    def refuse(self, by: Any, wrong: Array, values: Array, error: Callable[[int, float], CaffeError]) -> None:
        """Raise `error(i, value)` for the first entry of `values` that is `wrong`, counted in C order.

        On a lazy engine the first of each shape of `values` waits until `settle` asks for those of `by`, a layer; the
        caller goes on with some value that does no harm. `error` must not hold the layer, which it would keep alive.
        """
        if self.lazy:
            self._refusals.put_off(by, wrong, values, error)
        elif wrong.any():
            i = int(self.xp.argmax(self.xp.astype(wrong.reshape((-1,)), self.xp.uint8)))
            raise error(i, float(values.reshape((-1,))[i]))

    def settle(self, places: Mapping[Any, str]) -> None:
        """Raise the first error that waits for one of these layers, in their order, at its place; forget the others."""
        self._refusals.settle(places)

    @cached_property
    def _refusals(self) -> Refusals:
        return Refusals(self)

    # Elementwise work and products

    @abstractmethod
    def map(self, fn: Callable, *args: Any, out: Array | tuple[Array, ...]) -> None:
        """`out[...] = fn(xp, *args)`, in tiles: `fn` computes each element of its result from those of the same place.

        Arrays of the output's shape, or of its rank and length that broadcast, are cut into tiles; everything else is
        passed whole. With a tuple of outputs `fn` returns as many arrays. An output may also be an argument.
        """

    @abstractmethod
    def relu(self, x: Array, y: Array) -> None:
        """y = max(x, 0); y may be x."""

    @abstractmethod
    def relu_grad(self, dy: Array, x: Array, dx: Array) -> None:
        """dx = dy where x > 0, else 0; dx may be dy."""

    @abstractmethod
    def gemm(self, a: Array, b: Array, out: Array, accumulate: bool = False) -> None:
        """out (M, N) = a (M, K) @ b (K, N), or += with `accumulate`; transposed views cost nothing."""

    @abstractmethod
    def add_sum_over_channels(self, x: Array, out: Array, times: Array | None = None) -> None:
        """out (C,) += sum of x (N, C, *size), or of x * times, over all but the channels: a bias's gradient."""

    @abstractmethod
    def channel_moments(self, x: Array) -> tuple[Array, Array]:
        """Mean and uncorrected variance (C,) of x (N, C, *size) a channel; zeros where x has no elements."""

    # Convolution: x (N, C, *size), w (O, C / group, *kernel), y (N, O, *out), over any number of axes

    @abstractmethod
    def conv_plan(self, x: Shape, w: Shape, window: Window, group: int = 1) -> Any:
        """How a convolution of arrays of these shapes is computed, for the three kernels: it holds no values."""

    @abstractmethod
    def conv(self, x: Array, w: Array, bias: Array | None, y: Array, plan: Any, after: After = NOTHING) -> None:
        """y = cross-correlation of x with w, + bias (O,), and what comes after it. y is no other array's memory."""

    @abstractmethod
    def conv_grad_weights(self, x: Array, dy: Array, dw: Array, plan: Any, db: Array | None = None) -> None:
        """dw += gradient of the weights, db += that of the bias (O,)."""

    @abstractmethod
    def conv_grad_data(self, dy: Array, w: Array, dx: Array, plan: Any, bias: Array | None = None) -> None:
        """dx = gradient of the input; with w and bias (C,) taken as a deconvolution's, its forward pass."""

    # Pooling: x (N, C, H, W), y (N, C, h, w)

    @abstractmethod
    def pool_plan(self, x: Shape, y: Shape, window: Window) -> Any:
        """What pooling x to y, arrays of these shapes, needs to know: for the kernels below."""

    @abstractmethod
    def pool_choice(self, plan: Any) -> Array:
        """Memory for where each value of y came from, (N, C, h, w) integers that the engine alone understands."""

    @abstractmethod
    def max_pool(self, x: Array, y: Array, choice: Array, plan: Any) -> None:
        """y = largest value of each window, the first in row order of equal ones, and where it was, in `choice`."""

    @abstractmethod
    def max_pool_grad(self, dy: Array, choice: Array, dx: Array, plan: Any) -> None:
        """dx = the sum of the dy whose value came from there: after `max_pool` or `stochastic_pool`."""

    @abstractmethod
    def max_pool_mask(self, choice: Array, plan: Any) -> Array:
        """The index within H * W of each window's largest value (-1: an empty window), as Caffe's second top has it."""

    @abstractmethod
    def ave_pool(self, x: Array, y: Array, plan: Any) -> None:
        """y = sum of each window over its area, which is cut at in + pad."""

    @abstractmethod
    def ave_pool_grad(self, dy: Array, dx: Array, plan: Any) -> None:
        """dx = the sum of dy / area over the windows that see the cell."""

    @abstractmethod
    def stochastic_pool(self, x: Array, y: Array, choice: Array, plan: Any, sample: bool) -> None:
        """A value of each window, drawn with probability proportional to it (and where it was, in `choice`), or their
        mean weighted by the same; 0 where all are 0. x is not negative."""

    # Local response normalization across channels: x, y (N, C, H, W)

    @abstractmethod
    def lrn(self, x: Array, y: Array, size: int, alpha: float, beta: float, k: float) -> None:
        """y = x s^-beta, s = k + alpha / size * sum of x^2 over `size` channels about each, an odd number."""

    @abstractmethod
    def lrn_grad(self, dy: Array, x: Array, dx: Array, size: int, alpha: float, beta: float, k: float) -> None:
        """dx = dy s^-beta - 2 alpha beta / size * x * sum of dy x s^(-beta - 1) over the same channels."""

    # A step of a recurrent net for n items, after its products: arrays (n, ...), D the size of the state

    def lstm(self, z: Array, c_prev: Array, kept: Array | None, c: Array, squashed: Array, h: Array) -> None:
        """c = f kept c_prev + i g, squashed = tanh(c), h = o squashed; z (n, 4 D) becomes i, f kept, o, g.

        It holds the sums, those of the gates i, f and o halved. kept is (n, 1).
        """
        outs = (*recurrent.parts(z, 4), c, squashed, h)
        self.map(recurrent.lstm, *recurrent.parts(z, 4), c_prev, kept, out=outs)

    def lstm_grad(self, dh: Array, dc: Array, z: Array, c_prev: Array, squashed: Array, dz: Array) -> None:
        """dz (n, 4 D), the gradients of the sums; dc, that of c, becomes that of c_prev."""
        outs = (*recurrent.parts(dz, 4), dc)
        self.map(recurrent.lstm_grad, dh, dc, *recurrent.parts(z, 4), c_prev, squashed, out=outs)

    def gru(self, z: Array, u: Array, h_prev: Array, h: Array) -> None:
        """n = tanh(z_n + r u_n), h = (1 - z) n + z h_prev; z (n, 3 D) becomes r, z, n.

        It and u, what h_prev adds, hold the sums, those of the gates r and z halved.
        """
        outs = (*recurrent.parts(z, 3), h)
        self.map(recurrent.gru, *recurrent.parts(z, 3), *recurrent.parts(u, 3), h_prev, out=outs)

    def gru_grad(self, dh: Array, z: Array, u_n: Array, h_prev: Array, d: Array) -> None:
        """d (n, 4 D), the gradients of the sums n, r, z and of u_n; dh becomes its share of that of h_prev."""
        outs = (*recurrent.parts(d, 4), dh)
        self.map(recurrent.gru_grad, dh, *recurrent.parts(z, 3), u_n, h_prev, out=outs)

    # Rows, random numbers

    @abstractmethod
    def gather(self, table: Array, index: Array, out: Array) -> None:
        """out[i] = table[index[i]], table (R, K), out (n, K), for integer indices (n,) in 0 .. R - 1."""

    @abstractmethod
    def scatter_add(self, table: Array, index: Array, rows: Array) -> None:
        """table[index[i]] += rows[i]; repeated indices add up in order."""

    @abstractmethod
    def merge_rows(self, index: Array, rows: Array) -> tuple[Array, Array]:
        """Each row number of `index` (n,) once, ascending (m,), and the sums (m, K) of its `rows` (n, K), in order."""

    @abstractmethod
    def put_rows(self, table: Array, index: Array, rows: Array) -> None:
        """table[index[i]] = rows[i]; no index is repeated."""

    @abstractmethod
    def add_at(self, flat: Array, index: Array, values: Array) -> None:
        """flat[index[i]] += values[i], all with one axis; repeated indices add up in order."""

    @abstractmethod
    def scatter(self, flat: Array, index: Array, values: Array) -> None:
        """flat[index[i]] = values[i], all with one axis; of a repeated index the last value stays."""

    @abstractmethod
    def random_mask(self, keep: float, out: Array) -> None:
        """out = 1 with probability `keep`, else 0; drawn from the process's generator, so that a snapshot has it."""
