"""Detector: windows of pictures, cut out with their context; outside the picture lies the mean."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

import caffepy as caffe
from caffepy.data.pictures import image
from caffepy.errors import CaffeError, ConfigError, ShapeError

pytest.importorskip("PIL")

# Weights of 1 on the diagonal: predictions are what `preprocess` made of the windows.
DEPLOY = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer { name: "same" type: "Convolution" bottom: "data" top: "same"
  convolution_param { num_output: 3 kernel_size: 1 bias_term: false } }
"""
MEAN = np.array([104.0, 117.0, 123.0])
SETTINGS = dict(mean=MEAN, raw_scale=255, channel_swap=(2, 0, 1), input_scale=2)  # noqa: C408


@pytest.fixture
def files(tmp_path):
    files = tmp_path / "deploy.prototxt", tmp_path / "trained.caffemodel"
    files[0].write_text(DEPLOY)
    net = caffe.Net(files[0], caffe.TEST)
    net.params["same"][0].data[...] = np.eye(3)[:, :, None, None]
    net.save(files[1])
    return files


@pytest.fixture
def pictures(tmp_path):
    """Two files of 9x10 pixels."""
    paths = []
    for i in range(2):
        pixels = np.random.default_rng(i).integers(0, 255, (3, 9, 10)).astype(np.uint8)
        paths.append(tmp_path / f"{i}.png")
        paths[-1].write_bytes(image.encode(pixels, "png"))
    return paths


def prepared(rgb: np.ndarray) -> np.ndarray:
    """`SETTINGS` in plain numpy, for (H, W, 3) of R, G, B in [0, 1]."""
    return (rgb[:, :, [2, 0, 1]] * 255 - MEAN).transpose(2, 0, 1) * 2


def test_windows_of_several_pictures_in_order(files, pictures):
    net = caffe.Detector(*files, **SETTINGS)
    windows = [[(0, 1, 8, 9), [1, 2, 9, 10]], [np.array([0, 0, 8, 8])]]
    detections = net.detect_windows(iter(zip(pictures, windows)))
    assert [set(d) for d in detections] == [{"window", "prediction", "filename"}] * 3
    assert [d["filename"] for d in detections] == [str(pictures[i]) for i in (0, 0, 1)]
    for detection, i, window in zip(detections, (0, 0, 1), [*windows[0], *windows[1]]):
        assert detection["window"] is window
        ymin, xmin, ymax, xmax = window
        cut = caffe.io.load_image(pictures[i])[ymin:ymax, xmin:xmax]
        np.testing.assert_allclose(detection["prediction"], prepared(cut), atol=1e-3)


def test_windows_are_warped_to_the_input(files, pictures):
    net = caffe.Detector(*files)
    (detection,) = net.detect_windows([(pictures[0], [(2, 3, 6, 9)])])
    cut = caffe.io.load_image(pictures[0])[2:6, 3:9]
    np.testing.assert_allclose(
        detection["prediction"], caffe.io.resize_image(cut, (8, 8)).transpose(2, 0, 1), atol=1e-6
    )


# With 2 of 8 pixels for the context a window of 5x5 grows by 4/3 to 9 rows of which 8 are shown: no resizing.
CONTEXT = {
    "above and left": ((0, 0, 5, 5), np.s_[1:8, 1:8], np.s_[0:7, 0:7]),
    "below and right": ((4, 5, 9, 10), np.s_[0:6, 0:6], np.s_[3:9, 4:10]),
    "above and right": ((0, 5, 5, 10), np.s_[1:8, 0:6], np.s_[0:7, 4:10]),
}


@pytest.mark.parametrize("where", CONTEXT)
def test_outside_the_picture_lies_the_mean(where, files, pictures):
    window, inside, shown = CONTEXT[where]
    net = caffe.Detector(*files, **SETTINGS, context_pad=1)
    (detection,) = net.detect_windows([(pictures[0], [window])])
    expected = np.zeros((3, 8, 8))
    expected[(slice(None), *inside)] = prepared(caffe.io.load_image(pictures[0])[shown])
    np.testing.assert_allclose(detection["prediction"], expected, atol=1e-3)


def test_the_mean_may_be_a_picture(files):
    mean = np.random.default_rng(5).random((3, 8, 8)).astype("f4") * 100
    net = caffe.Detector(*files, **SETTINGS | {"mean": mean}, context_pad=1)
    crop = net.crop(np.ones((9, 10, 3), np.float32), (0, 0, 5, 5))
    assert crop.shape == (8, 8, 3) and (crop[1:, 1:] == 1).all()
    border = net.transformer.preprocess("data", crop)[:, 0]
    np.testing.assert_allclose(border, np.zeros((3, 8)), atol=1e-4)


def test_without_a_mean_it_is_black(files):
    crop = caffe.Detector(*files, context_pad=1).crop(np.ones((9, 10, 3), np.float32), (0, 0, 5, 5))
    assert (crop[0] == 0).all() and (crop[:, 0] == 0).all() and (crop[1:, 1:] == 1).all()


def test_no_windows_no_work(files):
    assert caffe.Detector(*files).detect_windows([]) == []
    assert caffe.Detector(*files).detect_windows([("no such file", [])]) == []


def test_windows_may_reach_over_the_border(files):
    picture = np.random.default_rng(0).random((9, 10, 3))
    np.testing.assert_array_equal(caffe.Detector(*files).crop(picture, (-2, -1, 4, 20)), picture[:4])


def test_selective_search_is_asked_for_windows(files, pictures, monkeypatch):
    monkeypatch.setitem(sys.modules, "selective_search_ijcv_with_python", None)
    net = caffe.Detector(*files)
    with pytest.raises(ConfigError, match="selective search is not installed"):
        net.detect_selective_search([str(pictures[0])])

    def get_windows(names, cmd):
        assert names == [str(pictures[0])] and cmd == "selective_search_rcnn"
        return [[(0, 0, 4, 4), (1, 1, 9, 9)]]

    monkeypatch.setitem(sys.modules, "selective_search_ijcv_with_python", SimpleNamespace(get_windows=get_windows))
    assert len(net.detect_selective_search([str(pictures[0])])) == 2


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ShapeError, r"the window \(4, 4, 4, 9\) lies outside the picture of 9x10", {"window": (4, 4, 4, 9)}),
        (ShapeError, r"the window \(20, 0, 30, 9\) lies outside", {"window": (20, 0, 30, 9)}),
        (ShapeError, r"lies outside the picture", {"window": (40, 40, 45, 45), "context_pad": 1}),
        (ShapeError, r"a window is \(ymin, xmin, ymax, xmax\), got \(1, 2, 3\)", {"window": (1, 2, 3)}),
        (ConfigError, "context_pad 4 does not fit into an input of 8 pixels", {"context_pad": 4}),
        (ConfigError, "context_pad -1 does not fit", {"context_pad": -1}),
    ],
)
def test_impossible_windows_are_named(error, message, call, files):
    call = dict(call)
    window = call.pop("window", (0, 0, 5, 5))
    with pytest.raises(error, match=message):
        caffe.Detector(*files, **call).crop(np.ones((9, 10, 3), np.float32), window)


def test_context_needs_a_square_input(files):
    files[0].write_text(DEPLOY.replace("dim: 8 dim: 8", "dim: 6 dim: 8"))
    assert isinstance(caffe.Detector(*files), caffe.Net)
    with pytest.raises(CaffeError, match="square input, this one's is 6x8"):
        caffe.Detector(*files, context_pad=1)
