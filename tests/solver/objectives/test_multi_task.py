"""A solver with several tasks: whose gradient goes where, at which cost, and resumed."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy import passes, rng
from caffepy.engine import get_engine
from caffepy.errors import ConfigError, NotFiniteError
from caffepy.net.observer import Observer
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import MultiTaskParameter, SolverParameter
from caffepy.solver import Solver
from caffepy.solver.objectives.gradients import TaskGradients
from caffepy.solver.objectives.multi_task import cosines
from tests.support import ENGINES, assert_close

X = 'weight_filler { type: "xavier" }'
NET = """
layer { name: "in" type: "DummyData" top: "x" top: "id" top: "t" top: "u"
        dummy_data_param { shape { dim: 6 dim: 4 } shape { dim: 6 } shape { dim: 6 dim: 2 } shape { dim: 6 dim: 1 }
          data_filler { type: "uniform" min: -1 } data_filler { type: "uniform" max: 7 }
          data_filler { type: "uniform" } data_filler { type: "uniform" } } }
layer { name: "table" type: "Embed" bottom: "id" top: "e" TABLE
        embed_param { input_dim: 8 num_output: 4 bias_term: false weight_filler { type: "uniform" min: -1 } } }
layer { name: "sum" type: "Eltwise" bottom: "x" bottom: "e" top: "s" }
layer { name: "trunk" type: "InnerProduct" bottom: "s" top: "h" inner_product_param { num_output: 5 XAVIER } }
layer { name: "tanh" type: "TanH" bottom: "h" top: "h" }
layer { name: "ctr" type: "InnerProduct" bottom: "h" top: "ctr" inner_product_param { num_output: 2 XAVIER } }
layer { name: "cvr" type: "InnerProduct" bottom: "h" top: "cvr" inner_product_param { num_output: 1 XAVIER } }
layer { name: "ctr_loss" type: "SigmoidCrossEntropyLoss" bottom: "ctr" bottom: "t" top: "ctr_loss" }
layer { name: "cvr_loss" type: "EuclideanLoss" bottom: "cvr" bottom: "u" top: "cvr_loss" loss_weight: 2 }
""".replace("XAVIER", X)
SHARED = ("table", "trunk")
METHODS = list(MultiTaskParameter.Method.keys())


def build(multi_task: str, more: str = "", net: str = NET, table: str = "", engine: str = "numpy") -> Solver:
    definition = net.replace("TABLE", table)
    p = text.parse(f'base_lr: 0.05 lr_policy: "fixed" random_seed: 5 max_iter: 20 {more}', SolverParameter())
    p.net_param.CopyFrom(text.parse(definition, type(p.net_param)()))
    if multi_task:
        p.multi_task.CopyFrom(text.parse(multi_task, MultiTaskParameter()))
    rng.seed(5)
    return Solver(p, engine=get_engine(engine))


def weights(solver) -> list[np.ndarray]:
    return [np.array(param.blob.host()) for param in solver.net.learnable_params]


def by_loss(solver, loss: str) -> dict[str, np.ndarray]:
    """The gradient of one loss alone for all parameters, of the pass that was run last."""
    solver.net.clear_param_diffs()
    passes.of(solver.net).backward(losses=[loss])
    found = {
        layer.name: np.concatenate([np.array(b.host("diff")).ravel() for b in layer.blobs])
        for layer in solver.net.layers
        if layer.blobs
    }
    solver.net.clear_param_diffs()
    return found


def one_pass(solver) -> dict[str, np.ndarray]:
    """What the update would find after one iteration's pass."""
    solver.announce("batch")
    solver.net.clear_param_diffs()
    solver.passes.forward()
    solver.multi_task.backward()
    solver.announce("gradients")
    return {
        layer.name: np.concatenate([np.array(b.host("diff")).ravel() for b in layer.blobs])
        for layer in solver.net.layers
        if layer.blobs
    }


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("table", ["", "param { sparse: true }"], ids=["dense", "sparse"])
@pytest.mark.parametrize("method", METHODS)
def test_the_shared_part_gets_the_weighted_sum_and_heads_their_own(method, table, engine):
    solver = build(f"method: {method} dwa {{ period: 3 }}", table=table, engine=engine)
    found = one_pass(solver)
    a, b = by_loss(solver, "ctr_loss"), by_loss(solver, "cvr_loss")
    w = solver.multi_task.weights
    for layer in SHARED:
        assert_close(found[layer], w[0] * a[layer] + w[1] * b[layer], 1e-4)
    assert_close(found["ctr"], a["ctr"])
    assert_close(found["cvr"], b["cvr"])
    shared = [np.concatenate([one[layer] for layer in SHARED]) for one in (a, b)]
    assert_close(solver.multi_task.seen.gram, [[p @ q for p in shared] for q in shared], 1e-4)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("table", ["", "param { sparse: true }"], ids=["dense", "sparse"])
def test_uniform_is_training_without(table, engine):
    plain, tasks = build("", engine=engine), build("method: UNIFORM", table=table, engine=engine)
    for solver in (plain, tasks):
        solver.step(5)
    for ours, reference in zip(weights(tasks), weights(plain)):
        assert_close(ours, reference)
    assert tasks.smoothed_loss.value == pytest.approx(plain.smoothed_loss.value, rel=1e-5)


def test_weights_of_tasks_multiply_those_of_the_net():
    text = NET.replace("loss_weight: 2", "loss_weight: 6")
    plain = build("", net=text)
    tasks = build('task { loss: "ctr_loss" } task { loss: "cvr_loss" weight: 3 }')
    for solver in (plain, tasks):
        solver.step(4)
    for ours, reference in zip(weights(tasks), weights(plain)):
        assert_close(ours, reference)


@pytest.mark.parametrize("method", METHODS)
def test_iter_size_is_a_batch_in_parts(method):
    data = NET[: NET.index('layer { name: "table"')]
    same = data.replace('uniform" min: -1', 'constant" value: 0.3').replace("uniform", "constant")
    net = NET.replace(data, same)
    one, four = (build(f"method: {method} dwa {{ period: 2 }}", f"iter_size: {n}", net) for n in (1, 4))
    for solver in (one, four):
        solver.step(4)
    for ours, reference in zip(weights(four), weights(one)):
        assert_close(ours, reference, 1e-4)


class Count(Observer):
    def __init__(self, net):
        self.net, self.runs = net, []

    def after_layers(self, layers, backward):
        self.runs += [(self.net.nodes[i].layer.name, backward) for i in layers]


def test_one_forward_and_a_backward_pass_for_each_task():
    solver = build("method: PCGRAD")
    count = Count(solver.net)
    solver.net.observers.append(count)
    solver.step(1)
    runs = [(name, backward) for name, backward in count.runs if "split" not in name]
    assert runs.count(("trunk", False)) == 1 and runs.count(("trunk", True)) == 2
    assert runs.count(("ctr", True)) == 1 and runs.count(("cvr_loss", True)) == 1


def test_a_loss_that_is_no_task_is_added_as_it_is():
    extra = f"""
    layer {{ name: "aux" type: "InnerProduct" bottom: "h" top: "aux" inner_product_param {{ num_output: 1 {X} }} }}
    layer {{ name: "aux_loss" type: "EuclideanLoss" bottom: "aux" bottom: "u" top: "aux_loss" loss_weight: 0.5 }}
    """
    names = 'task { loss: "ctr_loss" } task { loss: "cvr_loss" }'
    solver = build(f"method: MGDA {names}", net=NET + extra)
    found = one_pass(solver)
    parts = [by_loss(solver, name) for name in ("ctr_loss", "cvr_loss", "aux_loss")]
    w = [*solver.multi_task.weights, 1]
    assert_close(found["trunk"], sum(f * part["trunk"] for f, part in zip(w, parts)), 1e-4)
    assert_close(found["aux"], parts[2]["aux"])
    for ours, reference in zip(weights_after(names, extra), weights_after("", extra)):
        assert_close(ours, reference)


def weights_after(tasks: str, extra: str) -> list[np.ndarray]:
    """Of UNIFORM, with a loss that is a task or none."""
    solver = build(f"method: UNIFORM {tasks}", net=NET + extra)
    solver.step(3)
    return weights(solver)


@pytest.mark.parametrize("rule", ["SGD", "Adam", "AdaGrad"])
@pytest.mark.parametrize("table", ["", "param { sparse: true }"], ids=["dense", "sparse"])
@pytest.mark.parametrize("method", METHODS)
def test_resuming_is_exact(method, table, rule, tmp_path):
    definition = f"method: {method} dwa {{ period: 2 }}"
    more = f'type: "{rule}" weight_decay: 0.01 snapshot_prefix: "{tmp_path}/s"'
    whole, first, second = (build(definition, more, table=table) for _ in range(3))
    whole.step(9)
    first.step(4)
    second.restore(first.snapshot())
    second.step(5)
    for ours, reference in zip(weights(second), weights(whole)):
        np.testing.assert_array_equal(ours, reference)


def test_report(caplog):
    solver = build("method: PCGRAD report: 2")
    caplog.set_level("INFO", "caffepy")
    solver.step(3)
    lines = [r.getMessage() for r in caplog.records if "PCGRAD" in r.getMessage() and "Iteration" in r.getMessage()]
    assert len(lines) == 6
    assert lines[0].startswith("Iteration 0, PCGRAD: ctr_loss = ") and "weight = " in lines[0]
    assert "gradient norm = " in lines[1] and lines[2].startswith("Iteration 0, PCGRAD: cosine of ctr_loss and cvr")
    assert lines[3].startswith("Iteration 2")


def test_decay_and_clipping_act_once_on_the_combined_gradient():
    plain, tasks = (build(m, "weight_decay: 0.5 clip_gradients: 0.1") for m in ("", "method: UNIFORM"))
    for solver in (plain, tasks):
        solver.step(3)
    for ours, reference in zip(weights(tasks), weights(plain)):
        assert_close(ours, reference)


REFUSED = [
    (
        'task { loss: "ctr_los" } task { loss: "cvr_loss" }',
        NET,
        ":1:21",
        'has no loss "ctr_los"\n  Did you mean "ctr_loss"?',
    ),
    (
        'task { loss: "ctr_loss" } task { loss: "h" }',
        NET,
        ":1:47",
        'the net has no loss "h"\n  Its losses are: ctr_loss, cvr',
    ),
    (
        'task { loss: "ctr_loss" } task { loss: "cvr_loss" }',
        NET.replace("loss_weight: 2", "loss_weight: 0"),
        ":1:47",
        'the loss "cvr_loss" has loss_weight: 0 in the net\n  Give it another one, or leave the task out.',
    ),
    (
        'task { loss: "ctr_loss" weight: 2 } task { loss: "cvr_loss" weight: 0 }',
        NET,
        ":1:74",
        'the weight of "cvr_loss" must be positive, got 0',
    ),
    ('task { loss: "ctr_loss" weight: -1 }', NET, ":1:38", 'the weight of "ctr_loss" must be positive, got -1'),
    ('task { loss: "ctr_loss" weight: nan }', NET, ":1:38", 'the weight of "ctr_loss" must be positive, got nan'),
    ('task { loss: "ctr_loss" } task { loss: "ctr_loss" }', NET, ":1:47", 'the loss "ctr_loss" is named twice'),
    ('task { loss: "ctr_loss" }', NET, ":1:1", 'needs two losses or more, "ctr_loss" is there'),
    (
        "method: MGDA",
        NET[: NET.index('layer { name: "cvr_loss"')],
        ":1:1",
        'needs two losses or more, "ctr_loss" is there',
    ),
    ('method: GRADNORM gradnorm { layer: "ctr" }', NET, ":1:42", 'gradnorm.layer "ctr" is not shared'),
    ('method: GRADNORM gradnorm { layer: "trunc" }', NET, ":1:42", 'is no layer of the net\n  Did you mean "trunk"?'),
    ("method: CAGRAD cagrad { c: 1 }", NET, ":1:38", "cagrad.c must lie in [0, 1), got 1"),
    ("method: GRADVAC gradvac { beta: 1 }", NET, ":1:40", "gradvac.beta must lie in [0, 1), got 1"),
    ("method: DWA dwa { temperature: 0 period: 2 }", NET, ":1:32", "dwa.temperature must be positive, got 0"),
    ("method: DWA", NET, ":1:1", "no layer of the net knows how many records"),
    (
        'method: PE_LTR task { loss: "ctr_loss" min_weight: 0.8 } task { loss: "cvr_loss" min_weight: 0.3 }',
        NET,
        ":1:53",
        "sum to more than 1: [0.8, 0.3] sum to 1.1",
    ),
]


@pytest.mark.parametrize("multi_task, net, place, message", REFUSED, ids=lambda v: str(v)[:40])
def test_what_cannot_work_is_refused_with_its_place(tmp_path, multi_task, net, place, message):
    (tmp_path / "net.prototxt").write_text(net.replace("TABLE", ""))
    file = tmp_path / "solver.prototxt"
    file.write_text(f'multi_task {{ {multi_task} }} net: "net.prototxt" base_lr: 0.05 lr_policy: "fixed"')
    with pytest.raises(ConfigError) as caught:
        Solver(file)
    assert str(caught.value).startswith(f"{file}{place}: ")
    assert message in str(caught.value)


def test_losses_that_share_nothing():
    net = NET.replace('name: "cvr" type: "InnerProduct" bottom: "h"', 'name: "cvr" type: "InnerProduct" bottom: "x"')
    net = net.replace(
        'bottom: "cvr" bottom: "u"', 'bottom: "cvr" bottom: "u" propagate_down: true propagate_down: false'
    )
    with pytest.raises(ConfigError, match='the losses "ctr_loss", "cvr_loss" share no parameter'):
        build("method: UNIFORM", net=net)


def test_gradnorm_measures_the_last_shared_layer_unless_told():
    assert build("method: GRADNORM").multi_task.layer == "trunk"
    assert build('method: GRADNORM gradnorm { layer: "table" }').multi_task.layer == "table"


def test_rows_meet_where_tasks_touch_the_same():
    solver = build("method: UNIFORM", table="param { sparse: true }")
    numbers = solver.multi_task.numbers
    gradients = TaskGradients(solver.net, numbers, 2)
    table = solver.net.layer_dict["table"].blobs[0]
    values = np.arange(8, dtype="f4").reshape(2, 4)
    table.rows.add(np.array([1, 5]), values)
    gradients.take(0)
    table.rows.add(np.array([5, 7]), values + 1)
    gradients.take(1)
    meet = values[1] @ (values[0] + 1)
    np.testing.assert_allclose(gradients.gram(), [[(values**2).sum(), meet], [meet, ((values + 1) ** 2).sum()]])
    gradients.put(np.array([2, 3]))
    assert table.rows.merged()[0].tolist() == [1, 5, 7]


def test_cosines():
    grams = np.array([[[4.0, -1], [-1, 1]], [[4.0, 0], [0, 0]]])
    np.testing.assert_array_equal(cosines(grams), [[[1, -0.5], [-0.5, 1]], [[1, 0], [0, 0]]])


@pytest.mark.parametrize("method", METHODS)
def test_a_gradient_that_is_no_number_is_told_with_its_task(method):
    solver = build(f"method: {method} dwa {{ period: 3 }}")
    solver.step(2)
    solver.announce("batch")
    solver.passes.forward()
    solver.multi_task.backward()
    solver.multi_task.gradients_of_tasks.matrix[1, 2] = np.nan
    with pytest.raises(NotFiniteError) as caught:
        solver.announce("gradients")
    assert "iteration 2: cvr_loss = " in str(caught.value)
    assert "but its gradient for the shared parameters is not finite; lr = 0.05; no snapshot was made" in str(
        caught.value
    )


MASKED = NET.replace(
    'layer { name: "cvr_loss" type: "EuclideanLoss" bottom: "cvr" bottom: "u" top: "cvr_loss" loss_weight: 2 }',
    """layer { name: "mask" type: "DummyData" top: "clicked" dummy_data_param { shape { dim: 6 dim: 1 } } }
       layer { name: "cvr_loss" type: "BinaryCrossEntropy" bottom: "cvr" bottom: "u" bottom: "clicked" top: "cvr_loss"
               binary_cross_entropy_param { logits: true } }""",
)


@pytest.mark.parametrize("method", METHODS)
def test_a_task_none_of_whose_samples_is_in_the_batch(method):
    assert MASKED != NET
    solver = build(f"method: {method} dwa {{ period: 2 }}", net=MASKED)
    solver.step(6)
    assert solver.net.engine_blobs["cvr_loss"].host() == 0
    assert solver.multi_task.seen.gram[1].tolist() == [0, 0]
    assert np.isfinite(solver.multi_task.weights).all()
    assert all(np.isfinite(values).all() for values in weights(solver))
