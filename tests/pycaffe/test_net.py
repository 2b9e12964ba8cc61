"""pycaffe's Net: what its scripts find on a net, and what wrong calls say."""

from __future__ import annotations

import numpy as np
import pytest

import caffepy as caffe
from caffepy.engine import get_engine
from caffepy.engine.numpy.engine import NumpyEngine
from caffepy.errors import CaffeError, ConfigError, ShapeError, SnapshotError
from caffepy.net.blob import take_back
from caffepy.pycaffe.host import HostBlob
from tests.support import ENGINES, assert_close

SMALL = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 2 dim: 5 dim: 5 } } }
layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 4 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 3 kernel_size: 3 weight_filler { type: "gaussian" std: 0.3 } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "gaussian" std: 0.3 } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" include { phase: TEST } }
layer { name: "extra" type: "Power" bottom: "ip" top: "extra" include { min_level: 1 stage: "more" } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" loss_weight: 2 }
"""

DEPLOY = SMALL[: SMALL.index('layer { name: "extra"')].replace("include { phase: TEST }", "")
DEPLOY = DEPLOY.replace('layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 4 } } }\n', "")


@pytest.fixture(params=ENGINES)
def engine(request):
    return get_engine(request.param)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "small.prototxt"
    path.write_text(SMALL)
    return str(path)


@pytest.fixture
def deploy(tmp_path):
    path = tmp_path / "deploy.prototxt"
    path.write_text(DEPLOY)
    return str(path)


def images(n: int = 4) -> np.ndarray:
    return np.random.default_rng(n).normal(size=(n, 2, 5, 5)).astype("f4")


def oracle(net, x):
    """The scores and probabilities that the net's weights give, in plain numpy."""
    (w, b), (v, c) = ([blob.data for blob in net.params[name]] for name in ("conv", "ip"))
    patches = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    hidden = np.maximum(np.einsum("nchwij,ocij->nohw", patches, w) + b[:, None, None], 0)
    scores = hidden.reshape(len(x), -1) @ v.T + c
    e = np.exp(scores - scores.max(1, keepdims=True))
    return scores, e / e.sum(1, keepdims=True)


# Constructors


def test_phase_level_and_stages(file):
    def last(net):
        return [n for n in net._layer_names if not n.endswith(("_split", "loss"))][-1]

    assert last(caffe.Net(file, caffe.TRAIN)) == "ip"
    assert last(caffe.Net(file, caffe.TEST)) == "prob"
    assert last(caffe.Net(file, phase=caffe.TEST, level=1, stages=["more"])) == "extra"
    assert last(caffe.Net(file, caffe.TRAIN, 1, ["more", "other"])) == "extra"
    assert last(caffe.Net(file, caffe.TRAIN, 1, "more")) == "extra"
    assert last(caffe.Net(file, caffe.TRAIN, 1)) == last(caffe.Net(file, caffe.TRAIN, stages=["more"])) == "ip"


def test_the_older_form_and_the_weights_argument(file, tmp_path):
    net = caffe.Net(file, caffe.TRAIN)
    weights = str(tmp_path / "w.caffemodel")
    net.save(weights)
    for other in (
        caffe.Net(file, weights, caffe.TEST),
        caffe.Net(file, caffe.TEST, weights=weights),
        caffe.Net(network_file=file, phase=caffe.TEST, weights=tmp_path / "w.caffemodel"),
        caffe.Net(file, caffe.TEST, 0, None, weights),
    ):
        assert other.phase == caffe.TEST
        np.testing.assert_array_equal(other.params["conv"][0].data, net.params["conv"][0].data)


# What is on a net


def test_lists_and_dictionaries(file):
    net = caffe.Net(file, caffe.TEST)
    names = ["data", "label", "conv", "relu", "ip", "ip_ip_0_split", "prob", "loss"]
    splits = ["ip_ip_0_split_0", "ip_ip_0_split_1"]
    assert net._layer_names == names
    assert [layer.type for layer in net.layers] == [
        "Input", "Input", "Convolution", "ReLU", "InnerProduct", "Split", "Softmax", "SoftmaxWithLoss",
    ]  # fmt: skip
    assert list(net.layer_dict) == names
    assert net.layer_dict["ip"] is net.layers[4]
    assert list(net.blobs) == ["data", "label", "conv", "ip", *splits, "prob", "loss"]
    assert net._blob_names == list(net.blobs)
    assert [b.shape for b in net._blobs] == [b.shape for b in net.blobs.values()]
    assert list(net.params) == ["conv", "ip"]
    assert [b.shape for b in net.params["conv"]] == [(3, 2, 3, 3), (3,)]
    assert [len(layer.blobs) for layer in net.layers] == [0, 0, 2, 0, 2, 0, 0, 0]
    assert net.inputs == ["data", "label"]
    assert net.outputs == ["loss", "prob"]
    assert net.bottom_names["loss"] == [splits[1], "label"] and net.top_names["data"] == ["data"]
    assert list(net.top_names) == list(net.bottom_names) == names
    assert list(net.blob_loss_weights) == list(net.blobs)
    assert {n: w for n, w in net.blob_loss_weights.items() if w} == {"loss": 2}
    assert net._blob_loss_weights == list(net.blob_loss_weights.values())
    assert [net._blob_names[i] for i in net._inputs + net._outputs] == ["data", "label", "loss", "prob"]
    assert [net._blob_names[i] for i in net._bottom_ids(7)] == net.bottom_names["loss"]
    assert [net._blob_names[i] for i in net._top_ids(5)] == splits


def test_blobs(file, engine):
    net = caffe.Net(file, caffe.TRAIN, engine=engine)
    blob = net.blobs["data"]
    assert list(blob.shape) == [4, 2, 5, 5]
    assert (blob.num, blob.channels, blob.height, blob.width, blob.count) == (4, 2, 5, 5, 200)
    label = net.blobs["label"]
    assert (label.num, label.channels, label.height, label.width, label.count) == (4, 1, 1, 1, 4)
    for which in ("data", "diff"):
        array = getattr(blob, which)
        assert isinstance(array, np.ndarray) and array.shape == (4, 2, 5, 5) and array.dtype == np.float32
        array[1, 0, 2, 3] = 7
        array[2].fill(3)
        again = getattr(blob, which)
        assert again[1, 0, 2, 3] == 7 and (again[2] == 3).all() and again.sum() == 7 + 3 * 50
    blob.data = 5
    assert (blob.data == 5).all() and not (blob.diff == 5).all()
    blob.reshape(1, 2, 3, 3)
    assert blob.data.shape == (1, 2, 3, 3)
    blob.reshape(*np.array([2, 2, 5, 5]))
    assert blob.shape == (2, 2, 5, 5)
    blob.reshape([6, 2, 5, 5])
    assert blob.diff.shape == (6, 2, 5, 5)
    for which in ("data", "diff"):
        with pytest.raises(ShapeError) as caught:
            setattr(blob, which, np.zeros((2, 3)))
        assert str(caught.value) == (
            f'the blob "{blob.name}" has shape (6, 2, 5, 5), the array for it (2, 3)\n'
            "  Shape the blob first, blob.reshape(...), or the array."
        )
    assert blob.name in net.blobs
    with pytest.raises(ShapeError, match=r"^a blob cannot have the shape \(2, -1\)$"):
        blob.reshape(2, -1)


def test_parameters_are_written_in_caffes_order(deploy, engine):
    net = caffe.Net(deploy, caffe.TEST, engine=engine)
    w = np.random.default_rng(0).normal(size=(3, 2, 3, 3)).astype("f4")
    net.params["conv"][0].data[...] = w
    net.params["conv"][1].data[...] = [1, 2, 3]
    net.params["ip"][0].data.flat = np.arange(81)
    np.testing.assert_array_equal(net.params["ip"][0].data, np.arange(81).reshape(3, 27))
    x = images()
    assert_close(net.forward(data=x)["prob"], oracle(net, x)[1])
    # Net surgery: the values of one layer, flat, into another.
    net.params["conv"][0].data.flat = w.flat[::-1]
    np.testing.assert_array_equal(net.params["conv"][0].data, w.ravel()[::-1].reshape(w.shape))


class Far(NumpyEngine):
    """NumPy's engine that, as one on a GPU does, gives copies to the host."""

    name = "far"
    on_gpu = True

    def to_host(self, array):
        return np.array(array)


def test_arrays_of_a_gpu_are_copied_when_asked_for_and_written_back(deploy):
    net = caffe.Net(deploy, caffe.TEST, engine=Far())
    x = images()
    data = net.blobs["data"].data
    first, second = net.params["conv"][0].data, net.params["conv"][1].data
    data[...] = x
    first[...] = 1  # also after another one has been asked for
    second[...] = 2
    assert net.blobs["data"].data is data
    assert_close(net.forward()["prob"], oracle(net, x)[1])
    assert (net.params["conv"][0].data == 1).all() and (net.params["conv"][1].data == 2).all()
    net.blobs["data"].data[...] = 2 * x
    net.blobs["data"].reshape(1, 2, 5, 5)
    assert net.blobs["data"].data.shape == (1, 2, 5, 5)
    assert net.forward()["prob"].shape == (1, 3)
    net.params["conv"][1].diff[...] = 4
    net.clear_param_diffs()
    assert not net.params["conv"][1].diff.any()
    assert repr(net.blobs["data"]) == "Blob(1, 2, 5, 5)"


def test_shared_parameters_of_a_gpu_are_one_copy(file, tmp_path):
    net, other = (caffe.Net(file, caffe.TRAIN, engine=Far()) for _ in range(2))
    other.share_with(net)
    mine, theirs = net.params["ip"][1].data, other.params["ip"][1].data
    assert mine is theirs
    theirs[...] = [1, 2, 3]
    other.save(tmp_path / "w.caffemodel")
    assert caffe.Net(file, caffe.TRAIN, weights=tmp_path / "w.caffemodel").params["ip"][1].data.tolist() == [1, 2, 3]
    net.params["ip"][1].data[...] = 5
    take_back()
    assert (other.params["ip"][1].data == 5).all()


def test_numpys_blobs_cost_nothing(file):
    net = caffe.Net(file, caffe.TRAIN)
    assert net.blobs["data"] is net.engine_blobs["data"] and not isinstance(net.blobs["data"], HostBlob)
    assert net.params["ip"][0] is net.layers[4].blobs[0]


# Running


def test_forward_returns_outputs_and_what_is_asked_for(file, engine):
    net = caffe.Net(file, caffe.TEST, engine=engine)
    x = images()
    out = net.forward(data=x, label=np.array([0, 1, 2, 0]))
    assert sorted(out) == ["loss", "prob"] and all(isinstance(v, np.ndarray) for v in out.values())
    scores, prob = oracle(net, x)
    assert_close(out["prob"], prob)
    assert_close(out["loss"], -np.log(prob[range(4), [0, 1, 2, 0]]).mean())
    assert out["loss"].shape == ()
    out = net.forward(blobs=["ip", "conv"])
    assert sorted(out) == ["conv", "ip", "loss", "prob"]
    assert_close(out["ip"], scores)
    assert sorted(net.forward(["ip"])) == ["ip", "loss", "prob"]
    assert sorted(net.forward("ip")) == ["ip", "loss", "prob"]
    assert sorted(net.backward("ip")) == ["data", "ip", "label"]


def test_parts_of_a_net(file, engine):
    net = caffe.Net(file, caffe.TEST, engine=engine)
    net.forward(data=images(), label=np.zeros(4))
    net.blobs["ip"].data[...] = [3, 3, 3]
    out = net.forward(start="ip_ip_0_split", end="prob")
    assert list(out) == ["prob"]
    assert_close(out["prob"], np.full((4, 3), 1 / 3))
    net.blobs["prob"].data[...] = 9
    net.blobs["data"].data[...] = 0
    out = net.forward(end="relu")
    assert list(out) == ["conv"]
    assert_close(out["conv"], np.broadcast_to(np.maximum(net.params["conv"][1].data, 0)[:, None, None], (4, 3, 3, 3)))
    assert (net.blobs["prob"].data == 9).all() and (net.blobs["ip"].data == 3).all()  # neither of them ran


def test_backward(file, engine):
    text = "force_backward: true\n" + DEPLOY[: DEPLOY.index('layer { name: "prob"')]
    with open(file, "w") as out:
        out.write(text)
    net = caffe.Net(file, caffe.TEST, engine=engine)
    x, dy = images(), np.random.default_rng(7).normal(size=(4, 3)).astype("f4")
    net.forward(data=x)
    hidden = net.blobs["conv"].data.copy()
    found = net.backward(diffs=["conv"], ip=dy)
    assert sorted(found) == ["conv", "data"]
    v = net.params["ip"][0].data
    inner = (dy @ v).reshape(hidden.shape) * (hidden > 0)
    assert_close(found["conv"], inner)
    w, expected = net.params["conv"][0].data, np.zeros_like(x)
    for i, j in np.ndindex(3, 3):
        expected[:, :, i : i + 3, j : j + 3] += np.einsum("nohw,oc->nchw", inner, w[:, :, i, j])
    assert_close(found["data"], expected)
    assert_close(net.params["ip"][1].diff, dy.sum(0))
    net.backward(ip=dy)
    assert_close(net.params["ip"][1].diff, 2 * dy.sum(0))  # they add up
    net.clear_param_diffs()
    assert not any(blob.diff.any() for blobs in net.params.values() for blob in blobs)
    net.blobs["data"].diff[...] = 1
    found = net.backward(start="ip", end="ip", ip=dy)
    assert list(found) == ["conv"]
    assert_close(found["conv"], (dy @ v).reshape(hidden.shape))
    assert (net.blobs["data"].diff == 1).all()
    found = net.backward(end="relu")
    assert list(found) == ["conv"]


@pytest.mark.parametrize("n", [3, 4, 11])
def test_forward_all_goes_through_arrays_of_any_length(deploy, engine, n):
    net = caffe.Net(deploy, caffe.TEST, engine=engine)
    x = images(n)
    out = net.forward_all(blobs=["ip"], data=x)
    scores, prob = oracle(net, x)
    assert sorted(out) == ["ip", "prob"]
    assert_close(out["prob"], prob)
    assert_close(out["ip"], scores)
    assert net.blobs["data"].shape == (4, 2, 5, 5)


@pytest.mark.parametrize("n", [3, 4, 10])
def test_forward_all_keeps_all_rows_of_an_item(tmp_path, n):
    path = tmp_path / "n.prototxt"
    path.write_text(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 6 } } }\n'
        'layer { name: "r" type: "Reshape" bottom: "data" top: "rows" reshape_param { shape { dim: -1 dim: 3 } } }\n'
    )
    x = np.arange(6.0 * n).reshape(n, 6)
    assert caffe.Net(path, caffe.TEST).forward_all(data=x)["rows"].tolist() == x.reshape(-1, 3).tolist()


def test_forward_backward_all(file, engine):
    with open(file, "w") as out:
        out.write("force_backward: true\n" + DEPLOY[: DEPLOY.index('layer { name: "prob"')])
    net = caffe.Net(file, caffe.TEST, engine=engine)
    x, dy = images(6), np.random.default_rng(7).normal(size=(6, 3)).astype("f4")
    values, gradients = net.forward_backward_all(blobs=["conv"], diffs=["conv"], data=x, ip=dy)
    assert sorted(values) == sorted(["ip", "conv"]) and sorted(gradients) == ["conv", "data"]
    assert_close(values["ip"], oracle(net, x)[0])
    inner = (dy @ net.params["ip"][0].data).reshape(values["conv"].shape) * (values["conv"] > 0)
    assert_close(gradients["conv"], inner)
    assert gradients["data"].shape == x.shape


def test_the_passes_under_their_underscored_names(file):
    net = caffe.Net(file, caffe.TRAIN)
    net.blobs["data"].data[...] = images()
    last = len(net.layers) - 1
    assert float(net._forward(0, last)) == pytest.approx(2 * float(net.blobs["loss"].data))
    net._backward(last, 0)
    assert all(net.params[name][0].diff.any() for name in ("conv", "ip"))


def test_reshape(deploy, engine):
    net = caffe.Net(deploy, caffe.TEST, engine=engine)
    net.blobs["data"].reshape(1, 2, 5, 5)
    net.reshape()
    assert net.blobs["prob"].data.shape == (1, 3)
    x = images(1)
    assert_close(net.forward(data=x)["prob"], oracle(net, x)[1])


def test_hooks_get_the_index_of_the_layer(file):
    net = caffe.Net(file, caffe.TRAIN)
    calls = []
    for when in ("before_forward", "after_forward", "before_backward", "after_backward"):
        getattr(net, when)(lambda i, when=when: calls.append((when, net._layer_names[i])))
    net.forward(end="conv")
    assert calls == [(f"{w}_forward", name) for name in ("data", "label", "conv") for w in ("before", "after")]
    net.forward()
    calls.clear()
    net.backward(end="relu")
    assert calls == [(f"{w}_backward", name) for name in ("loss", "ip", "relu") for w in ("before", "after")]


def test_set_input_arrays(tmp_path):
    path = tmp_path / "n.prototxt"
    path.write_text(
        'layer { name: "m" type: "MemoryData" top: "data" top: "label"\n'
        "  memory_data_param { batch_size: 2 channels: 2 height: 5 width: 5 } }\n"
        'layer { name: "p" type: "Power" bottom: "data" top: "twice" power_param { scale: 2 } }\n'
    )
    net = caffe.Net(path, caffe.TRAIN)
    x = images(4)
    for labels in (np.arange(4), np.arange(4).reshape(4, 1, 1, 1)):
        net.set_input_arrays(x, labels)
        for rows in (slice(0, 2), slice(2, 4), slice(0, 2)):
            out = net.forward()
            assert_close(out["twice"], 2 * x[rows])
            assert out["label"].ravel().tolist() == np.arange(4)[rows].tolist()


def test_a_position_beyond_the_arrays_begins_again(tmp_path):
    path = tmp_path / "n.prototxt"
    path.write_text(
        'layer { name: "m" type: "MemoryData" top: "data" top: "label"\n'
        "  memory_data_param { batch_size: 2 channels: 2 height: 5 width: 5 } }\n"
    )
    net = caffe.Net(path, caffe.TRAIN)
    net.set_input_arrays(images(4), np.arange(4))
    net.layers[0].set_state({"position": 6})
    assert [net.forward()["label"].tolist() for _ in range(2)] == [[0, 1], [2, 3]]


# Weights


@pytest.mark.parametrize("kind", ["caffemodel", "h5"])
def test_weights_travel_by_name(file, tmp_path, kind, engine):
    net, other = (caffe.Net(file, caffe.TRAIN, engine=engine) for _ in range(2))
    path = str(tmp_path / f"w.{kind}")
    net.save(path) if kind == "caffemodel" else net.save_hdf5(path)
    assert not np.array_equal(other.params["conv"][0].data, net.params["conv"][0].data)
    other.copy_from(path) if kind == "caffemodel" else other.load_hdf5(path)
    for name, blobs in net.params.items():
        for mine, theirs in zip(blobs, other.params[name]):
            np.testing.assert_array_equal(mine.data, theirs.data)


def test_copy_from_skips_other_layers(file, tmp_path):
    net = caffe.Net(file, caffe.TRAIN)
    net.save(tmp_path / "w.caffemodel")
    renamed = tmp_path / "renamed.prototxt"
    renamed.write_text(SMALL.replace('"ip"', '"ip_new"'))
    other = caffe.Net(renamed, caffe.TRAIN)
    before = other.params["ip_new"][0].data.copy()
    other.copy_from(str(tmp_path / "w.caffemodel"))
    np.testing.assert_array_equal(other.params["conv"][0].data, net.params["conv"][0].data)
    np.testing.assert_array_equal(other.params["ip_new"][0].data, before)


def test_share_with(file, deploy, engine):
    net, other = caffe.Net(file, caffe.TRAIN, engine=engine), caffe.Net(deploy, caffe.TEST, engine=engine)
    other.share_with(net)
    net.params["conv"][0].data[...] = 3
    assert (other.params["conv"][0].data == 3).all()


# Wrong calls


def refused(function, kind=ConfigError):
    with pytest.raises(kind) as caught:
        function()
    assert isinstance(caught.value, CaffeError)
    return str(caught.value)


def test_wrong_names_list_what_exists(deploy):
    net = caffe.Net(deploy, caffe.TEST)
    assert refused(lambda: net.blobs["dat"]) == 'the net has no blob "dat"\n  Did you mean "data"?'
    assert refused(lambda: net.blobs["zz"]) == 'the net has no blob "zz"\n  There are: data, conv, ip, prob.'
    assert refused(lambda: net.blobs["zz"], KeyError)
    assert refused(lambda: net.params["relu"]) == (
        'the net has no layer with parameters "relu"\n  There are: conv, ip.'
    )
    layers = "There are: data, conv, relu, ip, prob."
    assert refused(lambda: net.layer_dict["zz"]) == f'the net has no layer "zz"\n  {layers}'
    assert refused(lambda: net.top_names["zz"]) == f'the net has no layer "zz"\n  {layers}'
    assert refused(lambda: net.forward(start="zz")) == f'the net has no layer "zz"\n  {layers}'
    assert refused(lambda: net.forward(end="zz")) == f'the net has no layer "zz"\n  {layers}'
    assert refused(lambda: net.backward(end="zz")) == f'the net has no layer "zz"\n  {layers}'
    assert refused(lambda: net.forward(blobs=["zz"])) == 'the net has no blob "zz"\n  There are: data, conv, ip, prob.'
    assert refused(lambda: net.backward(diffs=["zz"])) == 'the net has no blob "zz"\n  There are: data, conv, ip, prob.'
    assert refused(lambda: net.forward(zz=1)) == "the arguments zz are not the net's inputs\n  Its inputs are: data."
    assert refused(lambda: net.backward(zz=1)) == "the arguments zz are not the net's outputs\n  Its outputs are: prob."
    assert refused(lambda: net.forward_all()) == "no input is given\n  Inputs: data."
    assert refused(lambda: net.forward_backward_all(data=images())) == (
        "no array is given for prob\n  Give all inputs, and all output gradients."
    )
    assert refused(lambda: net.set_input_arrays(images(), np.zeros(4))) == (
        'set_input_arrays needs a MemoryData layer at the start, but "data" is of type Input'
    )


def test_wrong_constructors(file, tmp_path):
    assert refused(lambda: caffe.Net(file, 2)) == "the phase is caffepy.TRAIN (0) or caffepy.TEST (1), got 2"
    assert refused(lambda: caffe.Net(file, "TEST")) == "the phase is caffepy.TRAIN (0) or caffepy.TEST (1), got 'TEST'"
    assert refused(lambda: caffe.Net(file, caffe.TEST, "w.caffemodel")) == (
        "level is a number, got 'w.caffemodel'\n  Name the weights: Net(file, phase, weights=...)"
    )
    assert refused(lambda: caffe.Net(str(tmp_path / "smal.prototxt"), caffe.TEST)) == (
        f'{tmp_path}/smal.prototxt: cannot read the file: No such file or directory\n  Did you mean "small.prototxt"?'
    )


def test_wrong_shapes_say_which(deploy):
    net = caffe.Net(deploy, caffe.TEST)
    assert refused(lambda: net.forward(data=images(3)), ShapeError) == (
        'the array for "data" has shape (3, 2, 5, 5), the blob (4, 2, 5, 5)\n'
        "  For other shapes: net.blobs['data'].reshape(3, 2, 5, 5) first."
    )
    assert refused(lambda: net.backward(prob=np.zeros((4, 5))), ShapeError).startswith(
        'the array for "prob" has shape (4, 5), the blob (4, 3)'
    )


def test_wrong_weights_say_which(file, deploy, tmp_path):
    caffe.Net(file, caffe.TRAIN).save(tmp_path / "w.caffemodel")
    path = tmp_path / "other.prototxt"
    path.write_text(DEPLOY.replace("num_output: 3 kernel_size: 3", "num_output: 5 kernel_size: 3"))
    weights = str(tmp_path / "w.caffemodel")
    assert refused(lambda: caffe.Net(path, caffe.TEST, weights=weights), ShapeError).startswith(
        f'layer "conv": parameter 0 has shape (5, 2, 3, 3) here and (3, 2, 3, 3) in {weights}'
    )
    with pytest.raises(SnapshotError, match=r"w\.caffemodl"):
        caffe.Net(deploy, caffe.TEST, weights=str(tmp_path / "w.caffemodl"))
    with pytest.raises(ShapeError) as caught:
        caffe.Net(path, caffe.TEST).share_with(caffe.Net(file, caffe.TRAIN))
    assert str(caught.value).startswith('layer "conv" has parameters [(5, 2, 3, 3), (5,)] in one net and')
