"""Layers that move values about, against numpy's own words for the same."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy import rng
from caffepy.errors import ConfigError
from caffepy.proto.caffe_pb2 import TEST
from tests.support import ENGINES, Built, assert_close

X = np.random.default_rng(0).standard_normal((4, 6, 3, 5)).astype("f4")
pytestmark = pytest.mark.parametrize("engine", ENGINES)


def roundtrip(built: Built, expected) -> None:
    """Forward gives `expected`, and backward of the outputs gives what they were made of, where nothing is lost."""
    for ours, reference in zip(built.forward(), expected, strict=True):
        assert_close(ours, reference, 0)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concat_and_slice_are_opposites(axis, engine):
    bounds = {0: [1, 3], 1: [2, 5], -1: [1, 2]}[axis]
    parts = np.split(X, bounds, axis)
    joined = Built(f'type: "Concat" concat_param {{ axis: {axis} }}', *parts, engine=engine)
    roundtrip(joined, [X])
    for ours, reference in zip(joined.backward(X), parts):
        assert_close(ours, reference, 0)
    points = " ".join(f"slice_point: {b}" for b in bounds)
    cut = Built(f'type: "Slice" slice_param {{ axis: {axis} {points} }}', X, engine=engine, tops=3)
    roundtrip(cut, parts)
    assert_close(cut.backward(*parts)[0], X, 0)


def test_old_axis_names(engine):
    roundtrip(Built('type: "Concat" concat_param { concat_dim: 2 }', X, X, engine=engine), [np.concatenate([X, X], 2)])
    roundtrip(Built('type: "Slice" slice_param { slice_dim: 3 }', X, engine=engine, tops=5), np.split(X, 5, 3))


@pytest.mark.parametrize(
    "text, shape",
    [
        ('type: "Flatten"', (4, 90)),
        ('type: "Flatten" flatten_param { axis: 0 end_axis: -2 }', (72, 5)),
        ('type: "Reshape" reshape_param { shape { dim: 0 dim: -1 } }', (4, 90)),
        ('type: "Reshape" reshape_param { shape { dim: 3 dim: -1 } axis: 1 num_axes: 1 }', (4, 3, 2, 3, 5)),
        ('type: "Reshape" reshape_param { shape { dim: 1 } axis: -1 num_axes: 0 }', (4, 6, 3, 5, 1)),
    ],
)
def test_reshape_keeps_c_order(text, shape, engine):
    built = Built(text, X, engine=engine)
    roundtrip(built, [X.reshape(shape)])
    assert_close(built.backward(X.reshape(shape))[0], X, 0)


def test_crop(engine):
    built = Built(
        'type: "Crop" crop_param { axis: 1 offset: 2 offset: 1 offset: 0 }', X, X[:1, :3, :2, :5], engine=engine
    )
    roundtrip(built, [X[:, 2:5, 1:3, 0:5]])
    expected = np.zeros_like(X)
    expected[:, 2:5, 1:3, 0:5] = 1
    assert_close(built.backward(np.ones((4, 3, 2, 5)), propagate_down=[True, False])[0], expected, 0)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_tile(axis, engine):
    built = Built(f'type: "Tile" tile_param {{ axis: {axis} tiles: 3 }}', X, engine=engine)
    y = np.concatenate([X] * 3, axis)
    roundtrip(built, [y])
    assert_close(built.backward(y)[0], 3 * X)


@pytest.mark.parametrize("top_k", [1, 3])
def test_argmax(top_k, engine):
    flat = X.reshape(4, -1)
    best = np.argsort(-flat, axis=1)[:, :top_k]
    built = Built(f'type: "ArgMax" argmax_param {{ top_k: {top_k} out_max_val: true }}', X, engine=engine, phase=TEST)
    values = np.take_along_axis(flat, best, 1)
    roundtrip(built, [np.stack([best, values], 1)[..., None].astype("f4")])
    built = Built(f'type: "ArgMax" argmax_param {{ axis: 2 top_k: {top_k} }}', X, engine=engine)
    roundtrip(built, [np.flip(np.argsort(X, axis=2), 2)[:, :, :top_k].astype("f4")])


def test_argmax_prefers_the_larger_index_of_equals(engine):
    roundtrip(Built('type: "ArgMax" argmax_param { axis: 1 }', [[1, 2, 2, 0]], engine=engine), [[[2]]])


@pytest.mark.parametrize("axis", [0, 1, 3])
def test_reduction(axis, engine):
    rows = X.reshape(*X.shape[:axis], -1).astype("f8")
    expected = {"SUM": rows.sum(-1), "ASUM": abs(rows).sum(-1), "SUMSQ": (rows**2).sum(-1), "MEAN": rows.mean(-1)}
    for operation, value in expected.items():
        text = f'type: "Reduction" reduction_param {{ operation: {operation} axis: {axis} coeff: -2 }}'
        assert_close(Built(text, X, engine=engine).forward()[0], -2 * value)


def test_filter(engine):
    built = Built('type: "Filter"', X, [0, 1, 0, 2], engine=engine)
    roundtrip(built, [X[[1, 3]]])
    expected = np.zeros_like(X)
    expected[[1, 3]] = X[[1, 3]]
    assert_close(built.backward(X[[1, 3]], propagate_down=[True, False])[0], expected, 0)
    built.bottom[1].data[...] = 0
    assert built.forward()[0].shape == (0, 6, 3, 5)


def test_batch_reindex(engine):
    index = [3, 0, 3, 3, 1]
    built = Built('type: "BatchReindex"', X, index, engine=engine)
    roundtrip(built, [X[index]])
    dy = np.random.default_rng(1).standard_normal((5, 6, 3, 5)).astype("f4")
    expected = np.zeros_like(X)
    np.add.at(expected, index, dy)
    assert_close(built.backward(dy, propagate_down=[True, False])[0], expected)


@pytest.mark.parametrize("shape", [(7,), (2, 3), (2, 2, 3)])
def test_embed(shape, engine):
    random = np.random.default_rng(0)
    index, table = random.integers(0, 5, shape), random.standard_normal((5, 4)).astype("f4")
    built = Built('type: "Embed" embed_param { input_dim: 5 num_output: 4 bias_term: false }', index, engine=engine)
    built.layer.blobs[0].data[...] = built.engine.asarray(table)
    roundtrip(built, [table[index]])
    dy = random.standard_normal((*shape, 4)).astype("f4")
    built.backward(dy, propagate_down=[False])
    expected = np.zeros_like(table)
    np.add.at(expected, index, dy)
    assert_close(built.host(built.layer.blobs[0].diff), expected)


def test_spp_of_one_level_is_global_pooling(engine):
    roundtrip(Built('type: "SPP" spp_param { pyramid_height: 1 }', X, engine=engine), [X.max((2, 3), keepdims=True)])
    assert Built('type: "SPP" spp_param { pyramid_height: 2 }', X[..., :4], engine=engine).top[0].shape == (4, 30)


def test_silence_and_parameter(engine):
    silence = Built('type: "Silence"', X, engine=engine, tops=0)
    assert not silence.backward()[0].any()
    parameter = Built('type: "Parameter" parameter_param { shape { dim: 2 dim: 3 } }', engine=engine)
    parameter.layer.blobs[0].data[...] = 5
    roundtrip(parameter, [np.full((2, 3), 5, "f4")])


def test_no_items(engine):
    """A Filter may let nothing pass: what comes behind it has an empty batch."""
    no_items, indices = np.zeros((0, 3, 2, 2), "f4"), np.zeros((0, 1), "f4")
    assert Built('type: "ArgMax"', no_items, engine=engine).forward()[0].shape == (0, 1, 1, 1)
    spp = Built('type: "SPP" spp_param { pyramid_height: 2 }', no_items, engine=engine)
    assert spp.forward()[0].shape == (0, 15)
    embed = Built('type: "Embed" embed_param { input_dim: 4 num_output: 2 }', indices, engine=engine)
    assert embed.forward()[0].shape == (0, 1, 2)
    embed.backward(propagate_down=[False])


def test_dummy_data_refills_random_tops_alone(engine):
    text = """type: "DummyData" dummy_data_param { shape { dim: 3 } shape { dim: 2 }
              data_filler { type: "uniform" } data_filler { value: 4 } }"""
    built = Built(text, engine=engine, tops=2)
    first, second = built.forward(), built.forward()
    assert not np.array_equal(first[0], second[0])
    assert_close(second[1], [4, 4], 0)


def test_dummy_data_draws_its_first_numbers_in_the_first_pass(engine):
    fields = 'shape { dim: 3 } data_filler { type: "uniform" max: 4294967295 }'
    rng.seed(5)
    drawn = [Built(f'type: "DummyData" dummy_data_param {{ {fields} }}', engine=engine).forward()[0] for _ in range(2)]
    raw = rng.mt19937(5).bit_generator.random_raw(6)
    assert_close(np.concatenate(drawn), raw.astype("f4"))
    with pytest.raises(ConfigError, match="unknown filler type"):
        Built('type: "DummyData" dummy_data_param { shape { dim: 3 } data_filler { type: "none" } }', engine=engine)
