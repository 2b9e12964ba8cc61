"""A net as an ONNX file: converted, checked with onnxruntime against our own pass, then written whole."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from os import PathLike, fspath
from typing import Any

import numpy as np

from caffepy import passes
from caffepy.errors import ConfigError, SnapshotError
from caffepy.export.convert import Converted, Dims, convert
from caffepy.export.extra import needed
from caffepy.export.onnx_graph import FLOAT, OnnxGraph
from caffepy.export.piece import Piece
from caffepy.export.transform import Transform
from caffepy.files import atomic_write, check_writable
from caffepy.net.net import Net

log = logging.getLogger("caffepy.export")

NEWEST, OLDEST = 21, 13
"""Opsets that are written: the newest that we know, the oldest whose operators the converters use."""


@dataclass
class ExportOptions:
    """How a net is exported."""

    opset: int | None = None
    """Of ONNX's standard operators; None: the newest that onnxruntime here runs, at most NEWEST."""
    dynamic_batch: bool = True
    half: bool = False
    transform: Transform | None = None
    """Mean, scale and channel order, built in before the first input."""


def model_of(net: Net, options: ExportOptions | None = None, layers: Sequence[int] | None = None) -> Any:
    """The onnx.ModelProto of a net in the TEST phase, or of some of its layers (see `Piece`).

    Raises ConfigError for a layer that cannot be exported, and MissingExtraError without the extra `onnx`.
    """
    options = options or ExportOptions()
    onnx = needed("onnx", "ONNX export")
    made = convert(Piece(net, layers), options.opset or _opset(), options.dynamic_batch)
    if options.transform is not None:
        options.transform.write(made.graph, net)
    _drop_unused(made.graph)
    model = _message(onnx, net.name or "net", made)
    if options.half:
        model = _halved(model, made.graph)
    onnx.checker.check_model(model)
    return model


def export(net: Net, path: str | PathLike[str], options: ExportOptions | None = None) -> dict[str, float]:
    """Write the net to `path` as ONNX; the largest difference of each output to ours, of its largest value.

    Nothing is written if the two differ by more than they may.
    """
    options = options or ExportOptions()
    check_writable(path)
    model = model_of(net, options)
    data = model.SerializeToString()
    found = differences(net, data, options)
    limit = 0.05 if options.half else 1e-3
    for name, (largest, relative) in found.items():
        log.info("%s: the largest difference is %.3g, %.3g of the largest value", name, largest, relative)
        if not relative <= limit:
            raise SnapshotError(
                f'the output "{name}" of onnxruntime differs from ours by {relative:.3g} of its largest value',
                where=fspath(path),
                hint="Nothing was written. Please report the net: this is a mistake of caffepy's or onnxruntime's.",
            )
    with atomic_write(fspath(path)) as temporary, open(temporary, "wb") as file:
        file.write(data)
    return {name: largest for name, (largest, _) in found.items()}


def differences(net: Net, data: bytes, options: ExportOptions) -> dict[str, tuple[float, float]]:
    """Of each output, the largest difference between onnxruntime and us on random input, absolute and relative."""
    runtime = needed("onnxruntime", "the check of the exported net")
    session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    inputs = {name: random.standard_normal(net.engine_blobs[name].shape, np.float32) for name in net.inputs}
    known = {value.name for value in session.get_inputs()}
    theirs = session.run(net.outputs, {name: values for name, values in inputs.items() if name in known})
    with net.lock:
        for name, values in inputs.items():
            first = options.transform is not None and name == net.inputs[0]
            net.engine_blobs[name].fill(options.transform.applied(values) if first else values)  # type: ignore[union-attr]
        passes.of(net).forward()
        found = {}
        for name, other in zip(net.outputs, theirs):
            ours = net.engine_blobs[name].host()
            if ours.shape != other.shape:
                found[name] = float("inf"), float("inf")
                continue
            largest = float(np.abs(ours - other).max()) if ours.size else 0.0
            found[name] = largest, largest / max(float(np.abs(ours).max()) if ours.size else 0.0, 1e-6)
    return found


def _halved(model: Any, graph: OnnxGraph) -> Any:
    """In float16. Raises ConfigError for layers whose numbers are cast from others, boxes among them."""
    for operator in graph.operators:
        if operator.kind == "Cast" and operator.attributes["to"] == FLOAT:
            raise ConfigError(
                f'layer "{operator.name.rpartition("/")[0]}" computes indices or boxes, which float16 cannot hold',
                hint="Leave out --half.",
            )
    float16 = needed("onnxconverter_common.float16", "--half")
    return float16.convert_float_to_float16(model, keep_io_types=True)


@cache
def _opset() -> int:
    """The newest opset that onnxruntime here runs, as far as the converters know it."""
    onnx, runtime = needed("onnx", "ONNX export"), needed("onnxruntime", "ONNX export")
    newest = min(NEWEST, onnx.defs.onnx_opset_version())
    for opset in range(newest, OLDEST - 1, -1):
        probe = onnx.helper.make_model(
            onnx.helper.make_graph(
                [onnx.helper.make_node("Identity", ["x"], ["y"])],
                "probe",
                [onnx.helper.make_tensor_value_info("x", FLOAT, [1])],
                [onnx.helper.make_tensor_value_info("y", FLOAT, [1])],
            ),
            opset_imports=[onnx.helper.make_opsetid("", opset)],
            ir_version=_ir_version(opset),
        )
        try:
            runtime.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
            return opset
        except Exception:  # of types of its own
            continue
    raise ConfigError(f"onnxruntime here runs no opset from {OLDEST} to {newest}", hint="Upgrade onnxruntime.")


def _ir_version(opset: int) -> int:
    """The version of the format in which the opset came."""
    return 7 if opset <= 14 else 8 if opset <= 18 else 9 if opset <= 20 else 10


def _drop_unused(graph: OnnxGraph) -> None:
    used = {name for operator in graph.operators for name in operator.inputs}
    graph.constants = {name: values for name, values in graph.constants.items() if name in used}


def _message(onnx: Any, name: str, converted: Converted) -> Any:
    def values(shapes: dict[str, Dims]) -> list[Any]:
        named = {name: ["batch" if dim is None else dim for dim in dims] for name, dims in shapes.items()}
        return [onnx.helper.make_tensor_value_info(name, FLOAT, dims) for name, dims in named.items()]

    graph = converted.graph
    nodes = [
        onnx.helper.make_node(op.kind, op.inputs, op.outputs, name=op.name, **op.attributes) for op in graph.operators
    ]
    constants = [onnx.numpy_helper.from_array(values, name) for name, values in graph.constants.items()]
    made = onnx.helper.make_graph(nodes, name, values(converted.inputs), values(converted.outputs), constants)
    return onnx.helper.make_model(
        made,
        opset_imports=[onnx.helper.make_opsetid("", graph.opset)],
        ir_version=_ir_version(graph.opset),
        producer_name="caffepy",
    )
