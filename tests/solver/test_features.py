"""Rules, policies and what goes beyond Caffe, against closed forms on a net of one weight vector."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest

from caffepy.engine import get_engine
from caffepy.errors import ConfigError, NotFiniteError, SnapshotError
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import EarlyStopParameter, SolverParameter
from caffepy.pycaffe.solvers import Solver
from caffepy.solver import policies, solverstate
from caffepy.solver.rules import find_rule
from caffepy.solver.watch import EarlyStop
from tests.support import ENGINES

# loss = sum((w - 3)^2) / 2 with w = (0, 0) at first: the gradient is w - 3.
NET = """net_param { layer { name: "w" type: "Parameter" top: "w" parameter_param { shape { dim: 1 dim: 2 } } %s }
  layer { name: "goal" type: "DummyData" top: "goal"
    dummy_data_param { shape { dim: 1 dim: 2 } data_filler { value: 3 } } }
  layer { name: "loss" type: "EuclideanLoss" bottom: "w" bottom: "goal" top: "loss" } }"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def solver(fields: str, engine: str = "numpy", param: str = "") -> Solver:
    definition = f'{NET % param} base_lr: 0.1 lr_policy: "fixed" max_iter: 100 {fields}'
    return Solver(text.parse(definition, SolverParameter()), engine=get_engine(engine), file="solver.prototxt")


def weight(built: Solver) -> float:
    values = built.engine.to_host(built.net.params["w"][0].data)
    assert values[0, 0] == values[0, 1]
    return float(values[0, 0])


def reference(rule: str, steps: int, m=0.9, rate=0.1, delta=1e-8) -> float:
    """The rules in double precision, from their papers."""
    w = h = h2 = 0.0
    for t in range(1, steps + 1):
        g = w - 3
        if rule == "SGD":
            h = m * h + rate * g
            w -= h
        elif rule == "Nesterov":
            new = m * h + rate * g
            w -= (1 + m) * new - m * h
            h = new
        elif rule == "AdaGrad":
            h += g * g
            w -= rate * g / (math.sqrt(h) + delta)
        elif rule == "RMSProp":
            h = 0.99 * h + 0.01 * g * g
            w -= rate * g / (math.sqrt(h) + delta)
        elif rule == "AdaDelta":
            h = m * h + (1 - m) * g * g
            u = g * math.sqrt((h2 + delta) / (h + delta))
            h2 = m * h2 + (1 - m) * u * u
            w -= rate * u
        elif rule == "Adam":
            h = m * h + (1 - m) * g
            h2 = 0.999 * h2 + 0.001 * g * g
            w -= rate * math.sqrt(1 - 0.999**t) / (1 - m**t) * h / (math.sqrt(h2) + delta)
    return w


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rule", ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"])
def test_rules(rule, engine):
    momentum = "" if rule in ("AdaGrad", "RMSProp") else "momentum: 0.9"
    built = solver(f'type: "{rule}" {momentum}', engine)
    built.step(7)
    assert weight(built) == pytest.approx(reference(rule, 7), rel=1e-4)


@pytest.mark.parametrize(
    "fields, expected",
    [
        ("", 0.3),
        ("clip_value: 2", 0.2),
        ("clip_gradients: 1", 0.1 / math.sqrt(2)),
    ],
)
def test_first_step(fields, expected):
    built = solver(fields)
    built.step(1)
    assert weight(built) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("reg, pull", [("L2", 1.5), ("L1", 1.0)])
def test_weight_decay(reg, pull):
    built = solver(f'weight_decay: 0.5 regularization_type: "{reg}"', param="param { decay_mult: 2 lr_mult: 0.5 }")
    built.net.params["w"][0].data[...] = 1.5
    built.step(1)
    assert weight(built) == pytest.approx(1.5 - 0.05 * (1.5 - 3 + pull), rel=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_adamw_is_adam_with_decoupled_decay(engine):
    fields = "momentum: 0.9 weight_decay: 0.5"
    ours = solver(f'type: "AdamW" {fields}', engine)
    other = solver(f'type: "Adam" decoupled_weight_decay: true {fields}', engine)
    for each in (ours, other):
        each.step(5)
    assert weight(ours) == weight(other) != 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("decay", [0, 0.01])
def test_lamb(engine, decay):
    """In double precision, from the paper: both weights of the net are the same, so |w| / |u| is w / u of one."""
    built = solver(f'type: "LAMB" momentum: 0.9 weight_decay: {decay}', engine)
    w = 1.5
    built.net.params["w"][0].data[...] = w
    built.step(6)
    m = v = 0.0
    for t in range(1, 7):
        g = w - 3
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        u = (m / (1 - 0.9**t)) / (math.sqrt(v / (1 - 0.999**t)) + 1e-8) + decay * w
        w -= 0.1 * abs(w / u) * u
    assert weight(built) == pytest.approx(w, rel=1e-5)


def test_lamb_from_zero_takes_the_step_as_it_is():
    built = solver('type: "LAMB" momentum: 0.9')
    built.step(1)
    assert weight(built) == pytest.approx(0.1, rel=1e-5)


def test_frozen_layers_keep_their_weights_and_need_no_backward():
    built = solver('freeze: "w*" type: "AdamW" momentum: 0.9 weight_decay: 0.1')
    built.net.params["w"][0].data[...] = 2
    built.step(3)
    assert weight(built) == 2
    assert not any(node.need_backward for node in built.net.nodes)


def test_what_is_frozen_must_be_there():
    with pytest.raises(ConfigError) as caught:
        solver('freeze: "v*"')
    assert str(caught.value).startswith('solver.prototxt: freeze: no layer is called "v*"')


def test_decoupled_weight_decay_stays_out_of_the_rule():
    fields = 'type: "Adam" momentum: 0.9 weight_decay: 0.5'
    built, plain = solver(f"{fields} decoupled_weight_decay: true"), solver('type: "Adam" momentum: 0.9')
    for each in (built, plain):
        each.net.params["w"][0].data[...] = 2
        each.step(1)
    assert weight(built) == pytest.approx(weight(plain) - 0.1 * 0.5 * 2, rel=1e-5)


def one_cycle(it: int, total: int, rise: float, first: float, last: float) -> float:
    """A maximum of 0.1 at iteration rise * total - 1, a minimum at total - 1 (PyTorch's OneCycleLR)."""
    ups = np.interp(it, [0, rise * total - 1, total - 1], [math.pi, 2 * math.pi, 3 * math.pi])
    low = 0.1 / first if it <= rise * total - 1 else 0.1 / first / last
    return low + (0.1 - low) * (1 + math.cos(ups)) / 2


RATES = {
    'lr_policy: "fixed"': lambda it: 0.1,
    'lr_policy: "step" gamma: 0.5 stepsize: 3': lambda it: 0.1 * 0.5 ** (it // 3),
    'lr_policy: "exp" gamma: 0.9': lambda it: 0.1 * 0.9**it,
    'lr_policy: "inv" gamma: 0.1 power: 0.75': lambda it: 0.1 * (1 + 0.1 * it) ** -0.75,
    'lr_policy: "multistep" gamma: 0.5 stepvalue: 2 stepvalue: 5': lambda it: 0.1 * 0.5 ** ((it >= 2) + (it >= 5)),
    'lr_policy: "poly" power: 2 max_iter: 10': lambda it: 0.1 * (1 - it / 10) ** 2,
    'lr_policy: "sigmoid" gamma: 0.5 stepsize: 4': lambda it: 0.1 / (1 + math.exp(-0.5 * (it - 4))),
    'lr_policy: "cosine" max_iter: 10 min_lr: 0.02': lambda it: 0.02 + 0.08 * (1 + math.cos(math.pi * it / 10)) / 2,
    'lr_policy: "onecycle" max_iter: 10': lambda it: one_cycle(it, 10, 0.3, 25, 1e4),
    'lr_policy: "onecycle" max_iter: 10 onecycle { rise: 0.5 div_factor: 5 final_div_factor: 10 }': (
        lambda it: one_cycle(it, 10, 0.5, 5, 10)
    ),
    'lr_policy: "fixed" warmup_iter: 4 warmup_factor: 0.2': lambda it: 0.1 * min(1, 0.2 + 0.8 * it / 4),
}


@pytest.mark.parametrize("fields", RATES)
def test_policies(fields):
    p = text.parse(f"base_lr: 0.1 {fields}", SolverParameter())
    policies.check(p)
    step = 0
    for it in range(10):
        step = policies.next_step(p, it, step)
        assert policies.learning_rate(p, it, step) == pytest.approx(RATES[fields](it), rel=1e-6)


@pytest.mark.parametrize(
    "fields, iteration, rate",
    [
        ('lr_policy: "sigmoid" gamma: 0.1 stepsize: 10', 100000, 0.1),
        ('lr_policy: "sigmoid" gamma: 0.1 stepsize: 1000000', 0, 0),
        ('lr_policy: "exp" gamma: 1.1', 100000, math.inf),
        ('lr_policy: "poly" power: 2 max_iter: 10', 15, 0.1 * 0.5**2),
    ],
)
def test_policies_far_out(fields, iteration, rate):
    assert policies.learning_rate(
        text.parse(f"base_lr: 0.1 {fields}", SolverParameter()), iteration, 0
    ) == pytest.approx(rate, rel=1e-6, abs=1e-9)


def test_no_rate_beyond_max_iter():
    p = text.parse('base_lr: 0.1 lr_policy: "poly" power: 0.5 max_iter: 10', SolverParameter())
    assert policies.learning_rate(p, 10, 0) == 0
    with pytest.raises(ConfigError, match=r"poly with power 0\.5 has no rate beyond max_iter 10, at iteration 11"):
        policies.learning_rate(p, 11, 0)


@pytest.mark.parametrize(
    "fields, message",
    [
        ("", "lr_policy is not set"),
        ('lr_policy: "stp"', 'unknown lr_policy "stp"\n  Did you mean "step"'),
        ('lr_policy: "step"', "base_lr is not set"),
        ('lr_policy: "step" base_lr: 1', "needs a stepsize of at least 1"),
        ('lr_policy: "exp" base_lr: 1 gamma: -1', "needs gamma >= 0, got -1"),
        ('lr_policy: "poly" base_lr: 1', "needs a max_iter of at least 1"),
        ('lr_policy: "fixed" base_lr: 1 weight_decay: 1 regularization_type: "L3"', 'unknown regularization_type "L3"'),
    ],
)
def test_policy_refusals_of_an_update_alone(fields, message):
    """As a script makes it, which does not step."""
    built = solver("")
    built.param.Clear()
    built.param.MergeFrom(text.parse(fields, SolverParameter()))
    built.net.forward_backward()
    with pytest.raises(ConfigError, match=message):
        built.apply_update()


@pytest.mark.parametrize(
    ("fields", "iteration"),
    [
        ('lr_policy: "step" gamma: 1e30 stepsize: 1', 50),
        ('lr_policy: "poly" power: -2 max_iter: 5', 5),
        ('lr_policy: "inv" gamma: 1e30 power: -1000', 9),
    ],
)
def test_rates_beyond_all_numbers(fields, iteration):
    p = text.parse(f"base_lr: 0.1 {fields}", SolverParameter())
    assert policies.learning_rate(p, iteration, policies.next_step(p, iteration, 0)) == math.inf


@pytest.mark.parametrize(
    "fields, message",
    [
        ("", "lr_policy is not set"),
        ('lr_policy: "stp"', 'unknown lr_policy "stp"\n  Did you mean "step"'),
        ('lr_policy: "step"', "base_lr is not set"),
        ('lr_policy: "step" base_lr: 1', "needs a stepsize of at least 1"),
        ('lr_policy: "exp" base_lr: 1 gamma: -1', "needs gamma >= 0, got -1"),
        ('lr_policy: "poly" base_lr: 1', "needs a max_iter of at least 1"),
        ('lr_policy: "fixed" base_lr: 1 weight_decay: 1 regularization_type: "L3"', 'unknown regularization_type "L3"'),
    ],
)
def test_policy_refusals(fields, message):
    with pytest.raises(ConfigError, match=message):
        policies.check(text.parse(fields, SolverParameter()))


@pytest.mark.parametrize(
    "fields, message",
    [
        ('type: "Adm"', 'unknown solver type "Adm"\n  Did you mean "Adam"'),
        ('type: "AdaGrad" momentum: 0.9', "AdaGrad takes no momentum, got 0.9"),
        ('type: "RMSProp" rms_decay: 1.5', r"rms_decay must lie in \[0, 1\), got 1.5"),
        ('type: "Adam" momentum: 1', r"momentum of Adam must lie in \[0, 1\), got 1"),
        ('type: "Adam" momentum: 0.9 momentum2: 1.1', r"momentum2 of Adam must lie in \[0, 1\), got 1.1"),
    ],
)
def test_rule_refusals(fields, message):
    with pytest.raises(ConfigError, match=message):
        find_rule(text.parse(fields, SolverParameter()))


TESTED = 'test_iter: 1 test_interval: 2 snapshot_prefix: "snap"'


def test_debug_info_reaches_the_test_nets(caplog):
    built = solver("test_iter: 1 test_interval: 1 debug_info: true")
    with caplog.at_level("INFO", "caffepy"):
        built.test()
    assert "[Forward] Layer w, top blob w data: 0" in caplog.text


def test_a_test_of_no_batches_scores_nothing():
    built = solver("test_iter: 0 test_interval: 1 test_compute_loss: true")
    assert built.test() == {}
    built.step(2)


def test_early_stop():
    built = solver(f'{TESTED} early_stop {{ metric: "loss" patience: 3 min_delta: 100 }}')
    built.solve()
    assert built.stopped_early and built.iter == 6  # tested at 0 (best), 2, 4, 6
    with pytest.raises(ConfigError, match='no test output is called "los"\n  Did you mean "loss"'):
        solver(f'{TESTED} early_stop {{ metric: "los" }}')


def test_keep_the_last_and_the_best():
    built = solver(f'{TESTED} snapshot: 1 snapshot_keep: 2 snapshot_best: "loss"')
    built.param.max_iter = 6
    built.solve()
    names = {p.name for p in Path().glob("snap*")}
    kinds = ("caffemodel", "solverstate", "resume")
    assert names == {f"snap_{which}.{kind}" for which in ("iter_5", "iter_6", "best") for kind in kinds}


def test_a_new_run_keeps_its_own_snapshots_beside_an_old_run():
    solver("snapshot: 10 snapshot_prefix: 'snap'").step(30)
    new = solver("snapshot: 4 snapshot_prefix: 'snap' snapshot_keep: 1")
    new.step(8)
    assert Path("snap_iter_8.solverstate").exists() and not Path("snap_iter_4.solverstate").exists()
    assert not Path("snap_iter_10.solverstate").exists()  # mixed with it
    assert Path("snap_run_1/snap_iter_10.solverstate").exists()


def test_scores_that_are_no_numbers_are_no_improvement():
    watch = EarlyStop(EarlyStopParameter(metric="loss", patience=2))
    assert [watch.improved({"loss": value}) for value in (math.nan, math.nan)] == [False, False]
    assert watch.exhausted and str(watch) == "loss has had no value for 2 tests"
    assert [watch.improved({"loss": value}) for value in (3.0, math.nan, 2.0)] == [True, False, True]
    assert not watch.improved({})


@pytest.mark.parametrize("kind", ["BINARYPROTO", "HDF5"])
def test_a_snapshot_that_fails_leaves_the_old_one(kind, monkeypatch):
    built = solver(f"snapshot_prefix: 'snap' snapshot_format: {kind}")
    state = built.snapshot("snap_best")
    before = {path.name: path.read_bytes() for path in Path().iterdir()}
    built.step(1)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(solverstate, "write_hdf5" if kind == "HDF5" else "write_binary", full)
    with pytest.raises(OSError, match="No space left"):
        built.snapshot("snap_best")
    assert {path.name: path.read_bytes() for path in Path().iterdir()} == before
    solver(f"snapshot_format: {kind}").restore(state)


def test_what_no_snapshot_can_hold_is_said_before_training():
    built = solver(f"snapshot_prefix: '{'x' * 230}'")
    with pytest.raises(ConfigError, match="File name too long"):
        built.solve()
    built = solver("snapshot_format: HDF5")
    built.net.layers[0].name = "a/w"
    with pytest.raises(SnapshotError, match='layer name "a/w" contains "/"'):
        built.solve()
    assert built.iter == 0


def test_a_loss_that_is_no_number_stops_the_run():
    built = solver("snapshot: 2 snapshot_prefix: 'snap'")
    built.step(2)
    built.net.params["w"][0].data[0, 0] = np.nan
    with pytest.raises(NotFiniteError) as caught:
        built.step(1)
    assert str(caught.value) == (
        'iteration 2: loss = nan; layer "w" (Parameter) is the first whose output is not finite; lr = 0.1; '
        "the last snapshot is snap_iter_2.solverstate\n"
        "  Lower base_lr, add warmup_iter or clip_gradients, or look for bad values in the data."
    )


def test_numpy_does_not_warn_of_it_before():
    built = solver("momentum: 0.9 clip_value: 3e38", param="param { lr_mult: 1e38 }")
    with warnings.catch_warnings(record=True) as caught, pytest.raises(NotFiniteError):
        warnings.simplefilter("always")
        built.step(9)
    assert caught == []


def test_snapshot_prefix(tmp_path):
    assert solver("").snapshot_prefix == "solver"
    (tmp_path / "out").mkdir()
    assert solver('snapshot_prefix: "out"').snapshot_prefix == "out/solver"
    assert solver('snapshot_prefix: "out/x"').snapshot_prefix == "out/x"
    with pytest.raises(ConfigError, match='snapshots cannot be written to "none/x": No such file or directory'):
        solver('snapshot: 1 snapshot_prefix: "none/x"')


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (
            FileNotFoundError(2, "No such file or directory"),
            "Make the folder, or set snapshot_prefix to one that exists.",
        ),
        (
            PermissionError(13, "Permission denied"),
            "Set snapshot_prefix to another folder, or make files possible in {}/out.",
        ),
    ],
)
def test_why_snapshots_cannot_be_written(error, hint, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()

    def touch(path):
        raise error

    monkeypatch.setattr(Path, "touch", touch)
    with pytest.raises(ConfigError) as caught:
        solver('snapshot: 1 snapshot_prefix: "out/x"')
    assert str(caught.value) == (
        f'solver.prototxt: snapshots cannot be written to "out/x": {error.strerror}\n  {hint.format(tmp_path)}'
    )


def test_iterations_are_whole_numbers():
    built = solver("")
    for value in (-1, "a", 2.5):
        with pytest.raises(ConfigError) as caught:
            built.step(value)
        assert str(caught.value) == f"the number of iterations must be a whole number, at least 0, got {value!r}"
    built.step(np.int64(2))
    assert built.iter == 2


@pytest.mark.parametrize("name", ["iter", "net"])
def test_what_a_script_cannot_set(name):
    with pytest.raises(AttributeError):
        setattr(solver(""), name, 1)


def test_old_models_give_caffes_output():
    import h5py

    from caffepy.pycaffe.net import Net
    from tests.support import GOLDEN, assert_close

    with h5py.File(GOLDEN / "upgrade" / "old_models_loaded.h5") as golden:
        Path("net.prototxt").write_text(golden.attrs["net"])
        for age in ("v0", "v1"):
            net = Net("net.prototxt", 1, weights=GOLDEN / "upgrade" / f"{age}_model.in.caffemodel")
            net.blobs["data"].data[...] = golden["inputs/data"][()]
            net.forward_from_to()
            assert_close(net.blobs["prob"].data, golden[age]["blobs"]["prob"][()])
