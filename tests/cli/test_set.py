"""--set: fields that a run has otherwise than its files."""

from __future__ import annotations

import re

import pytest

from caffepy.cli import main
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import NetParameter, SolverParameter
from caffepy.solver import resume_file

NET = """layer { name: "data" type: "DummyData" top: "x" top: "y"
  dummy_data_param { shape { dim: 4 dim: 3 } shape { dim: 4 } } }
layer { name: "drop" type: "Dropout" bottom: "x" top: "d" include { phase: TRAIN } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 2 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "y" top: "loss" }
layer { name: "more" type: "SoftmaxWithLoss" bottom: "d" bottom: "y" top: "more" include { phase: TRAIN } }
"""
SOLVER = """net: "net.prototxt" max_iter: 2 lr_policy: "fixed" base_lr: 0.01
test_iter: 1 test_interval: 2 solver_type: SGD solver_mode: CPU
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_training_has_what_was_set(folder, capfd):
    words = ["base_lr=0.05", "type=Adam", "net.layer.ip.inner_product_param.num_output=5"]
    main(["train", "--solver", "solver.prototxt", *(arg for word in words for arg in ("--set", word))])
    log = capfd.readouterr().err
    for line in ("Set base_lr = 0.05", "Set net.layer.ip.inner_product_param.num_output = 5", 'type: "Adam"'):
        assert line in log
    remembered = resume_file.read("solver_iter_2.resume")
    assert remembered["set"] == words
    main(["show", "solver_iter_2.caffemodel"])
    assert "5x3" in capfd.readouterr().out


def test_a_resume_says_where_other_things_are_set(folder, capfd):
    main(["train", "--solver", "solver.prototxt", "--set", "base_lr=0.05"])
    main(["train", "--solver", "solver.prototxt", "--resume", "--set", "base_lr=0.05"])
    assert "was written with" not in capfd.readouterr().err
    main(["train", "--solver", "solver.prototxt", "--resume"])
    assert "solver_iter_2.resume: it was written with --set base_lr=0.05" in capfd.readouterr().err


def test_what_one_command_sets_another_does_not_have(folder, capfd):
    main(["show", "--set", "base_lr=0.05", "solver.prototxt"])
    assert text.read_solver("solver.prototxt").base_lr == pytest.approx(0.01)


def test_show_prints_the_definition_as_it_will_run(folder, capsys):
    main(["show", "--set", "type=Adam", "solver.prototxt"])
    shown = text.parse(capsys.readouterr().out, SolverParameter())
    assert shown.type == "Adam" and shown.net == "net.prototxt" and not shown.HasField("solver_type")
    main(["show", "--set", "net.layer.*.dropout_param.dropout_ratio=0.3", "solver.prototxt"])
    shown = text.parse(capsys.readouterr().out, SolverParameter())
    assert not shown.net and shown.net_param.layer[1].dropout_param.dropout_ratio == pytest.approx(0.3)
    for path in ("net.layer.ip.type", "layer.ip.type"):
        main(["show", "--set", f"{path}=Embed", "net.prototxt"])
        assert text.parse(capsys.readouterr().out, NetParameter()).layer[2].type == "Embed"


def test_the_nets_of_train_and_test_may_be_two(folder, capsys):
    (folder / "test.prototxt").write_text(re.sub("layer [^\n]*TRAIN.*\n", "", NET))
    (folder / "two.prototxt").write_text(
        SOLVER.replace('net: "net.prototxt"', 'train_net: "net.prototxt" test_net: "test.prototxt"')
    )
    main(["show", "--set", "net.layer.drop.dropout_param.dropout_ratio=0.3", "two.prototxt"])
    shown = text.parse(capsys.readouterr().out, SolverParameter())
    assert [layer.name for layer in shown.test_net_param[0].layer] == ["data", "ip", "loss"]
    assert shown.train_net_param.layer[1].dropout_param.dropout_ratio == pytest.approx(0.3)


@pytest.mark.parametrize("command", ["test", "time"])
def test_commands_of_a_net(command, folder, capfd):
    weights = []
    if command == "test":
        main(["train", "--solver", "solver.prototxt", "--set", "net.layer.ip.inner_product_param.num_output=5"])
        weights = ["--weights", "solver_iter_2.caffemodel"]
    set_ = ["--set", "layer.ip.inner_product_param.num_output=5"]
    main([command, "--model", "net.prototxt", *weights, "--iterations", "1", *set_])
    assert "Set layer.ip.inner_product_param.num_output = 5" in capfd.readouterr().err


def test_places_in_the_file_stay(folder, capfd):
    with pytest.raises(SystemExit):
        main(["train", "--solver", "solver.prototxt", "--set", "net.layer.ip.inner_product_param.num_output=0"])
    assert 'net.prototxt:4:1: layer "ip": ' in capfd.readouterr().err


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("base_lr", '"base_lr" is no setting\n  Write PATH=VALUE, for example base_lr=0.05.'),
        ("base_lrr=1", '--set base_lrr=1: no field "base_lrr" in SolverParameter\n  Did you mean "base_lr"?'),
        ("net.layer.ipp.type=1", '--set net.layer.ipp.type=1: no layer is called "ipp"\n  Did you mean "ip"?'),
        ("net.layer.*.lrn_param.alpha=1",
         '--set net.layer.*.lrn_param.alpha=1: no layer of "*" has lrn_param.alpha'),
        ("net.layer.ip.inner_product_param.num_output=many",
         "--set net.layer.ip.inner_product_param.num_output=many: layer.ip.inner_product_param.num_output takes a "
         'whole number of 32 bits, at least 0, got "many"'),
    ],
)  # fmt: skip
def test_wrong_settings(word, message, folder, capfd):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--solver", "solver.prototxt", "--set", word])
    assert stop.value.code == 1
    assert capfd.readouterr().err.endswith(f"error: {message}\n")
    assert sorted(path.name for path in folder.iterdir()) == ["net.prototxt", "solver.prototxt"]
