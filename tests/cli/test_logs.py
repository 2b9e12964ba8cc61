"""The lines that log parsers read, against the logs that Caffe printed for the same commands."""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil

import pytest

from caffepy.cli import main
from tests.support import GOLDEN

FOLDER = GOLDEN / "text"
COMMANDS = json.loads((FOLDER / "commands.json").read_text())
LOGS = [name for name in COMMANDS if name.startswith(("train", "test", "resume", "finetune"))]
TELLING = re.compile(
    r"Iteration \d+|net output #|Test loss|MultiStep|Gradient clipping|Snapshotting|Batch \d+|Loss:|Optimization|"
    r"\[Forward\]|\[Backward\]|Ignoring source|Solving|Learning Rate|^\S+ = "
)
SPEED = re.compile(r" \([-\d.e+infa]+ iter/s, [-\d.e+]+s/(\d+) iters\)")
NUMBER = re.compile(r"(?<![\w.])-?\d+\.?\d*(?:e[-+]?\d+)?(?![\w.])")
PREFIX = re.compile(r"[IWE]\d{4,8} \d\d:\d\d:\d\d\.\d{6} +\d+ [\w.]+:\d+\] (.*)")


def lines(text: str) -> list[str]:
    found = (PREFIX.match(line) for line in text.splitlines())
    return [SPEED.sub(r" (speed/\1 iters)", m[1]) for m in found if m and TELLING.search(m[1])]


def run(capfd, command: str) -> str:
    capfd.readouterr()
    main(shlex.split(command)[1:])
    return capfd.readouterr().err


@pytest.mark.parametrize("name", LOGS)
def test_lines_and_numbers_are_caffes(name, tmp_path, monkeypatch, capfd):
    for item in FOLDER.iterdir():
        (shutil.copytree if item.is_dir() else shutil.copy)(item, tmp_path / item.name)
    monkeypatch.chdir(tmp_path)
    if name == "resume_hdf5.log":  # resumes what this one snapshots
        run(capfd, COMMANDS["train_multistep_clip.log"]["command"])
    ours = lines(run(capfd, COMMANDS[name]["command"]))
    caffes = lines((FOLDER / name).read_text())
    assert [NUMBER.sub("#", line) for line in ours] == [NUMBER.sub("#", line) for line in caffes]
    for mine, theirs in zip(ours, caffes):
        for a, b in zip(NUMBER.findall(mine), NUMBER.findall(theirs)):
            assert math.isclose(float(a), float(b), rel_tol=1e-4, abs_tol=1e-6), (mine, theirs)
