"""Layers of recommenders and of several tasks: onnxruntime computes what the net does, for any number of items."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

import caffepy
from caffepy import rng
from caffepy.errors import ConfigError
from caffepy.export.onnx_file import ExportOptions, model_of
from caffepy.proto.caffe_pb2 import NetParameter
from caffepy.proto.text import parse
from tests.support import assert_close

RANDOM = np.random.default_rng(3)
W = 'weight_filler { type: "gaussian" std: 0.7 } bias_filler { type: "gaussian" }'
TABLE = 'input_dim: 9 num_output: 3 weight_filler { type: "gaussian" }'
EXPERTS = f"num_experts: 3 num_output: 4 num_output: 2 {W}"


def normal(*shape):
    return RANDOM.standard_normal((5, *shape)).astype("f4")


def ids(*shape, low=0, high=9):
    return RANDOM.integers(low, high, (5, *shape)).astype("f4")


def share(*shape):
    return RANDOM.random((5, *shape)).astype("f4")


LISTS = ids(6, low=-1)
LISTS[2] = -1
BANKS = normal(7), normal(2, 4), normal(3, 4)
MASK = np.array([1, 0, 0, 2, 1], "f4").reshape(5, 1)
CASES = {
    "embed": (f'type: "Embed" embed_param {{ {TABLE} bias_filler {{ type: "gaussian" }} }}', [ids(2)]),
    "embed_sum": (f'type: "Embed" embed_param {{ {TABLE} combine: SUM bias_term: false }}', [LISTS]),
    "embed_mean": (f'type: "Embed" embed_param {{ {TABLE} combine: MEAN }}', [LISTS]),
    "embed_mask": (f'type: "Embed" embed_param {{ {TABLE} combine: MEAN }}', [ids(2, 6), ids(2, 6, high=2)]),
    "bucketize": (
        'type: "Bucketize" bucketize_param { boundary: -1 boundary: 0 boundary: 0.5 }',
        [np.array([[-2, -1, np.nan], [0, 0.5, 9]] * 3, "f4")],
    ),
    "hash_ids": ('type: "HashIds" hash_ids_param { num_buckets: 1000 }', [ids(40, low=-(2**24), high=2**24)]),
    "hash_ids_seed": ('type: "HashIds" hash_ids_param { num_buckets: 7 seed: 4000000000 }', [ids(3, high=1 << 20)]),
    "fm": ('type: "FactorizationMachine"', [normal(4, 3)]),
    "cross": (f'type: "Cross" cross_param {{ {W} }}', [normal(6), normal(6)]),
    "cross_first": (f'type: "Cross" cross_param {{ {W} bias_term: false }}', [normal(6)]),
    "cross_rank": (f'type: "Cross" cross_param {{ {W} rank: 2 }}', [normal(2, 3), normal(2, 3)]),
    "dice": ('type: "Dice" dice_param { filler { type: "uniform" } }', [normal(4)]),
    "dice_pixels": ('type: "Dice" dice_param { filler { type: "uniform" } }', [normal(4, 2, 3)]),
    "experts": (f'type: "Experts" experts_param {{ {EXPERTS} }}', [normal(2, 2, 3)]),
    "experts_one_each": (f'type: "Experts" experts_param {{ {EXPERTS} activation: TANH }}', [normal(3, 6)]),
    "experts_plain": (f'type: "Experts" experts_param {{ {EXPERTS} bias_term: false activation: NONE }}', [normal(6)]),
    "experts_sigmoid": (f'type: "Experts" experts_param {{ {EXPERTS} activation: SIGMOID }}', [normal(6)]),
    "gate": (f'type: "Gate" gate_param {{ {W} }}', BANKS[:2]),
    "gate_banks": (f'type: "Gate" gate_param {{ {W} bias_term: true }}', BANKS),
    "snr": (
        'type: "SNR" snr_param { num_routes: 2 num_output: 3 gate_filler { type: "gaussian" std: 2 } '
        'weight_filler { type: "gaussian" } }',
        [normal(4, 5)],
    ),
    "snr_average": (
        'type: "SNR" snr_param { connection: AVERAGE num_routes: 2 gate_filler { type: "gaussian" std: 2 } }',
        [normal(4, 5)],
    ),
    "loss": ('type: "BinaryCrossEntropy"', [share(3), ids(3, high=2)]),
    "loss_mask": ('type: "BinaryCrossEntropy"', [share(1), ids(1, high=2), MASK]),
    "loss_no_mask": ('type: "BinaryCrossEntropy"', [share(1), ids(1, high=2), 0 * MASK]),
    "loss_weights": (
        'type: "BinaryCrossEntropy" binary_cross_entropy_param { logits: true }',
        [normal(1), share(1), MASK, share(1)],
    ),
    "loss_batch": (
        'type: "BinaryCrossEntropy" loss_param { normalization: BATCH_SIZE }',
        [share(2, 2), share(2, 2)],
    ),
    "loss_sum": ('type: "BinaryCrossEntropy" loss_param { normalization: NONE }', [share(2), share(2)]),
}
TOPS = {"snr": 2}


def build(name: str):
    """A TEST net of the layer, its bottoms as inputs; and these."""
    definition, arrays = CASES[name]
    net = NetParameter()
    for i, values in enumerate(arrays):
        made = net.layer.add(name=f"in{i}", type="Input", top=[f"in{i}"])
        made.input_param.shape.add(dim=values.shape)
    layer = parse(f"layer {{ {definition} }}", NetParameter()).layer[0]
    layer.name = "layer"
    layer.bottom.extend(f"in{i}" for i in range(len(arrays)))
    layer.top.extend(f"out{i}" for i in range(TOPS.get(name, 1)))
    net.layer.append(layer)
    rng.seed(1)
    built = caffepy.Net(net, caffepy.TEST)
    if "dice" in name:
        _, mean, variance = built.layers[-1].blobs
        mean.data[...], variance.data[...] = [0.5, -1, 0, 2], [1, 4, 0.25, 1]
    return built, arrays


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_layer(name, dynamic):
    net, arrays = build(name)
    model = model_of(net, ExportOptions(dynamic_batch=dynamic))
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for items in (5, 2) if dynamic else (5,):
        feed = {f"in{i}": values[:items] if len(values) == 5 else values for i, values in enumerate(arrays)}
        for blob, values in feed.items():
            net.blobs[blob].reshape(*values.shape)
            net.blobs[blob].data[...] = values
        net.reshape()
        net.forward()
        for output, values in zip(net.outputs, session.run(net.outputs, feed)):
            assert_close(values, net.blobs[output].data, 1e-5)


def test_hashes_need_an_operator_of_opset_18():
    net, _ = build("hash_ids")
    with pytest.raises(ConfigError, match=r"HashIds needs ONNX's operator set 18"):
        model_of(net, ExportOptions(opset=17))
