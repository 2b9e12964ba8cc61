"""Every model of ratings against its formula, written out for one pair at a time."""

import numpy as np
import pytest

from caffepy.data.tables.table import Column, open_table
from caffepy.data.tables.writer import write_table
from caffepy.errors import ConfigError, DataError
from caffepy.proto.caffe_pb2 import NeighborsParameter, RatingsParameter
from caffepy.recommend import batches, dense
from caffepy.recommend.batches import sorted_by
from caffepy.recommend.history import open_history
from caffepy.recommend.similarity import pair_similarity
from tests.recommend import small


@pytest.fixture
def folder(tmp_path):
    small.write(tmp_path)
    return tmp_path


def matrix(folder):
    table = open_table(str(folder / "train.h5"))
    out = np.full((small.USERS, small.ITEMS), np.nan)
    out[table["user"], table["item"]] = table["rating"]
    return out


def predictions(test):
    found = small.run(test)
    return found["user"].astype(int), found["item"].astype(int), found["prediction"], float(found["rmse"])


def trained(folder, layer, epochs, bottoms="user item"):
    train, test = small.nets(folder, layer, bottoms)
    for _ in range(epochs):
        small.run(train)
    return predictions(test)


def als(ratings, passes=10, reg_user=15, reg_item=10):
    mean, known = np.nanmean(ratings), ~np.isnan(ratings)
    b_user, b_item = np.zeros(small.USERS), np.zeros(small.ITEMS)
    for _ in range(passes):
        for i in range(small.ITEMS):
            rows = known[:, i]
            b_item[i] = (ratings[rows, i] - mean - b_user[rows]).sum() / (reg_item + rows.sum())
        for u in range(small.USERS):
            rows = known[u]
            b_user[u] = (ratings[u, rows] - mean - b_item[rows]).sum() / (reg_user + rows.sum())
    return mean + b_user[:, None] + b_item


@pytest.mark.parametrize("most", [9, 1 << 16, 1 << 20])
def test_sorted_by_digits(most):
    numbers = np.random.default_rng(0).integers(most, size=3000)
    assert np.array_equal(sorted_by(numbers), np.argsort(numbers, kind="stable"))


@pytest.mark.parametrize("rows", [50, 1 << 17])
@pytest.mark.parametrize("most", [1, 4, 64])
def test_pieces_are_all_rows_once(folder, most, rows, monkeypatch):
    monkeypatch.setattr(batches, "_ROWS", rows), monkeypatch.setattr(batches, "_PIECES", rows)
    history = open_history(RatingsParameter(source=str(folder / "train.h5")))
    found = [list(batches.pieces(history, most, np.random.default_rng(seed))) for seed in range(200)]
    pieces = [(u, piece) for part in found[0] for u, piece in zip(part.users, np.split(part.rows, part.ends[:-1]))]
    assert sorted(np.concatenate([piece for _, piece in pieces])) == list(range(len(history)))
    assert len(pieces) == sum(-(-count // most) for count in history.user_counts)
    assert all({user} == {*history.user[piece]} and len(piece) <= most for user, piece in pieces)
    orders = [np.concatenate([part.rows for part in parts]) for parts in found]
    places = np.mean([np.argsort(order) for order in orders], axis=0)  # where each row comes, on the average
    assert np.abs(places - (len(history) - 1) / 2).max() < 5 * len(history) / np.sqrt(12 * len(found))


def test_mean(folder):
    _, _, found, _ = trained(folder, 'type: "Baseline" baseline_param { method: MEAN }', 1)
    assert np.allclose(found, np.nanmean(matrix(folder)), atol=1e-5)


def test_baseline_by_least_squares(folder):
    user, item, found, _ = trained(folder, 'type: "Baseline"', 10)
    assert np.allclose(found, np.clip(als(matrix(folder))[user, item], 1, 5), atol=1e-4)


def test_baseline_by_gradient_ends_where_nothing_pulls(folder):
    train, _ = small.nets(folder, 'type: "Baseline" baseline_param { method: SGD learning_rate: 0.01 reg: 0.05 }')
    for _ in range(300):
        small.run(train)
    b_user, b_item, mean = (np.array(blob.data, float) for blob in train.layer_dict["m"].blobs)
    r = matrix(folder)
    error = r - mean - b_user[:, None] - b_item
    counts = (~np.isnan(r)).sum(axis=1)
    assert np.abs(np.nansum(error, axis=1) - 0.05 * counts * b_user).max() < 0.15
    assert np.nanmean(error**2) < 0.8 * np.nanvar(r)


def similarity(kind, x, y):
    common = ~np.isnan(x) & ~np.isnan(y)
    x, y, n = x[common], y[common], common.sum()
    if not n:
        return 0
    if kind == "MSD":
        return 1 / (1 + np.mean((x - y) ** 2))
    if kind == "PEARSON":
        if n < 2 or x.std() == 0 or y.std() == 0:
            return 0
        return np.corrcoef(x, y)[0, 1]
    below = np.sqrt((x * x).sum() * (y * y).sum())
    cosine = (x * y).sum() / below if below else 0
    return cosine if kind == "COSINE" else cosine * (n - 1) / (n - 1 + 100)


@pytest.mark.parametrize("by", ["ITEM", "USER"])
@pytest.mark.parametrize("kind", ["COSINE", "MSD", "PEARSON", "PEARSON_BASELINE"])
@pytest.mark.parametrize("centre", ["NONE", "MEANS", "BASELINE"])
def test_neighbors(folder, by, kind, centre):
    k = 4
    fields = f"by: {by} similarity: {kind} centre: {centre} k: {k} neighbors: 0"
    user, item, found, _ = trained(folder, f'type: "Neighbors" neighbors_param {{ {fields} }}', 1)
    r, base = matrix(folder), als(matrix(folder))
    rows, deviations = (r.T, (r - base).T) if by == "ITEM" else (r, r - base)
    base = base.T if by == "ITEM" else base
    compared = deviations if kind == "PEARSON_BASELINE" else rows
    counts = (~np.isnan(rows)).sum(axis=1)
    means = np.nansum(rows, axis=1) / np.maximum(counts, 1)
    checked = 0
    for u, i, y in zip(user, item, found):
        a, b = (i, u) if by == "ITEM" else (u, i)
        centres = {"NONE": np.zeros(len(rows)), "MEANS": means, "BASELINE": base[:, b]}[centre]
        near = [(similarity(kind, compared[a], compared[c]), c) for c in range(len(rows)) if c != a and rows[c, b] > 0]
        near = [(s, c) for s, c in sorted(near, reverse=True) if s > 1e-6]
        if len(near) > k and near[k - 1][0] - near[k][0] < 1e-4:
            continue  # either may be taken
        checked += 1
        near = near[:k]
        is_known = counts[a] > 0 and (rows[:, b] > 0).any()
        if near and is_known:
            expected = centres[a] + sum(s * (rows[c, b] - centres[c]) for s, c in near) / sum(s for s, _ in near)
        elif centre == "BASELINE" or (centre == "MEANS" and is_known):
            expected = centres[a]
        else:
            expected = np.nanmean(r)
        assert abs(y - np.clip(expected, 1, 5)) < 2e-3
    assert checked > 20


@pytest.mark.parametrize("layer", ['type: "SlopeOne"', 'type: "Neighbors" neighbors_param { similarity: PEARSON }'])
def test_users_in_blocks_are_all_users(folder, layer, monkeypatch):
    *whole, _ = trained(folder, layer, 1)
    monkeypatch.setattr(dense, "_ENTRIES", 7 * small.ITEMS)
    *parts, _ = trained(folder, layer, 1)
    np.testing.assert_allclose(parts[2], whole[2], atol=1e-5)


@pytest.mark.parametrize("rating", [4, 3.7, 0.1])
def test_ratings_that_are_all_the_same_have_no_correlation(tmp_path, rating):
    random = np.random.default_rng(0)
    user, item = (array.ravel() for array in np.meshgrid(np.arange(40), np.arange(6)))
    ratings = np.where(item < 3, rating, random.integers(1, 6, len(item))).astype(np.float32)
    table = {"user": Column(user, 40, "user"), "item": Column(item, 6, "item"), "rating": Column(ratings)}
    write_table(tmp_path / "train.h5", table)
    p = NeighborsParameter(similarity=NeighborsParameter.PEARSON)
    history = open_history(RatingsParameter(source=str(tmp_path / "train.h5")))
    with np.errstate(all="raise"):
        found = pair_similarity(p, history, history.rating, np.arange(6))
    assert np.isfinite(found).all() and not found[:3].any() and not found[:, :3].any()
    expected = np.corrcoef(ratings.reshape(6, 40)[3:])
    np.testing.assert_allclose(found[3:, 3:], expected, atol=1e-4)


def test_slope_one(folder):
    user, item, found, _ = trained(folder, 'type: "SlopeOne"', 1)
    r = matrix(folder)
    for u, i, y in zip(user, item, found):
        both = [(r[:, i] - r[:, j])[~np.isnan(r[:, i] - r[:, j])] for j in np.flatnonzero(~np.isnan(r[u]))]
        shifts = [d.mean() for d in both if len(d)]
        known = not np.isnan(r[u]).all() and not np.isnan(r[:, i]).all()
        expected = np.nanmean(r[u]) + np.mean(shifts) if known else np.nanmean(r)
        assert abs(y - np.clip(expected, 1, 5)) < 1e-3


def test_non_negative_factors(folder):
    """Against the sums as the paper has them, users and items moved at once."""
    train, _ = small.nets(folder, 'type: "NonNegativeFactors" factors_param { num_factors: 3 reg: 0.06 }')
    layer, r = train.layer_dict["m"], matrix(folder)
    p, q = (np.array(blob.data, float) for blob in layer.blobs)
    given = ~np.isnan(r)
    for _ in range(3):
        small.run(train)
        r0, y = np.where(given, r, 0), np.where(given, p @ q.T, 0)
        by_user = r0 @ q / (y @ q + 0.06 * given.sum(axis=1)[:, None] * p + 1e-12)
        by_item = r0.T @ p / (y.T @ p + 0.06 * given.sum(axis=0)[:, None] * q + 1e-12)
        p, q = (
            p * np.where(given.any(axis=1)[:, None], by_user, 1),
            q * np.where(given.any(axis=0)[:, None], by_item, 1),
        )
    for ours, expected in zip(layer.blobs, (p, q)):
        np.testing.assert_allclose(ours.data, expected, rtol=1e-4)


LEARNERS = {
    "svd": ('type: "Factors" factors_param { num_factors: 4 learning_rate: 0.03 }', 60),
    "svdpp": ('type: "Factors" factors_param { num_factors: 4 learning_rate: 0.03 implicit: true }', 60),
    "nmf": ('type: "NonNegativeFactors" factors_param { num_factors: 4 reg: 0.1 }', 60),
    "rbm": ('type: "RatingRBM" rating_rbm_param { num_hidden: 10 batch_size: 5 average_from: 30 }', 60),
    "exact": ('type: "RatingRBM" rating_rbm_param { num_hidden: 10 batch_size: 5 prediction: EXACT cases: USER }', 60),
    "gaussian": (
        'type: "RatingRBM" rating_rbm_param { num_hidden: 10 batch_size: 5 units: GAUSSIAN learning_rate: 0.02 }',
        60,
    ),
    "autorec": ('type: "AutoRec" autorec_param { num_hidden: 10 learning_rate: 0.01 batch_size: 5 }', 40),
}  # fmt: skip


@pytest.mark.parametrize("name", LEARNERS)
def test_learners_beat_the_mean(folder, name):
    layer, epochs = LEARNERS[name]
    *_, mean = trained(folder, 'type: "Baseline" baseline_param { method: MEAN }', 1)
    _, _, found, error = trained(folder, layer, epochs)
    assert error < 0.9 * mean
    assert found.min() >= 1
    assert found.max() <= 5


def test_time_needs_a_day(folder):
    layer = 'type: "Factors" factors_param { num_factors: 4 implicit: true temporal: true bins: 3 learning_rate: 0.03 }'
    *_, mean = trained(folder, 'type: "Baseline" baseline_param { method: MEAN }', 1)
    *_, error = trained(folder, layer, 40, "user item day")
    assert error < mean
    with pytest.raises(ConfigError, match="takes 3 bottoms, user, item and day"):
        small.nets(folder, layer)


def test_least_squares_of_clicks(folder):
    layer = 'type: "ImplicitFactors" factors_param { num_factors: 3 reg: 0.5 alpha: 2 init_std: 0.5 }'
    train, _ = small.nets(folder, layer)
    small.run(train)
    p, q = (np.array(blob.data, float) for blob in train.layer_dict["m"].blobs)
    r = np.nan_to_num(matrix(folder))
    for i in np.flatnonzero(r.sum(axis=0)):
        weights = 1 + 2 * r[:, i]
        square = (p * weights[:, None]).T @ p + 0.5 * np.eye(3)
        assert np.allclose(q[i], np.linalg.solve(square, p.T @ (weights * (r[:, i] > 0))), atol=1e-3)


@pytest.mark.parametrize("name", LEARNERS)
def test_resume_is_exact(folder, name):
    layer, _ = LEARNERS[name]
    one, _ = small.nets(folder, layer)
    for _ in range(5):
        small.run(one)
    other, _ = small.nets(folder, layer, seed=99)
    first, second = one.layer_dict["m"], other.layer_dict["m"]
    for mine, theirs in zip(second.blobs, first.blobs):
        mine.data[...] = theirs.data
    second.set_state(first.state())
    small.run(one), small.run(other)
    assert all(np.array_equal(a.data, b.data) for a, b in zip(first.blobs, second.blobs))


def test_the_unknown_are_counted(folder, caplog):
    caplog.set_level("INFO", "caffepy")
    user, item, *_ = trained(folder, 'type: "Baseline"', 1)
    unknown = int(((user == small.USERS - 1) | (item == small.ITEMS - 1)).sum())
    assert f"m: {unknown} of {len(user)} have a user or an item without ratings" in caplog.text


def test_no_times_where_the_model_needs_them(folder, tmp_path):
    table = open_table(str(folder / "train.h5"))
    columns = {name: column for name, column in table.columns.items() if name != "day"}
    for name in ("train.h5", "test.h5"):
        write_table(tmp_path / name, columns, table.vocabularies)
    layer = 'type: "Factors" factors_param { num_factors: 4 implicit: true temporal: true }'
    with pytest.raises(ConfigError, match=r'no column "day"\n.*Convert a file with timestamps, or use a model without'):
        small.nets(tmp_path, layer, "user item day")
    with pytest.raises(DataError, match="the ratings have no times, which this model needs"):
        small.nets(tmp_path, layer, "user item rating")


def test_refusals(folder):
    table = open_table(str(folder / "test.h5"))
    columns = {**table.columns, "item": Column(table["item"], small.ITEMS + 1, "item")}
    write_table(folder / "test.h5", columns)
    with pytest.raises(DataError, match=r"has 21 ids, .*train\.h5 has 20\n.*one convert-ratings"):
        small.nets(folder, 'type: "Baseline"')
    write_table(folder / "test.h5", table.columns)
    with pytest.raises(ConfigError, match="learns by itself, but an lr_mult is given"):
        small.nets(folder, 'type: "Baseline" param { lr_mult: 1 }')
    with pytest.raises(ConfigError, match='has no column "stars"'):
        small.nets(folder, 'type: "Baseline"', "user item stars")
    with pytest.raises(DataError, match="cannot read the table"):
        small.nets(folder / "absent", 'type: "Baseline"')
