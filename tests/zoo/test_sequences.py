"""The zoo's nets of sequences: their scripts make data, they learn a little of small ones, and resume to the bit."""

from __future__ import annotations

import random
import runpy
import shutil
import string
from pathlib import Path

import numpy as np
import pytest

import caffepy
from caffepy.cli import main
from caffepy.proto import text

ROOT = Path(__file__).parents[2]
PRINTED = string.printable[:95] + "\n"
"""The characters of the corpus, 96."""


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """A folder with the nets of sequences in models."""
    for name in ("adding", "captioning", "char_gru", "char_rnn", "gpt_mini", "sentence_cnn", "seq_tagging"):
        ignored = shutil.ignore_patterns("text", "data", "pictures", "*.caffemodel", "*.solverstate*")
        shutil.copytree(ROOT / "models" / name, tmp_path / "models" / name, ignore=ignored)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def script(path):
    """The names of a script of the zoo."""
    return runpy.run_path(str(ROOT / "models" / path))


def solver(path, iterations):
    """A solver of the zoo that stops early and tests on two batches."""
    param = text.read_solver(Path("models", path))
    param.max_iter, param.display = iterations, 0
    param.test_iter[0], param.test_interval = 2, iterations
    return caffepy.get_solver(param)


def characters(name):
    """Text of all characters, for a net of them."""
    letters = random.Random(1).choices(PRINTED, k=400)
    Path("text.txt").write_text(PRINTED + "".join(letters) * 40)
    main(["convert-text", "text.txt", f"models/{name}/text", "--split", "75,25"])


@pytest.mark.parametrize("name", ["char_rnn", "char_gru", "gpt_mini"])
def test_characters(zoo, name, capsys):
    characters(name)
    built = solver(f"{name}/solver.prototxt", 4)
    built.step(1)
    first = float(built.net.blobs["loss"].data)
    assert first == pytest.approx(np.log(97), rel=0.2)
    built.step(3)
    assert float(built.net.blobs["loss"].data) < first
    built.snapshot()
    capsys.readouterr()
    weights = f"models/{name}/{name}_iter_4.caffemodel"
    line = ["generate", "--model", f"models/{name}/deploy.prototxt", "--weights", weights, "--prompt", "def "]
    main([*line, "--length", "70", "--seed", "1"])
    made = capsys.readouterr().out
    assert made.startswith("def ") and len(made) == 4 + 70 + 1
    main([*line, "--length", "5", "--beam", "3"])
    assert len(capsys.readouterr().out) == 4 + 5 + 1


@pytest.mark.parametrize("name", ["char_rnn", "gpt_mini"])
def test_a_resumed_training_ends_in_the_same_bits(zoo, name):
    characters(name)
    built = solver(f"{name}/solver.prototxt", 4)
    built.step(2)
    built.snapshot()
    built.step(2)
    again = solver(f"{name}/solver.prototxt", 4)
    again.restore(f"models/{name}/{name}_iter_2.solverstate")
    again.step(2)
    for key, blobs in built.net.params.items():
        for a, b in zip(blobs, again.net.params[key]):
            assert np.array_equal(a.data, b.data), key


@pytest.mark.parametrize("kind", ["", "gru_"])
def test_adding(zoo, kind):
    made = script("adding/problem.py")
    sequences, sums = made["problems"](100, 3)
    assert sequences.shape == (100, 100, 2)
    assert (sequences[:, :50, 1].sum(1) == 1).all() and (sequences[:, 50:, 1].sum(1) == 1).all()
    assert np.allclose((sequences[..., 0] * sequences[..., 1]).sum(1), sums[:, 0])
    made["write"](Path("models/adding/data"), "train", 60, 1)
    made["write"](Path("models/adding/data"), "test", 60, 2)
    built = solver(f"adding/{kind}solver.prototxt", 3)
    built.step(3)
    net = built.test_nets[0]
    net.forward()
    error = net.blobs["score"].data - net.blobs["sum"].data
    assert float(net.blobs["mse"].data) == pytest.approx(float((error**2).mean()), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["", "gru_"])
def test_the_adding_problem_is_solved(zoo, kind):
    made = script("adding/problem.py")
    made["write"](Path("models/adding/data"), "train", 50000, 1)
    made["write"](Path("models/adding/data"), "test", 2000, 2)
    built = caffepy.get_solver(f"models/adding/{kind}solver.prototxt")
    built.solve()
    assert built.iter == 3000 and built.scores["mse"] < 0.001


def test_tagging(zoo):
    made = script("seq_tagging/roles.py")
    line = next(line for line in made["lines"](made["LIBRARY"] / "textwrap.py") if line[0].string == "def")
    assert made["tagged"](line).startswith("def __init__ ( self , width = <number> ,")
    assert made["tagged"](line).split("\t")[1].startswith("KEYWORD DEFINED OP NAME OP NAMED OP NUMBER OP")
    found = [made["tagged"](line) for line in made["lines"](made["LIBRARY"] / "argparse.py") if made["fits"](line)]
    words = " ".join(f"word{i}" for i in range(2000))  # for a full vocabulary
    Path("text.txt").write_text("".join(f"{line}\n" for line in [*found, f"{words}\t{'NAME ' * 2000}"]))
    main(["convert-text", "text.txt", "models/seq_tagging/text", "--labels", "TOKEN", "--vocab-size", "2000"])
    shutil.copy("models/seq_tagging/text/train.h5", "models/seq_tagging/text/test.h5")
    built = solver("seq_tagging/solver.prototxt", 3)
    built.step(3)
    assert built.net.blobs["score"].shape[2] == 11
    caffepy.Net("models/seq_tagging/deploy.prototxt", caffepy.TEST)


def test_sentences(zoo):
    made = script("sentence_cnn/packages.py")
    found = [f"{line}\t{name}\n" for name in ("logging", "xml") for line in made["sentences"](made["LIBRARY"] / name)]
    assert len(found) > 800 and not any("logging" in line.split("\t")[0] for line in found)
    words = " ".join(f"word{i}" for i in range(4000))
    others = [f"{words}\t{name}\n" for name in made["PACKAGES"]]
    Path("text.txt").write_text("".join(found + others))
    line = ["convert-text", "text.txt", "models/sentence_cnn/text", "--labels", "SENTENCE", "--level", "WORD"]
    main([*line, "--vocab-size", "4000"])
    shutil.copy("models/sentence_cnn/text/train.h5", "models/sentence_cnn/text/test.h5")
    built = solver("sentence_cnn/solver.prototxt", 2)
    built.step(2)
    assert built.net.blobs["score"].shape[1] == 8
    deploy = caffepy.Net("models/sentence_cnn/deploy.prototxt", caffepy.TEST)
    deploy.share_trained_layers_with(built.net)
    tokens = np.arange(16)
    assert deploy.forward(data=tokens[None])["prob"].shape == (1, 8)


def test_captions(zoo):
    made = script("captioning/shapes.py")
    assert len({*made["CAPTIONS"]}) == 24 + 288
    made["main"](Path("models/captioning/pictures"), count=160)
    built = solver("captioning/solver.prototxt", 8)
    built.step(1)
    first = float(built.net.blobs["loss"].data)
    built.step(7)
    assert float(built.net.blobs["loss"].data) < first
    deploy = caffepy.Net("models/captioning/deploy.prototxt", caffepy.TEST)
    deploy.share_trained_layers_with(built.net)
    picture = made["drawn"]("a big red circle", np.random.default_rng(1))
    deploy.blobs["image"].data[...] = picture
    known = "models/captioning/pictures/vocabulary.json"
    for choice in ({"temperature": 0}, {"beam": 3}):
        assert len(deploy.generate("", 10, vocabulary=known, stop="\n", **choice).split()) <= 10
