"""Crop, mirror, mean and scale, against the formula spelled out pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy import TEST, TRAIN, rng
from caffepy.data.pictures.data_transformer import Choice, DataTransformer, read_mean
from caffepy.errors import ConfigError, DataError, ShapeError
from caffepy.proto.caffe_pb2 import BlobProto, TransformationParameter
from caffepy.proto.text import parse

SHAPE = (3, 6, 5)
MEAN = np.random.default_rng(0).integers(0, 9, SHAPE).astype("f4")


def build(text: str, phase: int = TRAIN) -> DataTransformer:
    return DataTransformer(parse(text, TransformationParameter()), phase)


@pytest.fixture
def mean_file(tmp_path):
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(BlobProto(num=1, channels=3, height=6, width=5, data=MEAN.ravel()).SerializeToString())
    return path


def expected(image, choice: Choice, size, mean, scale: float) -> np.ndarray:
    out = np.zeros((image.shape[0], *size), np.float32)
    for c, h, w in np.ndindex(*out.shape):
        source = c, choice.top + h, choice.left + (size[1] - 1 - w if choice.mirror else w)
        out[c, h, w] = (float(image[source]) - mean(*source)) * scale
    return out


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("crop", [0, 3])
@pytest.mark.parametrize("scale", [1, 0.25])
@pytest.mark.parametrize("mean", ["none", "one", "each", "file"])
def test_every_pixel(mean, scale, crop, mirror, dtype, mean_file):
    text, function = {
        "none": ("", lambda c, h, w: 0),
        "one": ("mean_value: 7", lambda c, h, w: 7),
        "each": ("mean_value: 1 mean_value: 2 mean_value: 3", lambda c, h, w: 1 + c),
        "file": (f'mean_file: "{mean_file}"', lambda c, h, w: MEAN[c, h, w]),
    }[mean]
    transformer = build(f"{text} scale: {scale} crop_size: {crop} mirror: {str(mirror).lower()}")
    images = list(np.random.default_rng(1).integers(0, 255, (4, *SHAPE)).astype(dtype))
    shape = transformer.shape(SHAPE)
    assert shape == ((3, 3, 3) if crop else SHAPE)
    for tops in ([1, 1, 1, 1], [0, 1, 2, 3]):  # the same for all, and not
        choices = [Choice(mirror and i != 1, *((top, 1) if crop else (0, 0))) for i, top in enumerate(tops)]
        out = np.empty((4, *shape), np.float32)
        transformer.apply_all(images, choices, out)
        for image, choice, found in zip(images, choices, out):
            np.testing.assert_allclose(found, expected(image, choice, shape[1:], function, scale), rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "phase", "random"),
    [
        ("", TRAIN, False),
        ("crop_size: 3", TRAIN, True),
        ("crop_size: 3", TEST, False),
        ("mirror: true", TRAIN, True),
        ("mirror: true", TEST, True),
    ],
)
def test_what_is_drawn(text, phase, random):
    transformer = build(text, phase)
    assert transformer.random is random
    drawn = {transformer.draw(SHAPE, rng.mt19937(seed) if random else None) for seed in range(300)}
    crops = {(t, l) for t in range(4) for l in range(3)} if "crop" in text and phase == TRAIN else {(1, 1)}
    if "crop" not in text:
        crops = {(0, 0)}
    assert drawn == {Choice(m, *at) for at in crops for m in ([False, True] if "mirror" in text else [False])}


REFUSED = {
    "crop_size: 7": (
        ShapeError,
        "crop_size 7 is larger than the picture, 6x5\n  Make crop_size smaller, or the pictures larger.",
    ),
    "crop_size: 6": (
        ShapeError,
        "crop_size 6 is larger than the picture, 6x5\n  Make crop_size smaller, or the pictures larger.",
    ),
    "mean_value: 1 mean_value: 2": (
        ShapeError,
        "2 mean_value(s) for 3 channel(s)\n  Give one for all channels, or one for each.",
    ),
    "mean_value: 1 mean_file: 'x'": (ConfigError, "mean_file and mean_value are both given\n  Keep one of the two."),
    "force_color: true force_gray: true": (
        ConfigError,
        "force_color and force_gray are both set\n  Keep one of the two.",
    ),
}


@pytest.mark.parametrize("text", REFUSED)
def test_refusals(text):
    kind, message = REFUSED[text]
    with pytest.raises(kind) as caught:
        build(text).shape(SHAPE)
    assert str(caught.value) == message


def test_the_mean_must_have_the_pictures_shape(mean_file):
    with pytest.raises(ShapeError) as caught:
        build(f'mean_file: "{mean_file}"').shape((3, 6, 6))
    assert str(caught.value) == (
        "the mean file has shape (3, 6, 5), the pictures have (3, 6, 6)\n"
        "  Make one of these pictures with `caffepy compute-image-mean`, or set mean_value instead."
    )


MAKE = "\n  A mean file (.binaryproto) is made with `caffepy compute-image-mean`."


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "the mean file: cannot read the file: No such file or directory" + MAKE),
        (b"\x2a\xff", "this is no mean file: Error parsing message" + MAKE),
        (
            BlobProto(num=1, channels=1, height=2, width=2, data=[1]).SerializeToString(),
            "this is no mean file: a blob of shape (1, 1, 2, 2) has 1 values in the file" + MAKE,
        ),
        (
            BlobProto(num=2, channels=1, height=1, width=1, data=[1, 2]).SerializeToString(),
            "a mean file holds one picture (1, C, H, W), this one (2, 1, 1, 1)",
        ),
        (
            BlobProto(num=1, channels=-1, height=-2, width=2, data=[1] * 4).SerializeToString(),
            "this is no mean file: a blob has the shape (1, -1, -2, 2) in the file" + MAKE,
        ),
        (
            BlobProto(shape={"dim": [1, 2**32, 2**32]}).SerializeToString(),  # 2**64, which 64 bits take for 0
            "this is no mean file: a blob of shape (1, 4294967296, 4294967296) has 0 values in the file" + MAKE,
        ),
        (
            BlobProto(num=1, channels=0, height=2, width=2).SerializeToString(),
            "a mean file holds one picture (1, C, H, W), this one (0, 2, 2)",
        ),
    ],
)
def test_what_is_no_mean_file(tmp_path, content, problem):
    path = tmp_path / "mean.binaryproto"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_mean(str(path))
    assert str(caught.value).startswith(f"{path}: {problem[:40]}") and str(caught.value).endswith(problem[-40:])
