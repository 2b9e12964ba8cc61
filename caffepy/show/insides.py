"""Pictures of a net's insides: filters, feature maps, what an answer depends on; and of its mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from caffepy.arrays.predict import predict
from caffepy.data.pictures.image import encode
from caffepy.data.pictures.tiles import tiles
from caffepy.errors import ConfigError, ShapeError, did_you_mean
from caffepy.files import atomic_write
from caffepy.net.net import Net
from caffepy.show.pictures import pyplot

_MOST = 256


def filters(net: Net, layer: str = "") -> np.ndarray:
    """The filters of a layer as a picture (3, H, W), in colour where they read three channels.

    By default of the first layer that has some; of deeper ones each filter's first channels, a map each.
    """
    of_layers = {one.name: one.blobs[0].host() for one in net.layers if one.blobs and len(one.blobs[0].shape) == 4}
    if not of_layers:
        raise ConfigError("the net has no layer with filters")
    if layer and layer not in of_layers:
        hint = did_you_mean(layer, of_layers) or f"Layers with filters: {', '.join(of_layers)}."
        raise ConfigError(f'no layer with filters is called "{layer}"', hint=hint)
    values = of_layers[layer or next(iter(of_layers))]
    if values.shape[1] != 3:
        values = values.reshape(-1, 1, *values.shape[2:])
    return tiles(values[:_MOST], 32)


def feature_maps(net: Net, x: np.ndarray, blob: str) -> np.ndarray:
    """What a picture (C, H, W) becomes in a blob, as a picture (3, H, W): a map for each channel."""
    values = predict(net, x[None], 1, blob)[0]
    if values.ndim != 3:
        raise ShapeError(
            f'the blob "{blob}" is {values.shape} for a picture: it has no maps', hint="Name a blob (C, H, W)."
        )
    return tiles(values[:_MOST, None], 48)


def occlusion(net: Net, x: np.ndarray, size: int, stride: int, blob: str, which: int | None = None) -> np.ndarray:
    """How much the value `which` of an output falls where a square of the picture is covered by its mean: (H, W).

    `which` is by default the largest (Zeiler and Fergus 2014). Each place has the mean over the squares that cover it.
    """
    _, height, width = x.shape
    tops, lefts = (sorted({*range(0, max(1, n - size + 1), stride), max(0, n - size)}) for n in (height, width))
    places = [(top, left) for top in tops for left in lefts]
    before = predict(net, x[None], 1, blob)[0].reshape(-1)
    k = int(before.argmax()) if which is None else which
    if not 0 <= k < len(before):
        raise ConfigError(f'"{blob}" has values 0 .. {len(before) - 1}, not {k}')
    falls, counts = np.zeros((2, height, width))
    for start in range(0, len(places), 32):
        some = places[start : start + 32]
        covered = np.repeat(x[None], len(some), axis=0)
        for picture, (top, left) in zip(covered, some):
            picture[:, top : top + size, left : left + size] = x.mean(axis=(1, 2), keepdims=True)
        after = predict(net, covered, len(some), blob).reshape(len(some), -1)[:, k]
        for (top, left), fall in zip(some, before[k] - after):
            falls[top : top + size, left : left + size] += fall
            counts[top : top + size, left : left + size] += 1
    return falls / np.maximum(counts, 1)


def overlay(x: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The picture beside itself in grey with what it depends on in red: (3, H, W)."""
    plain = tiles(x[None] if x.shape[0] in (1, 3) else x[None, :1], 128)
    factor = plain.shape[1] // x.shape[1]
    shares = np.clip(heat / max(heat.max(), 1e-12), 0, 1)
    shares = np.repeat(np.repeat(shares, factor, axis=0), factor, axis=1)
    grey = np.repeat(plain.mean(axis=0, keepdims=True), 3, axis=0)
    red = np.array([0, 0, 255.0]).reshape(3, 1, 1)
    mixed = (grey * (1 - 0.7 * shares) + red * 0.7 * shares).astype(np.uint8)
    return np.concatenate([plain, mixed], axis=2)


def save(picture: np.ndarray, path: str | PathLike[str]) -> None:
    """Write (3, H, W) as the kind of file that the name says."""
    encoded = encode(picture, Path(path).suffix or "png")
    with atomic_write(path) as temporary:
        Path(temporary).write_bytes(encoded)


def confusion(counts: np.ndarray, names: Sequence[str], path: str | PathLike[str]) -> None:
    """A confusion matrix [label, prediction] as a picture; rows are shaded by shares, cells have counts."""
    plot = pyplot("A picture of a confusion matrix")
    size = max(4.0, 0.45 * len(names))
    figure, axis = plot.subplots(figsize=(size + 1, size))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axis.set(xlabel="prediction", ylabel="label")
    axis.set_xticks(range(len(names)), names, rotation=90)
    axis.set_yticks(range(len(names)), names)
    if len(names) <= 40:
        for i, j in np.argwhere(counts):
            color = "white" if shares[i, j] > 0.5 else "black"
            axis.text(j, i, f"{counts[i, j]:g}", ha="center", va="center", color=color, fontsize="small")
    figure.tight_layout()
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix.lstrip(".") or "png")
    plot.close(figure)
