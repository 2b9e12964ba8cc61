"""Normalizations and softmax."""

from __future__ import annotations

import numpy as np

from caffepy.export.importing import Building, Op, reads


@reads("BatchNormalization")
def batch_norm(b: Building, op: Op) -> str:
    scale, shift, mean, variance = (op.constant(i) for i in range(1, 5))
    if op.attribute("training_mode", 0):
        raise op.refused("training_mode cannot be imported", "Export the model for inference.")
    norm = b.layer("BatchNorm", b.blob(op), blobs=[mean, variance, np.ones(1)])
    norm.batch_norm_param.eps = op.attribute("epsilon", 1e-5)
    layer = b.layer("Scale", norm.top[0], blobs=[scale, shift])
    layer.scale_param.bias_term = True
    return layer.top[0]


@reads("LayerNormalization")
def layer_norm(b: Building, op: Op) -> str:
    axis, shape = op.axis(-1), op.shape()
    scale = np.broadcast_to(op.constant(1), shape[axis:])
    shift = np.broadcast_to(op.constant(2, np.float32(0)), shape[axis:])
    layer = b.layer("LayerNorm", b.blob(op), blobs=[scale, shift])
    p = layer.layer_norm_param
    p.axis, p.eps, p.elementwise_affine = axis, op.attribute("epsilon", 1e-5), True
    return layer.top[0]


@reads("LRN")
def lrn(b: Building, op: Op) -> str:
    layer = b.layer("LRN", b.blob(op))
    p = layer.lrn_param
    p.local_size, p.alpha = op.attribute("size"), op.attribute("alpha", 1e-4)
    p.beta, p.k = op.attribute("beta", 0.75), op.attribute("bias", 1.0)
    return layer.top[0]


@reads("Softmax", "LogSoftmax")
def softmax(b: Building, op: Op) -> str:
    rank = len(op.shape())
    axis = op.axis(-1 if op.model.opset >= 13 else 1)
    if op.model.opset < 13 and axis != rank - 1 and any(n != 1 for n in op.shape()[axis + 1 :]):
        raise op.refused("a softmax over several axes at once cannot be imported")
    layer = b.layer("Softmax", b.blob(op))
    layer.softmax_param.axis = axis
    return layer.top[0] if op.kind == "Softmax" else b.layer("Log", layer.top[0]).top[0]
