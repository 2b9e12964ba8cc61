"""NVIDIA's BatchNorm, which has scale and bias."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.layers.batch_norm import BatchNorm
from caffepy.layers.scaled_batch_norm import ScaledBatchNorm
from caffepy.proto.caffe_pb2 import TEST, TRAIN
from tests.layers.test_bn import SHAPES, expected_gradients, statistics
from tests.support import ENGINES, Built, assert_close


def built_with(fields: str, x, engine: str, phase: int = TRAIN, in_place: bool = False):
    fields = f'type: "BatchNorm" batch_norm_param {{ scale_bias: true {fields} }}'
    built = Built(fields, x, engine=engine, phase=phase)
    if in_place:
        built.top = built.bottom
    random, channels = np.random.default_rng(3), x.shape[1]
    values = [random.uniform(0.5, 2, channels if i != 2 else 1).astype("f4") for i in range(5)]
    for blob, value in zip(built.layer.blobs, values, strict=True):
        blob.fill(value)
    return built, [v.reshape(1, -1, *[1] * (x.ndim - 2)) for v in values]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_statistics_of_the_batch(shape, in_place, engine):
    x, dy = np.random.default_rng(1).standard_normal((2, *shape)).astype("f4")
    built, (*_, scale, bias) = built_with("eps: 0.01", x, engine, in_place=in_place)
    mean, variance = statistics(x)
    assert_close(built.forward()[0], scale * (x - mean) / np.sqrt(variance + 0.01) + bias)
    dx, dscale, dbias = expected_gradients(x, dy, scale, 0.01)
    assert_close(built.backward(dy)[0], dx, 1e-4)
    for blob, gradient in zip(built.layer.blobs, [0 * dscale, 0 * dscale, np.zeros(1), dscale, dbias]):
        assert_close(built.host(blob.diff), gradient, 1e-4)


@pytest.mark.parametrize("engine", ENGINES)
def test_two_batches_are_copied_and_the_others_blended(engine):
    random = np.random.default_rng(1)
    built, _ = built_with("moving_average_fraction: 0.9 eps: 0.01", random.standard_normal((3, 4)), engine)
    expected = None
    for count in range(4):
        x = random.standard_normal((3, 4)).astype("f4")
        built.bottom[0].fill(x)
        mean, variance = (v.ravel() for v in statistics(x))
        new = np.stack([mean, variance + 0.01])
        expected = new if count < 2 else 0.9 * expected + 0.1 * new
        built.forward()
        assert_close(np.stack([b.host() for b in built.layer.blobs[:2]]), expected)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(
    "phase, fields", [(TEST, ""), (TEST, "use_global_stats: false"), (TRAIN, "use_global_stats: true")]
)
@pytest.mark.parametrize("eps, used", [(0.25, 0.25), (1e-9, 1e-5)])
def test_stored_statistics(eps, used, phase, fields, in_place, engine):
    x, dy = np.random.default_rng(1).standard_normal((2, 3, 4, 2, 2)).astype("f4")
    built, (mean, variance, _, scale, bias) = built_with(f"{fields} eps: {eps}", x, engine, phase, in_place)
    assert_close(built.forward()[0], scale * (x - mean) / np.sqrt(variance + used) + bias)
    assert_close(built.backward(dy)[0], dy * scale / np.sqrt(variance + used))


def test_a_run_goes_on_where_it_was():
    x = np.random.default_rng(1).standard_normal((3, 4)).astype("f4")
    built, _ = built_with("", x, "numpy")
    assert built.layer.state() == {"batches": 0}
    for _ in range(3):
        built.forward()
    assert built.layer.state() == {"batches": 2}
    other, _ = built_with("", x, "numpy")
    other.layer.set_state(built.layer.state())
    before = other.layer.blobs[0].host().copy()
    other.forward()
    assert_close(other.layer.blobs[0].host(), 0.999 * before + 0.001 * x.mean(axis=0))
    assert built_with("", x, "numpy", TEST)[0].layer.state() == {}


@pytest.mark.parametrize(
    "fields, form",
    [
        ("", BatchNorm),
        ("scale_bias: false", BatchNorm),
        ("scale_bias: true", ScaledBatchNorm),
        ("scale_filler { value: 2 }", ScaledBatchNorm),
        ("bias_filler { value: 2 }", ScaledBatchNorm),
    ],
)
def test_which_form(fields, form):
    assert type(Built(f'type: "BatchNorm" batch_norm_param {{ {fields} }}', np.ones((3, 2))).layer) is form


def test_first_values_and_what_is_trained():
    fields = "batch_norm_param { scale_filler { value: 2 } bias_filler { value: 3 } }"
    layer = Built(f'type: "BatchNorm" {fields}', np.ones((2, 3))).layer
    assert [b.host().tolist() for b in layer.blobs] == [[0] * 3, [0] * 3, [1], [2] * 3, [3] * 3]
    assert [s.lr_mult for s in layer.param.param] == [0, 0, 0]
