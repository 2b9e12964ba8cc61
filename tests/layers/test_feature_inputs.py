"""Layers that make features of numbers and ids, and combine them."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.errors import ConfigError, DataError, ShapeError
from caffepy.proto.caffe_pb2 import TEST
from tests.support import ENGINES, Built, assert_close

pytestmark = pytest.mark.parametrize("engine", ENGINES)
RANDOM = np.random.default_rng(0)


def murmur(h):
    """MurmurHash3's last step, of one number."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h = (h ^ h >> shift) * factor % 2**32
    return h ^ h >> 16


def test_bucketize(engine):
    x = np.array([[-1, 0, 0.5], [10, np.nan, 9.99]], "f4")
    built = Built('type: "Bucketize" bucketize_param { boundary: [0, 1, 10] }', x, engine=engine)
    assert built.forward()[0].tolist() == [[0, 1, 1], [3, 0, 2]]


@pytest.mark.parametrize("boundaries", ["", "boundary: [1, 1]", "boundary: [2, 1]"])
def test_boundaries_that_do_not_ascend(boundaries, engine):
    with pytest.raises(ConfigError, match="must ascend"):
        Built(f'type: "Bucketize" bucketize_param {{ {boundaries} }}', [1], engine=engine)


def test_hash_ids_spread_evenly_and_never_change(engine):
    ids = np.arange(20000, dtype="f4") * 7
    built = Built('type: "HashIds" hash_ids_param { num_buckets: 50 }', ids, engine=engine)
    found = built.forward()[0]
    counts = np.bincount(found.astype(int), minlength=50)
    assert counts.size == 50 and counts.min() > 300 and counts.max() < 500
    assert found[:9].tolist() == [murmur(murmur(i)) % 50 for i in range(0, 63, 7)]


def test_another_seed_is_another_hash(engine):
    ids = np.arange(1000, dtype="f4")
    one, other = (
        Built(f'type: "HashIds" hash_ids_param {{ num_buckets: 10 seed: {seed} }}', ids, engine=engine).forward()[0]
        for seed in (0, 1)
    )
    assert 50 < (one == other).sum() < 150


def test_buckets_beyond_what_a_blob_holds(engine):
    with pytest.raises(ConfigError, match=r"must lie in 1 \.\. 16777216, got 0"):
        Built('type: "HashIds"', [1], engine=engine)


@pytest.mark.parametrize("combine", ["SUM", "MEAN"])
def test_embed_combines_lists(combine, engine):
    lists = [[1, 2, -1], [3, 3, 0], [-1, -1, -1]]
    fields = f'num_output: 2 input_dim: 4 combine: {combine} bias_term: false weight_filler {{ type: "gaussian" }}'
    built = Built(f'type: "Embed" embed_param {{ {fields} }}', lists, engine=engine)
    table = built.host(built.layer.blobs[0].data)
    sums = np.array([table[1] + table[2], 2 * table[3] + table[0], [0, 0]])
    assert_close(built.forward()[0], sums if combine == "SUM" else sums / [[2], [3], [1]])


def test_a_mask_says_what_is_in_the_list(engine):
    fields = 'num_output: 2 input_dim: 4 combine: MEAN bias_term: false weight_filler { type: "gaussian" }'
    text = f'type: "Embed" embed_param {{ {fields} }}'
    built = Built(text, [[1, 2, 0], [3, 0, 0]], [[1, 1, 0], [1, 0, 0]], engine=engine)
    table = built.host(built.layer.blobs[0].data)
    assert_close(built.forward()[0], np.array([(table[1] + table[2]) / 2, table[3]]))
    with pytest.raises(ConfigError, match="has a mask, but no lists"):
        Built('type: "Embed" embed_param { num_output: 2 input_dim: 4 }', [[1]], [[1]], engine=engine)


def test_rows_of_no_list_are_not_touched(engine):
    built = Built('type: "Embed" embed_param { num_output: 2 input_dim: 4 combine: SUM }', [[2, -1]], engine=engine)
    from caffepy.net.rows import Rows

    built.layer.blobs[0].rows = Rows(built.engine, (4, 2))
    built.forward()
    built.backward(np.ones((1, 2)), propagate_down=[False])
    index, values = built.layer.blobs[0].rows.merged()
    assert built.host(index).tolist() == [2] and built.host(values).tolist() == [[1, 1]]


def test_an_index_beyond_the_table(engine):
    built = Built('type: "Embed" embed_param { num_output: 2 input_dim: 4 combine: SUM }', [[2, 4]], engine=engine)
    with pytest.raises(DataError, match=r"index 4 at position \(0, 1\)"):
        built.forward()


def test_factorization_machine_is_a_sum_over_pairs(engine):
    v = RANDOM.standard_normal((3, 5, 4)).astype("f4")
    expected = [sum(v[n, i] @ v[n, j] for i in range(5) for j in range(i)) for n in range(3)]
    assert_close(Built('type: "FactorizationMachine"', v, engine=engine).forward()[0], np.array(expected)[:, None])
    with pytest.raises(ShapeError, match=r"needs embeddings \(N, F, D\)"):
        Built('type: "FactorizationMachine"', v[0], engine=engine)


@pytest.mark.parametrize("rank", [0, 2])
def test_cross(rank, engine):
    x0, x = RANDOM.standard_normal((2, 3, 4)).astype("f4")
    filler = '{ type: "gaussian" }'
    text = f'type: "Cross" cross_param {{ rank: {rank} weight_filler {filler} bias_filler {filler} }}'
    built = Built(text, x0, x, engine=engine)
    *factors, b = (built.host(blob.data) for blob in built.layer.blobs)
    w = factors[0] @ factors[1] if rank else factors[0]
    assert_close(built.forward()[0], x0 * (x @ w.T + b) + x)


def test_dice_keeps_moments_for_tests(engine):
    x = RANDOM.normal(3, 2, (500, 2)).astype("f4")
    text = 'type: "Dice" dice_param { filler { type: "constant" value: 0.2 } moving_average_fraction: 0.5 }'
    built = Built(text, x, engine=engine)
    normal = (x - x.mean(0)) / x.std(0)
    p = 1 / (1 + np.exp(-normal))
    assert_close(built.forward()[0], p * x + (1 - p) * 0.2 * x)
    for blob, expected in zip(built.layer.blobs[1:], (x.mean(0) / 2, (1 + x.var(0)) / 2)):
        assert_close(built.host(blob.data), expected)
    assert [spec.lr_mult for spec in built.layer.param.param] == [1, 0, 0]


def test_dice_in_test_uses_what_is_stored(engine):
    x = RANDOM.normal(3, 2, (5, 2)).astype("f4")
    built = Built('type: "Dice"', x, engine=engine, phase=TEST)
    assert_close(built.forward()[0], x / (1 + np.exp(-x)))  # mean 0, variance 1, a = 0
