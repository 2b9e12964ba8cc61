"""Convolutions and products with weights."""

from __future__ import annotations

import numpy as np

from caffepy.export.importing import Building, Op, reads
from caffepy.proto.caffe_pb2 import ConvolutionParameter


@reads("Conv")
def conv(b: Building, op: Op) -> str:
    weights, bias = op.constant(1), op.constant(2)
    p = _convolution(b, op, "Convolution", weights, bias, weights.shape[0])
    source, around = b.padded.get(op.inputs[0], ("", []))
    pads = _pads(op, weights.shape[2:])
    if source:
        n = len(pads) // 2
        if any((*around[:2], *around[n + 2 : n + 4])):
            raise op.refused("its input has zeros around it on other axes than the spatial ones")
        pads = [p + q for p, q in zip(pads, [*around[2 : n + 2], *around[n + 4 :]])]
    _set_pads(op, p.convolution_param, pads)
    if source:
        p.bottom[0] = source
    return p.top[0]


@reads("ConvTranspose")
def conv_transpose(b: Building, op: Op) -> str:
    weights, bias = op.constant(1), op.constant(2)
    group = op.attribute("group", 1)
    if any(op.attribute("output_padding", [])) or op.attribute("output_shape"):
        raise op.refused("a Deconvolution has no output_padding and no output_shape")
    p = _convolution(b, op, "Deconvolution", weights, bias, weights.shape[1] * group)
    _set_pads(op, p.convolution_param, _pads(op, weights.shape[2:]))
    return p.top[0]


def _convolution(b: Building, op: Op, kind: str, weights: np.ndarray, bias: np.ndarray | None, outputs: int):
    given = b.padded.get(op.inputs[0])
    bottom = given[0] if given and kind == "Convolution" else b.blob(op)
    layer = b.layer(kind, bottom, blobs=[weights, *([] if bias is None else [bias])])
    p = layer.convolution_param
    p.num_output = outputs
    p.kernel_size.extend(_short(weights.shape[2:]))
    for field, name in ((p.stride, "strides"), (p.dilation, "dilations")):
        values = op.attribute(name, [1])
        field.extend(_short(values) if any(value != 1 for value in values) else [])
    if (group := op.attribute("group", 1)) != 1:
        p.group = group
    if bias is None:
        p.bias_term = False
    return layer


def _short(values) -> list[int]:
    """Once where all are one."""
    values = [int(value) for value in values]
    return values[:1] if len(set(values)) == 1 else values


def _pads(op: Op, kernel: tuple[int, ...]) -> list[int]:
    """Begins, then ends, of the spatial axes."""
    how, axes = op.attribute("auto_pad", "NOTSET"), len(kernel)
    if how in ("NOTSET", "VALID"):
        return list(op.attribute("pads", [0] * 2 * axes))
    if op.kind == "ConvTranspose":
        raise op.refused(f"auto_pad {how} of a ConvTranspose cannot be imported")
    stride, dilation = op.attribute("strides", [1] * axes), op.attribute("dilations", [1] * axes)
    begins, ends = [], []
    for n, out, k, s, d in zip(op.shape()[2:], op.out()[2:], kernel, stride, dilation):
        total = max(0, (out - 1) * s + d * (k - 1) + 1 - n)
        less, more = total // 2, total - total // 2
        begins.append(less if how == "SAME_UPPER" else more)
        ends.append(more if how == "SAME_UPPER" else less)
    return begins + ends


def _set_pads(op: Op, p: ConvolutionParameter, pads: list[int]) -> None:
    half = len(pads) // 2
    if pads[:half] != pads[half:]:
        raise op.refused(f"the padding {pads} differs at the two ends of an axis, which no layer has")
    if any(pads):
        p.pad.extend(_short(pads[:half]))


@reads("Gemm")
def gemm(b: Building, op: Op) -> str:
    weights, bias = op.constant(1), op.constant(2)
    if op.attribute("transA", 0):
        raise op.refused("transA cannot be imported")
    weights = weights if op.attribute("transB", 0) else weights.T
    weights = weights * np.float32(op.attribute("alpha", 1.0))
    if bias is not None:
        bias = bias * np.float32(op.attribute("beta", 1.0))
    return inner_product(b, op, b.blob(op), weights, bias)


def inner_product(b: Building, op: Op, bottom: str, weights: np.ndarray, bias: np.ndarray | None, axis: int = 1) -> str:
    """weights (O, K), the bias anything that broadcasts to (O)."""
    outputs = weights.shape[0]
    if bias is not None:
        if bias.size not in (1, outputs):
            raise op.refused(f"a bias of shape {bias.shape} for {outputs} outputs cannot be imported")
        bias = np.broadcast_to(bias.reshape(-1), (outputs,))
    layer = b.layer("InnerProduct", bottom, blobs=[weights, *([] if bias is None else [bias])])
    p = layer.inner_product_param
    p.num_output = outputs
    if bias is None:
        p.bias_term = False
    if axis != 1:
        p.axis = axis
    return layer.top[0]


@reads("MatMul")
def matmul(b: Building, op: Op) -> str:
    weights, rank = op.constant(1), len(op.shape())
    if weights.ndim != 2 or rank < 2:
        raise op.refused(f"a product of shapes {op.shape()} and {weights.shape} cannot be imported")
    return inner_product(b, op, b.blob(op), weights.T, None, rank - 1)


@reads("Gather")
def gather(b: Building, op: Op) -> str:
    """Rows of a table, chosen items, or constant channels in another order."""
    axis = op.axis(0)
    if op.is_constant(0) and not op.is_constant(1):
        table = op.constant(0)
        if axis or table.ndim != 2:
            raise op.refused("only rows of a matrix can be gathered")
        layer = b.layer("Embed", b.blob(op, 1), blobs=[table])
        p = layer.embed_param
        p.input_dim, p.num_output = table.shape
        p.bias_term = False
        return layer.top[0]
    if not op.is_constant(1):
        if axis or len(op.shape(1)) != 1:
            raise op.refused("only whole items can be gathered by computed numbers")
        return b.layer("BatchReindex", b.blob(op), b.blob(op, 1)).top[0]
    return _chosen(b, op, axis, np.asarray(op.constant(1)))


def _chosen(b: Building, op: Op, axis: int, numbers: np.ndarray) -> str:
    from caffepy.export.importers.shapes import cut, reshaped

    size = op.shape()[axis]
    order = [int(i) % size for i in numbers.reshape(-1)]
    if numbers.ndim > 1 or len(order) > 64 or size > 64:
        raise op.refused(f"{len(order)} entries of an axis of {size} cannot be gathered by layers")
    blob = b.blob(op)
    parts = {i: cut(b, op, blob, axis, i, i + 1) for i in dict.fromkeys(order)} if size > 1 else {0: blob}
    if len(order) == 1:
        top = parts[order[0]]
    else:
        layer = b.layer("Concat", *(parts[i] for i in order))
        layer.concat_param.axis = axis
        top = layer.top[0]
    return top if numbers.ndim else reshaped(b, op, top, op.out())
