"""What files and definitions ask for is refused before it is allocated."""

from __future__ import annotations

import io
import resource
import struct
from pathlib import Path

import numpy as np
import pytest

from caffepy import limits, passes
from caffepy.data.pictures import image
from caffepy.errors import CaffeError, ConfigError, DataError, ShapeError
from caffepy.layers.batches import HELD
from caffepy.net.blob import Blob
from caffepy.net.net import Net
from caffepy.proto.caffe_pb2 import TRAIN, NetParameter
from caffepy.proto.text import parse
from tests.data.databases import database, image_list, layer, pictures

MORE = "\n  Allow more with --max-memory, or CAFFEPY_MAX_MEMORY, if the machine has it."


@pytest.fixture
def at_most(monkeypatch):
    """The function that sets the limit of a test."""
    return lambda size: monkeypatch.setattr(limits, "_chosen", limits.parse(size))


@pytest.mark.parametrize(
    ("text", "size"),
    [("4G", 4 << 30), ("512M", 512 << 20), ("1.5GiB", 3 << 29), ("10 kb", 10240), ("1000", 1000), ("2t", 2 << 40)],
)
def test_amounts_of_memory(text, size):
    assert limits.parse(text) == size


@pytest.mark.parametrize("text", ["", "G", "4X", "-1", "0", "4G4", "nan", "1e9"])
def test_what_is_no_amount(text, monkeypatch):
    with pytest.raises(ConfigError) as caught:
        limits.parse(text)
    assert str(caught.value) == f'"{text}" is no amount of memory\n  Write it as 4G, 512M or in bytes.'
    if text:
        monkeypatch.setenv("CAFFEPY_MAX_MEMORY", text)
        with pytest.raises(ConfigError, match=r"^CAFFEPY_MAX_MEMORY: "):
            limits.max_memory()


def test_the_option_goes_before_the_environment(monkeypatch):
    monkeypatch.setenv("CAFFEPY_MAX_MEMORY", "1G")
    assert limits.max_memory() == 1 << 30
    monkeypatch.setattr(limits, "_chosen", None)
    limits.set_max_memory("2G")
    assert limits.max_memory() == 2 << 30
    limits.set_max_memory(None)
    monkeypatch.delenv("CAFFEPY_MAX_MEMORY")
    assert limits.max_memory() == limits.machine_memory()


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/", {"": "max"}, []),
        ("0::/a/b", {"a/b": "max", "a": "4096", "": "8192"}, [4096, 8192]),
        ("0::/not/shown", {"": "4096"}, [4096]),
        ("5:cpu:/x\n4:memory:/a", {"memory/a": "12288", "memory": "9223372036854771712"}, [12288, 9223372036854771712]),
        ("4:memory,cpu:/a\n0::/", {"memory/a": "4096"}, [4096]),
        ("", {}, []),
    ],
)
def test_limits_of_control_groups(groups, files, expected, tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(groups)
    for folder, content in files.items():
        path = tmp_path / "sys/fs/cgroup" / folder
        path.mkdir(parents=True, exist_ok=True)
        (path / ("memory.limit_in_bytes" if folder.startswith("memory") else "memory.max")).write_text(content)
    assert list(limits._control_groups(tmp_path)) == expected


def test_the_address_space_counts(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1 << 29, 1 << 30))
    assert limits.machine_memory.__wrapped__() <= 1 << 29


def test_sizes_as_people_read_them():
    sizes = {0: "0 B", 1023: "1023 B", 1536: "1.5 KB", 15247133900: "14.2 GB", 2**62: "4194304 TB"}
    assert {size: limits.readable(size) for size in sizes} == sizes


# Nets

SMALL = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1000 } } } '


def net(text: str) -> Net:
    return Net(parse(text, NetParameter()), TRAIN)


def test_a_parameter_above_the_limit_is_refused_before_it_is_filled(at_most, monkeypatch):
    at_most("1M")
    monkeypatch.setattr("caffepy.net.fillers.fill", lambda *_: pytest.fail("it is being filled"))
    with pytest.raises(ShapeError) as caught:
        net(
            SMALL
            + 'layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { num_output: 1000 } }'
        )
    assert str(caught.value) == (
        'layer "ip": a blob of shape (1000, 1000) needs 3.81 MB besides 3.91 KB for the layers before it; '
        "the limit is 1 MB" + MORE
    )


def test_the_layer_that_makes_a_net_too_large_is_named(at_most):
    layers = "".join(
        f'layer {{ name: "p{i}" type: "Power" bottom: "{f"p{i - 1}" if i else "x"}" top: "p{i}" }}' for i in range(9)
    )
    at_most("20K")
    with pytest.raises(ShapeError) as caught:
        net(SMALL + layers)
    assert str(caught.value).startswith('layer "p4": ') and "the limit is 20 KB" in str(caught.value)
    at_most("40K")
    net(SMALL + layers)


def test_working_memory_above_the_limit_is_refused(at_most):
    """The picture with its border, where the output is small."""
    at_most("1G")
    asks = "convolution_param { num_output: 1 kernel_size: 3 dilation: 100000 pad: 100000 }"
    bottom = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1 dim: 8 dim: 8 } } }'
    built = net(f'{bottom} layer {{ name: "c" type: "Convolution" bottom: "x" top: "y" {asks} }}')
    with pytest.raises(ShapeError, match=r"working memory of shape \(1, 200008, 200008, 1\) needs 149 GB"):
        passes.of(built).forward()


def test_in_place_and_shared_memory_counts_once(at_most):
    in_place = "".join(f'layer {{ name: "r{i}" type: "ReLU" bottom: "x" top: "x" }}' for i in range(20))
    readers = "".join(f'layer {{ name: "s{i}" type: "Silence" bottom: "x" }}' for i in range(20))
    at_most("8K")
    net(SMALL + in_place)
    net(SMALL + readers)  # a Split in between has twenty tops of the same memory


def test_a_net_is_counted_by_itself(at_most):
    at_most("6K")
    kept = [net(SMALL) for _ in range(5)]
    with pytest.raises(CaffeError):
        net("layer {")
    with pytest.raises(ShapeError):
        net(SMALL + 'layer { name: "p" type: "Power" bottom: "x" top: "p" }')
    assert Blob((1500,)).count == 1500 and kept


# Batches


@pytest.mark.parametrize("kind", ["Data", "ImageData", "HDF5Data", "WindowData"])
def test_a_batch_above_the_limit_is_refused_before_it_is_read(kind, tmp_path, at_most):
    batch, options = 900_000_000, ""
    if kind == "Data":
        options = f'data_param {{ source: "{database(tmp_path / "db", pictures(3))}" batch_size: {batch} }}'
    elif kind == "ImageData":
        options = f'image_data_param {{ source: "{image_list(tmp_path, pictures(3))}" batch_size: {batch} }}'
    elif kind == "HDF5Data":
        import h5py

        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["data"], file["label"] = np.zeros((5, 360)), np.zeros(5)
        (tmp_path / "list.txt").write_text(str(tmp_path / "a.h5"))
        options = f'hdf5_data_param {{ source: "{tmp_path}/list.txt" batch_size: {batch} }}'
    else:
        (tmp_path / "w.txt").write_text("# 0\na.png\n3\n12\n10\n2\n1 0.9 0 0 5 5\n0 0.1 0 0 5 5\n")
        options = f'window_data_param {{ source: "{tmp_path}/w.txt" batch_size: {batch} }}'
        options += " transform_param { crop_size: 11 }"
    with pytest.raises(
        ConfigError, match=rf"keeping {4 + HELD} batches of {batch} items of 36[0-3] values needs .* the limit is"
    ):
        layer(kind, options)
    at_most("100K")
    with pytest.raises(
        ConfigError, match=r"layer \"d\": keeping 7 batches of 64 items .*\n  Lower batch_size, or data_param.pre"
    ):
        layer(kind, options.replace(str(batch), "64"))
    if kind != "WindowData":  # whose picture is not there
        layer(kind, options.replace(str(batch), "2"))


def test_batches_read_ahead_count(tmp_path):
    source = database(tmp_path / "db", pictures(3))
    with pytest.raises(ConfigError, match="4000000003 batches of 2 items of 360 values"):
        layer("Data", f'data_param {{ source: "{source}" batch_size: 2 prefetch: 4000000000 }}')


# Pictures


def jpeg(width: int, height: int) -> bytes:
    """A JPEG whose header says that it is of another size."""
    raw = image.encode(np.zeros((3, 8, 8), np.uint8), "jpg")
    at = raw.index(b"\xff\xc0")
    return raw[: at + 5] + struct.pack(">HH", height, width) + raw[at + 9 :]


def png(width: int, height: int) -> bytes:
    import zlib

    raw = image.encode(np.zeros((3, 8, 8), np.uint8), "png")
    header = b"IHDR" + struct.pack(">II", width, height) + raw[24:29]
    return raw[:12] + header + struct.pack(">I", zlib.crc32(header)) + raw[33:]


@pytest.mark.parametrize("made", [jpeg, png])
@pytest.mark.parametrize("library", ["opencv", "pillow"])
def test_a_picture_of_many_gigabytes_is_not_decoded(made, library, monkeypatch):
    if library == "opencv":
        pytest.importorskip("cv2")
    else:
        monkeypatch.setattr(image, "_opencv", lambda: None)
    with pytest.raises(DataError, match=r"65500x65000 pixels, more than|exceeds limit of 178956970 pixels"):
        image.decode(made(65500, 65000), "bomb")


def test_a_picture_above_the_limit_is_not_decoded(at_most):
    at_most("10K")
    for made in (jpeg, png):
        with pytest.raises(DataError) as caught:
            image.decode(made(40, 50), "large")
        assert str(caught.value) == f"large: decoding 40x50 pixels needs 15.6 KB; the limit is 10 KB{MORE}"
    assert image.decode(image.encode(np.zeros((3, 8, 8), np.uint8), "jpg"), "small").shape == (3, 8, 8)


def test_a_resize_above_the_limit_is_refused():
    with pytest.raises(DataError, match="resizing a picture to 4000000000x4000000000 needs"):
        image.resize(np.zeros((3, 8, 8), np.uint8), 4_000_000_000, 4_000_000_000)


def test_the_size_of_a_jpeg():
    from PIL import Image

    for options in ({}, {"progressive": True}, {"exif": b"Exif\0\0" + bytes(300)}, {"comment": b"\xff\xc0\xff\xd9"}):
        out = io.BytesIO()
        Image.new("RGB", (19, 7)).save(out, "JPEG", **options)
        assert image.jpeg_size(out.getvalue()) == (19, 7)
    filled = out.getvalue()[:2] + b"\xff\xff\xff" + out.getvalue()[2:]  # any number of fill bytes before a marker
    assert image.jpeg_size(filled) == (19, 7)
    for damaged in (b"", b"\xff\xd8", out.getvalue()[:40], b"\x89PNG", b"\xff\xd8\xff\xd9" + bytes(40)):
        assert image.jpeg_size(damaged) is None


def test_postscript_is_no_picture(tmp_path, monkeypatch):
    """Pillow would start Ghostscript, with the file's program."""
    import subprocess

    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program is started"))
    path = tmp_path / "x.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(DataError, match="the picture does not decode: no known format"):
        image.read(str(path))
    assert Path(path).exists()
