"""TableData: rows, groups and negatives as tops, sizes that Embed learns, and a resume to the bit."""

import numpy as np
import pytest

from caffepy import passes, rng
from caffepy.data.tables.table import Column
from caffepy.data.tables.writer import write_table
from caffepy.errors import ConfigError, DataError
from caffepy.net.net import Net
from caffepy.proto import caffe_pb2, text
from tests.data.tables import small


@pytest.fixture
def table(tmp_path):
    return small.write(tmp_path / "t.h5")


def net(tops, fields, source, more=""):
    names = " ".join(f'top: "{t}"' for t in tops.split())
    definition = f'layer {{ name: "t" type: "TableData" {names} table_data_param {{ source: "{source}" {fields} }} }}'
    return Net(text.parse(definition + more, caffe_pb2.NetParameter()), caffe_pb2.TRAIN)


def batch(built):
    passes.of(built).forward()
    return {name: np.array(blob.data) for name, blob in built.engine_blobs.items()}


def test_rows_in_order_and_round_again(table):
    built = net("user rating", "batch_size: 4", table)
    first, second = batch(built), batch(built)
    assert first["user"].tolist() == [0, 1, 0, 2]
    assert second["user"].tolist() == [1, 0, 0, 1]
    assert second["rating"].tolist() == [1, 2, 5, 4]


def test_the_whole_table(table):
    assert batch(net("item", "", table))["item"].tolist() == small.ITEM


def test_features_of_ids_and_their_masks(table):
    found = batch(net("item genre genre_mask", "batch_size: 4", table))
    assert found["genre"].tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert found["genre_mask"].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0], [1, 0, 0]]


def test_tops_of_other_names(table):
    found = batch(net("who what", 'columns: "user" columns: "item"', table))
    assert found["what"].tolist() == small.ITEM


def test_shuffled_epochs_are_complete_and_differ(table):
    built = net("item rating", "batch_size: 6 shuffle: true", table)
    epochs = [batch(built)["rating"].tolist() for _ in range(3)]
    assert all(sorted(epoch) == sorted(small.RATING) for epoch in epochs)
    assert epochs[0] != epochs[1] or epochs[1] != epochs[2]


def test_groups(table):
    found = batch(net("user item rating mask genre", 'group_by: "user"', table))
    assert found["user"].tolist() == [0, 1, 2]
    assert found["mask"].tolist() == [[1, 1, 1], [1, 1, 0], [1, 0, 0]]
    assert found["item"].tolist() == [[0, 1, 3], [0, 3, 0], [2, 0, 0]]
    assert found["rating"].tolist() == [[5, 3, 2], [4, 1, 0], [2.5, 0, 0]]
    assert found["genre"].shape == (3, 3, 3)


def test_negatives_are_items_without_a_row(table):
    seen = set(zip(small.USER, small.ITEM))
    found = batch(net("user item label", "batch_size: 6 negatives: 3", table))
    assert found["label"].reshape(6, 4).tolist() == [[1, 0, 0, 0]] * 6
    drawn = list(zip(found["user"], found["item"], found["label"]))
    assert all(((u, i) in seen) == bool(label) for u, i, label in drawn)
    apart = batch(net("user item negative", "batch_size: 6 negatives: 2", table))
    assert apart["item"].tolist() == small.ITEM
    assert apart["negative"].shape == (6, 2)
    assert not any((u, i) in seen for u, row in zip(apart["user"], apart["negative"]) for i in row)


def test_embed_has_a_row_for_each_id(table):
    embed = (
        'layer { name: "e" type: "Embed" bottom: "item" top: "e" embed_param { num_output: 2 } }'
        'layer { name: "f" type: "Embed" bottom: "item" top: "f" embed_param { num_output: 1 } }'
    )
    built = net("item", "batch_size: 2", table, embed)
    assert [layer.blobs[0].shape for layer in built.layers if layer.type == "Embed"] == [(4, 2), (4, 1)]


def test_negatives_of_a_test_are_no_rows_of_train_either(table, tmp_path):
    one = {"user": Column(np.zeros(1, np.int32), 3, "user"), "item": Column(np.full(1, 2, np.int32), 4, "item")}
    words = {"user": ["u7", "u8", "u9"], "item": ["10", "20", "30", "40"]}
    write_table(tmp_path / "test.h5", one, words)
    fields = "batch_size: 1 negatives: 50"
    without = batch(net("user item negative", fields, tmp_path / "test.h5"))
    assert set(without["negative"].ravel()) == {0, 1, 3}
    train = small.write(tmp_path / "train.h5")
    write_table(train, {**one, "item": Column(np.full(1, 3, np.int32), 4, "item")}, words)
    found = batch(net("user item negative", f'{fields} seen: "{train}"', tmp_path / "test.h5"))
    assert set(found["negative"].ravel()) == {0, 1}
    write_table(train, one, {**words, "item": ["a", "b", "c", "d"]})
    with pytest.raises(DataError, match=r"train\.h5: its items are numbered otherwise than those of .*test\.h5"):
        net("user item negative", f'{fields} seen: "{train}"', tmp_path / "test.h5")


def test_lists_behind_the_end_of_a_group_are_empty(table):
    found = batch(net("user item mask genre genre_mask", 'group_by: "user"', table))
    assert found["genre_mask"].shape[:2] == found["mask"].shape == (3, 3)
    assert not found["genre_mask"][found["mask"] == 0].any()
    assert not found["genre"][found["mask"] == 0].any()
    assert found["genre_mask"][0, 0].tolist() == [1, 1, 0]


def test_what_is_not_fed_is_empty(tmp_path):
    lists = Column(np.array([[1, 0], [1, -1]], np.int32), 2, "tags")
    write_table(tmp_path / "t.h5", {"user": Column(np.arange(2), 2, "user"), "tags": lists})
    built = net("user tags tags_mask", "", tmp_path / "t.h5")
    built.layers[0].feed({"user": np.array([1, 0, 1])})
    found = batch(built)
    assert found["tags"].shape == found["tags_mask"].shape == (3, 2)
    assert not found["tags_mask"].any()


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (Column(np.array([1.0, 2**24 + 1])), "has integers beyond 16777216, which float32 would round"),
        (Column(np.array([1.0, 2.0**24 + 1]), 2**25, "x"), "has integers beyond 16777216"),
        (Column(np.array([1, 2], np.float32), 2**25, "x"), "has integers beyond 16777216"),
        (Column(np.array([0.0, 0.5]), 2, "x"), "of ids holds numbers that are not whole"),
        (Column(np.array([0.0, np.nan]), 2, "x"), "of ids holds numbers that are not whole"),
    ],
)
def test_floats_that_are_ids_are_not_rounded(tmp_path, column, message):
    write_table(tmp_path / "t.h5", {"x": column})
    with pytest.raises(DataError, match=message):
        net("x", "", tmp_path / "t.h5")


def test_floats_that_are_numbers_pass(tmp_path):
    for values in (np.array([0.1, 1e9]), np.array([2.0**25, 1.0]), np.array([np.inf, 1])):
        write_table(tmp_path / "t.h5", {"x": Column(values)})
        assert batch(net("x", "", tmp_path / "t.h5"))["x"].tolist() == values.astype(np.float32).tolist()


@pytest.mark.parametrize("fields", ["batch_size: 4 shuffle: true", "batch_size: 2 negatives: 2"])
def test_resume_is_exact(table, fields):
    rng.seed(3)
    built = net("user item", fields, table)
    for _ in range(4):
        batch(built)
    state = built.layers[0].state()
    expected = [batch(built) for _ in range(5)]
    rng.seed(99)
    again = net("user item", fields, table)
    again.layers[0].set_state(state)
    for one in expected:
        found = batch(again)
        assert all(np.array_equal(one[name], found[name]) for name in one)


def test_processes_share_the_rows(table):
    parts = []
    for rank in range(2):
        built = net("rating", "batch_size: 3", table)
        built.layers[0].shard(rank, 2)
        parts += batch(built)["rating"].tolist()
    assert sorted(parts) == sorted(small.RATING)


def test_fed_ids_take_the_place_of_rows(table):
    built = net("user item rating genre", "batch_size: 2", table)
    built.layers[0].feed({"user": np.array([2, 2, 2]), "item": np.array([0, 1, 3])})
    fed, after = batch(built), batch(built)
    assert fed["genre"].tolist() == [[1, 0, 0], [0, 0, 0], [2, 1, 0]]
    assert fed["rating"].tolist() == [0, 0, 0]
    assert after["user"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("tops", "fields", "error", "message"),
    [
        ("usr", "", ConfigError, 'has no column "usr"\n  Did you mean "user"\\?'),
        ("timestamp", "", DataError, "beyond 16777216, which float32 would round"),
        ("title", "", ConfigError, "holds words"),
        ("user_mask", "", ConfigError, "which is no list"),
        ("user", 'columns: "user" columns: "item"', ConfigError, "2 columns for 1 tops"),
        ("user", 'group_by: "rating"', ConfigError, "holds no ids"),
        ("user", 'group_by: "user" negatives: 1', ConfigError, "exclude each other"),
    ],
)
def test_refusals(table, tops, fields, error, message):
    with pytest.raises(error, match=message):
        net(tops, fields, table)
