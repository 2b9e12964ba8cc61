"""VGG: stacks of 3 x 3 convolutions (Simonyan and Zisserman 2014)."""

from __future__ import annotations

from typing import Any

from caffepy import layers as L
from caffepy.net.spec import Top
from models.definitions.blocks import Net, classified, conv_relu, gaussian, inner, pool, relu, start

WIDTHS = (64, 128, 256, 512, 512)
DEPTHS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def stack(n: Net, bottom: Top, number: int, depth: int, first: dict[str, Any] | None = None, **others: Any) -> Top:
    """The convolutions of stage `number`, counted from 1; `first` are settings of its first."""
    top = bottom
    for i in range(1, depth + 1):
        settings = {"pad": 1} | others | ((first or {}) if i == 1 else {})
        names = f"conv{number}_{i}", f"relu{number}_{i}"
        top = conv_relu(n, *names, top, WIDTHS[number - 1], 3, **settings)
    return top


def vgg(depth: int, train: bool) -> Net:
    n = start()
    top = n.data
    for number, count in enumerate(DEPTHS[depth], 1):
        top = pool(n, f"pool{number}", stack(n, top, number, count), 2, 2)
    for number in (6, 7):
        top = relu(n, f"relu{number}", inner(n, f"fc{number}", top, 4096, weight_filler=gaussian(0.005)))
        n[f"drop{number}"] = L.Dropout(top, in_place=True, dropout_ratio=0.5)
        top = n[f"drop{number}"]
    return classified(n, inner(n, "fc8", top, 1000, weight_filler=gaussian(0.01)), train)
