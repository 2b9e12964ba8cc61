"""An ONNX file as it stands: its operators in order, its constants, the shapes of its values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from os import PathLike, fspath
from os.path import dirname
from typing import Any

import numpy as np

from caffepy import limits
from caffepy.errors import ConfigError, SnapshotError
from caffepy.export.extra import needed
from caffepy.files import read_bytes

Shapes = Mapping[str, tuple[int, ...]]

FOLDED = {
    "Add", "Cast", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Expand", "Floor", "Gather", "Identity",
    "Mul", "Range", "Reshape", "Shape", "Slice", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip
"""Operators that are computed while the file is read where all that they need is known."""
SMALL = 1024
"""Elements of a constant that shapes may depend on."""


@dataclass
class ModelFile:
    """What a file holds, for inputs of the shapes in `shapes`."""

    path: str
    name: str
    opset: int
    nodes: list[Any]
    """onnx.NodeProto, in the order in which they run; none whose values are constants."""
    constants: dict[str, np.ndarray]
    shapes: dict[str, tuple[int, ...]]
    inputs: list[str]
    outputs: list[str]
    data: bytes = field(repr=False, default=b"")
    """The model as onnxruntime takes it, with what other files held of it."""


def read_model(path: str | PathLike[str], known: Collection[str], shapes: Shapes | None = None) -> ModelFile:
    """The model in a file, all operators of which are `known`; `shapes` of inputs count before the file's own.

    Raises SnapshotError for files that are truncated, foreign or lack their external data, ConfigError that names the
    node for an operator that is not known, and for inputs of unknown shape.
    """
    onnx, path = needed("onnx", "caffepy import"), fspath(path)
    model = _parsed(onnx, path)
    _load_external(onnx, model, path)
    _check_operators(model, known, path)
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise SnapshotError(f"this is no valid ONNX model: {_first_line(error)}", where=path) from None
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    outputs = [value.name for value in model.graph.output]
    read = ModelFile(path, model.graph.name, opset, [], {}, {}, _inputs(model, shapes or {}, path), outputs)
    read.constants.update(_initializers(onnx, model, path))
    read.data = model.SerializeToString()
    _Walk(onnx, model, read).run()
    return read


def _parsed(onnx: Any, path: str) -> Any:
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(read_bytes(path))
    except DecodeError:
        raise _incomplete(path) from None
    if not model.graph.node or not model.graph.output or not model.opset_import:
        raise _incomplete(path)
    if any(isinstance(name, bytes) for name in _names(model.graph)):  # so protobuf gives what it cannot decode
        raise SnapshotError("a name in this model is no UTF-8 text", where=path)
    return model


def _names(graph: Any) -> Iterator[str | bytes]:
    """Of all that has one."""
    yield graph.name
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        yield value.name
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)


def _incomplete(path: str) -> SnapshotError:
    return SnapshotError("this is no complete ONNX file: truncated, or another kind of file", where=path)


def _load_external(onnx: Any, model: Any, path: str) -> None:
    for tensor in model.graph.initializer:
        if tensor.data_location != tensor.EXTERNAL:
            continue
        file = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        try:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, dirname(path))
            tensor.data_location = tensor.DEFAULT
        except Exception as error:  # of several types, onnx's own among them
            raise SnapshotError(
                f'the values of "{tensor.name}" are in another file, "{file}", which cannot be read: '
                f"{_first_line(error)}",
                where=path,
                hint="Put it beside the model.",
            ) from None
        del tensor.external_data[:]


def _check_operators(model: Any, known: Collection[str], path: str) -> None:
    """All that are not known are named."""
    wrong = [node for node in model.graph.node if node.op_type not in known or node.domain not in ("", "ai.onnx")]
    if not wrong:
        return
    first, *others = (f'node "{name_of(node)}" ({_kind(node)})' for node in wrong)
    more = [f"Nor have: {other}." for other in others[:5]] + [f"{len(others) - 5} more." for _ in others[5:6]]
    raise ConfigError(
        "no layer computes this operator",
        where=f"{path}: {first}",
        hint="\n  ".join(more),
    )


def _kind(node: Any) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type


def name_of(node: Any) -> str:
    """The node's name, or that of its first output where it has none."""
    return node.name or next((name for name in node.output if name), node.op_type)


def _inputs(model: Any, shapes: Shapes, path: str) -> list[str]:
    """The names of what is given from outside; the shapes are written into the model."""
    stored = {tensor.name for tensor in model.graph.initializer}
    given = [value for value in model.graph.input if value.name not in stored]
    names = [value.name for value in given]
    for name in shapes:
        if name not in names:
            raise ConfigError(f'the model has no input "{name}"', where=path, hint=f"Its inputs: {', '.join(names)}.")
    for value in given:
        tensor = value.type.tensor_type
        dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
        found = shapes.get(value.name) or [1 if i == 0 and dim is None else dim for i, dim in enumerate(dims)]
        if (not tensor.HasField("shape") and value.name not in shapes) or any(not dim for dim in found):
            text = ",".join("?" if dim is None else str(dim) for dim in found)
            raise ConfigError(
                f'the shape of the input "{value.name}" is not known: {text or "none is given"}',
                where=path,
                hint=f"Say it: --shape {value.name}=1,3,224,224.",
            )
        del tensor.shape.dim[:]
        for dim in found:
            tensor.shape.dim.add(dim_value=dim)
    del model.graph.value_info[:]  # they may tell of other shapes
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    return names


def _initializers(onnx: Any, model: Any, path: str) -> dict[str, np.ndarray]:
    return {tensor.name: array_of(onnx, tensor, path) for tensor in model.graph.initializer}


def array_of(onnx: Any, tensor: Any, path: str) -> np.ndarray:
    try:
        return onnx.numpy_helper.to_array(tensor)
    except Exception as error:  # of several types
        raise SnapshotError(
            f'the values of "{tensor.name}" do not fill its shape {tuple(tensor.dims)}: {_first_line(error)}',
            where=path,
        ) from None


class _Walk:
    """Through the nodes in their order: those whose values are known now become constants, all get shapes."""

    def __init__(self, onnx: Any, model: Any, read: ModelFile):
        self.onnx, self.model, self.read = onnx, model, read
        self.types = {value.name: value.type for value in model.graph.input}
        for name, values in read.constants.items():
            self.types[name] = self._type(values)

    def _type(self, values: np.ndarray) -> Any:
        number = self.onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
        return self.onnx.helper.make_tensor_type_proto(number, values.shape)

    def run(self) -> None:
        self._note(self.read.inputs)
        for node in self.model.graph.node:
            names = [name for name in node.input if name]
            self.types.update(self._inferred(node, names))
            self._note(node.output)
            values = self._values(node, names)
            if values is None:
                self.read.nodes.append(node)
                continue
            for name, array in zip(node.output, values):
                self.read.constants[name], self.types[name] = array, self._type(array)

    def _note(self, names: Iterable[str]) -> None:
        """Write down the shapes that are known."""
        for name in names:
            tensor = self.types[name].tensor_type if name in self.types else None
            if tensor and tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
                self.read.shapes[name] = tuple(dim.dim_value for dim in tensor.shape.dim)

    def _inferred(self, node: Any, names: list[str]) -> dict[str, Any]:
        onnx, constants = self.onnx, self.read.constants
        small = {name: constants[name] for name in names if name in constants and constants[name].size <= SMALL}
        try:
            return onnx.shape_inference.infer_node_outputs(
                onnx.defs.get_schema(node.op_type, self.read.opset, ""),
                node,
                {name: self.types[name] for name in names if name in self.types},
                {name: onnx.numpy_helper.from_array(values, name) for name, values in small.items()},
                opset_imports=list(self.model.opset_import),
                ir_version=self.model.ir_version,
            )
        except Exception as error:  # of several types, onnx's own among them
            raise self._wrong(node, "its output has no shape", error) from None

    def _values(self, node: Any, names: list[str]) -> list[np.ndarray] | None:
        """The node's outputs if all that they need is known."""
        if node.op_type == "Shape" and names[0] in self.read.shapes:
            ends = {attribute.name: attribute.i for attribute in node.attribute}
            shape = self.read.shapes[names[0]][slice(ends.get("start"), ends.get("end"))]
            return [np.array(shape, np.int64)]
        if node.op_type not in FOLDED or any(name not in self.read.constants for name in names):
            return None
        for name in node.output:
            size = 8 * prod(self.read.shapes.get(name, ()))
            limits.check(size, f'the constant "{name}"', SnapshotError, self.read.path)
        return self._evaluated(node, {name: self.read.constants[name] for name in names})

    def _evaluated(self, node: Any, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        from onnx.reference import ReferenceEvaluator

        helper = self.onnx.helper
        graph = helper.make_graph(
            [node],
            "constant",
            [helper.make_value_info(name, self.types[name]) for name in inputs],
            [helper.make_empty_tensor_value_info(name) for name in node.output],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.read.opset)])
        try:
            return [np.asarray(values) for values in ReferenceEvaluator(model).run(None, inputs)]
        except Exception as error:  # of whatever type NumPy or onnx raises
            raise self._wrong(node, "the constant cannot be computed", error) from None

    def _wrong(self, node: Any, what: str, error: Exception) -> SnapshotError:
        return SnapshotError(f"{what}: {_first_line(error)}", where=f'{self.read.path}: node "{name_of(node)}"')


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
