"""Which run a snapshot is of: what --resume goes on with, what a new run sets apart, and who may write."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from caffepy.cli import main
from caffepy.errors import ConfigError
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.solver import Solver, lock, runs
from caffepy.solver import snapshot as snapshots

NET = """net_param {
  layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 4 dim: 3 }
    data_filler { type: "gaussian" } } }
  layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
    inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
  layer { name: "goal" type: "DummyData" top: "goal" dummy_data_param { shape { dim: 4 dim: 2 } } }
  layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "goal" top: "loss" } }"""
SOLVER = f'{NET} base_lr: 0.1 lr_policy: "fixed" snapshot_prefix: "snap" max_iter: 12 snapshot: 4 random_seed: 1'


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("solver.prototxt").write_text(SOLVER)


def solver(**fields: object) -> Solver:
    """With other fields than those of SOLVER."""
    param = text.parse(SOLVER, SolverParameter())
    for name, value in fields.items():
        getattr(param, name).extend(value) if isinstance(value, list) else setattr(param, name, value)
    return Solver(param, file="solver.prototxt")


def names(pattern: str = "snap_iter_*.solverstate*") -> list[str]:
    return sorted(str(path) for path in Path().glob(pattern))


def age(pattern: str, seconds: int) -> None:
    for path in Path().glob(pattern):
        os.utime(path, (path.stat().st_mtime - seconds,) * 2)


def without_identity() -> None:
    """As older versions wrote them: the content alone."""
    for path in Path().glob("*.resume"):
        content = json.loads(path.read_bytes())["content"]
        del content["run"]
        path.write_text(json.dumps(content))


def test_a_run_keeps_its_identity(caplog):
    solver().solve()
    first = {runs.of(f"snap_iter_{i}") for i in (4, 8, 12)}
    assert len(first) == 1
    resumed = solver(max_iter=16)
    resumed.solve("snap_iter_12.solverstate")
    assert {runs.of("snap_iter_16")} == first and "another run" not in caplog.text
    assert names() == [f"snap_iter_{i}.solverstate" for i in (12, 16, 4, 8)]
    assert runs.new().id != runs.new().id


def test_a_run_that_starts_anew_sets_others_apart(caplog):
    """Item 8: without a word the last run's were overwritten."""
    solver(snapshot_best="loss", test_iter=[1], test_interval=4).solve()
    before = {path.name: path.read_bytes() for path in Path().glob("snap_*")}
    assert len(before) == 4 * 3
    solver(max_iter=5).solve()
    assert names() == ["snap_iter_4.solverstate", "snap_iter_5.solverstate"] and not names("snap_best*")
    assert {path.name: path.read_bytes() for path in Path("snap_run_1").iterdir()} == before
    assert (
        "snap: snapshots of another run are now in snap_run_1, for this one starts anew; "
        "--snapshot snap_run_1/snap_iter_12.solverstate goes on with that" in caplog.text
    )
    solver(max_iter=4).solve()
    assert names() == ["snap_iter_4.solverstate"] and len(names("snap_run_2/*.solverstate")) == 2


def test_what_was_set_apart_goes_on_with_its_own_weights():
    """Though there are weights of their name where they were written."""
    solver().solve()
    expected = Path("snap_iter_12.caffemodel").read_bytes()
    solver(max_iter=8, base_lr=0.01).solve()
    assert Path("snap_iter_8.caffemodel").read_bytes() != Path("snap_run_1/snap_iter_8.caffemodel").read_bytes()
    solver().solve("snap_run_1/snap_iter_8.solverstate")
    assert Path("snap_iter_12.caffemodel").read_bytes() == expected
    assert names("snap_run_2/*.solverstate") == [
        "snap_run_2/snap_iter_4.solverstate",
        "snap_run_2/snap_iter_8.solverstate",
    ]


def test_weights_that_caffe_wrote_are_found_beside_their_state_too():
    solver().solve()
    without = Path("snap_run_1")
    expected = Path("snap_iter_8.caffemodel").read_bytes()
    for path in Path().glob("*.resume"):
        path.unlink()
    solver(max_iter=8, base_lr=0.01).solve()
    built = solver()
    built.restore(without / "snap_iter_8.solverstate")
    built.net.save("now.caffemodel")
    assert Path("now.caffemodel").read_bytes() == expected


def test_going_back_sets_what_was_ahead_apart(caplog):
    solver().solve()
    solver(max_iter=9).solve("snap_iter_8.solverstate")
    assert names() == ["snap_iter_4.solverstate", "snap_iter_8.solverstate", "snap_iter_9.solverstate"]
    assert names("snap_run_1/*.solverstate") == ["snap_run_1/snap_iter_12.solverstate"]
    assert "for this one goes on from iteration 8" in caplog.text


def test_what_a_killed_run_was_writing_is_no_other_run(caplog):
    solver().solve()
    Path("snap_iter_12.solverstate").unlink()  # which is renamed last
    solver().solve(snapshots.newest("snap"))
    assert names("snap*") == sorted(
        f"snap_iter_{i}.{kind}" for i in (4, 8, 12) for kind in ("caffemodel", "resume", "solverstate")
    )
    assert "another run" not in caplog.text


def test_weights_alone_are_set_apart_too():
    """Whose solver state somebody has removed to save space."""
    solver().solve()
    for path in [*Path().glob("*.solverstate"), *Path().glob("*.resume")]:
        path.unlink()
    kept = {path.name: path.read_bytes() for path in Path().glob("snap*")}
    assert list(kept) and all(name.endswith(".caffemodel") for name in kept)
    solver().solve()
    assert {path.name: path.read_bytes() for path in Path("snap_run_1").iterdir()} == kept


def test_nothing_is_moved_before_the_first_snapshot():
    solver().solve()
    before = names("snap*")
    built = solver()
    built.step(3)
    assert names("snap*") == before
    built.snapshot("elsewhere")
    assert [name for name in names("snap*") if name != "snap_iter_12"] == before
    built.step(1)
    assert names() == ["snap_iter_4.solverstate"]


def test_files_of_another_kind_stay_where_they_are():
    solver().solve()
    Path("snap_iter_99.caffemodel").write_text("my thesis")
    solver(snapshot=0, snapshot_after_train=False).solve()
    built = solver()
    built.step(4)
    assert Path("snap_iter_99.caffemodel").read_text() == "my thesis"
    assert len(list(Path("snap_run_1").iterdir())) == 9


# What --resume takes


def test_resume_takes_the_run_that_was_written_last(capsys):
    """Of a folder where runs were mixed, by an older version or by hand: not the highest iteration."""
    solver().solve()
    solver(max_iter=5, base_lr=0.01).solve()
    for path in Path("snap_run_1").iterdir():
        if not Path(path.name).exists():
            shutil.copy2(path, path.name)
    age("snap_iter_12*", 100)
    assert snapshots.newest("snap") == "snap_iter_5.solverstate"
    main(["train", "--solver", "solver.prototxt", "--resume"])
    assert f"Resuming from snap_iter_5.solverstate, of {runs.of('snap_iter_5')}\n" in capsys.readouterr().err
    assert runs.of("snap_iter_12") == runs.of("snap_iter_5") and len(names("snap_run_2/*")) == 6


def test_of_one_run_the_highest_iteration_counts_whatever_the_times_of_its_files():
    """Copies have those in any order."""
    solver().solve()
    age("snap_iter_12*", 100)
    assert snapshots.newest("snap") == "snap_iter_12.solverstate"


def test_snapshots_without_identity_go_by_time():
    solver().solve()
    without_identity()
    age("snap_iter_12*", 100)
    age("snap_iter_4*", 200)
    assert snapshots.newest("snap") == "snap_iter_8.solverstate"
    built = solver()
    built.solve("snap_iter_8.solverstate")
    assert runs.of("snap_iter_8") is None and runs.of("snap_iter_12")
    assert names() == ["snap_iter_12.solverstate", "snap_iter_4.solverstate", "snap_iter_8.solverstate"]


@pytest.mark.parametrize("run", [5, {}, {"id": 5, "begun": ""}, {"id": "x"}])
def test_an_identity_that_is_none_is_refused(run):
    solver().solve()
    content = json.loads(Path("snap_iter_12.resume").read_bytes())["content"]
    Path("snap_iter_12.resume").write_text(json.dumps(content | {"run": run}))
    assert runs.of("snap_iter_12") is None
    assert snapshots.newest("snap") == "snap_iter_8.solverstate"


# Two at the same time

HOLDS = """
import sys
from caffepy.solver import lock
lock.take(sys.argv[1])
print("taken", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other():
    """Another process that trains with this prefix."""
    run = subprocess.Popen([sys.executable, "-c", HOLDS, "snap"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert run.stdout.readline() == b"taken\n"
    yield run
    run.kill()
    run.communicate()


def test_the_second_refuses(other, capsys):
    solver().net.save("snap_iter_3.caffemodel")
    with pytest.raises(SystemExit) as stop:
        main(["train", "--solver", "solver.prototxt"])
    assert stop.value.code == 1 and names("snap*") == ["snap_iter_3.caffemodel"]
    assert capsys.readouterr().err.endswith(
        f'error: solver.prototxt: another process ({other.pid}) trains with the snapshot_prefix "snap"\n'
        "  Wait for it, stop it, or set another snapshot_prefix: two would mix their files.\n"
    )


def test_a_script_that_steps_is_refused_at_its_snapshots(other, caplog):
    built = solver()
    built.step(5)
    assert built.iter == 5 and not names("snap*")
    assert "Iteration 4: no snapshot was written, training goes on: another process" in caplog.text
    with pytest.raises(ConfigError, match="another process"):
        built.snapshot()


def test_another_prefix_is_free(other):
    solver(snapshot_prefix="snapper").solve()


def test_a_killed_process_leaves_no_lock(other):
    other.kill()
    other.wait()
    assert Path(".snap.lock").exists()
    solver().solve()
    assert not Path(".snap.lock").exists()


def held() -> list[str]:
    """The locks of this test's folder: a solver of another test may still be there."""
    return [path for path in lock._held if Path(path).parent == Path.cwd()]


def test_one_process_may_have_several_solvers():
    first, second = solver(), solver()
    first.step(4)
    second.step(4)
    del first
    assert Path(".snap.lock").exists()
    second.solve()
    assert not Path(".snap.lock").exists() and not held()


def test_on_a_full_disk_the_lock_has_no_number(monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(lock.os, "write", full)
        release = lock.take("snap")
    assert Path(".snap.lock").read_bytes() == b"" and held()
    release()
    assert not Path(".snap.lock").exists()


def test_where_no_lock_can_be_had_training_goes_on(monkeypatch):
    monkeypatch.setattr(lock.os, "open", lambda *args: (_ for _ in ()).throw(OSError(30, "Read-only file system")))
    release = lock.take("snap")
    assert held()
    release()
    assert not held()
