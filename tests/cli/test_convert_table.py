"""caffepy convert-table: columns of words to tables."""

from __future__ import annotations

import gzip

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from caffepy import TRAIN
from caffepy.cli import cli, main
from caffepy.data.tables.splits import parts
from caffepy.data.tables.table import open_table
from caffepy.net.net import Net
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import NetParameter

ROWS = [
    ("30", "blue", "12.5", "yes"), ("40", "red", "?", "no"), ("50", "blue", "7.5", "no"), ("20", "green", "10", "yes"),
]  # fmt: skip
COLUMNS = "age:bucket:25;45,colour,wage:dense,bought=answer:label:yes"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bare.csv").write_text("".join(", ".join(row) + "\n" for row in ROWS))
    (tmp_path / "named.csv").write_text("age,colour,wage,answer\n" + "".join(",".join(row) + "\n" for row in ROWS))
    return tmp_path


def convert(*arguments: str):
    result = CliRunner().invoke(cli, ["convert-table", *arguments])
    assert result.exit_code == 0, result.output
    return open_table("train.h5")


@pytest.mark.parametrize("file", ["bare.csv", "named.csv"])
def test_every_kind_of_column(file, folder):
    table = convert(file, "--columns", COLUMNS)
    assert table["age"].tolist() == [1, 1, 2, 0] and table.size("age") == 3
    assert table.vocabulary("age") == [" .. 25", "25 .. 45", "45 .. "]
    assert table["colour"].tolist() == [1, 3, 1, 2]
    assert table.vocabulary("colour") == ["<other>", "blue", "green", "red"]
    known = np.array([12.5, 7.5, 10])
    np.testing.assert_allclose(table["wage"][[0, 2, 3]], (known - 10) / known.std(), rtol=1e-6)
    assert table["wage"][1] == 0  # missing: the mean
    assert table["bought"].tolist() == [1, 0, 0, 1]


def test_columns_that_are_joined(folder):
    table = convert("bare.csv", "--columns", "age:log,colour,wage:log,answer")
    assert table["categories"].tolist() == [[1, 6], [3, 5], [1, 5], [2, 6]]
    assert table.size("categories") == 7
    assert table.vocabulary("categories")[3:6] == ["colour=red", "answer=<other>", "answer=no"]
    logs = np.log1p([30, 40, 50, 20])
    np.testing.assert_allclose(table["dense"][:, 0], (logs - logs.mean()) / logs.std(), rtol=1e-5)
    assert table["dense"].shape == (4, 2)


def test_quantile_buckets_and_numbers(folder):
    table = convert("named.csv", "--columns", "age:bucket:2,age2=age:number")
    assert table["age"].tolist() == [0, 1, 1, 0] and table["age2"].tolist() == [30, 40, 50, 20]


def test_a_net_reads_the_table(folder):
    convert("bare.csv", "--columns", COLUMNS)
    net = Net(
        text.parse(
            """
            layer { name: "data" type: "TableData" top: "categories" top: "dense" top: "bought"
                    table_data_param { source: "train.h5" batch_size: 4 } }
            layer { name: "embed" type: "Embed" bottom: "categories" top: "e" embed_param { num_output: 2 } }
            """,
            NetParameter(),
        ),
        TRAIN,
    )
    assert net.layer_dict["embed"].blobs[0].shape == (7, 2)
    assert net.engine_blobs["e"].shape == (4, 2, 2)


def test_what_is_learned_comes_from_the_training_rows(folder):
    rows = [("a", "1"), ("b", "3")] * 30
    (folder / "long.csv").write_text("".join(f"{word}{i // 50},{number}\n" for i, (word, number) in enumerate(rows)))
    convert("long.csv", "--columns", "word,x:dense", "--split", "60,20,20", "--seed", "3")
    train, val, test = (open_table(f"{part}.h5") for part in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (36, 12, 12)
    assert train["x"].mean() == pytest.approx(0, abs=1e-6) and train["x"].std() == pytest.approx(1)
    assert train.vocabulary("word") == val.vocabulary("word")
    order = np.random.default_rng(3).permutation(60)
    words = [f"{rows[i][0]}{i // 50}" for i in order[:36]]
    assert [train.vocabulary("word")[i] for i in train["word"]] == words


def test_a_gzipped_file_and_columns_from_a_file(folder):
    (folder / "bare.csv.gz").write_bytes(gzip.compress((folder / "bare.csv").read_bytes()))
    (folder / "columns").write_text("# comment\nage:skip\ncolour\n\nwage:dense  # euros\nanswer:label:no\n")
    table = convert("bare.csv.gz", "--columns", "columns", "--output", ".")
    assert sorted(table.columns) == ["answer", "categories", "colour", "dense", "wage"]


@pytest.mark.parametrize("split, sizes", [("", [10]), ("8,2", [8, 2]), ("60,20,20", [6, 2, 2])])
def test_parts_have_every_row_once(split, sizes):
    found = parts(split, 10, 1)
    assert [len(rows) for rows in found.values()] == sizes
    assert sorted(np.concatenate([*found.values()])) == list(range(10))


REFUSED = [
    ("none.csv", COLUMNS, "none.csv: cannot read the file"),
    ("bare.csv", "age,colour", "bare.csv:1: the row has 4 columns, 2 are expected"),
    ("bare.csv", "age:dense,colour:dense,wage,answer", 'bare.csv:1: "blue" in column "colour" is no number'),
    ("named.csv", "age:dence", '"age:dence" has the unknown kind "dence"\n  Did you mean "dense"?'),
    ("named.csv", "answer:label:ye", 'no row of "answer" is "ye"\n  Did you mean "yes"?'),
    ("named.csv", "age:bucket:many", "needs a number of buckets, or boundaries"),
    ("named.csv", "age,age:dense", 'names "age" twice'),
    ("named.csv", "dense=age", '"dense" is what the table calls columns that are joined'),
    ("named.csv", "age:skip", "--columns names no column"),
    ("named.csv", "age,color,wage,answer", 'named.csv:1: the header has no column "color"\n  Did you mean "colour"?'),
    ("words.csv", "coulour,anser", 'words.csv:1: the header has no column "coulour"\n  Did you mean "colour"?'),
    ("bare.csv", "age,colour,wage:number,answer", 'bare.csv:2: "?" in column "wage" is no finite number'),
    ("named.csv", "a/b=age", 'a table has no column called "a/b"'),
    ("named.csv", "vocabularies=age", 'a table has no column called "vocabularies"'),
    ("long.csv", "age,colour", "long.csv:2: a field of the row has more than 131072 characters"),
    ("open.csv", "age:number,colour", "open.csv:3: a quote in the row does not end where its field does"),
]


@pytest.mark.parametrize("file, columns, message", REFUSED)
def test_what_cannot_be_converted(file, columns, message, folder, capsys):
    (folder / "words.csv").write_text("colour,answer\nblue,yes\nred,no\n")
    (folder / "long.csv").write_text(f"age,colour\n1,{'x' * 140_000}\n")
    (folder / "open.csv").write_text('age,colour\n1,blue\n2,"red\n3,blue\n4,red\n')
    with pytest.raises(SystemExit):
        main(["convert-table", file, "--columns", columns])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("columns, first", [("b,a", "a,1"), ("mal,colour", "male,red")])
def test_a_first_row_that_has_a_word_like_a_columns_name(columns, first, folder):
    (folder / "rows.csv").write_text(f"{first}\nblue,2\n")
    assert len(convert("rows.csv", "--columns", columns, "--output", ".")) == 2


def test_shares_that_are_none(folder, capsys):
    with pytest.raises(SystemExit):
        main(["convert-table", "named.csv", "--columns", "age", "--split", "60"])
    assert '--split takes two or three shares, got "60"' in capsys.readouterr().err


def test_shares_that_leave_nothing_to_train_on(folder, capsys):
    with pytest.raises(SystemExit):
        main(["convert-table", "named.csv", "--columns", "colour", "--split", "1,99"])
    assert '--split "1,99" leaves none of ' in capsys.readouterr().err


def test_lines_are_counted_where_rows_have_several(folder, capsys):
    (folder / "notes.csv").write_text('age,note\n\n1,"two\nlines"\nx,one\n')
    with pytest.raises(SystemExit):
        main(["convert-table", "notes.csv", "--columns", "age:number,note"])
    assert 'notes.csv:5: "x" in column "age" is no number' in capsys.readouterr().err


def test_missing_values_have_a_bucket_of_their_own(folder):
    table = convert("bare.csv", "--columns", "age:skip,colour,wage:bucket:9;11,answer")
    assert table["wage"].tolist() == [2, 3, 0, 1]
    assert table.vocabulary("wage") == [" .. 9", "9 .. 11", "11 .. ", "<missing>"]


def test_an_earlier_conversion_goes(folder, capsys):
    convert("bare.csv", "--columns", COLUMNS, "--split", "50,25,25")
    convert("bare.csv", "--columns", COLUMNS, "--split", "50,50")
    assert not (folder / "val.h5").exists() and len(open_table("test.h5")) == 2
    convert("bare.csv", "--columns", COLUMNS)
    assert not (folder / "test.h5").exists()
    with h5py.File("val.h5", "w") as file:
        file["data"] = np.zeros(3)
    with pytest.raises(SystemExit):
        main(["convert-table", "bare.csv", "--columns", COLUMNS])
    assert "val.h5: this file would be taken for a part of the conversion" in capsys.readouterr().err


def test_no_negative_seed(folder, capsys):
    with pytest.raises(SystemExit):
        main(["convert-table", "bare.csv", "--columns", COLUMNS, "--split", "50,50", "--seed", "-1"])
    assert "--seed" in capsys.readouterr().err
