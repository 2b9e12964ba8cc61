"""Training in several processes gives what one process gives with the whole batch."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from caffepy.distributed.group import Group
from caffepy.distributed.launch import WorkerLostError, launch
from caffepy.distributed.member import Agreement, attach
from caffepy.errors import CaffeError, ConfigError
from caffepy.net import weights
from caffepy.proto.blobs import proto_to_array
from caffepy.solver import Action
from tests.support import assert_close

NET = """
layer {{ name: "data" type: "HDF5Data" top: "data" top: "label"
  hdf5_data_param {{ source: "list.txt" batch_size: {batch} }} }}
layer {{ name: "ip1" type: "InnerProduct" bottom: "data" top: "ip1"
  inner_product_param {{ num_output: 5 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "tanh" type: "TanH" bottom: "ip1" top: "ip1" }} {more}
layer {{ name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
  inner_product_param {{ num_output: 2 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "EuclideanLoss" bottom: "ip2" bottom: "label" top: "loss" }}
"""
SOLVER = """net: "net{n}.prototxt" base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.01
max_iter: {iterations} display: 1 random_seed: 1 snapshot: 4 snapshot_prefix: "out{n}" solver_mode: CPU {more}
"""
DROPOUT = 'layer { name: "drop" type: "Dropout" bottom: "ip1" top: "ip1" }'
FATAL = """
layer { name: "fatal" type: "Python" bottom: "ip1" top: "ip1" python_param { module: "fatal" layer: "Fatal" } }
"""
FATAL_LAYER = """
import os, signal, caffe

class Fatal(caffe.Layer):
    count = 0

    def setup(self, bottom, top):
        pass

    def reshape(self, bottom, top):
        pass

    def forward(self, bottom, top):
        self.count += 1
        first_try = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
        if self.count == 7 and os.environ["RANK"] == "1" and first_try:
            os.kill(os.getpid(), signal.SIGKILL)

    def backward(self, top, propagate_down, bottom):
        pass
"""
TORCHRUN = ["-m", "torch.distributed.run", "--standalone"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    with h5py.File("data.h5", "w") as file:
        file["data"], file["label"] = (random.standard_normal((24, k)).astype("f4") for k in (4, 2))
    Path("list.txt").write_text("data.h5\n")
    Path("fatal.py").write_text(FATAL_LAYER)
    for name in ("OMP_NUM_THREADS", "CAFFEPY_THREADS"):
        monkeypatch.setenv(name, "1")
    return tmp_path


def write(n: int, more: str = "", layers: str = "", iterations: int = 10) -> None:
    Path(f"net{n}.prototxt").write_text(NET.format(batch=12 // n, more=layers))
    Path(f"solver{n}.prototxt").write_text(SOLVER.format(n=n, more=more, iterations=iterations))


def train(n: int, engine: str, *options: str, start: list[str] | None = None) -> subprocess.CompletedProcess:
    """`caffepy train` in n processes, which `start` starts; by default our own launcher."""
    arguments = ["train", "--solver", f"solver{n}.prototxt", "--engine", engine, *options]
    ours = f"from caffepy.distributed import launch; launch.launch({n}, {arguments!r})"
    command = ["-m", "caffepy", *arguments] if n == 1 else ["-c", ours]
    if start is not None:
        command = [*start, f"--nproc-per-node={n}", "-m", "caffepy", *arguments]
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=120, check=False)


def trained(path: str) -> list[np.ndarray]:
    return [proto_to_array(blob) for layer in weights.read_weights(path).layer for blob in layer.blobs]


def check_as_one_process(folder: Path, n: int, engine: str, more: str = "", start: list[str] | None = None) -> None:
    for count in (1, n):
        write(count, more)
        run = train(count, engine, start=start if count > 1 else None)
        assert run.returncode == 0, run.stderr
    for ours, reference in zip(trained(f"out{n}_iter_10.caffemodel"), trained("out1_iter_10.caffemodel")):
        assert_close(ours, reference, 1e-5)
    assert run.stderr.count("Iteration 3 (") == 1  # one process logs
    assert run.stderr.count("Testing net") == (2 if "test" in more else 0)  # and tests
    assert not list(folder.glob("*.tmp"))


def test_two_processes_equal_one(folder):
    check_as_one_process(folder, 2, "torch", "test_iter: 2 test_interval: 10")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "numpy"])
@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("more", ["", "layer_wise_reduce: false clip_gradients: 0.5", "iter_size: 2"])
def test_as_one_process_with_the_whole_batch(folder, engine, n, more):
    check_as_one_process(folder, n, engine, more)


TASK = """
layer { name: "ip3" type: "InnerProduct" bottom: "ip1" top: "ip3"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "other" type: "EuclideanLoss" bottom: "ip3" bottom: "label" top: "other" loss_weight: 3 }
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["UNCERTAINTY", "GRADNORM", "DWA", "PCGRAD", "CAGRAD"])
def test_several_tasks_as_one_process_with_the_whole_batch(folder, method):
    for n in (1, 2):
        write(n, f"multi_task {{ method: {method} }}", TASK)
        run = train(n, "torch")
        assert run.returncode == 0, run.stderr
    for ours, reference in zip(trained("out2_iter_10.caffemodel"), trained("out1_iter_10.caffemodel")):
        assert_close(ours, reference, 1e-4)


SHARED = """
layer { name: "same" type: "InnerProduct" bottom: "ip1" top: "same" param { name: "w" }
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "again" type: "InnerProduct" bottom: "same" top: "again" param { name: "w" }
  inner_product_param { num_output: 5 } }
"""


@pytest.mark.slow
def test_a_gradient_that_only_counts_is_the_mean_of_all_too(folder):
    """A parameter with lr_mult 0 in one of its layers is not updated, but its gradient counts in the norm."""
    layers = SHARED.replace('{ name: "w" }', '{ name: "w" lr_mult: 0 }', 1)
    for n in (1, 2):
        write(n, "clip_gradients: 0.5", layers)
        net = Path(f"net{n}.prototxt")
        net.write_text(net.read_text().replace('bottom: "ip1" top: "ip2"', 'bottom: "again" top: "ip2"'))
        run = train(n, "numpy")
        assert run.returncode == 0, run.stderr
    for ours, reference in zip(trained("out2_iter_10.caffemodel"), trained("out1_iter_10.caffemodel")):
        assert_close(ours, reference, 1e-5)


@pytest.mark.slow
def test_torchrun_equals_one_process(folder):
    check_as_one_process(folder, 2, "torch", start=TORCHRUN)


@pytest.mark.slow
def test_resume_is_exact_with_dropout(folder):
    write(2, layers=DROPOUT)
    assert train(2, "torch").returncode == 0
    straight = trained("out2_iter_10.caffemodel")
    for path in folder.glob("out2_iter_10*"):
        path.unlink()
    run = train(2, "torch", "--resume")
    assert run.returncode == 0 and "Resuming from out2_iter_8" in run.stderr, run.stderr
    for ours, reference in zip(trained("out2_iter_10.caffemodel"), straight):
        np.testing.assert_array_equal(ours, reference)


@pytest.mark.slow
def test_a_killed_process_stops_the_others(folder):
    write(3, layers=FATAL)
    run = train(3, "torch")
    assert run.returncode == 1
    assert "WorkerLostError: process 1 of 3 was killed by SIGKILL, so that the others were stopped" in run.stderr
    assert "error: process 0 of 3 has lost another one" in run.stderr
    assert "the last snapshot is out3_iter_4.solverstate" in run.stderr
    assert not Path("out3_iter_8.solverstate").exists()


@pytest.mark.slow
def test_torchrun_starts_again_from_the_newest_snapshot(folder):
    write(2, layers=FATAL)
    run = train(2, "torch", start=[*TORCHRUN, "--max-restarts=1"])
    assert run.returncode == 0, run.stderr
    assert "Resuming from out2_iter_4.solverstate" in run.stderr
    interrupted = trained("out2_iter_10.caffemodel")
    write(2)
    assert train(2, "torch").returncode == 0
    for ours, reference in zip(trained("out2_iter_10.caffemodel"), interrupted):
        np.testing.assert_array_equal(ours, reference)


def test_torchrun_starts_a_single_process_again_from_the_newest_snapshot(folder, monkeypatch):
    write(1, iterations=4)
    assert train(1, "numpy").returncode == 0
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    write(1, iterations=5)
    run = train(1, "numpy")
    assert run.returncode == 0 and "Resuming from out1_iter_4.solverstate" in run.stderr, run.stderr


LONG_TEST = """
import datetime, os
import torch.distributed as dist
import caffepy
from caffepy.distributed.group import Group
from caffepy.distributed.member import attach
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=2))
solver = caffepy.get_solver("solver2.prototxt")
slow = lambda i: __import__("time").sleep(0.2)
for net in solver.test_nets:
    net.before_forward(slow)
group = Group(gpu=False)
attach(group, solver)
solver.step(1)
print("done")
group.close()
"""


@pytest.mark.slow
def test_a_test_may_take_longer_than_the_others_wait(folder, monkeypatch):
    write(2, "test_iter: 5 test_interval: 10")
    Path("long_test.py").write_text(LONG_TEST)
    monkeypatch.setenv("CAFFEPY_ENGINE", "numpy")
    command = [sys.executable, *TORCHRUN, "--nproc-per-node=2", "long_test.py"]
    run = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0 and run.stdout.count("done") == 2, run.stderr


ASKED = """
import os

import caffepy
from caffepy.distributed.group import Group
from caffepy.distributed.member import attach
from caffepy.solver import Action, Listener

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # at once: print's pieces mix with the other's

class Ask(Listener):
    def update(self, solver):
        if group.rank == 1 and solver.iter == 3:
            solver.request(Action.SNAPSHOT)

    def test(self, solver):
        # Scores are the first process's, everywhere.
        say("scores", group.rank, solver.iter, len(solver.test_nets), sorted(solver.scores))
        if group.rank == 0 and solver.iter == 6:
            solver.stop()

    def snapshot(self, solver):
        say("heard", group.rank, solver.written, solver.last_snapshot)

    def batch(self, solver):
        if group.rank == 0 and solver.testing and solver.iter == 2:
            solver.request(Action.SNAPSHOT)

solver = caffepy.get_solver("solver2.prototxt")
group = Group(gpu=False)
attach(group, solver)
solver.listeners.append(Ask())
solver.solve()
say("ended", group.rank, solver.iter, solver.stopped_early)
group.close()
"""


@pytest.mark.slow
def test_what_one_process_asks_for_all_do(folder, monkeypatch):
    write(2, 'test_iter: 2 test_interval: 2 early_stop { metric: "loss" patience: 100 }')
    Path("asked.py").write_text(ASKED)
    monkeypatch.setenv("CAFFEPY_ENGINE", "numpy")
    command = [sys.executable, *TORCHRUN, "--nproc-per-node=2", "asked.py"]
    run = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    for rank in (0, 1):
        assert f"ended {rank} 6 True" in run.stdout
        for iteration in (0, 2, 4, 6):
            assert f"scores {rank} {iteration} 1 ['loss']" in run.stdout
        for iteration in (2, 3, 4, 6):
            name = f"out2_iter_{iteration}.solverstate"
            assert run.stdout.count(f"heard {rank} {name} {name}\n") == 1
    written = {int(path.stem.rpartition("_")[2]) for path in folder.glob("out2_iter_*.solverstate")}
    assert written == {2, 3, 4, 6}


SHARES = """
import caffepy
from caffepy.distributed.group import Group
from caffepy.distributed.member import attach
solver = caffepy.get_solver("shuffled_solver.prototxt")
group = Group(gpu=False)
attach(group, solver)
rows = []
for _ in range(4):
    solver.net.forward()
    rows += solver.net.blobs["data"].data[:, 0].tolist()
print("rows", rows)
group.close()
"""


@pytest.mark.slow
def test_shuffled_shares_do_not_overlap_without_a_seed(folder, monkeypatch):
    net = NET.format(batch=3, more="").replace("batch_size: 3", "batch_size: 3 shuffle: true")
    Path("net.prototxt").write_text(net)
    Path("shuffled_solver.prototxt").write_text('net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" solver_mode: CPU')
    Path("shares.py").write_text(SHARES)
    monkeypatch.setenv("CAFFEPY_ENGINE", "numpy")
    command = [sys.executable, *TORCHRUN, "--nproc-per-node=2", "shares.py"]
    run = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    seen = [float(word) for word in re.findall(r"-?\d+\.\d+(?:e-\d+)?", run.stdout)]
    with h5py.File("data.h5") as file:
        assert sorted(seen) == sorted(file["data"][:, 0].tolist())


def processes_run(monkeypatch, program: str) -> None:
    """Instead of caffepy."""
    original = subprocess.Popen
    monkeypatch.setattr("subprocess.Popen", lambda command, **rest: original([sys.executable, "-c", program], **rest))


@pytest.mark.parametrize("code, says", [("raise SystemExit(3)", "ended with exit status 3")])
def test_the_launcher_says_which_process_failed(monkeypatch, code, says):
    # Instead of caffepy every process runs `code`, but for rank 0, which would wait for ever.
    program = f"import os, time\nif os.environ['RANK'] == '1': {code}\ntime.sleep(60)"
    monkeypatch.setattr("caffepy.distributed.launch._PATIENCE", 0.1)
    processes_run(monkeypatch, program)
    with pytest.raises(CaffeError, match=f"process 1 of 2 {says}, so that the others were stopped"):
        launch(2, ["train"])


def test_the_first_signal_is_passed_on_once(monkeypatch, tmp_path):
    program = f"""
import os, signal, sys, time
from pathlib import Path
heard = []
signal.signal(signal.SIGINT, lambda *_: heard.append(1))
Path({str(tmp_path)!r}, "ready" + os.environ["RANK"]).touch()
while not heard:
    time.sleep(0.01)
time.sleep(0.2)
sys.exit(0 if len(heard) == 1 else 9)
"""
    processes_run(monkeypatch, program)

    def interrupt() -> None:
        while len(list(tmp_path.glob("ready*"))) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    launch(2, ["train"])


def test_a_signal_while_processes_start_reaches_all(monkeypatch, tmp_path):
    program = f"""
import os, signal, sys, time
from pathlib import Path
heard = []
signal.signal(signal.SIGHUP, lambda *_: heard.append(1))
Path({str(tmp_path)!r}, "ready" + os.environ["RANK"]).touch()
for _ in range(500):
    time.sleep(0.01)
    if heard:
        sys.exit(0)
sys.exit(9)
"""
    original, missed = subprocess.Popen, []
    before = signal.signal(signal.SIGHUP, lambda *_: missed.append(1))

    def start(command, **options):
        process = original([sys.executable, "-c", program], **options)
        while not Path(tmp_path, f"ready{options['env']['RANK']}").exists():
            time.sleep(0.01)
        if options["env"]["RANK"] == "0":
            os.kill(os.getpid(), signal.SIGHUP)
        return process

    monkeypatch.setattr("subprocess.Popen", start)
    try:
        launch(2, ["train"])
    finally:
        signal.signal(signal.SIGHUP, before)
    assert not missed


def test_a_killed_launcher_leaves_nothing_behind():
    started = "launch.end_with_launcher(); launch.os.write(1, b'ready\\n'); launch.time.sleep(60)"
    worker = f"from caffepy.distributed import launch; {started}"
    program = f"""
import subprocess, sys
from caffepy.distributed.launch import launch
original = subprocess.Popen
subprocess.Popen = lambda command, **rest: original([sys.executable, "-c", {worker!r}], **rest)
launch(2, ["train"])
"""
    pipe = subprocess.PIPE
    launcher = subprocess.Popen([sys.executable, "-c", program], stdout=pipe, stderr=pipe, text=True)
    assert [launcher.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
    launcher.kill()
    # All that have the other ends of these pipes are gone, or this would wait for 60 seconds.
    assert launcher.communicate(timeout=30) == ("", "error: the process that started this one is gone\n" * 2)


def test_processes_on_different_devices_are_refused(monkeypatch):
    store, ranks = torch.distributed.HashStore(), [0, 1]
    monkeypatch.setattr(torch.distributed, "rendezvous", lambda method: iter([(store, ranks.pop(), 2)]))

    def join(gpu: bool) -> str:
        with pytest.raises(ConfigError) as caught:
            Group(gpu)
        return caught.value.message

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(join, [True, False])
    assert first == second
    orders = ("a GPU", "the CPU"), ("the CPU", "a GPU")
    assert first in [f"process 0 computes on {one}, but process 1 on {other}" for one, other in orders]


def test_a_first_process_that_cannot_be_reached(monkeypatch):
    def rendezvous(method):
        raise torch.distributed.DistNetworkError("The client socket has timed out\nException raised from here:\n#0 ...")

    monkeypatch.setattr(torch.distributed, "rendezvous", rendezvous)
    monkeypatch.setenv("MASTER_ADDR", "nowhere")
    monkeypatch.setenv("MASTER_PORT", "29500")
    with pytest.raises(WorkerLostError) as caught:
        Group(gpu=False)
    assert caught.value.message == (
        "the first process cannot be reached at nowhere:29500: The client socket has timed out"
    )


@pytest.fixture
def group():
    """One of two processes, without the other."""
    group = Group.__new__(Group)
    group._torch, group.rank, group.size, group.last_snapshot = torch, 0, 2, lambda: ""
    return group


def test_a_decision_is_what_any_process_was_asked_for(group):
    others = torch.tensor([0, 1])
    group._decisions = None
    group._dist = SimpleNamespace(
        ReduceOp=SimpleNamespace(MAX=max), all_reduce=lambda mine, op, group: mine.copy_(torch.maximum(mine, others))
    )
    requests = Agreement(group, Action.SNAPSHOT)
    assert requests.decide() == Action.SNAPSHOT | Action.STOP
    assert requests.decide() == Action.STOP
    requests.add(Action.SNAPSHOT)
    assert requests.take_in_test() == Action.NONE  # there the first process is alone: the others would not hear of it
    assert requests.take() == Action.SNAPSHOT


def test_only_a_lost_process_is_called_one(group):
    def fail(error):
        raise error

    with pytest.raises(torch.OutOfMemoryError):
        group._call(fail, torch.OutOfMemoryError("CUDA out of memory"))
    lost = "process 0 of 2 has lost another one, or cannot talk to it: Connection closed"
    with pytest.raises(WorkerLostError, match=lost):
        group._call(fail, RuntimeError("Connection closed"))


def test_different_nets_are_refused(group):
    solver = SimpleNamespace(net=SimpleNamespace(learnable_params=[]))
    group.from_first, group.any = lambda value: [(3, 2)], lambda condition: condition
    with pytest.raises(ConfigError, match="the processes train different nets"):
        attach(group, solver)
