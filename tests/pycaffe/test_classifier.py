"""Classifier: pictures in, probabilities out, against the same steps in plain numpy."""

from __future__ import annotations

import numpy as np
import pytest

import caffepy as caffe
from caffepy.errors import ConfigError, ShapeError

DEPLOY = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 3 dim: 4 dim: 5 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "gaussian" std: 0.01 } bias_filler { type: "uniform" } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""
SETTINGS = dict(  # noqa: C408
    mean=np.array([104.0, 117.0, 123.0]), input_scale=0.5, raw_scale=255, channel_swap=(2, 0, 1), image_dims=(6, 9)
)


@pytest.fixture
def files(tmp_path):
    files = tmp_path / "deploy.prototxt", tmp_path / "trained.caffemodel"
    files[0].write_text(DEPLOY)
    caffe.Net(files[0], caffe.TEST).save(files[1])
    return files


def pictures(n: int, height: int = 6, width: int = 9) -> list[np.ndarray]:
    return list(np.random.default_rng(n).random((n, height, width, 3), np.float32))


def probabilities(net: caffe.Net, crop: np.ndarray) -> np.ndarray:
    """What `SETTINGS` and the net's weights make of one crop (4, 5, 3)."""
    x = crop.astype("f8")[:, :, [2, 0, 1]].transpose(2, 0, 1) * 255
    x = (x - SETTINGS["mean"][:, None, None]) * 0.5
    weights, bias = (blob.data for blob in net.params["ip"])
    e = np.exp(weights @ x.ravel() + bias)
    return e / e.sum()


def test_the_centre_alone(files):
    net = caffe.Classifier(*files, **SETTINGS)
    given = pictures(6)  # more than a batch
    out = net.predict(given, oversample=False)
    assert out.shape == (6, 3)
    np.testing.assert_allclose(out, [probabilities(net, p[1:5, 2:7]) for p in given], rtol=1e-4)


def test_oversample_is_the_mean_of_ten_probabilities(files):
    net = caffe.Classifier(*files, **SETTINGS)
    given = pictures(3)
    out = net.predict(given)
    crops = caffe.io.oversample(given, (4, 5)).reshape(3, 10, 4, 5, 3)
    assert out.shape == (3, 3)
    np.testing.assert_allclose(out, [np.mean([probabilities(net, c) for c in ten], axis=0) for ten in crops], rtol=1e-4)


def test_pictures_of_any_size_are_resized_first(files):
    net = caffe.Classifier(*files, **SETTINGS)
    mixed = [*pictures(1, 12, 7), *pictures(2, 5, 20)]
    resized = [caffe.io.resize_image(p, (6, 9)) for p in mixed]
    np.testing.assert_array_equal(net.predict(mixed), net.predict(resized))


def test_the_net_takes_positional_settings_and_is_one_for_testing(files):
    settings = [SETTINGS[name] for name in ("image_dims", "mean", "input_scale", "raw_scale", "channel_swap")]
    net = caffe.Classifier(*map(str, files), *settings)
    assert isinstance(net, caffe.Net) and net.inputs == ["data"]
    np.testing.assert_array_equal(net.predict(pictures(1)), caffe.Classifier(*files, **SETTINGS).predict(pictures(1)))
    bare = caffe.Classifier(*files)
    assert bare.image_dims == (4, 5) and list(bare.crop_dims) == [4, 5]
    (picture,) = pictures(1, 4, 5)
    expected = bare.forward_all(data=picture.transpose(2, 0, 1)[None])["prob"]
    np.testing.assert_allclose(bare.predict([picture], oversample=False), expected, rtol=1e-6)


def test_outputs_with_more_axes_keep_them_unless_averaged(files, tmp_path):
    path = tmp_path / "conv.prototxt"
    path.write_text(DEPLOY.replace('"Softmax"', '"Reshape" reshape_param { shape { dim: 0 dim: 3 dim: 1 dim: 1 } }'))
    net = caffe.Classifier(path, files[1])
    assert net.predict(pictures(2), oversample=False).shape == (2, 3, 1, 1)
    assert net.predict(pictures(2)).shape == (2, 3)


@pytest.mark.parametrize("given", [[], np.ones((6, 9, 3)), [np.ones((6, 9))]], ids=["none", "one", "gray"])
def test_what_is_no_list_of_pictures_is_refused(files, given):
    with pytest.raises(ShapeError, match=r"predict takes a list of pictures \(H, W, K\), at least one"):
        caffe.Classifier(*files).predict(given)


def test_wrong_settings_are_refused(files, tmp_path):
    with pytest.raises(
        ShapeError, match=r"image_dims \(3, 9\) do not hold the net's input, \(height, width\) \(4, 5\)"
    ):
        caffe.Classifier(*files, image_dims=(3, 9))
    with pytest.raises(ShapeError, match='"data" has 3 channels, the mean 2'):
        caffe.Classifier(*files, mean=np.ones(2))
    path = tmp_path / "train.prototxt"
    path.write_text("""layer { name: "d" type: "DummyData" top: "d" dummy_data_param { shape { dim: 1 } } }""")
    with pytest.raises(ConfigError, match=r"first input is of shape \(N, K, H, W\)\n.*deploy\.prototxt"):
        caffe.Classifier(path, files[1])
