"""An ONNX model written as a deploy prototxt and a caffemodel, after our pass is compared with onnxruntime's."""

from __future__ import annotations

import logging
from os import PathLike, fspath

import numpy as np

from caffepy import passes
from caffepy.errors import SnapshotError
from caffepy.export.extra import needed
from caffepy.export.importing import imported
from caffepy.export.model_file import ModelFile, Shapes
from caffepy.files import atomic_write, check_replaceable, check_writable
from caffepy.net.net import Net
from caffepy.proto import text

log = logging.getLogger("caffepy.import")

LIMIT = 1e-3
"""Of the largest value: what our pass and onnxruntime's may differ by."""


def import_model(
    path: str | PathLike[str],
    definition: str | PathLike[str],
    weights: str | PathLike[str],
    shapes: Shapes | None = None,
) -> dict[str, float]:
    """Write the model at `path` as a prototxt and a caffemodel; the largest difference of each output.

    Raises SnapshotError for files that are no ONNX model or lack parts, and ConfigError that names the node for what
    no layer computes. Nothing is written then.
    """
    for target in (definition, weights):
        check_writable(target)
        hint = "Choose another --output, or add --force."
        check_replaceable(target, "import of this model", lambda path: False, SnapshotError, hint)
    read = imported(path, shapes)
    found = differences(read.net, read.model)
    for name, (largest, relative) in found.items():
        log.info("%s: the largest difference is %.3g, %.3g of the largest value", name, largest, relative)
        if not relative <= LIMIT:
            raise SnapshotError(
                f'the output "{name}" of the layers differs from onnxruntime\'s by {relative:.3g} of its largest value',
                where=fspath(path),
                hint="Nothing was written. Please report the model: it means something that is read wrongly.",
            )
    with atomic_write(fspath(weights)) as of_weights, atomic_write(fspath(definition)) as of_text:
        read.net.save(of_weights)
        with open(of_text, "w", encoding="utf-8") as file:
            file.write(text.to_text(read.definition))
    return {name: largest for name, (largest, _) in found.items()}


def differences(net: Net, model: ModelFile) -> dict[str, tuple[float, float]]:
    """Of each output, the largest difference between onnxruntime and us on random input, absolute and relative."""
    runtime = needed("onnxruntime", "the check of the imported net")
    session = runtime.InferenceSession(model.data, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    types = {value.name: value.type for value in session.get_inputs()}
    inputs = {name: random.standard_normal(net.engine_blobs[name].shape, np.float32) for name in model.inputs}
    for name, kind in types.items():
        if "int" in kind:
            inputs[name] = np.zeros_like(inputs[name])
    given = {name: inputs[name].astype(np.int64 if "int64" in kind else np.int32 if "int32" in kind else np.float32)
             for name, kind in types.items()}  # fmt: skip
    theirs = session.run(model.outputs, given)
    for name, values in inputs.items():
        net.engine_blobs[name].fill(values)
    passes.of(net).forward()
    found = {}
    for name, other in zip(model.outputs, theirs):
        ours = net.engine_blobs[name].host()
        largest = float(np.abs(ours.reshape(other.shape) - other).max()) if ours.size else 0.0
        found[name] = largest, largest / max(float(np.abs(other).max()) if other.size else 0.0, 1e-6)
    return found
