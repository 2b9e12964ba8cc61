"""caffe.io: messages as arrays, pictures, crops and the Transformer. Resizing has a file of its own."""

from __future__ import annotations

import numpy as np
import pytest

import caffepy as caffe
from caffepy.data.pictures import image
from caffepy.errors import ConfigError, DataError, ShapeError
from caffepy.proto import caffe_pb2

RANDOM = np.random.default_rng(0)


# Messages


@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3, 4, 5), (1, 2, 1, 2, 3)])
def test_blobproto_there_and_back(shape):
    values, gradient = RANDOM.normal(size=(2, *shape)).astype("f4")
    blob = caffe.io.array_to_blobproto(values, gradient)
    assert blob.shape.dim == list(shape) and not blob.HasField("num")
    for back, given in (
        (caffe.io.blobproto_to_array(blob), values),
        (caffe.io.blobproto_to_array(blob, return_diff=True), gradient),
    ):
        assert back.shape == shape and back.dtype == np.float64
        np.testing.assert_array_equal(back, given)


@pytest.mark.parametrize("field", ["data", "double_data"])
def test_blobproto_of_old_files_and_of_doubles(field):
    blob = caffe_pb2.BlobProto(num=1, channels=2, height=1, width=3, **{field: range(6)})
    np.testing.assert_array_equal(caffe.io.blobproto_to_array(blob), np.arange(6).reshape(1, 2, 1, 3))


def test_a_blobproto_without_a_shape():
    with pytest.raises(ValueError, match=r"^the BlobProto says that its shape is \(\), but holds 100 values$"):
        caffe.io.blobproto_to_array(caffe_pb2.BlobProto(data=range(100)))
    assert caffe.io.blobproto_to_array(caffe_pb2.BlobProto(data=[123])) == 123


def test_blobprotovector_there_and_back():
    arrays = [RANDOM.normal(size=shape).astype("f4") for shape in ((2, 3), (4,))]
    back = caffe.io.blobprotovector_str_to_arraylist(caffe.io.arraylist_to_blobprotovector_str(arrays))
    assert len(back) == 2
    for ours, given in zip(back, arrays):
        np.testing.assert_array_equal(ours, given)


@pytest.mark.parametrize("dtype", ["u1", "f4", "i8"])
def test_datum_there_and_back(dtype):
    values = RANDOM.integers(0, 255, (2, 3, 4)).astype(dtype)
    datum = caffe.io.array_to_datum(values[:, ::-1], label=7)
    assert (datum.channels, datum.height, datum.width, datum.label) == (2, 3, 4, 7)
    assert bool(datum.data) == (dtype == "u1") and bool(datum.float_data) == (dtype != "u1")
    back = caffe.io.datum_to_array(datum)
    assert back.dtype == (np.uint8 if dtype == "u1" else np.float64)
    np.testing.assert_array_equal(back, values[:, ::-1])
    back += 1  # the caller's own
    assert not caffe.io.array_to_datum(values).HasField("label")


def test_an_encoded_datum_is_decoded():
    pytest.importorskip("PIL")
    pixels = RANDOM.integers(0, 255, (3, 4, 5)).astype(np.uint8)
    datum = caffe_pb2.Datum(data=image.encode(pixels, "png"), encoded=True)
    np.testing.assert_array_equal(caffe.io.datum_to_array(datum), pixels)


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ShapeError, r"an array \(C, H, W\), got shape \(3, 4\)", lambda: caffe.io.array_to_datum(np.ones((3, 4)))),
        (ShapeError, r"\(3,\), the values \(2,\)", lambda: caffe.io.array_to_blobproto(np.ones(2), np.ones(3))),
        (DataError, r"the BlobProto says that its shape is \(2,\), but holds 3 values",
         lambda: caffe.io.blobproto_to_array(caffe_pb2.BlobProto(shape={"dim": [2]}, data=[1, 2, 3]))),
        (DataError, r"the Datum says that its shape is \(1, 2, 2\), but holds 3 values",
         lambda: caffe.io.datum_to_array(caffe_pb2.Datum(channels=1, height=2, width=2, data=b"abc"))),
        (ShapeError, "crops of 5x4 do not fit into pictures of 4x4",
         lambda: caffe.io.oversample(np.ones((1, 4, 4, 3)), (5, 4))),
        (ShapeError, r"pictures \(N, H, W, K\) are expected, got shape \(4, 4, 3\)",
         lambda: caffe.io.oversample(np.ones((4, 4, 3)), (2, 2))),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(error, message, call):
    with pytest.raises(error, match=message):
        call()


# Pictures


def test_load_image(tmp_path):
    pytest.importorskip("PIL")
    bgr = np.array([[[0, 51]], [[102, 255]], [[204, 255]]], np.uint8)  # one row of two pixels
    path = tmp_path / "x.png"
    path.write_bytes(image.encode(bgr, "png"))
    picture = caffe.io.load_image(path)
    assert picture.dtype == np.float32
    np.testing.assert_allclose(picture, [[[0.8, 0.4, 0], [1, 1, 0.2]]], atol=1e-7)
    gray = caffe.io.load_image(str(path), color=False)
    assert gray.shape == (1, 2, 1) and gray.dtype == np.float32
    np.testing.assert_allclose(gray.ravel(), [0.2125 * 0.8 + 0.7154 * 0.4, 0.2125 + 0.7154 + 0.0721 * 0.2], rtol=1e-6)


def test_load_image_of_gray_has_three_channels_or_one(tmp_path):
    pytest.importorskip("PIL")
    path = tmp_path / "x.png"
    path.write_bytes(image.encode(np.full((1, 2, 3), 51, np.uint8), "png"))
    np.testing.assert_allclose(caffe.io.load_image(path), np.full((2, 3, 3), 0.2), rtol=1e-6)
    np.testing.assert_allclose(caffe.io.load_image(path, color=False), np.full((2, 3, 1), 0.2), rtol=1e-6)


def test_load_image_says_what_is_wrong(tmp_path):
    pytest.importorskip("PIL")
    path = tmp_path / "x.png"
    path.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"x\.png: the picture does not decode"):
        caffe.io.load_image(path)
    with pytest.raises(DataError, match="cannot read the picture"):
        caffe.io.load_image(tmp_path / "y.png")


def test_oversample_takes_corners_centre_and_their_mirrors():
    pictures = RANDOM.random((2, 5, 7, 3)).astype("f4")
    crops = caffe.io.oversample(list(pictures), (2, 4))
    assert crops.shape == (20, 2, 4, 3) and crops.dtype == np.float32
    for n, picture in enumerate(pictures):
        # Upper left, upper right, lower left, lower right, centre (5/2 - 1 = 1.5 and 7/2 - 2 = 1.5, cut off).
        for i, (y, x) in enumerate([(0, 0), (0, 3), (3, 0), (3, 3), (1, 1)]):
            crop = picture[y : y + 2, x : x + 4]
            np.testing.assert_array_equal(crops[10 * n + i], crop)
            np.testing.assert_array_equal(crops[10 * n + 5 + i], crop[:, ::-1])


# Transformer


def transformer(shape=(10, 3, 4, 5)) -> caffe.io.Transformer:
    return caffe.io.Transformer({"data": shape})


def everything() -> caffe.io.Transformer:
    t = transformer()
    t.set_transpose("data", (2, 0, 1))
    t.set_channel_swap("data", (2, 0, 1))  # no swap of two: its inverse differs from it
    t.set_raw_scale("data", 255)
    t.set_mean("data", np.array([104.0, 117.0, 123.0]))
    t.set_input_scale("data", 0.5)
    return t


def test_preprocess_in_this_order():
    picture = RANDOM.random((4, 5, 3)).astype("f4")
    kept = picture.copy()
    out = everything().preprocess("data", picture)
    r, g, b = picture.transpose(2, 0, 1)
    expected = [(255 * b - 104) * 0.5, (255 * r - 117) * 0.5, (255 * g - 123) * 0.5]
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(picture, kept)


@pytest.mark.parametrize("batch", [False, True])
def test_deprocess_is_the_way_back(batch):
    picture = RANDOM.random((4, 5, 3)).astype("f4")
    t = everything()
    given = t.preprocess("data", picture)
    given = given[None] if batch else given
    kept = given.copy()
    np.testing.assert_allclose(t.deprocess("data", given), picture, atol=1e-6)
    np.testing.assert_array_equal(given, kept)


def test_each_step_by_itself():
    picture = RANDOM.random((4, 5, 3)).astype("f4")
    t = transformer()
    np.testing.assert_array_equal(t.preprocess("data", picture), picture)
    t.set_input_scale("data", 2)
    np.testing.assert_array_equal(t.preprocess("data", picture), 2 * picture)
    t = transformer()
    t.set_transpose("data", (2, 1, 0))
    np.testing.assert_array_equal(t.preprocess("data", picture), picture.T)
    np.testing.assert_array_equal(t.deprocess("data", picture.T), picture)


def test_a_gray_picture_and_another_size():
    t = transformer((1, 1, 4, 6))
    t.set_transpose("data", (2, 0, 1))
    out = t.preprocess("data", np.array([[0, 3], [0, 3]], np.uint8))
    np.testing.assert_array_equal(out, caffe.io.resize_image(np.array([[0, 3], [0, 3]]), (4, 6)).transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("mean", "kept"),
    [
        (np.array([1, 2, 3]), np.array([1, 2, 3])[:, None, None]),
        (np.arange(60).reshape(3, 4, 5), np.arange(60).reshape(3, 4, 5)),
        # Another size is resized.
        (np.full((3, 8, 10), 7), np.full((3, 4, 5), 7)),
    ],
)
def test_means(mean, kept):
    t = transformer()
    t.set_mean("data", mean)
    np.testing.assert_array_equal(t.mean["data"], kept)


def test_a_mean_of_one_channel_may_have_two_axes():
    t = transformer((1, 1, 2, 2))
    t.set_mean("data", np.eye(2))
    np.testing.assert_array_equal(t.mean["data"], np.eye(2)[None])


@pytest.mark.parametrize(
    ("message", "call"),
    [
        (r'"dta" is not one of the inputs\n  Did you mean "data"\?', lambda t: t.preprocess("dta", np.ones((4, 5, 3)))),
        (r'"x" is not one of the inputs\n  Inputs: data\.', lambda t: t.set_raw_scale("x", 255)),
        ('the transpose of "data" needs 3 axes', lambda t: t.set_transpose("data", (1, 0))),
        ('the transpose of "data" needs 3 axes', lambda t: t.set_transpose("data", (0, 1, 1))),
        (r'"data" has 3 channels, got the order \(1, 0\)', lambda t: t.set_channel_swap("data", (1, 0))),
        (r'"data" has 3 channels, got the order \(0, 1, 3\)', lambda t: t.set_channel_swap("data", (0, 1, 3))),
        ('"data" has 3 channels, the mean 2', lambda t: t.set_mean("data", np.ones(2))),
        (r'the mean has shape \(2, 4, 5\), "data" needs \(3, 4, 5\)', lambda t: t.set_mean("data", np.ones((2, 4, 5)))),
        (r"the mean has shape \(1, 3, 4, 5\)", lambda t: t.set_mean("data", np.ones((1, 3, 4, 5)))),
        (r"a picture \(H, W, K\)", lambda t: t.preprocess("data", np.ones((1, 4, 5, 3)))),
        ('one input (.*) of "data" is expected, got shape', lambda t: t.deprocess("data", np.ones((2, 3, 4, 5)))),
        ("needs 3 channels", lambda t: (t.set_transpose("data", (2, 0, 1)), t.set_channel_swap("data", (2, 1, 0)),
                                        t.preprocess("data", np.ones((4, 5, 1))))),
    ],
)  # fmt: skip
def test_wrong_steps_are_named(message, call):
    with pytest.raises(ConfigError, match=message) as caught:
        call(transformer())
    assert isinstance(caught.value, ValueError) or "is not one of the inputs" in message
