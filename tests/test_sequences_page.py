"""docs/sequences.md: its commands run, one after the other, on less text and for fewer iterations."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import string
import sys
from pathlib import Path
from urllib import request as urlrequest

import pytest

import caffepy
from caffepy.cli import main

PAGE = (Path(__file__).parents[1] / "docs" / "sequences.md").read_text()
FIRST, _, SECOND = PAGE.partition("\n## Labelled sentences\n")
ITERATIONS = 2
LINES = 300


def commands(part: str) -> list[str]:
    return re.findall(r"^    ((?:caffepy|python) .*)$", part, re.MULTILINE)


def python(part: str) -> str:
    return re.findall(r"```python\n(.*?)```", part, re.DOTALL)[0]


def shorter(path: Path) -> None:
    """Less of what a script has written, with the same characters and labels; words enough for a full vocabulary."""
    lines = path.read_text().splitlines(keepends=True)
    kept = lines[:: max(1, len(lines) // LINES)]
    if "\t" in lines[0]:
        kept.append(" ".join(f"word{i}" for i in range(4000)) + "\tasyncio\n")
    else:
        kept.insert(0, string.printable[:95] + "\n")
    path.write_text("".join(kept))


def run(command: str, monkeypatch) -> None:
    program, *args = shlex.split(command)
    if program == "python":
        monkeypatch.setattr(sys, "argv", args)
        runpy.run_path(args[0], run_name="__main__")
        shorter(Path(args[1]))
        return
    if args[0] == "train":
        solver = Path(args[2])
        text = re.sub(r"max_iter: \d+", f"max_iter: {ITERATIONS}", solver.read_text())
        solver.write_text(re.sub(r"test_iter: \d+", "test_iter: 1", text))
    if args[0] == "convert-text":
        args[args.index("90,10")] = "60,40"  # enough to test on
    main(args)
    if args[0] == "train":  # the weights are called as those of the whole training
        folder = Path(args[2]).parent
        (made,) = folder.glob(f"*_iter_{ITERATIONS}.caffemodel")
        (wanted,) = {*re.findall(rf"{folder}/\w+_iter_\d+\.caffemodel", PAGE)}
        made.rename(wanted)


def test_a_text_that_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for command in commands(FIRST):
        run(command, monkeypatch)
    out = capsys.readouterr().out
    assert "Return the " in out and out.count("def ") >= 2
    exec(python(FIRST), {"caffepy": caffepy})
    assert len(capsys.readouterr().out) == 201


def test_labelled_sentences(tmp_path, monkeypatch, capsys):
    pytest.importorskip("grpc")
    from tests.serve.running import served

    monkeypatch.chdir(tmp_path)
    (settings,) = re.findall(r"```prototxt\n# servable.prototxt\n(.*?)```", SECOND, re.DOTALL)
    Path("servable.prototxt").write_text(settings)
    *made, serve = commands(SECOND)
    for command in made:
        run(command, monkeypatch)
    assert "takes data (any, any)" in capsys.readouterr().out
    name, base = re.match(r"caffepy serve --model_name (\w+) --model_base_path (\S+) --port 8500", serve).groups()
    body, path = re.findall(r"^    curl -d '(.*)' localhost:8501(\S+)$", SECOND, re.MULTILINE)[0]
    with served(base, name) as running:
        exec(python(SECOND).replace("localhost:8500", running.grpc), {})
        answer = json.loads(urlrequest.urlopen(urlrequest.Request(running.rest + path, body.encode())).read())
    assert capsys.readouterr().out == "(1, 8)\n"
    labels = Path("my_cnn/text/labels.txt").read_text().split()
    assert len(labels) == 8 and {label for label, _ in answer["results"][0]} < {*labels}
