"""BLAS is held at one thread while our own threads compute, and only then; the process is left as it was."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from caffepy.engine.numpy import blas
from caffepy.engine.numpy.engine import NumpyEngine


def blas_threads() -> int:
    """Of numpy's library; other packages may have brought theirs since that was found."""
    return max((library.get_num_threads() for library in blas._libraries()), default=0)


@pytest.fixture(autouse=True)
def three_threads():
    with threadpool_limits(3, user_api="blas"):
        if blas_threads() != 3:
            pytest.skip("this BLAS cannot be told how many threads it has")
        yield


def test_while_computing_one_thread():
    engine, seen = NumpyEngine(2), []
    assert blas_threads() == 3
    engine.run(lambda i: seen.append(blas_threads()), 3)
    assert seen == [1, 1, 1] and blas_threads() == 3
    with engine.computing():
        engine.run(lambda i: seen.append(blas_threads()), 1)
        assert blas_threads() == 1
    assert seen[3:] == [1] and blas_threads() == 3


@pytest.mark.parametrize("kernel", ["gemm", "conv", "conv_grad_weights", "conv_grad_data", "sum", "moments"])
def test_every_product_is_one(kernel, monkeypatch):
    """Of those kernels that multiply."""
    engine, seen, matmul = NumpyEngine(2), [], np.matmul
    monkeypatch.setattr(np, "matmul", lambda *args, **options: seen.append(blas_threads()) or matmul(*args, **options))
    run(engine, kernel)
    assert seen and set(seen) == {1} and blas_threads() == 3


def run(engine: NumpyEngine, kernel: str) -> None:
    from caffepy.engine.window import Window

    x, w, dy = (np.ones(shape, np.float32) for shape in ((2, 16, 9, 9), (4, 16, 3, 3), (2, 4, 7, 7)))
    window = Window((3, 3), (1, 1), (0, 0), (1, 1))
    plan = engine.conv_plan(x.shape, w.shape, window)
    if kernel == "gemm":
        engine.gemm(np.ones((4, 5), np.float32), np.ones((5, 3), np.float32), np.ones((4, 3), np.float32))
    elif kernel == "conv":
        engine.conv(x, w, None, dy, plan)
    elif kernel == "conv_grad_weights":
        engine.conv_grad_weights(x, dy, w, plan)
    elif kernel == "conv_grad_data":
        engine.conv_grad_data(dy, w, x, plan)
    elif kernel == "sum":
        engine.add_sum_over_channels(x, np.zeros(16, np.float32))
    else:
        engine.channel_moments(x)


IMPORTED = """
import ctypes, sys
from threadpoolctl import threadpool_info
import numpy
def blas(): return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
before = blas()
import caffepy
from caffepy.engine.numpy import memory
called = []
memory.keep_freed_memory = lambda: called.append(1)
from caffepy.pycaffe.net import Net
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import NetParameter
net = Net(text.parse('''
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 8 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 3 } }
''', NetParameter()))
assert blas() == before and not called, (before, blas(), called)
net.forward()
assert blas() == before and called
"""


def test_importing_and_building_change_nothing():
    done = subprocess.run([sys.executable, "-c", IMPORTED], check=False, timeout=60, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
