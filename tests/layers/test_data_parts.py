"""Data of several databases, a part of the records, and classes that come equally often."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from caffepy.data.balance import Balanced
from caffepy.data.order import Cursor, Order
from caffepy.data.subset import part_of
from caffepy.errors import ConfigError
from caffepy.solver.resume_file import from_json, to_json
from tests.data.databases import batches, database, layer, same


@pytest.fixture
def source(tmp_path):
    for name, values in (("a", range(6)), ("b", range(6, 10))):
        database(tmp_path / name, [np.full((1, 1, 1), i, np.uint8) for i in values])
    return f'source: "{tmp_path}/a" more_source: "{tmp_path}/b" batch_size: 5'


def seen(fields: str, count: int) -> list[list[int]]:
    return [
        batch[0].ravel().astype(int).tolist() for batch in batches(layer("Data", f"data_param {{ {fields} }}"), count)
    ]


def test_several_databases_are_one(source):
    assert seen(source, 3) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [0, 1, 2, 3, 4]]


def test_a_source_that_is_given_twice_is_told_of_more():
    with pytest.raises(ConfigError) as caught:
        layer("Data", 'data_param { source: "a" source: "b" }')
    assert str(caught.value).endswith(
        'field "source" is given twice in DataParameter\n  Give all but the first as more_source.'
    )


def test_a_split_parts_the_records(source):
    parts = [seen(f'{source} split: "{split}"'.replace("batch_size: 5", f"batch_size: {n}"), 1)[0]
             for split, n in (("train:0.6", 6), ("0.6:0.8", 2), ("test:0.2", 2))]  # fmt: skip
    assert sorted([r for part in parts for r in part]) == list(range(10)) and parts[0] != list(range(6))
    assert seen(f'{source} split: "train:0.5"', 2)[0] == seen(f'{source} split: "train:0.5"', 2)[1]


@pytest.mark.parametrize("split", ["train", "train:2", "val:0.1", "0.5:0.5", "0.9:0.1", "train:0"])
def test_a_split_that_is_none(split):
    with pytest.raises(ConfigError) as caught:
        part_of(split, 10)
    assert str(caught.value) == (
        f'split: "{split}" names no part of the records\n  Write "train:0.8", "test:0.2" or "0.8:0.9".'
    )
    with pytest.raises(ConfigError, match="of 10 records is none of them"):
        part_of("train:0.01", 10)


def test_balanced_classes(tmp_path):
    labels = np.array([0] * 12 + [1] * 3 + [2] * 6)
    order = Balanced(Order(21, True, 7), np.arange(21), labels)
    epochs = [order.advance(Cursor(epoch), 21)[0] for epoch in range(4)]
    for drawn in epochs:
        assert Counter(labels[drawn].tolist()) == {0: 7, 1: 7, 2: 7}
        assert max(Counter(r for r in drawn if labels[r] == 0).values()) == 1
        assert sorted(Counter(r for r in drawn if labels[r] == 1).values()) == [2, 2, 3]
    assert epochs[0] != epochs[1]
    flat, cursor = [], Cursor()
    for count in (5, 9, 20, 50):
        some, cursor = order.advance(cursor, count)
        flat += some
    assert flat == [r for epoch in epochs for r in epoch][:84] and cursor == Cursor(4, 0)
    of_processes = [order._replace(rank=rank, size=2).advance(Cursor(), 21)[0] for rank in (0, 1)]
    assert [r for pair in zip(*of_processes) for r in pair] == flat[:42]


@pytest.mark.parametrize(
    "fields", ["balance: true", 'balance: true split: "train:0.8"', 'shuffle: true split: "test:0.7"']
)
def test_resumes_to_the_bit(source, fields):
    text = f"data_param {{ {source} {fields} }}"
    straight = batches(layer("Data", text), 8)
    net = layer("Data", text)
    batches(net, 3)
    state = from_json(to_json(net.layers[0].state()))
    other = layer("Data", text, seed=99)
    other.layers[0].set_state(state)
    assert same(batches(other, 5), straight[3:])
