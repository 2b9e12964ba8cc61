"""Caffe's layers, one small file a layer or family; importing a file registers its types.

For pycaffe's scripts, `layers.Convolution(bottom, num_output=20)` and the like describe a layer: see
`caffepy.net_spec`.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    if not name[:1].isupper():
        raise AttributeError(f"module 'caffepy.layers' has no attribute {name!r}")
    from caffepy.net.spec import layers

    return getattr(layers, name)
