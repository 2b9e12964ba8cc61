"""ImageSegData and DenseImageData: pictures and labels that stay together."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from caffepy.data.pictures import image
from caffepy.data.pictures.labels import resize_labels
from caffepy.errors import CaffeError
from caffepy.proto.caffe_pb2 import TEST
from tests.data.databases import batches, layer, same

pytest.importorskip("PIL")
SIZE = (9, 12)


def pair(i: int, size=SIZE) -> tuple[np.ndarray, np.ndarray]:
    """A picture whose first channel is its labels."""
    labels = np.random.default_rng(i).integers(0, 20, size, np.uint8)
    return np.stack([labels, labels + 100, np.full(size, i, np.uint8)]), labels


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    lines = []
    for i in range(5):
        picture, labels = pair(i)
        (tmp_path / f"{i}.png").write_bytes(image.encode(picture, "png"))
        (tmp_path / f"{i}_labels.png").write_bytes(image.encode(labels[None], "png"))
        lines.append(f"{i}.png {i}_labels.png\n")
    path = tmp_path / "list.txt"
    path.write_text("".join(lines))
    return path


def seg(listed: Path, fields: str = "", transform: str = "", tops: str = "data label", **options):
    source = f'source: "{listed}" root_folder: "{listed.parent}/" batch_size: 3 label_type: PIXEL {fields}'
    return layer(
        "ImageSegData", f"image_data_param {{ {source} }} transform_param {{ {transform} }}", tops=tops, **options
    )


def is_part(labels: np.ndarray, whole: np.ndarray) -> bool:
    views = np.lib.stride_tricks.sliding_window_view(whole, labels.shape)
    return bool((views == labels).all(axis=(2, 3)).any())


@pytest.mark.parametrize("kind", ["ImageSegData", "DenseImageData"])
def test_pictures_and_their_labels(kind, listed):
    field = "image_data_param" if kind == "ImageSegData" else "dense_image_data_param"
    settings = f'source: "{listed}" root_folder: "{listed.parent}/" batch_size: 3'
    if kind == "ImageSegData":
        settings += " label_type: PIXEL"
    seen = batches(layer(kind, f"{field} {{ {settings} }}"), 2)
    for number, (data, label) in enumerate(seen):
        assert data.shape == (3, 3, *SIZE) and label.shape == (3, 1, *SIZE)
        for k in range(3):
            picture, labels = pair((3 * number + k) % 5)
            assert np.array_equal(data[k], picture) and np.array_equal(label[k, 0], labels)


@pytest.mark.parametrize("phase", [0, TEST])
def test_crop_and_mirror_keep_them_together(phase, listed):
    net = seg(listed, transform="crop_size: 6 mirror: true", phase=phase)
    mirrored = set()
    for data, label in batches(net, 6):
        assert data.shape == (3, 3, 6, 6)
        assert np.array_equal(data[:, 0], label[:, 0])
        for item in data:
            mirrored.add(is_part(item[0, :, ::-1], pair(int(item[2, 0, 0]))[1]))
    assert mirrored == {True, False}


def test_what_is_too_small_is_filled_up(listed):
    transform = "crop_size: 12 mean_value: 7 mean_value: 8 mean_value: 9"
    ((data, label, sizes),) = batches(seg(listed, "ignore_label: 77", transform, "data label sizes", phase=TEST), 1)
    picture, labels = pair(0)
    assert np.array_equal(data[0, :, :9], picture - np.float32([7, 8, 9]).reshape(3, 1, 1))
    assert not data[:, :, 9:].any()
    assert np.array_equal(label[0, 0, :9], labels) and (label[:, :, 9:] == 77).all()
    assert sizes.shape == (3, 1, 1, 2) and sizes[:, 0, 0].tolist() == [[9, 12]] * 3


def test_both_are_scaled_in_train_alone(listed):
    transform = "crop_size: 6 scale_factors: 1 scale_factors: 2"
    doubled = set()
    for data, label in batches(seg(listed, transform=transform), 6):
        assert data.shape == (3, 3, 6, 6)
        for picture, labels in zip(data, label[:, 0]):
            once = pair(int(picture[2, 0, 0]))[1]
            found = [is_part(labels, np.kron(once, np.ones((n, n), int))) for n in (1, 2)]
            assert sum(found) == 1
            doubled.add(found[1])
    assert doubled == {True, False}
    straight = batches(seg(listed, transform="crop_size: 6", phase=TEST), 2)
    assert same(batches(seg(listed, transform=transform, phase=TEST), 2), straight)
    assert not same(batches(seg(listed, transform="crop_size: 6"), 2), batches(seg(listed, transform=transform), 2))


def test_doubled_labels():
    labels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert resize_labels(labels, 4, 6).tolist() == np.kron(labels, np.ones((2, 2), int)).tolist()
    assert resize_labels(labels, 1, 2).tolist() == [[0, 1]]


def test_resized_with_their_picture(listed):
    ((data, label),) = batches(seg(listed, "new_height: 18 new_width: 6"), 1)
    assert data.shape == (3, 3, 18, 6) and label.shape == (3, 1, 18, 6)
    assert np.array_equal(label[0, 0], resize_labels(pair(0)[1], 18, 6))


def test_one_label_for_a_picture_or_none(tmp_path, listed):
    (tmp_path / "numbers.txt").write_text("0.png 4\n1.png 250\n")
    root = f'root_folder: "{tmp_path}/" batch_size: 2'
    one = layer("ImageSegData", f'image_data_param {{ source: "{tmp_path}/numbers.txt" {root} label_type: IMAGE }}')
    ((_, label),) = batches(one, 1)
    assert (label[0] == 4).all() and (label[1] == 250).all()
    none = layer("ImageSegData", f'image_data_param {{ source: "{listed}" {root} label_type: NONE }}')
    assert (batches(none, 1)[0][1] == 255).all()


@pytest.mark.parametrize(
    "transform", ["mirror: true crop_size: 5", "scale_factors: 0.8 scale_factors: 1.5 crop_size: 5"]
)
def test_resumes_to_the_bit(transform, listed):
    straight = batches(seg(listed, "shuffle: true", transform), 6)
    net = seg(listed, "shuffle: true", transform)
    batches(net, 2)
    other = seg(listed, "shuffle: true", transform, seed=99)
    other.layers[0].set_state(net.layers[0].state())
    assert same(batches(other, 4), straight[2:])


def test_palettes_keep_their_indices(tmp_path, listed):
    from PIL import Image

    labels = pair(0)[1]
    picture = Image.fromarray(labels, "L").convert("P")
    picture.putdata(labels.ravel().tolist())
    picture.save(tmp_path / "0_labels.png")
    assert np.array_equal(batches(seg(listed), 1)[0][1][0, 0], labels)


REFUSED = [
    ("0.png\n", "", "", r'list.txt:1: nothing stands behind "0.png"'),
    ("", "", "", r"list.txt: the list of images is empty"),
    ("0.png no.png\n", "", "", r"list.txt:1: .*no.png: cannot read the picture: No such file"),
    ("0.png list.txt\n", "", "", r"list.txt:1: .*list.txt: the picture does not decode"),
    (
        "0.png 1.png\n",
        "",
        "",
        r"labels are a gray picture of bytes, or one with a palette; this one is of the kind RGB",
    ),
    ("0.png small.png\n", "", "", r"list.txt:1: the labels are 4x4, the picture 9x12"),
    ("0.png 300\n", "label_type: IMAGE", "", r'list.txt:1: "300" is no label in 0 .. 255'),
    ("0.png a.png\n", "label_type: IMAGE", "", r"Set label_type: PIXEL if it names a picture of labels"),
    ("0.png 1\n", "", 'mean_file: "m"', r"ImageSegData takes no mean_file"),
    ("0.png 1\n", "", "min_crop_area: 0.5 crop_size: 3", r"cannot use min_crop_area"),
    ("0.png 1\n", "", "scale_factors: 0", r"scale_factors must be positive"),
]


@pytest.mark.parametrize("lines, settings, transform, message", REFUSED)
def test_what_goes_wrong_is_named(lines, settings, transform, message, listed, tmp_path):
    (tmp_path / "small.png").write_bytes(image.encode(np.zeros((1, 4, 4), np.uint8), "png"))
    listed.write_text(lines)
    kind = settings or "label_type: PIXEL"
    fields = f'source: "{listed}" root_folder: "{tmp_path}/" {kind}'
    with pytest.raises(CaffeError, match=re.compile(message)):
        layer("ImageSegData", f"image_data_param {{ {fields} }} transform_param {{ {transform} }}")


def test_labels_of_too_many_pixels_are_not_decoded(listed, monkeypatch):
    (listed.parent / "0_labels.png").write_bytes(image.encode(np.zeros((1, 40, 40), np.uint8), "png"))
    monkeypatch.setattr(image.limits, "PIXELS", 1000)
    with pytest.raises(CaffeError, match="40x40 pixels, more than 1000: it is not decoded"):
        seg(listed)


def test_labels_are_pictures_of_pixels(listed):
    (listed.parent / "0_labels.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 12\n")
    with pytest.raises(CaffeError, match="the picture does not decode"):
        seg(listed)


def test_fields_that_would_part_pictures_from_labels_are_refused(listed):
    with pytest.raises(CaffeError, match=r"ImageSegData has no transform_param\.resize_param"):
        seg(listed, transform="resize_param { height: 6 width: 6 }")
