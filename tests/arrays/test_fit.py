"""Training, evaluation and prediction on arrays."""

from __future__ import annotations

import numpy as np
import pytest

import caffepy as caffe
from caffepy.engine import get_engine
from caffepy.errors import CaffeError, ConfigError, ShapeError
from caffepy.proto.caffe_pb2 import NetParameter, SolverParameter
from caffepy.proto.text import parse
from tests.support import ENGINES, assert_close

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 8 dim: 4 } } }
layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 8 } } }
layer { name: "hidden" type: "InnerProduct" bottom: "data" top: "hidden"
  inner_product_param { num_output: 16 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "hidden" top: "hidden" }
layer { name: "drop" type: "Dropout" bottom: "hidden" top: "hidden" dropout_param { dropout_ratio: 0.1 } }
layer { name: "score" type: "InnerProduct" bottom: "hidden" top: "score"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "accuracy" type: "Accuracy" bottom: "score" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" loss_weight: 3 }
"""

LINEAR = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 2 } } }
layer { name: "y" type: "Input" top: "y" input_param { shape { dim: 4 dim: 1 } } }
layer { name: "w" type: "InnerProduct" bottom: "x" top: "w" inner_product_param { num_output: 1 bias_term: false } }
layer { name: "loss" type: "EuclideanLoss" bottom: "w" bottom: "y" top: "loss" }
"""


@pytest.fixture(autouse=True)
def seeded():
    caffe.set_random_seed(3)


def build(text=NET, phase=caffe.TRAIN, engine="numpy"):
    return caffe.Net(parse(text, NetParameter()), phase, engine=get_engine(engine))


def problem(n=90):
    """Points whose first two coordinates' product tells the class."""
    x = np.random.default_rng(n).normal(size=(n, 4)).astype("f4")
    return x, (x[:, 0] * x[:, 1] > 0).astype(int)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
def test_a_net_learns(engine, phase):
    net = build(phase=phase, engine=engine)
    x, y = problem(400)
    history = net.fit(x, y, epochs=20, batch_size=20, validation_split=0.2, solver={"type": "Adam", "base_lr": 0.02})
    assert history.epoch == list(range(20))
    assert set(history.history) == {"loss", "val_loss", "val_accuracy"}
    assert history["loss"][-1] < 0.4 * history["loss"][0]
    assert history["val_accuracy"][-1] > 0.9
    assert net.blobs["data"].shape == (8, 4)
    found = net.evaluate(x[320:], y[320:])
    assert found["accuracy"] == pytest.approx(history["val_accuracy"][-1])
    assert found["loss"] == pytest.approx(history["val_loss"][-1], rel=1e-5)
    assert ((net.predict(x, output="score").argmax(1) == y)[320:]).mean() == pytest.approx(found["accuracy"])


def test_fit_is_the_solvers_steps():
    """The same weights as by hand: batches in order, the last one smaller, momentum going on from epoch to epoch."""
    x, y = np.random.default_rng(0).normal(size=(10, 2)).astype("f4"), np.arange(10).reshape(10, 1)
    net = build(LINEAR)
    w = np.array([[0.5, -1]])
    net.params["w"][0].data[...] = w
    history = net.fit(x, y, epochs=2, shuffle=False, solver={"base_lr": 0.05, "momentum": 0.9})
    step, losses = np.zeros_like(w), []
    for _ in range(2):
        total = 0.0
        for rows in (slice(0, 4), slice(4, 8), slice(8, 10)):
            error = x[rows] @ w.T - y[rows]
            total += (error**2).sum() / 2
            step = 0.9 * step + 0.05 * error.T @ x[rows] / len(error)
            w = w - step
        losses.append(total / 10)
    assert_close(net.params["w"][0].data, w)
    assert_close(history["loss"], losses)


def test_iter_size_takes_a_batch_a_pass():
    x, y = np.random.default_rng(0).normal(size=(8, 2)).astype("f4"), np.ones((8, 1))
    results = []
    for size, iter_size in ((8, 1), (4, 2)):
        net = build(LINEAR)
        net.fit(x, y, batch_size=size, shuffle=False, solver={"base_lr": 0.1, "iter_size": iter_size, "type": "SGD"})
        results.append(net.params["w"][0].data.copy())
    assert results[0].any()
    assert_close(results[1], results[0])


def test_shuffling_follows_the_seed():
    x, y = np.random.default_rng(0).normal(size=(20, 2)).astype("f4"), np.ones((20, 1))

    def weights(seed, **options):
        net = build(LINEAR)
        net.fit(x, y, solver={"base_lr": 0.1, "type": "SGD", "random_seed": seed}, **options)
        return net.params["w"][0].data.tolist()

    assert weights(1) == weights(1) != weights(2)
    assert weights(1, shuffle=False) == weights(2, shuffle=False)


def test_solver_fit_goes_on_where_the_solver_is(tmp_path):
    param = SolverParameter(base_lr=0.1, lr_policy="fixed", net_param=parse(LINEAR, NetParameter()))
    solver = caffe.get_solver(param)
    x, y = np.random.default_rng(0).normal(size=(10, 2)).astype("f4"), np.ones((10, 1))
    first = solver.fit(x, y, epochs=3)
    assert solver.iter == 9 and len(first["loss"]) == 3
    second = solver.fit({"x": x, "y": y}, epochs=1, batch_size=5)
    assert solver.iter == 11
    assert second["loss"][0] < first["loss"][0]
    assert len(solver.net.observers) == 1 and len(solver.listeners) == 1
    assert solver.net.blobs["x"].shape == (4, 2)


def test_a_solver_file_and_its_weights(tmp_path):
    trained = build(LINEAR)
    trained.params["w"][0].data[...] = [[1, 2]]
    trained.save(tmp_path / "w.caffemodel")
    path = tmp_path / "solver.prototxt"
    path.write_text(
        'net: "absent.prototxt" test_iter: 1 test_interval: 1 base_lr: 0 lr_policy: "poly" power: 1\n'
        f'weights: "{tmp_path}/w.caffemodel"\n'
    )
    net = build(LINEAR)
    x, y = np.eye(2), np.array([1, 2])  # a missing axis of length 1
    assert net.fit(x, y, solver=path)["loss"] == [0]
    assert net.fit(x, y, solver=SolverParameter(base_lr=0, lr_policy="fixed"))["loss"] == [0]
    assert net.params["w"][0].data.tolist() == [[1, 2]]


def test_validation_data():
    x, y = problem(40)
    for data in ((x[:7], y[:7]), {"data": x[:7], "label": y[:7]}):
        net = build()
        history = net.fit(x, y, validation_data=data)
        found = net.evaluate(x[:7], y[:7])
        assert {name: values[0] for name, values in history.history.items() if name.startswith("val_")} == {
            f"val_{name}": pytest.approx(value) for name, value in found.items()
        }


class Recorder:
    def __init__(self):
        self.calls = []

    def on_epoch_end(self, epoch, logs):
        self.calls.append((epoch, sorted(logs)))


def test_callbacks(caplog):
    x, y = problem(16)
    recorder, ends = Recorder(), []

    def stop(epoch, logs):
        ends.append(logs["loss"])
        return epoch == 1

    with caplog.at_level("INFO", "caffepy.arrays.fit"):
        history = build().fit(x, y, epochs=5, callbacks=[stop, recorder])
    assert recorder.calls == [(0, ["loss"]), (1, ["loss"])]
    assert ends == history["loss"]
    lines = [r.getMessage() for r in caplog.records if r.name == "caffepy.arrays.fit"]
    assert lines == [f"Epoch {i + 1}/5: loss = {loss:.6g}" for i, loss in enumerate(ends)]


def test_progress(capsys):
    x, y = problem(16)
    build().fit(x, y, epochs=2)
    assert capsys.readouterr().err == ""
    build().fit(x, y, epochs=2, progress=True)
    shown = capsys.readouterr().err
    assert "epoch 2/2" in shown and "4/4" in shown and "loss" in shown


def test_evaluate_is_the_mean_over_all_items():
    net = build(LINEAR, caffe.TEST)
    net.params["w"][0].data[...] = [[1, 1]]
    x, y = np.random.default_rng(0).normal(size=(11, 2)).astype("f4"), np.zeros(11)
    expected = (x.sum(1) ** 2).mean() / 2
    for size in (None, 3, 11, 100):
        assert net.evaluate(x, y, batch_size=size) == {"loss": pytest.approx(expected)}
    assert net.blobs["x"].shape == (4, 2)


# Predict


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
@pytest.mark.parametrize("size", [None, 1, 7, 50])
def test_predict_any_number_of_items(engine, phase, size):
    net = build(phase=phase, engine=engine)
    x, _ = problem(23)
    (w, b), (v, c) = ([blob.data for blob in net.params[name]] for name in ("hidden", "score"))
    hidden = np.maximum(x @ w.T + b, 0)
    assert_close(net.predict(x, size, output="score"), hidden @ v.T + c)  # without labels, and without dropout
    assert_close(net.predict({"data": x}, size, output="hidden"), hidden)
    assert net.blobs["data"].shape == (8, 4) and net.blobs["label"].shape == (8,)
    assert net.blobs["score"].shape == (8, 2)
    net.params["score"][1].data[...] += 1
    assert_close(net.predict(x, size, output="score"), hidden @ v.T + net.params["score"][1].data)


def test_predict_needs_only_the_tops_of_an_input_layer_that_are_read():
    inputs, rest = NET[: NET.index('layer { name: "hidden"')], NET[NET.index('layer { name: "hidden"') :]
    both = """layer { name: "data" type: "Input" top: "data" top: "label"
      input_param { shape { dim: 8 dim: 4 } shape { dim: 8 } } }"""
    assert inputs.count("Input") == 2
    x, _ = problem(10)
    assert build(both + rest).predict(x, output="score").shape == (10, 2)


def test_outputs_of_each_item():
    text = NET[: NET.index('layer { name: "accuracy"')].replace("dim: 8 }", "dim: 8 dim: 1 }")
    net = build(text + 'layer { name: "p" type: "Softmax" bottom: "score" top: "p" }', caffe.TEST)
    x, _ = problem(10)
    both = net.predict({"data": x, "label": np.arange(10)})
    assert list(both) == ["label", "p"]
    assert both["label"].ravel().tolist() == list(range(10))
    assert_close(both["p"].sum(1), np.ones(10))
    asked = net.predict({"data": x}, output=["hidden", "score"])
    assert {name: values.shape for name, values in asked.items()} == {"hidden": (10, 16), "score": (10, 2)}
    assert list(net.predict({"data": x}, output=["score"])) == ["score"]
    net = build(NET[: NET.index('layer { name: "label"')]
                + 'layer { name: "p" type: "Softmax" bottom: "data" top: "p" }', caffe.TEST)  # fmt: skip
    assert net.predict(x).shape == (10, 4)


# Wrong calls


def refused(function, kind=ConfigError):
    with pytest.raises(kind) as caught:
        function()
    assert isinstance(caught.value, CaffeError)
    return str(caught.value)


def test_wrong_calls_say_what_to_do():
    net = build()
    x, y = problem(16)
    assert refused(lambda: net.predict(x)) == (
        "the outputs of the net (accuracy, loss) are values of a whole batch, not of each item\n"
        "  Ask for a blob: net.predict(x, output='score')."
    )
    assert refused(lambda: net.predict(x, output="scores")) == ('the net has no blob "scores"\n  Did you mean "score"?')
    one_value = 'the blob "{}" has shape {} for 8 items: its first axis does not count them'
    assert refused(lambda: net.predict({"data": x, "label": y}, output="loss"), ShapeError) == (
        one_value.format("loss", ()) + "\n  Run net.forward_all(blobs=['loss'], ...), which joins blobs of any shape."
    )
    assert refused(lambda: net.fit(x)) == (
        "no array is given for the input label\n"
        "  The net's inputs are: data, label. Give a dict of arrays by these names."
    )
    assert refused(lambda: net.fit({"data": x, "labels": y})) == (
        'the net has no input "labels"\n  Did you mean "label"?'
    )
    assert refused(lambda: net.fit(x, y[:3]), ShapeError) == (
        "the arrays must have one length, at least 1; they have {'data': 16, 'label': 3}"
    )
    assert refused(lambda: net.fit(x[:, :3], y), ShapeError) == (
        'the array for "data" has shape (16, 3), items of the blob have (4,)\n'
        "  The first axis counts items, the others must be the blob's."
    )
    assert refused(lambda: net.fit(x[:0], y[:0]), ShapeError).startswith("the arrays must have one length, at least 1")
    assert refused(lambda: net.fit(x, y, validation_split=1)) == (
        "validation_split is a share from 0 up to, not including, 1, got 1"
    )
    assert refused(lambda: net.fit(x, y, validation_split="a")) == (
        "validation_split is a share from 0 up to, not including, 1, got 'a'"
    )
    for value in (0, "a", 2.5):
        assert refused(lambda value=value: net.fit(x, y, batch_size=value)) == (
            f"batch_size must be a whole number, at least 1, got {value!r}"
        )
    for value in (-1, "a"):
        assert refused(lambda value=value: net.fit(x, y, epochs=value)) == (
            f"epochs must be a whole number, at least 0, got {value!r}"
        )
    assert refused(lambda: net.fit(x, y, epoch=3)) == 'fit has no option "epoch"\n  Did you mean "epochs"?'
    assert refused(lambda: net.fit(x, y, zzz=3)) == (
        'fit has no option "zzz"\n  Its options are: epochs, batch_size, validation_split, validation_data, shuffle, '
        "callbacks, progress, solver."
    )
    for given in (["a"], "a", 3):
        assert refused(lambda given=given: net.fit(x, y, callbacks=given)) == (
            f"a callback is a function, or has a method on_epoch_end, got {given[0] if given != 3 else 3!r}\n"
            "  It is called as callback(epoch, logs)."
        )
    assert 'no field "base_rate"' in refused(lambda: net.fit(x, y, solver={"base_rate": 1}))
    assert "unknown solver type" in refused(lambda: net.fit(x, y, solver={"type": "adam", "base_lr": 1}))
    no_loss = build(NET[: NET.index('layer { name: "accuracy"')])
    assert refused(lambda: no_loss.fit(x, y)) == (
        'the net has no loss to make smaller\n  Add a layer such as type: "SoftmaxWithLoss".'
    )
    data = build('layer { name: "d" type: "DummyData" top: "d" dummy_data_param { shape { dim: 1 } } }')
    for output in ("d", None):
        assert refused(lambda output=output: data.predict(x, output=output)) == (
            "the net has no Input layer to take arrays: its data layers bring the data\n"
            "  Use a definition with Input layers, or run net.forward() and solver.step()."
        )


# Meters and listeners


def test_the_last_batch_of_one_item_makes_no_output_single():
    """An output of one value for each item has one in the last batch; it counts in none."""
    text = NET + 'layer { name: "p" type: "Power" bottom: "label" top: "p" }'
    x, y = problem(17)
    net = build(text)
    assert set(net.evaluate(x, y)) == {"loss", "accuracy"}
    assert set(net.fit(x, y).history) == {"loss"}


def test_evaluate_uses_the_layers_meter():
    class Largest:
        def __init__(self):
            self.most = 0.0

        def add(self, top, bottom, weight):
            self.most = max(self.most, float(bottom[0].host().max()))

        def value(self):
            return {"most": self.most}

    net = build(LINEAR, caffe.TEST)
    net.layer_dict["loss"].meter = lambda top: Largest()
    net.params["w"][0].data[...] = [[1, 0]]
    x = np.arange(22, dtype="f4").reshape(11, 2)
    found = net.evaluate(x, np.zeros(11), batch_size=4)
    assert found == {"loss/most": 20, "loss": pytest.approx((x[:, 0] ** 2).mean() / 2)}


def test_listeners_hear_of_each_step_and_are_gone_behind_the_training():
    class Two(caffe.Listener):
        steps = 0

        def start(self, solver):
            self.steps += 1

        def update(self, solver):
            if solver.iter == 5:
                solver.stop()

    x, y = problem(24)  # three batches
    listener = Two()
    param = SolverParameter(base_lr=0.1, lr_policy="fixed", net_param=parse(NET, NetParameter()))
    solver = caffe.get_solver(param)
    history = solver.fit(x, y, epochs=9, callbacks=[listener])
    assert (history.epoch, listener.steps, solver.iter) == ([0, 1], 2, 5)
    assert listener not in solver.listeners


def test_fit_draws_its_order_from_the_solvers_own_numbers():
    x, y = np.random.default_rng(0).normal(size=(20, 2)).astype("f4"), np.ones((20, 1))
    results = []
    for seed in (1, 2):
        caffe.set_random_seed(seed)
        net = build(LINEAR)
        net.fit(x, y, solver={"base_lr": 0.1, "type": "SGD", "random_seed": 5})
        results.append(net.params["w"][0].data.tolist())
    assert results[0] == results[1]


def test_options_are_in_the_signature():
    import inspect

    from caffepy.arrays.fit import FitOptions, fit_solver

    of_fit = inspect.signature(fit_solver).parameters
    for method in (caffe.Net.fit, caffe.Solver.fit):
        found = inspect.signature(method).parameters
        assert {name: found[name].default for name in FitOptions.__annotations__} == {
            name: of_fit[name].default for name in FitOptions.__annotations__
        }


def test_dir_is_what_is_public():
    assert sorted(name for name in dir(caffe) if not name.startswith("__")) == sorted(caffe.__all__)
    assert all(hasattr(caffe, name) for name in dir(caffe))
