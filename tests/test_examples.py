"""The README's promises: `make lenet` reaches 98 %, its Python lines run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from caffepy.cli import main

ROOT = Path(__file__).parents[1]


@pytest.fixture
def digits(tmp_path, monkeypatch):
    """A folder with models/lenet in it and the databases of the shipped digits."""
    lenet = tmp_path / "models" / "lenet"
    lenet.mkdir(parents=True)
    for path in (ROOT / "models" / "lenet").glob("*.prototxt"):
        (lenet / path.name).write_bytes(path.read_bytes())
    source = ROOT / "models" / "lenet" / "digits"
    monkeypatch.chdir(tmp_path)
    for name in ("train", "test"):
        files = [str(source / f"{name}-{kind}-ubyte.gz") for kind in ("images-idx3", "labels-idx1")]
        main(["convert-mnist", *files, str(lenet / f"mnist_{name}_lmdb")])
    return tmp_path


def accuracy(capfd) -> float:
    return float(re.findall(r"\] accuracy = (\S+)", capfd.readouterr().err)[-1])


def test_a_short_training_learns(digits, capfd):
    solver = digits / "models/lenet/lenet_solver.prototxt"
    solver.write_text(re.sub(r"max_iter: \d+", "max_iter: 150", solver.read_text()))
    main(["train", "--solver", str(solver)])
    model = "models/lenet/lenet_train_test.prototxt"
    main(
        [
            "test",
            "--model",
            model,
            "--weights",
            "models/lenet/lenet_iter_150.caffemodel",
            "--iterations",
            "20",
        ]
    )
    assert accuracy(capfd) > 0.9


@pytest.mark.slow
def test_the_recipe_of_make_lenet(digits, capfd):
    main(["train", "--solver", "models/lenet/lenet_solver.prototxt"])
    model = "models/lenet/lenet_train_test.prototxt"
    main(
        [
            "test",
            "--model",
            model,
            "--weights",
            "models/lenet/lenet_iter_2000.caffemodel",
            "--iterations",
            "20",
        ]
    )
    assert accuracy(capfd) >= 0.98
