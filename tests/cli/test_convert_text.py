"""caffepy convert-text: vocabularies and files of tokens."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from caffepy.cli import cli, main
from caffepy.data.texts import vocabulary as vocabularies
from caffepy.data.texts.tokens import open_tokens


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("abcab")
    (tmp_path / "b.txt").write_text("cabcd")
    (tmp_path / "s.txt").write_text(
        "".join(f"word{i % 3} is {i}\t{'even' if i % 2 == 0 else 'odd'}\n" for i in range(10))
    )
    return tmp_path


def run(line):
    return CliRunner().invoke(cli, ["convert-text", *line.split()], catch_exceptions=False)


def read(folder, part, kind="NEXT"):
    known = vocabularies.read(f"{folder}/vocabulary.json")
    return known, open_tokens(f"{folder}/{part}.h5", known, kind)


def test_files_are_one_text(folder):
    run("a.txt b.txt out")
    known, found = read("out", "train")
    assert known.tokens == ["\ufffd", "a", "b", "c", "d"]
    assert known.decode(found.tokens.tolist()) == "abcabcabcd"


def test_split_divides_a_text_and_learns_from_the_first_part(folder):
    result = run("a.txt b.txt out --split 60,20,20")
    assert "out/test.h5: 2 tokens, 50.00% unknown" in result.output
    known, _ = read("out", "train")
    assert known.tokens == ["\ufffd", "a", "b", "c"]
    assert [known.decode(read("out", part)[1].tokens.tolist()) for part in ("train", "val", "test")] == [
        "abcabc", "ab", "c\ufffd",
    ]  # fmt: skip


def test_labelled_lines(folder):
    result = run("s.txt out --labels sentence --level word --split 80,20 --seed 3")
    assert "labels even, odd" in result.output
    assert (folder / "out/labels.txt").read_text() == "even\nodd\n"
    known, train = read("out", "train", "SENTENCE")
    test = read("out", "test", "SENTENCE")[1]
    assert (len(train.ends), len(test.ends)) == (8, 2)
    assert set(train.labels) == {0, 1}
    first = train.tokens[: train.ends[0]]
    assert known.decode(first.tolist()).split()[1] == "is"


def test_byte_pairs_by_default_where_a_size_is_given(folder):
    pytest.importorskip("tokenizers")
    run("a.txt out --vocab-size 257")
    known, found = read("out", "train")
    assert (known.level, known.size) == ("BPE", 257)
    assert known.decode(found.tokens.tolist()) == "abcab"


@pytest.mark.parametrize("level, size", [("char", 4), ("byte", 256)])
def test_line_ends_are_made_alike_but_for_bytes(folder, level, size):
    (folder / "dos.txt").write_bytes(b"a\r\nb\r\n")
    run(f"dos.txt out --level {level}")
    known, found = read("out", "train")
    assert known.size == size
    assert known.decode(found.tokens.tolist()) == ("a\nb\n" if level == "char" else "a\r\nb\r\n")


def test_a_vocabulary_that_is_there(folder):
    run("a.txt out")
    run("b.txt more --vocabulary out/vocabulary.json")
    _, found = read("more", "train")
    assert json.loads((folder / "more/vocabulary.json").read_text()) == json.loads(
        (folder / "out/vocabulary.json").read_text()
    )
    assert found.tokens.tolist() == [3, 1, 2, 3, 0]


NO_LABEL = "the line has no label\n  A tab stands between sentence and label."
NO_TEXT = "byte 1 is no UTF-8\n  Convert the file, or use level BYTE, which reads any."


def test_files_of_an_earlier_conversion_are_removed(folder):
    run("a.txt b.txt out --split 60,20,20")
    result = run("a.txt out --split 60,40")
    assert "out/val.h5 of an earlier conversion is removed" in result.output
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["test.h5", "train.h5", "vocabulary.json"]


@pytest.mark.parametrize(
    "line, message",
    [
        ("none.txt out", "none.txt: cannot read the text: No such file or directory"),
        ("empty.txt out", "empty.txt: the text is empty"),
        ("bytes.txt out", f"bytes.txt: {NO_TEXT}"),
        ("a.txt out --labels sentence", f"a.txt:1: {NO_LABEL}"),
        ("tags.txt out --labels token", "tags.txt:2: the line has 2 words and 1 tags"),
        ("hollow.txt out --labels sentence --level word", "hollow.txt:1: the sentence is empty"),
        ("a.txt out --split 1,2,3,4", '--split takes two or three shares, got "1,2,3,4"\n  --split 60,20,20'),
    ],
)
def test_refused(folder, capsys, line, message):
    (folder / "empty.txt").write_text("")
    (folder / "bytes.txt").write_bytes(b"a\xff")
    (folder / "tags.txt").write_text("a b\tX Y\nc d\tX\n")
    (folder / "hollow.txt").write_text("  \tX\n")
    with pytest.raises(SystemExit):
        main(["convert-text", *line.split()])
    assert capsys.readouterr().err == f"error: {message}\n"
    assert not (folder / "out").exists()
