"""Pictures and Caffe's messages as numpy arrays: pycaffe's `caffe.io`.

Pictures are (H, W, K) float32 arrays in [0, 1], channels R, G, B, as scikit-image has them; a net's inputs are
(K, H, W), usually B, G, R in [0, 255]. `Transformer` turns one into the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from os import PathLike, fspath
from typing import Any

import numpy as np

from caffepy.errors import ConfigError, DataError, ShapeError, did_you_mean
from caffepy.proto import caffe_pb2

__all__ = [
    "Transformer", "array_to_blobproto", "array_to_datum", "arraylist_to_blobprotovector_str", "blobproto_to_array",
    "blobprotovector_str_to_arraylist", "caffe_pb2", "datum_to_array", "load_image", "oversample", "resize_image",
]  # fmt: skip


class ArrayShapeError(ShapeError, ValueError):
    """An array of a shape that does not fit; a ValueError, too, as in pycaffe."""


class ArraySizeError(DataError, ValueError):
    """A message that holds another number of values than its shape says; a ValueError, too, as in pycaffe."""


# Messages


def blobproto_to_array(blob: caffe_pb2.BlobProto, return_diff: bool = False) -> np.ndarray:
    """The values of a BlobProto, or its gradient, in the shape it gives (4 axes in old files): float64."""
    data = np.array(blob.diff if return_diff else blob.data, float)
    if not len(data):
        data = np.array(blob.double_diff if return_diff else blob.double_data)
    legacy = any(blob.HasField(field) for field in ("num", "channels", "height", "width"))
    return _shaped(data, (blob.num, blob.channels, blob.height, blob.width) if legacy else blob.shape.dim, "BlobProto")


def array_to_blobproto(arr: Any, diff: Any = None) -> caffe_pb2.BlobProto:
    """A BlobProto of an array of any rank, and of its gradient."""
    arr = np.asarray(arr)
    blob = caffe_pb2.BlobProto()
    blob.shape.dim.extend(arr.shape)
    blob.data.extend(arr.astype(float).flat)
    if diff is not None:
        if np.shape(diff) != arr.shape:
            raise ArrayShapeError(f"the gradient has shape {np.shape(diff)}, the values {arr.shape}")
        blob.diff.extend(np.asarray(diff).astype(float).flat)
    return blob


def arraylist_to_blobprotovector_str(arraylist: Iterable[Any]) -> bytes:
    """Several arrays as the bytes of a BlobProtoVector."""
    return caffe_pb2.BlobProtoVector(blobs=[array_to_blobproto(arr) for arr in arraylist]).SerializeToString()


def blobprotovector_str_to_arraylist(data: bytes) -> list[np.ndarray]:
    """The arrays in the bytes of a BlobProtoVector."""
    vector = caffe_pb2.BlobProtoVector()
    vector.ParseFromString(data)
    return [blobproto_to_array(blob) for blob in vector.blobs]


def array_to_datum(arr: Any, label: int | None = None) -> caffe_pb2.Datum:
    """A Datum of an array (C, H, W): bytes of uint8, else float_data."""
    arr = np.asarray(arr)
    if arr.ndim != 3:
        raise ArrayShapeError(f"a Datum holds an array (C, H, W), got shape {arr.shape}")
    datum = caffe_pb2.Datum(channels=arr.shape[0], height=arr.shape[1], width=arr.shape[2])
    if arr.dtype == np.uint8:
        datum.data = arr.tobytes()
    else:
        datum.float_data.extend(arr.astype(float).flat)
    if label is not None:
        datum.label = label
    return datum


def datum_to_array(datum: caffe_pb2.Datum) -> np.ndarray:
    """The array (C, H, W) of a Datum: uint8 of bytes, float of float_data. The label is `datum.label`.

    An encoded picture is decoded, channels B, G, R.
    """
    if datum.encoded:
        from caffepy.data.pictures.image import decode

        return decode(datum.data, "the Datum", hint="With encoded set, its data is a picture file such as a JPEG.")
    shape = (datum.channels, datum.height, datum.width)
    if datum.data:
        return _shaped(np.frombuffer(datum.data, np.uint8), shape, "Datum").copy()
    return _shaped(np.array(datum.float_data, float), shape, "Datum")


def _shaped(data: np.ndarray, shape: Iterable[int], kind: str) -> np.ndarray:
    shape = tuple(shape)
    if data.size != prod(shape) or min(shape, default=0) < 0:
        raise ArraySizeError(f"the {kind} says that its shape is {shape}, but holds {data.size} values")
    return data.reshape(shape)


# Pictures


def load_image(filename: str | PathLike[str], color: bool = True) -> np.ndarray:
    """A picture as (H, W, 3) of float32 in [0, 1], channels R, G, B; with `color` false a single channel of gray.

    Raises DataError for files that are no pictures, MissingExtraError without Pillow.
    """
    from caffepy.data.pictures import image

    pixels = image.read(fspath(filename), channels=3).transpose(1, 2, 0)[:, :, ::-1].astype(np.float32)
    pixels /= 255
    if not color:  # scikit-image's weights, as pycaffe has them
        pixels = (pixels @ np.array([0.2125, 0.7154, 0.0721], np.float32))[:, :, None]
    return pixels


def resize_image(im: Any, new_dims: Sequence[int], interp_order: int = 1) -> np.ndarray:
    """(H, W, K) of any number of channels, resized to `new_dims` (H, W): float32.

    Nearest neighbour (`interp_order` 0) or linear interpolation (1), with the numbers of pycaffe's two libraries:
    one or three channels are sampled at pixel centres, and what lies beyond the border counts as the smallest value
    of the picture; any other number is sampled such that the corner pixels stay in the corners.
    """
    im = np.asarray(im, np.float32)
    if im.ndim == 2:
        im = im[:, :, None]
    if interp_order not in (0, 1):
        raise ConfigError(f"interp_order must be 0 (nearest) or 1 (linear), got {interp_order}")
    if len(new_dims) != 2 or min(new_dims) < 1:
        raise ArrayShapeError(f"a picture is resized to (height, width), at least 1 each, got {tuple(new_dims)}")
    if not im.size:
        raise ArrayShapeError(f"a picture of shape {im.shape} has no pixels to resize")
    if im.shape[:2] == tuple(new_dims):
        return im.copy()
    centred = im.shape[2] in (1, 3)
    least = im.min() if centred else np.float32(0)
    out = im - least
    for axis, size in enumerate(new_dims):
        out = _resize_axis(out, axis, int(size), interp_order, centred)
    return out + least


def _resize_axis(im: np.ndarray, axis: int, size: int, order: int, centred: bool) -> np.ndarray:
    """One axis resized; zeros lie beyond the border."""
    old = im.shape[axis]
    if size == old:
        return im
    new = np.arange(size)
    at = (new + 0.5) * old / size - 0.5 if centred else new * ((old - 1) / max(size - 1, 1))
    if order == 0:
        return im.take(np.floor(at + 0.5).astype(int).clip(0, old - 1), axis)
    low = np.floor(at).astype(int)
    part = at - low
    out = np.zeros((*im.shape[:axis], size, *im.shape[axis + 1 :]), np.float32)
    for index, weight in ((low, 1 - part), (low + 1, part)):
        weight = np.where((index >= 0) & (index < old), weight, 0).astype(np.float32)
        by_axis = weight.reshape([-1 if a == axis else 1 for a in range(im.ndim)])
        out += im.take(index.clip(0, old - 1), axis) * by_axis
    return out


def oversample(images: Sequence[Any] | np.ndarray, crop_dims: Sequence[int] | np.ndarray) -> np.ndarray:
    """Ten crops of each picture (H, W, K): four corners and the centre, then the same mirrored: (10 N, h, w, K)."""
    stack = np.asarray(images, np.float32)
    if stack.ndim != 4:
        raise ArrayShapeError(f"pictures (N, H, W, K) are expected, got shape {stack.shape}")
    (_, height, width, _), (h, w) = stack.shape, (int(n) for n in crop_dims)
    if h > height or w > width:
        raise ArrayShapeError(f"crops of {h}x{w} do not fit into pictures of {height}x{width}")
    middle = (int(height / 2.0 - h / 2.0), int(width / 2.0 - w / 2.0))
    corners = [(y, x) for y in (0, height - h) for x in (0, width - w)]
    crops = np.stack([stack[:, y : y + h, x : x + w] for y, x in [*corners, middle]], axis=1)
    return np.concatenate([crops, crops[:, :, :, ::-1]], axis=1).reshape(-1, h, w, stack.shape[3])


class Transformer:
    """Turns pictures into a net's inputs and back; `inputs` maps blob names to their shapes (N, K, H, W).

    Steps, each left out unless it is set: resize to (H, W), transpose, swap channels, times raw scale, minus mean,
    times input scale.

        transformer = caffe.io.Transformer({"data": net.blobs["data"].data.shape})
        transformer.set_transpose("data", (2, 0, 1))      # (H, W, K) to (K, H, W)
        transformer.set_channel_swap("data", (2, 1, 0))   # R, G, B to B, G, R
        transformer.set_raw_scale("data", 255)            # [0, 1] to [0, 255]
        transformer.set_mean("data", np.array([104, 117, 123]))
        net.blobs["data"].data[...] = transformer.preprocess("data", caffe.io.load_image("cat.jpg"))
    """

    def __init__(self, inputs: Mapping[str, Sequence[int]]):
        self.inputs = {name: tuple(shape) for name, shape in inputs.items()}
        self.transpose: dict[str, tuple[int, ...]] = {}
        self.channel_swap: dict[str, tuple[int, ...]] = {}
        self.raw_scale: dict[str, float] = {}
        self.mean: dict[str, np.ndarray] = {}
        self.input_scale: dict[str, float] = {}

    def preprocess(self, in_: str, data: Any) -> np.ndarray:
        """The input for blob `in_` of one picture (H, W, K): (K, H, W) of float32."""
        channels, *size = self._shape(in_)[1:]
        out = np.asarray(data, np.float32)
        if out.ndim == 2:
            out = out[:, :, None]
        if out.ndim != 3:
            raise ArrayShapeError(f"a picture (H, W, K) is expected, got shape {out.shape}")
        if out.shape[:2] != tuple(size):
            out = resize_image(out, size)
        if in_ in self.transpose:
            out = out.transpose(self.transpose[in_])
        if len(out) != channels and (in_ in self.channel_swap or in_ in self.mean):
            hint = "" if in_ in self.transpose else f'Put channels first: set_transpose("{in_}", (2, 0, 1)).'
            raise ArrayShapeError(f'"{in_}" needs {channels} channels, the picture gives {len(out)}', hint=hint)
        if in_ in self.channel_swap:
            out = out[list(self.channel_swap[in_])]
        out = np.array(out)
        if in_ in self.raw_scale:
            out *= self.raw_scale[in_]
        if in_ in self.mean:
            out -= self.mean[in_]
        if in_ in self.input_scale:
            out *= self.input_scale[in_]
        return out

    def deprocess(self, in_: str, data: Any) -> np.ndarray:
        """The picture that `preprocess` made this input of (apart from resizing)."""
        self._shape(in_)
        out = np.array(data, np.float32)
        if out.ndim < 3 or out.size != prod(out.shape[-3:]):
            raise ArrayShapeError(f'one input (K, H, W) of "{in_}" is expected, got shape {out.shape}')
        out = out.reshape(out.shape[-3:])
        if in_ in self.input_scale:
            out /= self.input_scale[in_]
        if in_ in self.mean:
            out += self.mean[in_]
        if in_ in self.raw_scale:
            out /= self.raw_scale[in_]
        if in_ in self.channel_swap:
            out = out[np.argsort(self.channel_swap[in_])]
        if in_ in self.transpose:
            out = out.transpose(np.argsort(self.transpose[in_]))
        return out

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """The order of a picture's axes in the input, (2, 0, 1) for (K, H, W)."""
        axes = len(self._shape(in_)) - 1
        if sorted(order) != list(range(axes)):
            raise ArrayShapeError(f'the transpose of "{in_}" needs {axes} axes, got {tuple(order)}')
        self.transpose[in_] = tuple(order)

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """The order of the channels in the input, (2, 1, 0) for B, G, R."""
        channels = self._shape(in_)[1]
        if len(order) != channels or not set(order) <= set(range(channels)):
            raise ArrayShapeError(f'"{in_}" has {channels} channels, got the order {tuple(order)}')
        self.channel_swap[in_] = tuple(order)

    def set_raw_scale(self, in_: str, scale: float) -> None:
        """A factor before the mean is subtracted: 255 for nets that learned from bytes."""
        self._shape(in_)
        self.raw_scale[in_] = scale

    def set_mean(self, in_: str, mean: Any) -> None:
        """What is subtracted: one value a channel (K,), or a picture (K, H, W), resized if need be."""
        shape, mean = self._shape(in_), np.asarray(mean, np.float32)
        if mean.ndim == 1:
            if mean.shape[0] not in (1, shape[1]):
                raise ArrayShapeError(f'"{in_}" has {shape[1]} channels, the mean {mean.shape[0]}')
            mean = mean[:, None, None]
        else:
            mean = mean[None] if mean.ndim == 2 else mean
            if mean.ndim != 3 or mean.shape[0] != shape[1]:
                raise ArrayShapeError(f'the mean has shape {mean.shape}, "{in_}" needs {shape[1:]}')
            if mean.shape != shape[1:]:
                mean = resize_image(mean.transpose(1, 2, 0), shape[2:]).transpose(2, 0, 1)
        self.mean[in_] = mean

    def set_input_scale(self, in_: str, scale: float) -> None:
        """A factor after the mean is subtracted."""
        self._shape(in_)
        self.input_scale[in_] = scale

    def _shape(self, in_: str) -> tuple[int, ...]:
        if in_ not in self.inputs:
            known = did_you_mean(in_, self.inputs) or f"Inputs: {', '.join(self.inputs)}."
            raise ConfigError(f'"{in_}" is not one of the inputs', hint=known)
        return self.inputs[in_]
