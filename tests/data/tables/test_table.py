"""Tables: what is written is read, and what is none is refused."""

import h5py
import numpy as np
import pytest

from caffepy.data.tables.table import Column, open_table
from caffepy.data.tables.writer import encode, write_table
from caffepy.errors import ConfigError, DataError
from tests.data.tables import small


def test_reads_what_was_written(tmp_path):
    table = open_table(small.write(tmp_path / "t.h5"))
    assert len(table) == 6
    assert table["user"].tolist() == small.USER
    assert (table.size("user"), table.size("item")) == (3, 4)
    assert table.vocabulary("item") == ["10", "20", "30", "40"]
    key, genre = table.feature("genre")
    assert (key, genre.size) == ("item", 3)
    assert genre.values.tolist() == [[1, 0, -1], [-1, -1, -1], [0, -1, -1], [2, 1, 0]]
    assert table.feature("title")[1].values.tolist() == ["A", "B", "C", "Ü"]


def test_a_changed_file_is_read_again(tmp_path):
    path = small.write(tmp_path / "t.h5")
    assert len(open_table(path)) == 6
    write_table(path, {"user": Column(np.zeros(2, np.int32), 1)})
    assert len(open_table(path)) == 2


def test_ids_are_in_the_order_of_numbers():
    words, (first, second) = encode(np.array(["10", "9", "10"]), "item", np.array(["2"]))
    assert words == ["2", "9", "10"]
    assert first.values.tolist() == [2, 1, 2]
    assert second.values.tolist() == [0]
    assert second.size == 3


def test_words_that_only_look_like_numbers_stay():
    words, (column,) = encode(np.array(["007", "7"]), "item")
    assert words == ["007", "7"]
    assert column.values.tolist() == [0, 1]


def test_refusals(tmp_path):
    path = small.write(tmp_path / "t.h5")
    with pytest.raises(DataError, match=r'no column "usr"\n  Did you mean "user"\?'):
        open_table(path)["usr"]
    with pytest.raises(ConfigError, match='"rating" of .* holds no ids'):
        open_table(path).size("rating")
    with pytest.raises(DataError, match=r't1\.h5: cannot read the table: No such file .*\n.*"t\.h5"'):
        open_table(str(tmp_path / "t1.h5"))
    with h5py.File(tmp_path / "odd.h5", "w") as file:
        file["a"], file["b"] = np.zeros(2), np.zeros(3)
    with pytest.raises(DataError, match="columns have different lengths: {'a': 2, 'b': 3}"):
        open_table(str(tmp_path / "odd.h5"))
    with pytest.raises(DataError, match="different lengths"):
        write_table(tmp_path / "new.h5", {"a": Column(np.zeros(2)), "b": Column(np.zeros(3))})
    assert not (tmp_path / "new.h5").exists()
