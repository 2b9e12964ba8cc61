"""caffepy check-layer: what it finds, what it prints, and its exit status."""

from __future__ import annotations

import sys

import pytest

from caffepy.cli import main

SOURCE = """
import caffepy
from caffepy.net.layer import Layer

class Plain:
    pass

class NotRegistered(Layer):
    pass

@caffepy.register_layer("OfCheck")
class OfCheck(Layer):
    slope: float = 2.0
    def reshape(self, bottom, top):
        top[0].reshape_like(bottom[0])
    def forward(self, bottom, top):
        top[0].data[...] = self.slope * bottom[0].data
    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = 2 * top[0].diff

class ForPycaffe(caffepy.Layer):
    def setup(self, bottom, top):
        self.slope, self.passes = float(self.param_str), 0
    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)
    def forward(self, bottom, top):
        self.passes += 1
        top[0].data[...] = self.slope * bottom[0].data + self.passes % 2
    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = self.slope * top[0].diff

class WithState(ForPycaffe):
    def state(self):
        return {"passes": self.passes}
    def set_state(self, state):
        self.passes = state["passes"]
"""


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    (tmp_path / "checked_layers.py").write_text(SOURCE)
    yield
    sys.modules.pop("checked_layers", None)


def run(capsys, *args) -> tuple[int, str, str]:
    status = 0
    try:
        main(["check-layer", *args])
    except SystemExit as stop:
        status = stop.code
    return status, *capsys.readouterr()


def table(out: str) -> dict[str, str]:
    """Check to outcome, of the numpy engine."""
    rows = [line.removeprefix("numpy").split("  ") for line in out.splitlines() if line.startswith("numpy")]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    return {name: outcome for name, outcome, *_ in cells}


@pytest.mark.parametrize("name", ["checked_layers.py:OfCheck", "checked_layers:OfCheck"])
def test_a_layer_of_ones_own(name, capsys):
    status, out, _ = run(capsys, name, "--engine", "numpy")
    assert (status, set(table(out).values())) == (0, {"passes"})
    assert out.endswith("\nnothing failed\n")
    status, out, _ = run(capsys, name, "--engine", "numpy", "--param", "slope: 3", "--bottom", "2,3")
    assert status == 1
    assert table(out)["gradient of bottom 0"] == "fails" and table(out)["shapes"] == "passes"
    assert out.endswith("\n1 of 5 checks failed\n")


def test_a_python_layer(capsys):
    status, out, _ = run(capsys, "checked_layers.py:ForPycaffe", "--param", "3", "--engine", "numpy")
    assert status == 1
    assert table(out)["exact resume"] == "fails"
    status, out, _ = run(capsys, "checked_layers.py:WithState", "--param", "3", "--engine", "numpy")
    assert (status, set(table(out).values())) == (0, {"passes"})


def test_a_layer_whose_setup_fails(capsys):
    status, out, err = run(capsys, "checked_layers.py:ForPycaffe", "--param", "steep", "--engine", "numpy")
    assert (status, err) == (1, "")
    assert out.startswith("numpy  setup  fails  ValueError: could not convert string to float: 'steep' At ")
    assert out.splitlines()[0].endswith("checked_layers.py:23.") and out.endswith("\n1 of 1 checks failed\n")


@pytest.mark.parametrize(
    "line",
    [
        "ReLU",
        "Convolution --param convolution_param{num_output:2,kernel_size:3}",
        "SoftmaxWithLoss",
        "Embed --param embed_param{num_output:2,input_dim:7} --bottom 4:index=7",
        "Log --bottom 4,3:positive",
        "Slice --tops 3 --bottom 2,3,4",
        "Dropout --phase TEST",
    ],
)
def test_caffes_own_layers(line, capsys):
    status, out, err = run(capsys, *line.split(), "--engine", "numpy")
    assert (status, err) == (0, "")
    assert table(out)["exact resume"] == "passes"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("checked_layers.py:OfChek", 'checked_layers.py: there is no class "OfChek"\n  Did you mean "OfCheck"?'),
        ("checked_layers.py:Plain", "checked_layers.py: Plain is no layer\n  It has "),
        (
            "checked_layers.py:NotRegistered",
            "checked_layers.py: no type is registered for NotRegistered\n  Write",
        ),
        ("checked_layer.py:OfCheck", 'checked_layer.py: there is no such file\n  Did you mean "checked_layers.py"?'),
        ("Relu", 'unknown layer type "Relu"\n  Did you mean "ReLU"?'),
        (
            "ReLU --bottom 2,x",
            '--bottom takes a shape, got "2,x"\n  For example: 2,3,4,5 or 8:index=10 or',
        ),
        ("ReLU --bottom 2:index", '--bottom takes a shape, got "2:index"'),
        (
            "ReLU --param relu_pram{}",
            '--param:1:1: no field "relu_pram" in LayerParameter\n  Did you mean "rel',
        ),
        ("checked_layers.py:OfCheck --param slop:1", "param_str:1:1: names and values are expected"),
        ("InnerProduct", "inner_product_param.num_output must be at least 1"),
    ],
)
def test_mistakes(line, message, capsys):
    status, out, err = run(capsys, *line.split())
    assert (status, out) == (1, "")
    assert err.startswith(f"error: {message}")
