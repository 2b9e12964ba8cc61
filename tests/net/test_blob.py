"""Blobs: Caffe's shape over our memory order, memory that is kept, and sharing."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.engine import get_engine
from caffepy.errors import ShapeError
from caffepy.net.blob import Blob
from tests.support import ENGINES


@pytest.fixture(params=ENGINES)
def engine(request):
    return get_engine(request.param)


def filled(engine, shape, **options) -> Blob:
    blob = Blob(shape, engine, **options)
    blob.data[...] = engine.asarray(np.arange(blob.count).reshape(shape))
    return blob


def host(blob: Blob, which: str = "data") -> np.ndarray:
    return np.array(blob.engine.to_host(getattr(blob, which)))


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 4), (2, 3, 4, 5), (2, 1, 2, 3, 2), (0, 3, 4, 4)])
def test_new_blobs_are_zero(engine, shape):
    blob = Blob(shape, engine)
    assert blob.shape == shape and blob.count == int(np.prod(shape))
    for which in ("data", "diff"):
        np.testing.assert_array_equal(host(blob, which), np.zeros(shape, np.float32))


def test_four_axes_lie_channels_last(engine):
    blob = filled(engine, (2, 3, 4, 5))
    np.testing.assert_array_equal(
        np.array(engine.to_host(blob.flat())), np.arange(120).reshape(2, 3, 4, 5).transpose(0, 2, 3, 1).ravel()
    )
    flat = filled(engine, (2, 3, 4, 5), channels_last=False)
    np.testing.assert_array_equal(np.array(engine.to_host(flat.flat())), np.arange(120))


def test_assignment_writes_into_the_memory(engine):
    blob = Blob((2, 3), engine)
    before = blob.data
    blob.data = 7
    blob.diff = 1
    assert host(blob).tolist() == [[7] * 3] * 2 and host(blob, "diff").tolist() == [[1] * 3] * 2
    assert blob.data is before


def test_memory_is_kept_when_the_blob_shrinks_and_grows_back(engine):
    blob = filled(engine, (4, 6))
    memory = blob.flat()
    blob.reshape(2, 3)
    assert host(blob).tolist() == [[0, 1, 2], [3, 4, 5]]
    blob.reshape([4, 6])
    assert engine.same_memory(blob.flat(), memory)
    np.testing.assert_array_equal(host(blob), np.arange(24).reshape(4, 6))


def test_growing_takes_new_memory(engine):
    blob = filled(engine, (2,))
    blob.reshape(5)
    assert host(blob).shape == (5,)


def test_the_gradient_is_not_allocated_before_it_is_used(engine):
    blob = filled(engine, (2,))
    assert not blob.has_diff
    blob.diff = 0
    assert blob.has_diff


def test_negative_shapes_are_refused(engine):
    with pytest.raises(ShapeError) as caught:
        Blob((2,), engine).reshape(2, -1)
    assert str(caught.value) == "a blob cannot have the shape (2, -1)"


def test_shapes_that_caffe_cannot_count_are_refused(engine):
    for make in (lambda shape: Blob(shape, engine), Blob((), engine).reshape):
        with pytest.raises(ShapeError) as caught:
            make((2**20, 2**11))
        assert str(caught.value) == (
            "a blob of shape (1048576, 2048) has 2147483648 values; Caffe's limit is 2147483647"
        )


@pytest.mark.parametrize("which", ["data", "diff"])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (6, 20), (2, 60, 1, 1), (120,)])
def test_shared_memory_is_seen_by_both_in_c_order(engine, which, shape):
    owner, other = filled(engine, (2, 3, 4, 5)), Blob(shape, engine)
    owner.diff[...] = owner.data
    getattr(other, f"share_{which}")(owner)
    np.testing.assert_array_equal(host(other, which), np.arange(120).reshape(shape))
    getattr(other, which)[...] = 9
    assert (host(owner, which) == 9).all()


def test_sharing_again_follows_new_memory(engine):
    owner, other = filled(engine, (2,)), Blob((2,), engine)
    other.share_data(owner)
    for blob in (owner, other):
        blob.reshape(3)
    owner.data[...] = engine.asarray([1, 2, 3])
    other.share_data(owner)
    assert host(other).tolist() == [1, 2, 3]


def test_shares_only_equal_counts(engine):
    with pytest.raises(ShapeError) as caught:
        Blob((2, 3), engine).share_data(Blob((7,), engine))
    assert str(caught.value) == "a blob of shape (2, 3) cannot share memory with one of (7,)"


def test_c_order_keeps_the_contents(engine):
    blob = filled(engine, (2, 3, 4, 5))
    blob.diff[...] = blob.data
    blob.use_c_order()
    for which in ("data", "diff"):
        np.testing.assert_array_equal(host(blob, which), np.arange(120).reshape(2, 3, 4, 5))
    np.testing.assert_array_equal(np.array(engine.to_host(blob.flat())), np.arange(120))


def test_the_four_classic_axes(engine):
    blob = Blob((2, 3), engine)
    assert (blob.num, blob.channels, blob.height, blob.width) == (2, 3, 1, 1)
    assert repr(blob) == "Blob(2, 3)"
    with pytest.raises(ShapeError) as caught:
        _ = Blob((1, 2, 3, 4, 5), engine).num
    assert str(caught.value) == "a blob of shape (1, 2, 3, 4, 5) has no num, channels, height and width"


def test_sharing_follows_a_change_of_memory_order():
    a, b, c = Blob((2, 3, 2, 2)), Blob((2, 3, 2, 2)), Blob((2, 12))
    b.data[...] = np.arange(24).reshape(2, 3, 2, 2)
    a.share_data(b)
    c.share_data(b)  # another shape: b and c are in C order now
    a.share_data(b)
    np.testing.assert_array_equal(a.data, b.data)
