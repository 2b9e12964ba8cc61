"""What layers with labels share: reading them, ignoring some, refusing others, normalizing a loss."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from caffepy.data import class_names
from caffepy.errors import CaffeError, DataError, ShapeError
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import Layer
from caffepy.proto.caffe_pb2 import LossParameter


def read_labels(
    layer: Layer,
    labels: Array,
    num_classes: int,
    ignore: int | None,
    name: str,
    shape: tuple[int, ...] | None = None,
) -> Array:
    """Labels as integers, truncated towards zero; ignored ones become 0.

    Raises DataError for a label outside 0 .. num_classes - 1 (and not `ignore`), with its position in `shape`,
    the shape that the user knows them in.
    """
    known_as = tuple(labels.shape) if shape is None else shape

    def error(i: int, label: float) -> DataError:
        return DataError(
            f"label {label:g} at position {position(i, known_as)} of {name} is outside 0 .. {num_classes - 1}",
            hint=f"The net distinguishes {num_classes} classes: correct the labels or num_output.",
        )

    return read_indices(layer, labels, num_classes, error, ignore)


def read_indices(
    layer: Layer,
    given: Array,
    size: int,
    error: Callable[[int, float], CaffeError],
    ignore: int | None = None,
) -> Array:
    """`given` as integers, truncated towards zero; `error(i, value)` for entry i outside 0 .. size - 1.

    Those that are ignored become 0, as do wrong ones on an engine that raises the error later.
    """
    xp = layer.xp
    whole = xp.trunc(given)
    inside = (whole >= 0) & (whole < size)
    wrong = ~inside
    if ignore is not None:
        kept = whole != ignore
        inside, wrong = inside & kept, wrong & kept
    layer.engine.refuse(layer, wrong, given, error)
    # Chosen before the conversion, which numpy warns of for NaN.
    return xp.astype(xp.where(inside, whole, xp.zeros_like(whole)), xp.int64)


def position(number: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The index of entry `number`, in C order, of an array of this shape."""
    index: list[int] = []
    for n in reversed(shape):
        number, i = divmod(number, n)
        index.insert(0, i)
    return tuple(index)


def names(file: str, classes: int) -> list[str]:
    """Those of the classes in a `labels_file`; without one their numbers."""
    return class_names.read(file, classes) if file else [str(i) for i in range(classes)]


def ignored_label(loss_param) -> int | None:
    return loss_param.ignore_label if loss_param.HasField("ignore_label") else None


def normalization(param: LossParameter, default: LossParameter.NormalizationMode) -> LossParameter.NormalizationMode:
    """The mode that the fields ask for; the old `normalize` counts only without `normalization`."""
    if param.HasField("normalization"):
        return param.normalization
    if param.HasField("normalize"):
        return LossParameter.VALID if param.normalize else LossParameter.BATCH_SIZE
    return default


def normalizer(
    xp, mode: LossParameter.NormalizationMode, full: int, batch: int, valid: Array, fixed: float = 1.0
) -> Array | float:
    """What the summed loss is divided by: never less than 1.

    `valid` counts the labels that are not ignored, `fixed` is `pre_fixed_normalizer`.
    """
    if mode == LossParameter.VALID:
        return xp.maximum(xp.astype(valid, xp.float32), 1.0)
    divisors = {LossParameter.FULL: full, LossParameter.BATCH_SIZE: batch, LossParameter.PRE_FIXED: fixed}
    return float(max(1, divisors.get(mode, 1)))


def check_label_count(layer, bottom: list[Blob], axis: int) -> tuple[int, int]:
    """One label for each position outside the class axis; the sizes before and after that axis."""
    shape = bottom[0].shape
    outer, inner = prod(shape[:axis]), prod(shape[axis + 1 :])
    if bottom[1].count != outer * inner:
        expected = (*shape[:axis], *shape[axis + 1 :])
        raise ShapeError(
            f"the labels {layer.bottom_name(1)} have shape {bottom[1].shape}, but {layer.bottom_name(0)} {shape} with "
            f"classes on axis {axis} needs one label for each of {outer * inner} positions, {expected}"
        )
    return outer, inner
