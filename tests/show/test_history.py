"""Logs of Caffe and ours: their numbers as CSV, and as curves."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from caffepy.cli import main
from caffepy.errors import DataError
from caffepy.show import curves
from caffepy.show.history import logs_in, read_log

GOLDEN = Path(__file__).parents[1] / "golden" / "text"
LINE = "I0101 00:00:0{second}.5 1 solver.cpp:1] {text}"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def log(*texts: str) -> str:
    Path("a.log").write_text("".join(LINE.format(second=i % 10, text=text) + "\n" for i, text in enumerate(texts)))
    return "a.log"


def test_a_log_of_caffe_as_csv(capsys):
    main(["parse-log", str(GOLDEN / "train.log"), ".", "--verbose"])
    assert capsys.readouterr().out.replace("./", "") == "Wrote train.log.train\nWrote train.log.test\n"
    rows = [line.split(",") for line in Path("train.log.train").read_text().splitlines()]
    assert rows[0] == ["NumIters", "Seconds", "LearningRate", "loss"]
    assert [row[0] for row in rows[1:]] == ["0.0", "2.0", "4.0", "6.0"]
    # The rate of a row is the last one printed before it; of the first, before which there is none, the second's.
    assert [row[2] for row in rows[1:]] == ["0.02", "0.02", "0.0174439", "0.0155394"]
    assert [row[3] for row in rows[1:]] == ["1.54094", "1.30231", "1.19731", "1.10759"]
    assert float(rows[2][1]) - float(rows[1][1]) == pytest.approx(0.923880 - 0.923695)
    assert Path("train.log.test").read_text().splitlines()[0] == "NumIters,Seconds,LearningRate,accuracy,loss"
    assert [line.split(",")[3] for line in Path("train.log.test").read_text().splitlines()[1:]] == [
        "0.25",
        "0.5",
        "0.666667",
    ]


def test_several_test_nets_have_rows_of_their_own():
    found = read_log(GOLDEN / "train_two_test_nets.log")
    first, second = found.test[:2]
    assert first["NumIters"] == second["NumIters"] == 0
    assert first["prob"] != 0.33196 and list(first)[3:] == ["prob"] and list(second)[3:] == ["accuracy", "loss"]


def test_what_a_resumed_run_repeats_counts():
    begun = ["Solving", "Iteration 0, loss = 3", "Iteration 2, loss = 2", "    Train net output #0: loss = 2"]
    again = ["Solving", "Iteration 2, loss = 1.5", "    Train net output #0: loss = 1.5", "Iteration 4, loss = nan"]
    found = read_log(log(*begun, *again))
    assert found.losses[:2] == [(0, 3), (2, 1.5)] and math.isnan(found.losses[2][1])
    assert [row["loss"] for row in found.train] == [1.5]


def test_time_goes_on_over_new_year():
    Path("y.log").write_text(
        "I1231 23:59:59.0 1 s:1] Solving x\nI0101 00:00:01.5 1 s:1] Iteration 1, loss = 1\n"
        "I0101 00:00:01.5 1 s:1]     Train net output #0: loss = 1\n"
    )
    assert read_log("y.log").train[0]["Seconds"] == 2.5


def test_curves_in_characters(capsys):
    log("Solving", *(f"Iteration {i}, loss = {100 - i}" for i in (0, 50, 100)))
    main(["plot", "a.log", "--text"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "loss"
    marks = {(row, line.index("*") - 12) for row, line in enumerate(lines[1:11]) if "*" in line}
    assert marks == {(0, 0), (4, 32), (9, 63)} or marks == {(0, 0), (5, 32), (9, 63)}
    assert lines[1].startswith("       100 |*") and lines[-1].strip() == "* loss: 0"


def test_runs_in_one_picture(capsys):
    pytest.importorskip("matplotlib")
    main(["plot", str(GOLDEN / "train.log"), str(GOLDEN / "train_two_test_nets.log"), "--output", "c.png"])
    assert Path("c.png").read_bytes().startswith(b"\x89PNG") and capsys.readouterr().out == "drawn to c.png\n"
    runs = [read_log(GOLDEN / "train.log"), read_log(GOLDEN / "train_two_test_nets.log")]
    found = curves.panels(runs)
    assert list(found) == ["loss", "accuracy", "learning rate", "prob"]
    assert {curve.label for curve in found["accuracy"]} == {
        "train: test accuracy", "train_two_test_nets: test accuracy"
    }  # fmt: skip


def test_a_folder_holds_logs():
    log("Iteration 1")
    assert [path.name for path in logs_in(".")] == ["a.log"]
    with pytest.raises(DataError, match=r"there is no \.log in this folder"):
        logs_in(Path("empty").mkdir() or "empty")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("trian.log", 'trian.log: cannot read the log: No such file or directory\n  Did you mean "train.log"?'),
        ("a.log", "a.log: this is no log of a training: it tells of no iteration"),
    ],
)
def test_what_is_no_log(name, message):
    log("nothing")
    Path("train.log").touch()
    with pytest.raises(DataError) as caught:
        read_log(name)
    assert str(caught.value) == message


SOLVER = """net_param { layer { name: "w" type: "Parameter" top: "w" parameter_param { shape { dim: 1 dim: 1 } } }
  layer { name: "goal" type: "DummyData" top: "goal" dummy_data_param { shape { dim: 1 dim: 1 } } }
  layer { name: "loss" type: "EuclideanLoss" bottom: "w" bottom: "goal" top: "loss" } }
base_lr: 0.1 lr_policy: "fixed" max_iter: 4 display: 2 snapshot_prefix: "run" """


@pytest.mark.parametrize(("option", "name"), [([], "run.log"), (["--log", "other.log"], "other.log")])
def test_train_writes_its_log(option, name, capsys):
    Path("s.prototxt").write_text(SOLVER)
    main(["train", "--solver", "s.prototxt", *option])
    assert Path(name).read_text() == capsys.readouterr().err.replace("\r", "")
    assert [i for i, _ in read_log(name).losses] == [0, 2, 4]
    main(["train", "--solver", "s.prototxt", "--resume", *option])
    assert Path(name).read_text().count("Initializing solver from parameters") == 2


def test_a_log_that_cannot_be_written_ends_nothing(capsys):
    Path("s.prototxt").write_text(SOLVER)
    main(["train", "--solver", "s.prototxt", "--log", "nowhere/x.log"])
    assert "nowhere/x.log: the log cannot be written here: No such file or directory" in capsys.readouterr().err
    assert Path("run_iter_4.caffemodel").exists()


def test_no_log():
    Path("s.prototxt").write_text(SOLVER)
    main(["train", "--solver", "s.prototxt", "--log", "-"])
    assert not list(Path().glob("*.log")) and not Path("-").exists()
