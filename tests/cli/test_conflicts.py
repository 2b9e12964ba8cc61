"""caffepy conflicts, on two tasks that pull one weight apart."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from click.testing import CliRunner

from caffepy.cli import cli, main
from caffepy.engine import get_engine
from caffepy.proto import text
from caffepy.show.conflicts import ALL, watch

FILL = 'weight_filler { type: "constant" value: 0.5 } bias_term: false'
NET = f"""
layer {{ name: "in" type: "DummyData" top: "x" top: "up" top: "down"
        dummy_data_param {{ shape {{ dim: 4 dim: 1 }} data_filler {{ value: 1 }} data_filler {{ value: 1 }}
                            data_filler {{ value: VALUE }} shape {{ dim: 4 dim: 1 }} shape {{ dim: 4 dim: 1 }} }} }}
layer {{ name: "shared" type: "InnerProduct" bottom: "x" top: "y" inner_product_param {{ num_output: 1 {FILL} }} }}
layer {{ name: "up" type: "EuclideanLoss" bottom: "y" bottom: "up" top: "up_loss" }}
layer {{ name: "down" type: "EuclideanLoss" bottom: "y" bottom: "down" top: "down_loss" }}
"""
SOLVER = 'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" momentum: 0 max_iter: 9 snapshot: 2 snapshot_prefix: "s"'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    (tmp_path / "net.prototxt").write_text(NET.replace("VALUE", "-1"))
    return tmp_path


def found(iterations: int = 10):
    return watch(text.read_solver("solver.prototxt"), iterations, get_engine("numpy"))


def test_tasks_that_conflict(folder):
    conflicts = found()
    assert list(conflicts.grams) == ["shared", ALL] and conflicts.tasks == ["up_loss", "down_loss"]
    np.testing.assert_allclose(conflicts.cosines("shared", 0, 1), -1, rtol=1e-6)
    # The gradients at w = 0.5 are w - 1 and w + 1.
    np.testing.assert_allclose(conflicts.norms(ALL)[0], [0.5, 1.5])
    # Alone w goes to its own target, 0.9 of the way left each time; together to 0.
    steps = 0.9 ** np.arange(10)
    np.testing.assert_allclose(conflicts.alone[0, :, 0], (0.5 * steps) ** 2 / 2, rtol=1e-4)
    np.testing.assert_allclose(conflicts.alone[1, :, 1], (1.5 * steps) ** 2 / 2, rtol=1e-4)
    np.testing.assert_allclose(conflicts.together[:, 0], (1 - 0.5 * 0.8 ** np.arange(10)) ** 2 / 2, rtol=1e-4)


def test_tasks_that_agree(folder):
    (folder / "net.prototxt").write_text(NET.replace("VALUE", "1"))
    conflicts = found()
    np.testing.assert_allclose(conflicts.cosines(ALL, 0, 1), 1, rtol=1e-6)
    assert "up_loss would not gain alone" in conflicts.table()


def test_what_is_printed(folder):
    result = CliRunner().invoke(cli, ["conflicts", "--solver", "solver.prototxt", "--iterations", "4"])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "up_loss and down_loss, 4 iterations"
    assert lines[1].split() == ["layer", "cosine", "conflicting", "norm", "of", "up_loss", "norm", "of", "down_loss"]
    assert lines[2].split()[:3] == ["shared", "-1.000", "100.0%"]
    assert lines[3].split()[:4] == ["all", "shared", "-1.000", "100.0%"]
    assert lines[-2].startswith("up_loss would gain alone: ") and lines[-1].startswith("down_loss would gain alone")
    assert sorted(path.name for path in folder.iterdir()) == ["net.prototxt", "solver.prototxt"]


def test_a_picture(folder):
    pytest.importorskip("matplotlib")
    assert CliRunner().invoke(cli, ["conflicts", "--solver", "solver.prototxt", "--plot", "c.png"]).exit_code == 0
    assert (folder / "c.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_cannot_be_is_refused_before_the_training(folder, capsys, monkeypatch):
    monkeypatch.setattr("caffepy.show.conflicts.watch", lambda *_: pytest.fail("it trains"))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit):
        main(["conflicts", "--solver", "solver.prototxt", "--plot", "c.png"])
    assert "--plot needs the package matplotlib" in capsys.readouterr().err


def test_a_net_with_one_loss(folder, capsys):
    whole = NET.replace("VALUE", "-1")
    (folder / "net.prototxt").write_text(whole[: whole.index('layer { name: "down"')])
    with pytest.raises(SystemExit):
        main(["conflicts", "--solver", "solver.prototxt"])
    assert 'solver.prototxt: multi_task needs two losses or more, "up_loss" is there' in capsys.readouterr().err
