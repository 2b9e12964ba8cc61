"""WindowData beyond the recordings: resuming, shards, what goes wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffepy.data.pictures.image import encode
from caffepy.data.pictures.mean import write_mean
from caffepy.errors import CaffeError
from tests.data.databases import batches, layer, pictures, same

FILE = """# 0
0.png
3
12
10
3
1 0.9 1 2 6 8
2 0.6 0 0 9 11
1 0.1 3 3 9 9
"""


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "0.png").write_bytes(encode(pictures(1)[0], "png"))
    (tmp_path / "windows.txt").write_text(FILE)
    return "windows.txt"


def options(window: str = "", transform: str = "crop_size: 6 mirror: true") -> str:
    return (
        f'window_data_param {{ source: "windows.txt" batch_size: 4 fg_fraction: 0.5 {window} }} '
        f"transform_param {{ {transform} }}"
    )


@pytest.mark.parametrize("window", ["", 'crop_mode: "square" context_pad: 1 cache_images: true'])
def test_resumes_to_the_bit(window, source):
    straight = batches(layer("WindowData", options(window)), 6)
    net = layer("WindowData", options(window))
    batches(net, 2)
    other = layer("WindowData", options(window), seed=99)
    other.layers[0].set_state(net.layers[0].state())
    assert same(batches(other, 4), straight[2:])


def test_shards_draw_windows_of_their_own(source):
    alone, *nets = (layer("WindowData", options()) for _ in range(4))
    for rank, net in enumerate(nets):
        net.layers[0].shard(rank, 3)
    expected, first, second, third = (batches(net, 4) for net in (alone, *nets))
    assert same(first, expected)
    assert not same(first, second)
    assert not same(second, third)


@pytest.mark.parametrize("rank", [0, 1])
def test_shards_resume_from_the_state_of_the_first(rank, source):
    nets = [layer("WindowData", options()) for _ in range(2)]
    for i, net in enumerate(nets):
        net.layers[0].shard(i, 2)
        batches(net, 3)
    other = layer("WindowData", options(), seed=99)
    other.layers[0].set_state(nets[0].layers[0].state())
    other.layers[0].shard(rank, 2)
    assert same(batches(other, 3), batches(nets[rank], 3))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the window file has no windows"),
        ("\udc89PNG\n", 'windows.txt:1: expected "# index"'),
        ("0.png\n", 'windows.txt:1: expected "# index", found "0.png"'),
        ("# 0\nmy 0.png\n3\n12\n", 'windows.txt:2: expected a path without blanks, found "my 0.png"'),
        (
            "# 0\n0.png\n3\n12\n",
            "windows.txt:4: the window file ends where width should follow\n  A picture has a line",
        ),
        ("# 0\n0.png\n3\nx\n", 'windows.txt:4: expected height, found "x"'),
        ("# 0\n0.png\n3\n12\n10\n1\n1 0.9 1 2 6\n", 'windows.txt:7: expected "label overlap x1 y1 x2 y2"'),
        (FILE.replace("1 0.9", "0 0.9"), "a foreground window of 0.png has label 0"),
        (
            FILE.replace("0.9 1 2 6 8", "0.9 1 2 6 12"),
            r"windows.txt:7: the window \(1, 2, 6, 12\) does not lie in 0.png, 12x10\n  It is x1 y1 x2 y2, each",
        ),
        (
            FILE.replace("12\n10", "20\n20").replace("0 0 9 11", "0 0 10 11"),
            r"windows.txt:2: the window \(0, 0, 10, 11\) does not lie in 0.png, 12x10\n  It is x1",
        ),
        (FILE.replace("1 0.1 ", "1 0.7 "), "the file has no background window, a batch needs 2"),
        (FILE.replace("0.png", "windows.txt"), "windows.txt:2: windows.txt: the picture does not decode: no known"),
        (FILE.replace("0.png", "1.png"), "windows.txt:2: 1.png: cannot read the picture: No such file"),
    ],
)
def test_bad_window_files(text, message, source):
    Path(source).write_text(text, "utf-8", "surrogateescape")
    with pytest.raises(CaffeError, match=message):
        batches(layer("WindowData", options()), 9)


def test_a_window_outside_its_picture_is_refused_before_it_is_drawn(source):
    Path(source).write_text(FILE.replace("1 0.1 3 3 9 9", "1 0.1 3 3 9 9\n1 0.4 3 3 9 9").replace("10\n3\n", "10\n4\n"))
    layer("WindowData", options("bg_threshold: 0.3"))
    Path(source).write_text(Path(source).read_text().replace("0.4 3 3 9 9", "0.4 3 3 3 12"))
    with pytest.raises(CaffeError, match=r"windows.txt:10: the window"):
        layer("WindowData", options("bg_threshold: 0.3"))


@pytest.mark.parametrize(
    ("window", "transform", "message"),
    [
        (
            "",
            "",
            "WindowData needs transform_param.crop_size, the size .*\n  Set transform_param { crop_size: 227 }",
        ),
        ('crop_mode: "round"', "crop_size: 6", 'crop_mode "round" is neither "warp" nor "square"'),
        ("context_pad: 3", "crop_size: 6", "context_pad 3 leaves nothing of crop_size 6"),
        (
            "",
            'crop_size: 6 mean_file: "mean"',
            r"the mean file has shape \(3, 5, 9\), which is smaller than crop_size 6",
        ),
        ("", "crop_size: 6 crop_h: 6", "WindowData has no transform_param.crop_h"),
        ("", "crop_size: 6 resize_param { height: 4 width: 4 }", "WindowData has no transform_param.resize_param"),
    ],
)
def test_bad_settings(window, transform, message, source):
    write_mean(np.zeros((3, 5, 9), np.float32), "mean")
    with pytest.raises(CaffeError, match=message):
        layer("WindowData", options(window, transform))


def test_has_no_folds(source):
    with pytest.raises(CaffeError, match="WindowData reads no fold_param"):
        layer("WindowData", f"{options()} fold_param {{ fold: 1 }}")
