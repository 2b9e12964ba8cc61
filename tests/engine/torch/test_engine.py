"""The torch engine against plain NumPy, and on a GPU where there is one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from caffepy import rng
from caffepy.engine import get_engine, gpu_count, gpu_engine
from caffepy.engine.numpy.engine import NumpyEngine
from caffepy.engine.torch.engine import TorchEngine
from caffepy.engine.window import Window
from caffepy.errors import ConfigError
from tests.engine.numpy.test_engine import CONVOLUTIONS, case_of
from tests.support import Built, assert_close

GPU = pytest.param("gpu", marks=[pytest.mark.gpu, pytest.mark.skipif(not gpu_count(), reason="no GPU")])
DEVICES = ["cpu", GPU]


@pytest.fixture(params=DEVICES)
def engine(request):
    return get_engine("torch") if request.param == "cpu" else gpu_engine()


def random(shape, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype("f4")


def channels_last(values: np.ndarray) -> np.ndarray:
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(values, 1, -1)), -1, 1)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution(engine, name):
    case = case_of(name)
    x, w, dy = (engine.asarray(a) for a in (case.x, case.w, case.dy))
    plan = case.plan(engine)
    for bias in (None, random(len(case.w), 3)):
        y = engine.asarray(np.full_like(case.dy, np.nan))
        engine.conv(x, w, None if bias is None else engine.asarray(bias), y, plan)
        added = 0 if bias is None else bias.reshape(-1, *[1] * (case.x.ndim - 2))
        assert_close(engine.to_host(y), case.naive.y + added)
    dx, dw = engine.asarray(np.full_like(case.x, np.nan)), engine.asarray(np.ones_like(case.w))
    engine.conv_grad_data(dy, w, dx, plan)
    engine.conv_grad_weights(x, dy, dw, plan)
    assert_close(engine.to_host(dx), case.naive.dx)
    assert_close(engine.to_host(dw), case.naive.dw + 1)


@pytest.mark.parametrize("pad", [0, 1])
@pytest.mark.parametrize("stride", [2, 3])
def test_point_kernels_with_a_stride(engine, stride, pad):
    # torch's own kernel for this gradient was wrong now and then, so once is not enough.
    x, window = channels_last(random((3, 4, 8, 8))), Window((1, 1), (stride,) * 2, (pad,) * 2, (1, 1))
    dy = channels_last(random((3, 6, *window.conv_shape((8, 8))), 1))
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))[..., ::stride, ::stride]
    expected = np.einsum("nohw,nchw->oc", dy, padded)[..., None, None]
    plan = engine.conv_plan(x.shape, (6, 4, 1, 1), window)
    for i in range(50):
        np.ones(1000 + i, "f4")  # other memory for the kernel's buffers
        dw = engine.zeros(24).reshape(6, 4, 1, 1)
        engine.conv_grad_weights(engine.asarray(x), engine.asarray(dy), dw, plan)
        assert_close(engine.to_host(dw), expected)


WINDOWS = [
    ((8, 8), Window((2, 2), (2, 2), (0, 0), (1, 1)), (4, 4)),
    ((7, 6), Window((3, 3), (2, 2), (0, 0), (1, 1)), (3, 3)),  # cut at the end
    ((7, 6), Window((3, 3), (2, 2), (1, 1), (1, 1)), (4, 4)),
    ((5, 5), Window((3, 2), (2, 1), (2, 1), (1, 1)), (4, 6)),  # torch refuses such a pad
    ((5, 5), Window((1, 1), (3, 3), (0, 0), (1, 1)), (3, 3)),  # windows outside the input
    ((6, 5), Window((6, 5), (1, 1), (0, 0), (1, 1)), (1, 1)),
]


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize(("size", "window", "out"), WINDOWS)
@pytest.mark.parametrize("ties", [False, True])
def test_pooling_equals_numpys(engine, size, window, out, ties):
    x = channels_last(random((2, 5, *size)).round(0 if ties else None) if ties else random((2, 5, *size)))
    dy, oracle = channels_last(random((2, 5, *out), 1)), NumpyEngine(1)
    results = []
    for e in (oracle, engine):
        given, gradient = e.asarray(x), e.asarray(dy)
        y, mean, dx, dmean = (e.asarray(np.zeros_like(a)) for a in (dy, dy, x, x))
        plan = e.pool_plan(x.shape, dy.shape, window)
        choice = e.pool_choice(plan)
        e.max_pool(given, y, choice, plan)
        e.max_pool_grad(gradient, choice, dx, plan)
        e.ave_pool(given, mean, plan)
        e.ave_pool_grad(gradient, dmean, plan)
        results.append([e.to_host(a) for a in (y, dx, mean, dmean, e.max_pool_mask(choice, plan))])
    for ours, reference in zip(*reversed(results)):
        assert_close(ours, reference)


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (2, 33, 3, 3), (1, 1, 2, 2), (0, 3, 2, 2)])
@pytest.mark.parametrize("beta", [0.75, 0.6])
def test_lrn_equals_numpys(engine, shape, beta):
    x, dy, results = channels_last(random(shape)), channels_last(random(shape, 1)), []
    for e in (NumpyEngine(1), engine):
        y, dx = e.asarray(np.zeros_like(x)), e.asarray(np.zeros_like(x))
        e.lrn(e.asarray(x), y, 5, 2.0, beta, 1.5)
        e.lrn_grad(e.asarray(dy), e.asarray(x), dx, 5, 2.0, beta, 1.5)
        results.append((e.to_host(y), e.to_host(dx)))
    for ours, reference in zip(*reversed(results)):
        assert_close(ours, reference)


def test_gather_and_scatter(engine):
    table, index = random((5, 3)), np.array([4, 0, 4, 4])
    where = torch.from_numpy(index).to(engine.device)
    out = engine.zeros(12).reshape(4, 3)
    engine.gather(engine.asarray(table), where, out)
    np.testing.assert_array_equal(engine.to_host(out), table[index])
    target = engine.asarray(table.copy())
    engine.scatter_add(target, where, out)
    expected = table.copy()
    np.add.at(expected, index, table[index])
    assert_close(engine.to_host(target), expected)


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_add_at(engine, kind):
    """Repeated places add up; the array may be a view with holes."""
    random = np.random.default_rng(1)
    index, values = random.integers(0, 9, 50), random.standard_normal(50).astype(kind)
    xp = engine.xp
    target = xp.zeros(18, dtype=getattr(xp, kind))
    engine.add_at(target[::2], xp.asarray(index), xp.asarray(values))
    expected = np.zeros(18)
    np.add.at(expected[::2], index, values)
    assert_close(engine.to_host(target), expected)


def test_random_numbers_come_from_the_process(engine):
    def draw() -> np.ndarray:
        mask = engine.zeros(1000)
        engine.random_mask(0.3, mask)
        return engine.to_host(mask).copy()

    rng.seed(3)
    first, second = draw(), draw()
    rng.seed(3)
    np.testing.assert_array_equal(draw(), first)
    assert set(np.unique(first)) == {0, 1} and 200 < first.sum() < 400 and (first != second).any()


def test_on_the_cpu_masks_are_numpys():
    masks = []
    for name in ("numpy", "torch"):
        rng.seed(5)
        built = Built('type: "Dropout"', np.ones((4, 6)), engine=name)
        masks.append(built.forward()[0])
    np.testing.assert_array_equal(*masks)


@pytest.mark.parametrize(
    "host",
    [
        np.float64(3),
        [1, 2, 3],
        np.arange(6.0).reshape(2, 3)[:, ::-1],
        np.frombuffer(b"\0\0\0\0" * 4, np.float32),
        np.arange(3, dtype=np.uint8),
    ],
    ids=["number", "list", "reversed", "read-only", "bytes"],
)
def test_to_the_engine_and_back(engine, host):
    array = engine.asarray(host)
    assert array.dtype is torch.float32
    np.testing.assert_array_equal(engine.to_host(array), host)


def test_same_memory(engine):
    x = engine.zeros(6)
    assert engine.same_memory(x, x.reshape(2, 3)) and not engine.same_memory(x, engine.copy(x))


@pytest.mark.parametrize("a, b", [(1.5, 2.0), (2, 1)])
def test_maximum_and_minimum_take_numbers(engine, a, b):
    xp, x = engine.xp, engine.asarray([a, -1.0])
    np.testing.assert_array_equal(engine.to_host(xp.maximum(x, b)), np.maximum([a, -1], b))
    np.testing.assert_array_equal(engine.to_host(xp.minimum(x, b)), np.minimum([a, -1], b))
    np.testing.assert_array_equal(engine.to_host(xp.maximum(x, xp.zeros_like(x))), np.maximum([a, -1], 0))


def test_bfloat16_rounds_products_alone():
    exact, rough = get_engine("torch"), get_engine("torch", precision="bf16")
    x, w = random((2, 8, 6, 6)), random((4, 8, 3, 3), 1)
    window, results = Window((3, 3), (1, 1), (1, 1), (1, 1)), []
    for e in (exact, rough):
        y, product = e.zeros(288).reshape(2, 4, 6, 6), e.zeros(64).reshape(8, 8)
        e.conv(e.asarray(x), e.asarray(w), None, y, e.conv_plan(x.shape, w.shape, window))
        e.gemm(e.asarray(x[0].reshape(8, 36)), e.asarray(x[1].reshape(8, 36).T), product, accumulate=True)
        assert y.dtype is product.dtype is torch.float32
        results.append((e.to_host(y), e.to_host(product)))
    for ours, reference in zip(*reversed(results)):
        assert_close(ours, reference, 2e-2)
        assert (ours != reference).any()


def points(engine: TorchEngine):
    """A convolution of (2, 2, 1, 1) arrays."""
    return engine.conv_plan((2, 2, 1, 1), (2, 2, 1, 1), Window((1, 1), (1, 1), (0, 0), (1, 1)))


@pytest.mark.parametrize("product", ["gemm", "conv", "conv_grad_data", "conv_grad_weights"])
def test_engines_of_one_process_may_differ_in_tf32(product, monkeypatch):
    switches = SimpleNamespace(allow_tf32=None), SimpleNamespace(allow_tf32=None)
    monkeypatch.setattr(torch.backends, "cudnn", switches[0])
    monkeypatch.setattr(torch.backends.cuda, "matmul", switches[1])
    engines = [TorchEngine(precision=precision) for precision in ("tf32", "float32")]
    for engine in (*engines, *engines):
        engine.on_gpu = True  # but for this its arrays stay on the host
        if product == "gemm":
            engine.gemm(torch.ones(2, 2), torch.ones(2, 2), torch.ones(2, 2))
        else:
            x, w, y = (torch.ones(2, 2, 1, 1) for _ in range(3))
            bias = (None,) if product == "conv" else ()
            getattr(engine, product)(x, w, *bias, y, points(engine))
        assert [switch.allow_tf32 for switch in switches] == [engine.precision == "tf32"] * 2


@pytest.mark.parametrize("product", ["conv_grad_data", "conv_grad_weights"])
def test_bfloat16_converts_what_is_read_alone(product, monkeypatch):
    engine, converted = TorchEngine(precision="bf16"), []
    factor = engine._factor
    monkeypatch.setattr(engine, "_factor", lambda x: converted.append(x) or factor(x))
    first, second, out = (torch.ones(2, 2, 1, 1) for _ in range(3))
    getattr(engine, product)(first, second, out, points(engine))
    assert len(converted) == 2 and not any(x is out for x in converted)


@pytest.mark.skipif(gpu_count() > 0, reason="there is a GPU")
def test_no_gpu():
    with pytest.raises(ConfigError) as caught:
        gpu_engine()
    assert str(caught.value).startswith("PyTorch finds no GPU on this machine\n  ")


def test_precisions_are_torchs():
    with pytest.raises(ConfigError, match="the numpy engine knows no bf16"):
        get_engine("numpy", precision="bf16")
    with pytest.raises(ConfigError, match='no precision "fp8"'):
        get_engine("torch", precision="fp8")


def test_threads_are_set_while_computing(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setenv("CAFFEPY_THREADS", str(before + 1))
    engine = TorchEngine()
    assert torch.get_num_threads() == before
    with engine.computing(), engine.computing():
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
