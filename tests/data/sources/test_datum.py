"""Datum records: in and out, and what is none."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.data.sources import datum as datums
from caffepy.errors import DataError
from caffepy.proto.caffe_pb2 import Datum

AGAIN = "\n  Convert the data again. `caffepy data inspect` counts such records: if all are, no Caffe tool wrote them."


def test_pixels_there_and_back():
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    raw = datums.from_image(pixels, -3).SerializeToString()
    datum = datums.parse(raw, b"k", "db")
    assert (datum.channels, datum.height, datum.width, datum.label, datum.encoded) == (2, 3, 4, -3, False)
    np.testing.assert_array_equal(datums.image(datum, b"k", "db"), pixels)


def test_floats():
    datum = datums.parse(Datum(channels=1, height=1, width=2, float_data=[0.5, -2]).SerializeToString(), b"k", "db")
    image = datums.image(datum, b"k", "db")
    assert image.dtype == np.float32 and image.tolist() == [[[0.5, -2]]]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (b"hello, world", "the record is damaged, or no Caffe Datum"),
        (b"\x22\xff", "the record is damaged, or no Caffe Datum"),
        (b"", "the record is damaged, or no Caffe Datum"),
        (Datum(label=3).SerializeToString(), "the record is an empty Datum"),
    ],
)
def test_what_is_no_datum(value, problem):
    with pytest.raises(DataError) as caught:
        datums.parse(value, b"0001\xff", "db")
    assert str(caught.value) == f'db, key "0001\ufffd": {problem}{AGAIN}'


def test_a_picture_that_does_not_decode_is_one_of_the_database():
    with pytest.raises(DataError) as caught:
        datums.picture(Datum(data=b"no picture", encoded=True), b"0001_cat.jpg", "db")
    assert str(caught.value) == (
        'db, key "0001_cat.jpg": the picture does not decode: no known format\n'
        '  Replace the picture that was stored under "0001_cat.jpg", and convert the data again.'
    )


@pytest.mark.parametrize("values", [{"data": b"12345"}, {"float_data": [1, 2, 3, 4, 5]}])
def test_values_that_do_not_fill_the_shape(values):
    with pytest.raises(DataError) as caught:
        datums.image(Datum(channels=1, height=2, width=3, **values), b"7", "db")
    assert str(caught.value) == (
        'db, key "7": the record has 5 values, its shape (1, 2, 3) needs 6\n'
        "  The database is damaged, or was not written by a Caffe tool."
    )


@pytest.mark.parametrize("shape", [(-1, -2, 3), (1, -2, -3), (-1, 2, 3), (2**31 - 1, -(2**31), 1)])
def test_negative_shapes(shape):
    """Two negative sizes make a count that fits."""
    channels, height, width = shape
    with pytest.raises(DataError) as caught:
        datums.image(Datum(channels=channels, height=height, width=width, data=bytes(6)), b"7", "db")
    assert str(caught.value) == (
        f'db, key "7": the record has the shape {shape}\n  The database is damaged, or was not written by a Caffe tool.'
    )
