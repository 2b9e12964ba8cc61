"""Text from prompts: in Python and by the command, the same for the same seed; what does not fit is told."""

from __future__ import annotations

import logging

import pytest
from click.testing import CliRunner

from caffepy.cli import cli, main
from caffepy.data.texts import vocabulary as vocabularies
from caffepy.errors import ConfigError, DataError
from caffepy.generate import texts
from caffepy.proto import text
from tests.generate import small

KNOWN = vocabularies.learn("CHAR", "abcde\n")  # seven tokens
DATA = 'layer { name: "t" type: "TextData" top: "data" top: "cont" text_data_param { source: "t.txt" batch_size: 1 '
DATA += "time_steps: 2 } }"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A net for deployment, and weights of one that was trained by the vocabulary in the folder."""
    monkeypatch.chdir(tmp_path)
    vocabularies.write("vocabulary.json", KNOWN)
    (tmp_path / "t.txt").write_text("abcde")
    (tmp_path / "deploy.prototxt").write_text(text.to_text(small.definition("LSTM")))
    trained = small.definition("LSTM")
    del trained.layer[:2]
    trained.MergeFrom(text.parse(DATA, type(trained)()))
    trained.layer.insert(0, trained.layer.pop())
    from caffepy import TRAIN, Net, set_random_seed

    set_random_seed(1)
    Net(trained, TRAIN).save("w.caffemodel")
    return tmp_path


def run(*more):
    args = ["generate", "--model", "deploy.prototxt", "--weights", "w.caffemodel", *more]
    return CliRunner().invoke(cli, args, catch_exceptions=False)


def test_net_generate():
    net = small.net("LSTM")
    first = net.generate("ab", 30, vocabulary=KNOWN, seed=3)
    assert len(first) == 30 and set(first) <= set("abcde\n")
    assert net.generate("ab", 30, vocabulary=KNOWN, seed=3) == first
    assert net.generate("ab", 30, vocabulary=KNOWN, seed=4) != first
    best = net.generate("ab", 30, vocabulary=KNOWN, temperature=0)
    assert best == net.generate("ab", 30, vocabulary=KNOWN, top_k=1, seed=9)
    assert len(net.generate("ab", 5, vocabulary=KNOWN, beam=4)) == 5
    assert "c" not in net.generate("ab", 30, vocabulary=KNOWN, seed=3, stop="c")


def test_the_command_shows_the_prompt_and_the_text(folder):
    expected = small.net("LSTM").generate("ab", 30, vocabulary=KNOWN, seed=3)
    assert run("--prompt", "ab", "--length", "30", "--seed", "3").output == f"ab{expected}\n"
    best = small.net("LSTM").generate("ab", 8, vocabulary=KNOWN, beam=4)
    assert run("--prompt", "ab", "--length", "8", "--beam", "4").output == f"ab{best}\n"


def test_text_comes_as_it_is_made(folder):
    """A piece is there before the next step is made."""
    net = small.net("LSTM")
    made = texts.pieces(net, KNOWN, "ab", texts.TextRequest(length=10**9))
    assert all(len(next(made)) == 1 for _ in range(5))


def test_unknown_characters_are_replaced(folder, caplog):
    with caplog.at_level(logging.WARNING, "caffepy.generate"):
        assert small.net("LSTM").generate("axby", 3, vocabulary=KNOWN, seed=1) == small.net("LSTM").generate(
            "a\ufffdb\ufffd", 3, vocabulary=KNOWN, seed=1
        )
    assert caplog.messages[0] == "the vocabulary lacks 'x', 'y' of the prompt: read as \ufffd"


def test_an_empty_prompt_is_a_line_break(folder):
    net = small.net("LSTM")
    assert net.generate("", 9, vocabulary=KNOWN, seed=1) == net.generate("\n", 9, vocabulary=KNOWN, seed=1)


def test_bytes_come_as_whole_characters():
    decoder = texts.Decoder(vocabularies.ByteVocabulary(), [97])
    assert [decoder.add(byte) for byte in "Ä中b".encode()] == ["", "Ä", "", "", "中", "b"]
    assert decoder.add(0xE4) == ""
    assert decoder.rest() == "\ufffd"


def test_words_come_with_their_blanks():
    known = vocabularies.learn("WORD", "so it is .\n")
    decoder = texts.Decoder(known, known.encode("so").tolist())
    assert [decoder.add(token) for token in known.encode("it is.\nso")] == [" it", " is", ".", "\n", "so"]


def test_another_vocabulary(folder):
    with pytest.raises(DataError) as caught:
        small.net("LSTM").generate("a", 3, vocabulary=vocabularies.learn("CHAR", "ab"))
    assert str(caught.value) == (
        'the vocabulary has 3 tokens, the output "score" of the net 7\n'
        "  Give the vocabulary.json of the text that the weights were trained on."
    )


@pytest.mark.parametrize(
    "line, message",
    [
        (
            "--vocabulary other.json",
            "other.json: the weights were trained with another vocabulary\n  It was called vocabulary.json.",
        ),
        ("--temperature -1", "temperature must be at least 0, got -1"),
        ("--beam 2 --top-k 3", "beam search draws no tokens: temperature, top_k and top_p do nothing"),
        ("--stop xy", "stop must be one token of the vocabulary, 'xy' is 2"),
        ("--vocabulary no.json", "no.json: cannot read the vocabulary: No such file or directory"),
    ],
)
def test_refused(folder, capsys, line, message):
    vocabularies.write("other.json", vocabularies.learn("CHAR", "vwxyz\n"))
    with pytest.raises(SystemExit):
        main(["generate", "--model", "deploy.prototxt", "--weights", "w.caffemodel", *line.split()])
    assert capsys.readouterr().err.startswith(f"error: {message}\n")


def test_no_vocabulary_is_found(folder, capsys):
    (folder / "vocabulary.json").unlink()
    with pytest.raises(SystemExit):
        main(["generate", "--model", "deploy.prototxt", "--weights", "w.caffemodel"])
    assert "error: no vocabulary is found: neither the one that the weights name" in capsys.readouterr().err


def test_wanted():
    with pytest.raises(ConfigError, match="length must be at least 1, got 0"):
        texts.TextRequest(length=0)
    with pytest.raises(ConfigError, match="beam must be at least 1, got 0"):
        texts.TextRequest(beam=0)
