"""Files of ratings: every layout, bad lines with their numbers, duplicates, splits; and what convert-ratings writes."""

import sys

import numpy as np
import pytest
from click.testing import CliRunner

from caffepy.cli import cli
from caffepy.data.tables.table import open_table
from caffepy.errors import CaffeError, ConfigError, DataError, MissingExtraError
from caffepy.recommend.ratings import read_ratings
from caffepy.recommend.split import folds, split

TABS = "7\t10\t4\t100\n7\t9\t3.5\t200\n8\t10\t1\t86500\n"
LINES = [("7", "10", 4.0, 100), ("7", "9", 3.5, 200), ("8", "10", 1.0, 86500)]


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("u.data", "".join("\t".join(map(str, line)) + "\n" for line in LINES)),
        ("ratings.dat", "".join("::".join(map(str, line)) + "\n" for line in LINES)),
        ("r.csv", "userId,movieId,rating,timestamp\n" + "".join(",".join(map(str, line)) + "\n" for line in LINES)),
        ("r.inter", "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + TABS),
        ("other.csv", "timestamp,item,user,rating\n100,10,7,4\n200,9,7,3.5\n86500,10,8,1\n"),
        ("mac.csv", "7,10,4,100\r7,9,3.5,200\r\n8,10,1,86500"),
        ("quoted.csv", '"user";"item";"rating";"timestamp"\n"7";"10";4;100\n"7";"9";3.5;200\n"8";"10";1;86500\n'),
    ],
)  # fmt: skip
def test_layouts(tmp_path, name, text):
    found = read_ratings(write(tmp_path / name, text)).ratings
    rows = list(zip(found.user.tolist(), found.item.tolist(), found.rating.tolist(), found.timestamp.tolist()))
    assert rows == LINES


def test_clicks_and_named_columns(tmp_path):
    path = write(tmp_path / "c.csv", "who,what\na,x\nb,y\n")
    found = read_ratings(path, {"user": "who", "item": "what"}).ratings
    assert found.rating.tolist() == [1, 1]
    assert found.timestamp is None


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    path = str(tmp_path / "r.parquet")
    columns = {name: list(column) for name, column in zip(("userId", "movieId", "rating", "timestamp"), zip(*LINES))}
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), path)
    found = read_ratings(path).ratings
    assert list(zip(*(column.tolist() for column in found))) == LINES
    (tmp_path / "bad.parquet").write_text("no")
    with pytest.raises(DataError, match=r"bad\.parquet: this is no complete Parquet file"):
        read_ratings(str(tmp_path / "bad.parquet"))


def test_parquet_needs_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"caffepy\[parquet\]"):
        read_ratings(str(tmp_path / "r.parquet"))


def test_the_last_duplicate_counts(tmp_path):
    reading = read_ratings(write(tmp_path / "r.csv", "user,item,rating\na,x,1\nb,x,2\na,x,5\n"))
    assert reading.duplicates == 1
    assert list(zip(reading.ratings.user.tolist(), reading.ratings.rating.tolist())) == [("b", 2), ("a", 5)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a,x,good", 'the rating "good" is no number'),
        ("a,x,nan", "the rating is nan"),
        ("a,x", r"the line has 2 field\(s\), none for the rating"),
        (",x,3", "the user is empty"),
        ("a,x,9", r"the rating 9 is outside the scale 1 \.\. 5"),
        ('a,"x,3\nb', "a quote in the line does not end where its field does"),
        ("a,x\x0b,y\x85\u2028", 'the rating "y\x85\u2028" is no number'),
    ],
)
def test_bad_lines(tmp_path, line, message):
    path = write(tmp_path / "r.csv", f"user,item,rating\na,y,3\n{line}\n")
    with pytest.raises(DataError, match=rf"r\.csv:3: {message}"):
        read_ratings(path, scale=(1, 5))
    reading = read_ratings(path, scale=(1, 5), skip_bad=True)
    assert (len(reading.ratings), reading.bad) == (1, 1 + line.count("\n"))


def test_files_that_are_none(tmp_path):
    with pytest.raises(DataError, match="cannot read the file"):
        read_ratings(str(tmp_path / "absent.csv"))
    with pytest.raises(DataError, match="empty"):
        read_ratings(write(tmp_path / "e.csv", ""))
    with pytest.raises(DataError, match="no ratings"):
        read_ratings(write(tmp_path / "h.csv", "user,item,rating\n"))
    with pytest.raises(DataError, match='no column "item" for the item'):
        read_ratings(write(tmp_path / "n.csv", "user,thing\na,b\n"))


@pytest.fixture
def ratings(tmp_path):
    random = np.random.default_rng(0)
    pairs = [(u, i) for u in range(9) for i in random.permutation(30)[:10]]
    rows = {pair: (random.integers(1, 6), random.integers(10**6)) for pair in pairs}
    text = "user,item,rating,timestamp\n" + "".join(f"u{u},{i},{r},{t}\n" for (u, i), (r, t) in rows.items())
    return write(tmp_path / "ratings.csv", text)


def test_splits(ratings):
    found = read_ratings(ratings).ratings
    assert split(found, "random:0.2", 1).sum() == 18
    late = split(found, "time:0.2", 0)
    assert found.timestamp[late].min() >= found.timestamp[~late].max()
    last = split(found, "leave-last:1", 0)
    for user in np.unique(found.user):
        mine = found.user == user
        assert found.timestamp[mine & last].tolist() == [found.timestamp[mine].max()]
    assert np.sum(list(folds(len(found), 5, 0)), axis=0).tolist() == [1] * len(found)
    with pytest.raises(ConfigError, match="is no way to split"):
        split(found, "half", 0)


def run(*args):
    result = CliRunner().invoke(cli, ["convert-ratings", *map(str, args)])
    if result.exception and isinstance(result.exception, CaffeError):
        raise result.exception
    return result


def test_tables_share_their_ids(tmp_path):
    train = write(tmp_path / "a.csv", "user,item,rating,timestamp\n1,10,4,86400\n2,9,3,0\n")
    test = write(tmp_path / "b.csv", "user,item,rating,timestamp\n3,11,4,172800\n1,9,3,86400\n")
    items = write(tmp_path / "i.csv", "movieId,title,genres\n9,Nine,a|b\n10,Ten,b\n")
    run(train, test, "--output", tmp_path / "out", "--items", items)
    first, second = (open_table(str(tmp_path / "out" / name)) for name in ("train.h5", "test.h5"))
    assert first.vocabulary("item") == second.vocabulary("item") == ["9", "10", "11"]
    assert first["item"].tolist() == [1, 0]
    assert second["user"].tolist() == [2, 0]
    assert first["day"].tolist() == [1, 0]
    assert second["day"].tolist() == [2, 1]
    assert first.feature("title")[1].values.tolist() == ["Nine", "Ten", ""]
    assert first.feature("genres")[1].values.tolist() == [[0, 1], [1, -1], [-1, -1]]


def test_folds_are_folders(ratings, tmp_path):
    run(ratings, "--output", tmp_path / "out", "--folds", 3)
    sizes = [len(open_table(str(tmp_path / "out" / f"fold{i}" / "test.h5"))) for i in (1, 2, 3)]
    assert sizes == [30, 30, 30]


def test_nothing_half_written(tmp_path):
    train = write(tmp_path / "a.csv", "user,item,rating\n1,10,4\n1,9,x\n")
    result = CliRunner().invoke(cli, ["convert-ratings", train, "--output", str(tmp_path / "out")])
    assert result.exit_code
    assert not (tmp_path / "out").exists()


def test_a_time_that_no_clock_shows_is_told(tmp_path):
    (tmp_path / "r.dat").write_text("1::10::5::99978300760978302109\n")
    with pytest.raises(DataError, match=r"r.dat:1: the timestamp 99978300760978302109 is no time"):
        read_ratings(str(tmp_path / "r.dat"))


@pytest.mark.parametrize(("time", "unit"), [(1111111111222, "milliseconds"), (1111111111222333, "microseconds")])
def test_times_in_finer_units_are_told(tmp_path, time, unit):
    path = write(tmp_path / "r.csv", f"user,item,rating,timestamp\n1,2,3,1111111111\n1,3,3,{time}\n")
    with pytest.raises(DataError, match=rf"r.csv:3: the timestamp {time} is no time in seconds; it may be {unit}"):
        read_ratings(path)


def test_triples_without_names(tmp_path):
    found = read_ratings(write(tmp_path / "r.csv", "u1,i1,3\nu2,i1,4.5\n")).ratings
    assert found.user.tolist() == ["u1", "u2"] and found.rating.tolist() == [3, 4.5] and found.timestamp is None


def test_an_earlier_conversion_goes(ratings, tmp_path):
    out = tmp_path / "out"
    run(ratings, "--output", out, "--folds", 5)
    (out / "fold5" / "mine.caffemodel").write_text("")
    run(ratings, "--output", out, "--folds", 3)
    assert sorted(path.parent.name for path in out.glob("*/t*.h5")) == sorted(["fold1", "fold2", "fold3"] * 2)
    assert not (out / "fold4").exists() and (out / "fold5" / "mine.caffemodel").exists()
    run(ratings, "--output", out, "--split", "random:0.2")
    assert not list(out.glob("fold*/*.h5"))
    run(ratings, "--output", out)
    assert [path.name for path in out.glob("*.h5")] == ["train.h5"]
    (out / "test.h5").write_text("mine")
    with pytest.raises(ConfigError, match=r"test\.h5: this file would be taken for a part of the conversion"):
        run(ratings, "--output", out)
    assert (out / "test.h5").read_text() == "mine"


def test_features_of_one_name_have_vocabularies_of_their_own(tmp_path):
    train = write(tmp_path / "a.csv", "user,item,rating\n1,10,4\n2,9,3\n")
    items = write(tmp_path / "i.csv", "id,kind,rating\n9,a,low\n10,b,high\n")
    users = write(tmp_path / "u.csv", "id,kind\n1,x\n2,y\n")
    run(train, "--output", tmp_path / "out", "--items", items, "--users", users)
    table = open_table(str(tmp_path / "out" / "train.h5"))
    assert table.vocabularies["item_kind"] == ["a", "b"] and table.vocabularies["user_kind"] == ["x", "y"]
    assert [table.feature(name)[0] for name in ("item_kind", "user_kind", "item_rating")] == ["item", "user", "item"]
    assert table.feature("item_kind")[1].vocabulary == "item_kind"


def test_no_negative_seed(ratings, tmp_path):
    result = run(ratings, "--output", tmp_path / "out", "--split", "random:0.2", "--seed", -1)
    assert result.exit_code == 2 and "--seed" in result.output
