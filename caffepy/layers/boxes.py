"""Boxes as offsets from priors, on the host."""

from __future__ import annotations

import numpy as np

from caffepy.data.pictures.boxes import Array
from caffepy.proto.caffe_pb2 import PriorBoxParameter

Code = PriorBoxParameter.CodeType


def _centres(boxes: Array) -> tuple[Array, Array]:
    """Centres and sizes, x and y each."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]


def decode(code: Code, offsets: Array, priors: Array, variances: Array | float = 1.0) -> Array:
    """Boxes (..., 4) from offsets l and priors, v the variances.

    CORNER: prior + v l. CORNER_SIZE: prior + v l size. CENTER_SIZE: centre + v l size, and exp(v l) size.
    """
    scaled = offsets * variances
    if code == PriorBoxParameter.CORNER:
        return priors + scaled
    centre, size = _centres(priors)
    if code == PriorBoxParameter.CORNER_SIZE:
        return priors + scaled * np.concatenate([size, size], axis=-1)
    centre, half = centre + scaled[..., :2] * size, np.exp(scaled[..., 2:]) * size / 2
    return np.concatenate([centre - half, centre + half], axis=-1)


def encode(code: Code, boxes: Array, priors: Array, variances: Array | float = 1.0) -> Array:
    """The offsets that `decode` makes `boxes` of."""
    if code == PriorBoxParameter.CORNER:
        return (boxes - priors) / variances
    centre, size = _centres(priors)
    if code == PriorBoxParameter.CORNER_SIZE:
        return (boxes - priors) / np.concatenate([size, size], axis=-1) / variances
    own_centre, own_size = _centres(boxes)
    return np.concatenate([(own_centre - centre) / size, np.log(own_size / size)], axis=-1) / variances
