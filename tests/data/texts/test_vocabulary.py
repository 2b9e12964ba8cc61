"""Vocabularies: texts to ids and back at every level, their files, and what is refused."""

from __future__ import annotations

import json

import pytest

from caffepy.data.texts import vocabulary as vocabularies
from caffepy.errors import ConfigError, DataError

TEXT = 'He said: "not (quite) so",\nand 2 left. Äpfel 中'


def test_characters_are_sorted_behind_the_unknown():
    known = vocabularies.learn("CHAR", "banana\n")
    assert known.tokens == ["\ufffd", "\n", "a", "b", "n"]
    assert known.encode("nab\nx").tolist() == [4, 2, 3, 1, 0]
    assert known.decode([3, 2, 4, 0]) == "ban\ufffd"
    assert known.missing("axbxy") == ["x", "y"]


@pytest.mark.parametrize("level", ["CHAR", "BYTE"])
def test_text_comes_back(level):
    known = vocabularies.learn(level, TEXT)
    assert known.decode(known.encode(TEXT).tolist()) == TEXT
    assert known.size == (256 if level == "BYTE" else len({*TEXT}) + 1)


def test_words_come_back_with_usual_blanks():
    text = "He said: not (quite) so,\nand 2 left."
    known = vocabularies.learn("WORD", text)
    assert [known.tokens[i] for i in known.encode("said, 2")] == ["said", ",", "2"]
    assert known.decode(known.encode(text).tolist()) == text


def test_the_rarest_are_left_out():
    known = vocabularies.learn("WORD", "a b b c c c d d d d", size=3)
    assert known.tokens == ["<unk>", "c", "d"]
    assert known.encode("a b c d").tolist() == [0, 0, 1, 2]


def test_bytes_that_are_no_text_are_replaced():
    assert vocabularies.ByteVocabulary().decode([72, 255, 105]) == "H\ufffdi"


def test_byte_pairs(tmp_path):
    pytest.importorskip("tokenizers")
    known = vocabularies.learn("BPE", "low lower lowest newer wider " * 20, size=270)
    assert known.size == 270
    assert len(known.encode("lower")) < 5
    assert known.decode(known.encode(TEXT).tolist()) == TEXT
    vocabularies.write(str(tmp_path / "v.json"), known)
    again = vocabularies.read(str(tmp_path / "v.json"))
    assert again.fingerprint == known.fingerprint
    assert again.encode(TEXT).tolist() == known.encode(TEXT).tolist()
    with pytest.raises(ConfigError, match="--vocab-size of BPE is at least 256, the bytes: got 9"):
        vocabularies.learn("BPE", "low", size=9)


def test_a_file_comes_back_with_its_labels(tmp_path):
    path = str(tmp_path / "v.json")
    vocabularies.write(path, vocabularies.learn("CHAR", TEXT, labels=["bad", "good"]))
    again = vocabularies.read(path)
    assert again.encode(TEXT).tolist() == vocabularies.learn("CHAR", TEXT).encode(TEXT).tolist()
    assert again.label("good") == 1
    assert again.fingerprint == vocabularies.learn("CHAR", TEXT).fingerprint  # of the tokens alone
    assert again.fingerprint != vocabularies.learn("CHAR", "other").fingerprint


def test_labels():
    assert vocabularies.ByteVocabulary().label("7") == 7
    with pytest.raises(ValueError, match='the label "good" is no number, and the vocabulary lists no labels'):
        vocabularies.ByteVocabulary().label("good")
    with pytest.raises(ValueError, match=r'unknown label "god"\. Did you mean "good"\?'):
        vocabularies.ByteVocabulary(["good"]).label("god")


@pytest.mark.parametrize(
    "content, reason",
    [
        ("no JSON", "this is no vocabulary\n"),
        ([1], 'this is no vocabulary: it has no "level" of CHAR, WORD, BYTE, BPE\n'),
        ({"level": "CHAR"}, 'this is no vocabulary: "tokens" is no list of different words\n'),
        ({"level": "WORD", "tokens": ["a", "a"]}, 'this is no vocabulary: "tokens" is no list of different words\n'),
        ({"level": "CHAR", "tokens": ["a", "bc"]}, 'this is no vocabulary: "tokens" of level CHAR are characters\n'),
        ({"level": "BYTE", "labels": 3}, 'this is no vocabulary: "labels" is no list of different words\n'),
    ],
)
def test_no_vocabulary(tmp_path, content, reason):
    path = tmp_path / "v.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(DataError) as caught:
        vocabularies.read(str(path))
    assert str(caught.value) == f"{path}: {reason}  caffepy convert-text writes such files."


def test_a_tokenizer_that_is_none(tmp_path):
    pytest.importorskip("tokenizers")
    path = tmp_path / "v.json"
    path.write_text('{"level": "BPE", "tokenizer": {"model": 1}}')
    with pytest.raises(DataError, match="this is no vocabulary: tokenizers refuses it"):
        vocabularies.read(str(path))


def test_of_another_level(tmp_path):
    path = tmp_path / "vocabulary.json"
    path.write_text('{"level": "BYTE"}')
    with pytest.raises(DataError) as caught:
        vocabularies.read(str(path), "CHAR")
    assert str(caught.value) == (
        f"{path}: the vocabulary is of level BYTE, level: CHAR is asked for\n"
        "  Leave level out, or make another vocabulary with caffepy convert-text --level."
    )
    with pytest.raises(DataError, match=r'cannot read the vocabulary: No such file or directory\n.*"vocabulary\.json"'):
        vocabularies.read(str(tmp_path / "vocabulry.json"))
