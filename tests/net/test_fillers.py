"""Fillers: moments and ranges, Caffe's numbers under Caffe's seed, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy import rng
from caffepy.errors import ConfigError
from caffepy.net.fillers import fill
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import FillerParameter

SHAPE = (40, 30, 5, 5)  # fan in 750, fan out 1000


def made(fields: str, shape=SHAPE) -> np.ndarray:
    rng.seed(7)
    values = fill(shape, text.parse(fields, FillerParameter()))
    assert values.dtype == np.float32 and values.shape == tuple(shape)
    return values


def test_constant():
    assert (made("value: 1.5") == 1.5).all()


def test_uniform_is_the_generators_raw_output():
    values = made('type: "uniform" min: -2 max: 3', (4,))
    raw = rng.mt19937(7).bit_generator.random_raw(4)
    assert np.allclose(values, raw / 2**32 * 5 - 2, atol=1e-6)


@pytest.mark.parametrize("norm, fan", [("FAN_IN", 750), ("FAN_OUT", 1000), ("AVERAGE", 875)])
def test_xavier_and_msra_scale_with_the_fan(norm, fan):
    xavier = made(f'type: "xavier" variance_norm: {norm}')
    assert abs(xavier).max() == pytest.approx(np.sqrt(3 / fan), rel=1e-3)
    assert xavier.std() == pytest.approx(np.sqrt(1 / fan), rel=0.02)
    assert made(f'type: "msra" variance_norm: {norm}').std() == pytest.approx(np.sqrt(2 / fan), rel=0.02)


def test_gaussian():
    values = made('type: "gaussian" mean: 3 std: 0.5')
    assert values.mean() == pytest.approx(3, abs=0.02) and values.std() == pytest.approx(0.5, rel=0.02)


def test_sparse_gaussian_keeps_sparse_of_num_output():
    values = made('type: "gaussian" std: 1 sparse: 10')
    assert (values != 0).mean() == pytest.approx(10 / 40, abs=0.02)


def test_positive_unitball_sums_to_one():
    values = made('type: "positive_unitball"')
    assert (values >= 0).all() and np.allclose(values.reshape(40, -1).sum(1), 1, atol=1e-5)


def test_bilinear_upsamples_linearly():
    kernel = made('type: "bilinear"', (2, 1, 4, 4))
    ramp = np.array([0.25, 0.75, 0.75, 0.25])
    assert np.allclose(kernel, np.outer(ramp, ramp))
    odd = made('type: "bilinear"', (1, 1, 3, 3))
    assert np.allclose(odd, np.outer([0.5, 1, 0.5], [0.5, 1, 0.5]))


@pytest.mark.parametrize("kind", ["constant", "uniform", "gaussian", "positive_unitball", "xavier", "msra"])
def test_nothing_to_fill(kind):
    assert made(f'type: "{kind}"', (3, 0)).size == 0


@pytest.mark.parametrize(
    "fields, shape, message",
    [
        ('type: "gausian"', SHAPE, 'unknown filler type "gausian"\n  Did you mean "gaussian"'),
        ('type: "xavier" sparse: 3', SHAPE, "only gaussian can be sparse"),
        ('type: "gaussian" std: -1', SHAPE, "must not be negative, got -1"),
        ('type: "gaussian" sparse: -2', SHAPE, "sparse must be -1"),
        ('type: "gaussian" sparse: 2', (), "needs at least one axis"),
        ('type: "positive_unitball"', (), "needs at least one axis"),
        ('type: "uniform" min: 1 max: 0', SHAPE, "min 1 is greater than max 0"),
        ('type: "bilinear"', (2, 3), "needs four axes, got shape"),
        ('type: "bilinear"', (2, 1, 3, 4), "needs a square kernel, got 3x4"),
    ],
)
def test_refusals(fields, shape, message):
    with pytest.raises(ConfigError, match=message):
        made(fields, shape)
