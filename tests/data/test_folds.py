"""Folds: which records belong to which, drawn evenly, by labels and by groups."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.data.folds import divide
from caffepy.data.order import Cursor, ListOrder, Order
from caffepy.data.subset import Subset, records_of
from caffepy.errors import ConfigError, DataError
from caffepy.proto.caffe_pb2 import FoldParameter


def test_folds_are_as_large_as_can_be_and_drawn_by_the_seed():
    found = divide(23, 5, seed=1)
    assert sorted(np.bincount(found)) == [4, 4, 5, 5, 5]
    assert (divide(23, 5, seed=1) == found).all() and (divide(23, 5, seed=2) != found).any()


def test_each_fold_has_the_same_shares_of_labels():
    labels = np.array([0] * 50 + [7] * 25 + [-3] * 10)
    found = divide(85, 5, 0, strata=labels)
    for label, count in ((0, 10), (7, 5), (-3, 2)):
        assert np.bincount(found[labels == label], minlength=5).tolist() == [count] * 5


def test_groups_stay_together():
    random = np.random.default_rng(0)
    groups, labels = random.integers(0, 40, 600), random.integers(0, 3, 600)
    for strata in (None, labels):
        found = divide(600, 4, 3, strata, groups)
        assert all(len(set(found[groups == group])) == 1 for group in set(groups))
        assert np.bincount(found, minlength=4).min() > 130
        assert all(np.bincount(found[labels == label], minlength=4).min() > 30 for label in range(3))


def test_too_many_folds():
    with pytest.raises(ConfigError, match=r"^5 folds cannot be made of 4 records\n  From 2 to 4 can\.$"):
        divide(4, 5, 0)
    with pytest.raises(ConfigError, match="3 folds cannot be made of 2 groups"):
        divide(4, 3, 0, groups=np.array([1, 1, 2, 2]))
    with pytest.raises(ConfigError, match="1 folds cannot be made of 4 records"):
        divide(4, 1, 0)


def test_a_rare_label_is_told(caplog):
    divide(10, 3, 0, strata=np.array([0] * 9 + [1]))
    assert "A label has 1 records only: not each of the 3 folds has one" in caplog.text


@pytest.mark.parametrize("kind", [Order, ListOrder])
def test_a_subset_goes_through_its_records(kind):
    records = np.array([1, 4, 5, 8])
    subset = Subset(kind(10, shuffle=True, seed=3), records)
    whole = kind(4, shuffle=True, seed=3)
    places, after = whole.advance(Cursor(2, 3), 7)
    assert subset.advance(Cursor(2, 3), 7) == (records[places].tolist(), after)
    shard = subset._replace(rank=1, size=2)
    assert shard.advance(Cursor(), 2) == (
        records[whole._replace(rank=1, size=2).advance(Cursor(), 2)[0]].tolist(),
        (1, 0),
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read the folds: No such file or directory"),
        (b"no numpy", "this is no .npy file of folds"),
        (np.zeros((4, 2), int), "the file holds no fold number a record"),
        (np.zeros(4), "the file holds no fold number a record"),
        (np.zeros(5, int), "the folds are of 5 records, the layer's source has 4\n"
         "  Make the folds again: caffepy cross-validate does."),
        (np.zeros(4, int), "no record is in fold 1"),
    ],
)  # fmt: skip
def test_wrong_files(tmp_path, content, message):
    path = tmp_path / "folds.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(DataError) as caught:
        records_of(FoldParameter(source=str(path), fold=1, held_out=True), 4)
    assert str(caught.value) == f"{path}: {message}"
