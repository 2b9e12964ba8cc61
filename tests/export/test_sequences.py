"""Recurrent nets, attention and steps: onnxruntime computes what we do."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from caffepy.errors import ConfigError
from caffepy.export.onnx_file import ExportOptions
from tests.export.support import build, computed, noise, ours
from tests.support import assert_close

T, N, C = 4, 3, 6
OPSETS = [13, 17, 21]


def check(layers: str, opset: int = 17, dynamic: bool = False, **inputs: np.ndarray) -> None:
    text = "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ '
        + " ".join(f"dim: {d}" for d in values.shape) + " } } }"
        for name, values in inputs.items()
    )  # fmt: skip
    net = build(text + layers)
    random = np.random.default_rng(1)
    for layer in net.layers:
        for blob in layer.blobs:
            blob.fill(random.standard_normal(blob.shape) * 0.5)
    given = {name: np.asarray(values, np.float32) for name, values in inputs.items()}
    options = ExportOptions(opset=opset, dynamic_batch=dynamic)
    found = computed(net, given, options)
    for name, values in ours(net, given).items():
        assert_close(found[name], values, 2e-5)
    if dynamic:  # a batch of another size
        other = {name: np.concatenate([values, values[:1]]) for name, values in given.items()}
        found = computed(net, other, options)
        for name, values in ours(net, other).items():
            assert_close(found[name], values, 2e-5)


MARKERS = np.array([[0, 1, 0], [1, 1, 1], [1, 0, 1], [0, 1, 1]])
LENGTHS = np.array([4, 1, 2])
STATES = {"RNN": ["h"], "LSTM": ["h", "c"], "GRU": ["h"]}


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("mask", ["", "markers", "lengths", "lengths padding: LEFT"])
@pytest.mark.parametrize("fields", ["", "direction: REVERSE", "direction: BIDIRECTIONAL num_layers: 2"])
@pytest.mark.parametrize("kind", STATES)
def test_recurrent(kind, fields, mask, opset):
    more = {"m": MARKERS if mask == "markers" else LENGTHS} if mask else {}
    named, padding = "".join(f'bottom: "{name}" ' for name in more), mask.partition(" ")[2]
    check(
        f'layer {{ name: "r" type: "{kind}" bottom: "x" {named} top: "y" '
        f"recurrent_param {{ num_output: 5 {fields} {padding} }} }}",
        opset, x=noise(T, N, C), **more,
    )  # fmt: skip


@pytest.mark.parametrize("mask", ["markers", "lengths"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", STATES)
def test_states_and_static_input(kind, layers, mask):
    names = STATES[kind]
    states = {f"{name}0": noise(2 * layers, N, 5, seed=i) for i, name in enumerate(names)}
    bottoms = "".join(f'bottom: "{name}" ' for name in ("x", "m", "s", *states))
    tops = "".join(f'top: "{name}" ' for name in ("y", *names))
    fields = f"num_output: 5 expose_hidden: true direction: BIDIRECTIONAL num_layers: {layers}"
    check(
        f'layer {{ name: "r" type: "{kind}" {bottoms} {tops} recurrent_param {{ {fields} }} }}',
        x=noise(T, N, C), m=MARKERS if mask == "markers" else LENGTHS, s=noise(N, 2), **states,
    )  # fmt: skip


def test_peephole_and_what_has_no_operator():
    form = 'layer {{ name: "r" type: "LSTM" bottom: "x" top: "y" recurrent_param {{ num_output: 5 {} }} }}'
    check(form.format("peephole: true direction: BIDIRECTIONAL"), x=noise(T, N, C))
    with pytest.raises(ConfigError, match="an LSTM with layer_norm has no operator in ONNX"):
        check(form.format("layer_norm: true"), x=noise(T, N, C))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("causal", ["", "causal: true"])
@pytest.mark.parametrize("mask", ["", "lengths", "keys"])
@pytest.mark.parametrize("axis", [0, 1])
def test_attention(axis, mask, causal, opset):
    def shaped(*shape):
        return noise(*shape) if axis == 0 else np.swapaxes(noise(*shape), 0, 1)

    more = {"m": np.array([5, 0, 2]) if mask == "lengths" else (shaped(5, N) > 0).astype("f4")} if mask else {}
    fields = f"attention_param {{ num_heads: 2 axis: {axis} {causal} }}"
    named = "".join(f'bottom: "{name}" ' for name in ("q", "k", "v", *more))
    check(
        f'layer {{ name: "a" type: "Attention" {named} top: "y" {fields} }}',
        opset, dynamic=axis == 1, q=shaped(T, N, C), k=shaped(5, N, C), v=shaped(5, N, 8), **more,
    )  # fmt: skip
    check(
        f'layer {{ name: "a" type: "Attention" bottom: "x" top: "y" {fields} }}',
        opset, dynamic=axis == 1, x=shaped(T, N, 3 * C),
    )  # fmt: skip


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(
    "mode", ["LEARNED max_length: 7", "SINUSOIDAL", "ROTARY num_heads: 3", "ROTARY interleaved: true"]
)
def test_positions(mode, axis):
    text = 'layer {{ name: "p" type: "PositionalEmbedding" bottom: "x" top: "y" positional_embedding_param {{ {} }} }}'
    check(text.format(f"mode: {mode} axis: {axis}"), dynamic=axis == 1, x=noise(T, N, C))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("mask", ["", "lengths", "markers"])
@pytest.mark.parametrize("kind", ["Reverse", "LastStep", "SelectStep"])
def test_steps(kind, mask, axis, opset):
    shape, items = ((T, N, 2, 3), N) if axis == 0 else ((N, T, 2, 3), N)
    given = {"lengths": np.array([4, 0, 2][:items]), "markers": (noise(*shape[:2]) > 0).astype("f4")}.get(mask)
    if kind == "SelectStep" and mask:
        given = np.array([3, 0, 2])
    more = {} if given is None else {"m": given}
    field = "reverse_param" if kind == "Reverse" else "select_step_param"
    named = 'bottom: "m"' if more else ""
    check(
        f'layer {{ name: "s" type: "{kind}" bottom: "x" {named} top: "y" {field} {{ axis: {axis} }} }}',
        opset, dynamic=axis == 1, x=noise(*shape), **more,
    )  # fmt: skip


def test_a_transformer_block():
    """Embeddings, positions, normalization, attention, GELU: a gpt in little, with a batch of any size."""
    check(
        """
        layer { name: "e" type: "Embed" bottom: "x" top: "e" embed_param { input_dim: 9 num_output: 6 } }
        layer { name: "p" type: "PositionalEmbedding" bottom: "e" top: "p"
          positional_embedding_param { max_length: 5 axis: 1 } }
        layer { name: "n" type: "LayerNorm" bottom: "p" top: "n" layer_norm_param { elementwise_affine: true axis: 2 } }
        layer { name: "i" type: "InnerProduct" bottom: "n" top: "i" inner_product_param { num_output: 18 axis: 2 } }
        layer { name: "a" type: "Attention" bottom: "i" top: "a" attention_param { num_heads: 2 causal: true axis: 1 } }
        layer { name: "s" type: "Eltwise" bottom: "p" bottom: "a" top: "s" }
        layer { name: "f" type: "InnerProduct" bottom: "s" top: "f" inner_product_param { num_output: 12 axis: 2 } }
        layer { name: "g" type: "GELU" bottom: "f" top: "f" }
        layer { name: "o" type: "InnerProduct" bottom: "f" top: "o" inner_product_param { num_output: 9 axis: 2 } }
        layer { name: "y" type: "Softmax" bottom: "o" top: "y" softmax_param { axis: 2 } }
        """,
        dynamic=True,
        x=np.random.default_rng(1).integers(0, 9, (N, T)).astype("f4"),
    )
