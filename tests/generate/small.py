"""Small nets that say what comes next, with random weights: recurrent, and of attention."""

from __future__ import annotations

from caffepy import Net, set_random_seed
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import TEST, NetParameter

SIZE = 7
_START = """
    layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: 1 }} }} }}
    layer {{ name: "cont" type: "Input" top: "cont" input_param {{ shape {{ dim: 1 dim: 1 }} }} }}
    layer {{ name: "embed" type: "Embed" bottom: "data" top: "embed"
             embed_param {{ input_dim: {size} num_output: 8 bias_term: false {filler} }} }}"""
_FILLER = 'weight_filler { type: "gaussian" std: 1 }'
_RECURRENT = """
    layer {{ name: "rnn" type: "{type}" bottom: "embed" bottom: "cont" top: "h"
             recurrent_param {{ num_output: 8 {filler} }} }}"""
_ATTENTION = """
    layer {{ name: "silence" type: "Silence" bottom: "cont" }}
    layer {{ name: "places" type: "PositionalEmbedding" bottom: "embed" top: "x"
             positional_embedding_param {{ {mode} {filler} }} }}
    layer {{ name: "qkv" type: "InnerProduct" bottom: "x" top: "qkv"
             inner_product_param {{ num_output: 24 axis: 2 {filler} }} }}
    layer {{ name: "attention" type: "Attention" bottom: "qkv" top: "h"
             attention_param {{ num_heads: 2 causal: true }} }}"""
_END = """
    layer {{ name: "score" type: "InnerProduct" bottom: "h" top: "score"
             inner_product_param {{ num_output: {size} axis: 2 {filler} }} }}"""
SOFTMAX = 'layer { name: "prob" type: "Softmax" bottom: "score" top: "prob" softmax_param { axis: 2 } }'
BODIES = {
    "LSTM": _RECURRENT, "GRU": _RECURRENT,
    "ROTARY": _ATTENTION, "LEARNED": _ATTENTION,
}  # fmt: skip


def definition(kind: str, more: str = "", size: int = SIZE, longest: int = 99) -> NetParameter:
    mode = "mode: ROTARY num_heads: 2" if kind == "ROTARY" else f"mode: LEARNED max_length: {longest}"
    body = (_START + BODIES[kind] + _END).format(type=kind, size=size, filler=_FILLER, mode=mode)
    return text.parse(body + more, NetParameter())


def net(kind: str, more: str = "", seed: int = 1, **fields) -> Net:
    set_random_seed(seed)
    return Net(definition(kind, more, **fields), TEST)
