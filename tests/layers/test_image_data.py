"""ImageData beyond the recordings: shuffling, skipping, resuming, what goes wrong."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy import rng
from caffepy.errors import CaffeError
from tests.data.databases import batches, image_list, layer, pictures, same


def options(source, image: str = "", transform: str = "", batch: int = 3) -> str:
    return f'image_data_param {{ source: "{source}" batch_size: {batch} {image} }} transform_param {{ {transform} }}'


@pytest.fixture
def listed(tmp_path):
    return image_list(tmp_path, pictures(7))


def test_shuffle_draws_as_caffe_does(listed):
    """Swap place i with one of 0 .. i, drawn evenly, from the end down; every epoch goes on from the last order."""
    net = layer("ImageData", options(listed, "shuffle: true", batch=7), seed=5)
    rng.seed(5)
    random = rng.mt19937(rng.draw())
    order = list(range(7))
    expected = [list(order)]
    for _ in range(2):
        for i in range(6, 0, -1):
            j = int(random.bit_generator.random_raw()) // (2**32 // (i + 1))
            order[i], order[j] = order[j], order[i]
        expected.append(list(order))
    # The list is mixed once before the first epoch.
    assert [list(label) for _, label in batches(net, 2)] == expected[1:]


def test_skips_lines_at_the_start(listed):
    net = layer("ImageData", options(listed, "rand_skip: 5", batch=7), seed=11)
    rng.seed(11)
    skip = rng.draw() % 5
    assert list(batches(net, 1)[0][1]) == [(i + skip) % 7 for i in range(7)]


@pytest.mark.parametrize("image", ["shuffle: true", "shuffle: true threads: 2", "new_height: 5 new_width: 4"])
def test_resumes_to_the_bit(image, listed):
    text = options(listed, image, "mirror: true")
    straight = batches(layer("ImageData", text), 8)
    net = layer("ImageData", text)
    batches(net, 3)
    other = layer("ImageData", text, seed=99)
    other.layers[0].set_state(net.layers[0].state())
    assert same(batches(other, 5), straight[3:])


def test_shards_do_not_overlap(listed):
    seen = []
    for rank in range(2):
        net = layer("ImageData", options(listed, "shuffle: true", batch=1))
        net.layers[0].shard(rank, 2)
        seen += [int(label[0]) for _, label in batches(net, 7)]
    assert sorted(seen) == sorted([*range(7)] * 2)


@pytest.mark.parametrize("rank", [0, 1])
def test_shards_resume_from_the_state_of_the_first(rank, listed):
    text = options(listed, "shuffle: true rand_skip: 3", "crop_size: 5 mirror: true")
    nets = [layer("ImageData", text) for _ in range(2)]
    for i, net in enumerate(nets):
        net.layers[0].shard(i, 2)
        batches(net, 3)
    other = layer("ImageData", text, seed=99)
    other.layers[0].set_state(nets[0].layers[0].state())
    other.layers[0].shard(rank, 2)
    assert same(batches(other, 5), batches(nets[rank], 5))


def test_root_folder_is_put_in_front(listed, tmp_path):
    (tmp_path / "short.txt").write_text("1.png 5\n")
    net = layer("ImageData", options(tmp_path / "short.txt", f'root_folder: "{tmp_path}/"', batch=1))
    assert np.array_equal(batches(net, 1)[0][0][0], pictures(7)[1])


def test_a_byte_order_mark_is_no_part_of_the_first_name(listed):
    listed.write_bytes(b"\xef\xbb\xbf" + listed.read_bytes())
    assert list(batches(layer("ImageData", options(listed)), 1)[0][1]) == [0, 1, 2]


@pytest.mark.parametrize(
    ("lines", "settings", "message"),
    [
        ("", "", "the list of images is empty\n  Each line is a path, a blank and an integer label."),
        ("0.png\n", "", 'list.txt:1: no label at the end of "0.png"'),
        ("0.png 1\n2.png 1\n99.png 1\n", "", "list.txt:3: 99.png: cannot read the picture: No such file"),
        ("0.png 1\nlist.txt 1\n", "", "list.txt:2: list.txt: the picture does not decode: no known format"),
        ("0.png 1\nsmall.png 1\n", "", r"list.txt:2: the picture has shape \(3, 4, 4\), the batch began with \(3, 12"),
        ("0.png 1\n", "new_height: 3", "new_height and new_width are set together"),
        ("0.png 1\n", "rand_skip: 1000000", "rand_skip 1000000 skips"),
        ("0.png 1\n", "threads: 0", "threads must be at least 1"),
    ],
)
def test_what_goes_wrong_is_named(lines, settings, message, listed, tmp_path, monkeypatch):
    from caffepy.data.pictures.image import encode

    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.png").write_bytes(encode(pictures(1, 4, 4)[0], "png"))
    (tmp_path / "list.txt").write_text(lines)
    with pytest.raises(CaffeError, match=message):
        layer("ImageData", options("list.txt", settings))


def test_a_root_folder_without_its_slash(listed, tmp_path):
    (tmp_path / "short.txt").write_text("1.png 5\n")
    with pytest.raises(
        CaffeError, match=r"No such file.*\n  The folder is put in front as it stands: end it with a slash"
    ):
        layer("ImageData", options(tmp_path / "short.txt", f'root_folder: "{tmp_path}"', batch=1))


def test_a_missing_list(tmp_path):
    with pytest.raises(CaffeError, match=r"nolist.txt: cannot read the list of images: No such file"):
        layer("ImageData", options(tmp_path / "nolist.txt"))
