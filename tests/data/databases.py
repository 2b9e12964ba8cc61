"""What the tests of data layers share: nets of one layer, small databases and pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from caffepy import rng
from caffepy.data.pictures import image
from caffepy.data.sources.databases import create_database
from caffepy.data.sources.datum import from_image
from caffepy.proto import caffe_pb2, text
from caffepy.pycaffe.net import Net


def layer(kind: str, options: str, phase: int = caffe_pb2.TRAIN, seed: int = 7, tops: str = "data label") -> Net:
    """A net of one data layer."""
    names = " ".join(f'top: "{top}"' for top in tops.split())
    rng.seed(seed)
    definition = f'layer {{ name: "d" type: "{kind}" {names} {options} }}'
    return Net(text.parse(definition, caffe_pb2.NetParameter()), phase)


def batches(net: Net, count: int) -> list[list[np.ndarray]]:
    """Copies of the tops of the next passes."""
    out = []
    for _ in range(count):
        net.forward_from_to()
        out.append([np.array(net.blobs[name].data) for name in net.top_names["d"]])
    return out


def same(a: list[list[np.ndarray]], b: list[list[np.ndarray]]) -> bool:
    return all(np.array_equal(x, y) for one, two in zip(a, b, strict=True) for x, y in zip(one, two, strict=True))


def pictures(count: int, height: int = 12, width: int = 10, channels: int = 3) -> list[np.ndarray]:
    """Noise, (C, H, W) each."""
    random = np.random.default_rng(3)
    return list(random.integers(0, 256, (count, channels, height, width), np.uint8))


def database(path: Path, images: list[np.ndarray], backend: str = "lmdb") -> Path:
    """Raw records labelled 0, 1, 2, ..."""
    with create_database(path, backend) as put:
        for i, picture in enumerate(images):
            put(b"%04d" % i, from_image(picture, i).SerializeToString())
    return path


def image_list(folder: Path, images: list[np.ndarray]) -> Path:
    """PNG files and a list of them, labelled 0, 1, 2, ..."""
    lines = []
    for i, picture in enumerate(images):
        (folder / f"{i}.png").write_bytes(image.encode(picture, "png"))
        lines.append(f"{folder}/{i}.png {i}\n")
    path = folder / "list.txt"
    path.write_text("".join(lines))
    return path
