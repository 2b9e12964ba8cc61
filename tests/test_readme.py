"""The README's promises: `make lenet` reaches 98 %; its Python lines, and those of the page on pycaffe, run."""

from __future__ import annotations

import itertools
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest

import caffepy as caffe
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


def snippet(page: Path, start: str) -> str:
    """The indented lines of a page that begin with `start`."""
    lines = page.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith(f"    {start}"))
    block = itertools.takewhile(lambda line: not line or line.startswith("    "), lines[first:])
    return textwrap.dedent("\n".join(block))


def accuracy(weights: str, capfd) -> float:
    model = "models/lenet/lenet_train_test.prototxt"
    main(["test", "--model", model, "--weights", weights, "--iterations", "20"])
    return float(re.findall(r"\] accuracy = (\S+)", capfd.readouterr().err)[-1])


def test_a_short_training_learns(digits, capfd):
    solver = digits / "models/lenet/lenet_solver.prototxt"
    solver.write_text(re.sub(r"max_iter: \d+", "max_iter: 150", solver.read_text()))
    main(["train", "--solver", str(solver)])
    assert accuracy("models/lenet/lenet_iter_150.caffemodel", capfd) > 0.9

    (digits / "models/lenet/lenet_iter_150.caffemodel").rename("models/lenet/lenet_iter_2000.caffemodel")
    found = {}
    exec(snippet(ROOT / "README.md", "import caffepy").replace("step(100)", "step(2)"), found)
    assert found["solver"].iter == 2 and found["net"].params["conv1"]


def test_the_lines_of_the_page_on_pycaffe(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(
        """
        layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 10 dim: 4 } } }
        layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 10 } } }
        layer { name: "score" type: "InnerProduct" bottom: "data" top: "score" inner_product_param { num_output: 3 } }
        layer { name: "prob" type: "Softmax" bottom: "score" top: "prob" }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
        """
    )
    x, y = np.random.default_rng(1).normal(size=(100, 4)), np.arange(100) % 3
    names = {"images": x, "labels": y, "test_images": x, "test_labels": y, "caffe": caffe}
    exec(snippet(ROOT / "docs" / "pycaffe.md", "net = caffe.Net"), names)
    assert names["probabilities"].shape == (100, 3)
    assert len(names["history"]["val_loss"]) == 5 and "loss" in capsys.readouterr().out


@pytest.mark.slow
def test_the_recipe_of_make_lenet(digits, capfd):
    main(["train", "--solver", "models/lenet/lenet_solver.prototxt"])
    assert accuracy("models/lenet/lenet_iter_2000.caffemodel", capfd) >= 0.98
