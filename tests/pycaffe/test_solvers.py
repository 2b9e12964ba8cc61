"""pycaffe's solvers and its settings of the process."""

from __future__ import annotations

import logging
import subprocess
import sys
import time

import numpy as np
import pytest

import caffepy as caffe
from caffepy import engine as engines
from caffepy.errors import CaffeError, ConfigError, SnapshotError
from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.pycaffe import mode as process
from caffepy.solver.rules import find_rule
from tests.support import ENGINES, assert_close

NET = """
layer { name: "data" type: "DummyData" top: "x" top: "y" dummy_data_param {
  shape { dim: 4 dim: 3 } shape { dim: 4 dim: 1 }
  data_filler { type: "gaussian" } data_filler { type: "gaussian" } } }
layer { name: "w" type: "InnerProduct" bottom: "x" top: "w"
  inner_product_param { num_output: 1 weight_filler { type: "gaussian" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "w" bottom: "y" top: "loss" }
"""

TYPES = ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"]


@pytest.fixture
def write(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET)

    def write(more: str = "") -> str:
        path = tmp_path / "solver.prototxt"
        path.write_text(
            f'net: "{tmp_path}/net.prototxt" base_lr: 0.01 lr_policy: "fixed" random_seed: 1 max_iter: 5\n'
            f'snapshot_prefix: "{tmp_path}/s" {more}\n'
        )
        return str(path)

    return write


@pytest.fixture(autouse=True)
def settings_restored(monkeypatch):
    monkeypatch.delenv("CAFFEPY_ENGINE", raising=False)
    for name in ("_device", "_gpu", "_solver_count", "_solver_rank"):
        monkeypatch.setattr(process, name, getattr(process, name))
    yield
    engines.choose_default(None)


def weights(solver):
    return [blob.data.copy() for blob in solver.net.params["w"]]


# Classes


@pytest.mark.parametrize("name", TYPES)
def test_get_solver_chooses_the_class(write, name):
    path = write(f'type: "{name}"')
    solver = caffe.get_solver(path)
    assert type(solver) is getattr(caffe, f"{name}Solver")
    assert isinstance(solver, caffe.Solver)
    param = SolverParameter(type=name, net=solver.param.net)
    assert type(caffe.get_solver(param)) is type(solver)


@pytest.mark.parametrize("name", TYPES)
def test_a_class_overrides_the_files_type(write, name):
    other = "Adam" if name == "SGD" else "SGD"
    solver = getattr(caffe, f"{name}Solver")(write(f'type: "{other}"'))
    assert solver.param.type == name and solver.rule is find_rule(SolverParameter(type=name))
    same = caffe.get_solver(write(f'type: "{name}"'))
    for each in (solver, same):
        caffe.set_random_seed(7)
        each.step(3)
    assert_close(solver.smoothed_loss.value, same.smoothed_loss.value)


def test_the_class_of_an_old_definition(write):
    assert type(caffe.get_solver(write("solver_type: ADAGRAD"))) is caffe.AdaGradSolver


def test_wrong_definitions(write, tmp_path):
    path = write('type: "SDG"')
    with pytest.raises(ConfigError) as caught:
        caffe.get_solver(path)
    assert str(caught.value) == f'{path}:2:77: unknown solver type "SDG"\n  Did you mean "SGD"?'
    with pytest.raises(CaffeError, match="absent"):
        caffe.SGDSolver(str(tmp_path / "absent.prototxt"))


# What is on a solver


@pytest.mark.parametrize("engine", ENGINES)
def test_nets_iter_step_and_param(write, engine):
    solver = caffe.SGDSolver(write("test_iter: 2 test_interval: 100"), engine=engines.get_engine(engine))
    assert isinstance(solver.net, caffe.Net) and solver.net.phase == caffe.TRAIN
    assert [net.phase for net in solver.test_nets] == [caffe.TEST]
    assert solver.iter == 0 and solver.max_iter == solver.param.max_iter == 5
    assert solver.param.base_lr == pytest.approx(0.01)
    assert solver.param.display == 0 and solver.param.layer_wise_reduce is True
    solver.step(2)
    assert solver.iter == 2
    solver.step(1)
    assert solver.iter == 3
    for a, b in zip(weights(solver), solver.test_nets[0].params["w"]):  # tested at iteration 0: shared since
        np.testing.assert_array_equal(a, b.data)
    assert sorted(solver.net.forward()) == sorted(solver.net.outputs) == ["loss"]
    assert solver.test_nets[0].forward(start="w")["loss"] >= 0


def test_solve_snapshot_and_restore(write, tmp_path):
    solver = caffe.get_solver(write("momentum: 0.9"))
    solver.solve()
    assert solver.iter == 5
    assert (tmp_path / "s_iter_5.caffemodel").exists()
    solver.snapshot()
    again = caffe.get_solver(write("momentum: 0.9"))
    again.restore(str(tmp_path / "s_iter_5.solverstate"))
    assert again.iter == 5
    for a, b in zip(weights(solver), weights(again)):
        np.testing.assert_array_equal(a, b)
    for each in (solver, again):
        caffe.set_random_seed(3)
        each.step(2)
    for a, b in zip(weights(solver), weights(again)):
        np.testing.assert_array_equal(a, b)
    third = caffe.get_solver(write())
    third.solve(str(tmp_path / "s_iter_5.solverstate"))
    assert third.iter == 5
    with pytest.raises(SnapshotError, match="absent"):
        third.restore(str(tmp_path / "absent.solverstate"))


def test_callbacks_come_before_the_passes_and_before_the_update(write):
    solver = caffe.get_solver(write())
    calls = []
    start = weights(solver)[0]

    def started():
        calls.append(("start", solver.iter, bool(solver.net.params["w"][0].diff.any())))

    def ready():
        unchanged = np.array_equal(weights(solver)[0], start)
        calls.append(("ready", solver.iter, bool(solver.net.params["w"][0].diff.any()), unchanged))

    solver.add_callback(started, ready)
    solver.step(2)
    assert calls == [("start", 0, False), ("ready", 0, True, True), ("start", 1, False), ("ready", 1, True, False)]
    with pytest.raises(ConfigError, match=r"^add_callback takes two functions\n"):
        solver.add_callback(started)


def test_share_weights_and_apply_update(write, tmp_path):
    solver = caffe.SGDSolver(write())
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    solver.share_weights(net)
    solver.net.params["w"][0].data[...] = 3
    assert (net.params["w"][0].data == 3).all()
    solver.net.params["w"][0].diff[...] = 10
    solver.apply_update()
    assert_close(net.params["w"][0].data, np.full((1, 3), 2.9))
    assert solver.iter == 0


# The process


def test_random_seed(write, tmp_path):
    def filled():
        caffe.set_random_seed(11)
        return caffe.Net(str(tmp_path / "net.prototxt"), caffe.TRAIN).params["w"][0].data

    write()
    np.testing.assert_array_equal(filled(), filled())


def test_layer_type_list():
    types = list(caffe.layer_type_list())
    assert types == sorted(types) and {"Convolution", "Python", "SoftmaxWithLoss"} <= set(types)


def test_constants_and_version():
    assert (caffe.TRAIN, caffe.TEST) == (0, 1)
    assert isinstance(caffe.__version__, str)
    from caffepy.proto import caffe_pb2

    assert caffe.proto.caffe_pb2 is caffe_pb2


def test_modes_choose_the_engine(monkeypatch):
    asked = []

    def gpu(index):
        asked.append(index)
        return f"gpu {index}"

    monkeypatch.setattr(engines, "gpu_engine", gpu)
    caffe.set_device(2)
    assert engines.default_engine().name == "numpy" and asked == []
    caffe.set_mode_gpu()
    assert engines.default_engine() == "gpu 2"
    caffe.set_device(1)
    assert engines.default_engine() == "gpu 1"
    monkeypatch.setenv("CAFFEPY_ENGINE", "numpy")
    assert engines.default_engine().name == "numpy"
    caffe.set_mode_gpu()
    assert asked == [2, 1]
    monkeypatch.delenv("CAFFEPY_ENGINE")
    caffe.set_mode_cpu()
    assert engines.default_engine().name == "numpy"
    with pytest.raises(ConfigError, match=r"^a device has a number from 0, got -1$"):
        caffe.set_device(-1)


def test_without_a_gpu_the_mode_says_so():
    if engines.gpu_count():
        pytest.skip("there is a GPU")
    with pytest.raises(CaffeError, match=r"(?s)GPU.*\n  To compute on the CPU, call set_mode_cpu, or set"):
        caffe.set_mode_gpu()
    assert engines.default_engine().name == "numpy"
    assert caffe.has_nccl() is False


def test_several_processes(monkeypatch):
    assert (caffe.solver_count(), caffe.solver_rank()) == (1, 0)
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    assert (caffe.solver_count(), caffe.solver_rank()) == (4, 3)
    caffe.set_solver_count(2)
    caffe.set_solver_rank(1)
    caffe.set_multiprocess(True)
    assert (caffe.solver_count(), caffe.solver_rank()) == (2, 1)
    with pytest.raises(ConfigError, match=r"^at least one process trains, got 0$"):
        caffe.set_solver_count(0)
    with pytest.raises(ConfigError, match=r"^processes are numbered from 0, got -1$"):
        caffe.set_solver_rank(-1)


def test_log(capsys):
    logger = logging.getLogger("caffepy")
    kept = logger.handlers[:], logger.level, logger.propagate
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)
    try:
        caffe.log("silent")
        caffe.init_log()
        caffe.log("hello 100%")
        caffe.init_log(2)
        caffe.log("no more")
    finally:
        logger.handlers[:], level, logger.propagate = kept
        logger.setLevel(level)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("I") and line.endswith("] hello 100%")


def test_timer():
    timer = caffe.Timer()
    timer.start()
    time.sleep(0.01)
    timer.stop()
    assert 9 < timer.ms < 5000


@pytest.mark.parametrize("name", caffe.__all__)
def test_every_public_name_is_there(name):
    assert getattr(caffe, name) is not None


def test_only_public_names_are_there():
    assert set(caffe.__all__) <= set(dir(caffe))
    with pytest.raises(AttributeError, match=r"^module 'caffepy' has no attribute 'nett'$"):
        _ = caffe.nett


def test_importing_the_package_loads_nothing_heavy():
    code = "import caffepy, sys; print(sorted({'numpy', 'google', 'h5py', 'rich', 'click'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


NCCL_SCRIPT = """
import multiprocessing, sys
import numpy as np
import caffepy as caffe

def solve(proto, uid, rank):
    caffe.set_solver_count(2)
    caffe.set_solver_rank(rank)
    caffe.set_multiprocess(True)
    solver = caffe.SGDSolver(proto)
    caffe.set_random_seed(100 + rank)
    nccl = caffe.NCCL(solver, uid)
    nccl.bcast()
    solver.add_callback(nccl)
    if solver.param.layer_wise_reduce:
        solver.net.after_backward(nccl)
    solver.step(3)
    np.save(f"{proto}.{rank}.npy", solver.net.params["w"][0].data)

if __name__ == "__main__":
    uid = caffe.NCCL.new_uid()
    processes = [multiprocessing.Process(target=solve, args=(sys.argv[1], uid, rank)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
"""


@pytest.mark.skipif("torch" not in ENGINES, reason="needs PyTorch")
def test_pycaffes_script_for_several_devices(write, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(NCCL_SCRIPT)
    path = write()
    subprocess.run([sys.executable, str(script), path], check=True, timeout=120, capture_output=True)
    found = [np.load(f"{path}.{rank}.npy") for rank in range(2)]
    np.testing.assert_array_equal(*found)
