"""ONNX models as Caffe's layers: each operator against onnxruntime, whole models, files that are not whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

from caffepy import permissions
from caffepy.cli import main
from caffepy.errors import CaffeError, ConfigError, SnapshotError
from caffepy.export.importing import importable, imported
from caffepy.export.onnx_file import export
from caffepy.export.prototxt import differences, import_model
from caffepy.net.net import Net
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import TEST, NetParameter
from tests.export.support import build, noise, ours
from tests.support import assert_close

MODELS = Path(__file__).parents[2] / "models"
IMAGE = (2, 4, 7, 6)


def write(path, nodes, inputs, constants=(), opset=18, outputs=("y",)):
    """A model file; inputs are shapes by name, nodes (kind, inputs, outputs, attributes)."""
    helper = onnx.helper
    graph = helper.make_graph(
        [
            helper.make_node(kind, ins, outs, name=f"node_{i}", **more)
            for i, (kind, ins, outs, more) in enumerate(nodes)
        ],
        "graph",
        [helper.make_tensor_value_info(name, 1, shape) for name, shape in inputs.items()],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [onnx.numpy_helper.from_array(np.asarray(values), name) for name, values in dict(constants).items()],
    )
    for value in graph.output:
        value.type.tensor_type.elem_type = 1
        value.type.tensor_type.shape.SetInParent()
        value.type.tensor_type.ClearField("shape")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    inferred = onnx.shape_inference.infer_shapes(model)
    path.write_bytes(inferred.SerializeToString())
    return path


W = noise(6, 4, 3, 3)
OPERATORS = {
    "conv": ("Conv", {"w": W, "b": noise(6)}, {"pads": [1, 2, 1, 2], "strides": [2, 1], "dilations": [1, 2]}),
    "conv_group": ("Conv", {"w": noise(6, 2, 3, 3)}, {"group": 2}),
    "conv_same": ("Conv", {"w": W}, {"auto_pad": "SAME_UPPER"}),
    "conv_transpose": ("ConvTranspose", {"w": noise(4, 3, 2, 2), "b": noise(6)}, {"group": 2, "strides": [2, 2]}),
    "norm": ("BatchNormalization", {k: np.abs(noise(4, seed=i)) for i, k in enumerate("sbmv")}, {"epsilon": 1e-3}),
    "max": ("MaxPool", {}, {"kernel_shape": [3, 3], "strides": [2, 2]}),
    "max_ceil": ("MaxPool", {}, {"kernel_shape": [2, 3], "strides": [2, 2], "ceil_mode": 1}),
    "max_pad": ("MaxPool", {}, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "max_end": ("MaxPool", {}, {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0, 0, 1, 0]}),
    "mean": ("AveragePool", {}, {"kernel_shape": [3, 3], "strides": [2, 2]}),
    "mean_pad": ("AveragePool", {}, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    "mean_ceil": ("AveragePool", {}, {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    "global_mean": ("GlobalAveragePool", {}, {}),
    "global_max": ("GlobalMaxPool", {}, {}),
    "reduce_mean": ("ReduceMean", {"axes": np.int64([-1, -2])}, {"keepdims": 0}),
    "reduce_sum": ("ReduceSum", {"axes": np.int64([1, 2, 3])}, {"keepdims": 1}),
    "flatten": ("Flatten", {}, {}),
    "flatten_two": ("Flatten", {}, {"axis": 2}),
    "reshape": ("Reshape", {"shape": np.int64([0, 2, -1])}, {}),
    "squeeze": ("Unsqueeze", {"axes": np.int64([1])}, {}),
    "transpose": ("Transpose", {}, {"perm": [0, 2, 3, 1]}),
    "slice": ("Slice", {"s": np.int64([1, -5]), "e": np.int64([3, 2**60]), "a": np.int64([1, 2])}, {}),
    "gather": ("Gather", {"i": np.int64([2, 1, 0])}, {"axis": 1}),
    "gather_one": ("Gather", {"i": np.int64(-1)}, {"axis": 2}),
    "tile": ("Tile", {"n": np.int64([1, 2, 1, 3])}, {}),
    "nearest": ("Resize", {"r": np.float32([]), "n": np.float32([1, 1, 2, 3])},
                {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
    "corners": ("Resize", {"r": np.float32([]), "n": np.float32([]), "s": np.int64([2, 4, 13, 3])},
                {"mode": "linear", "coordinate_transformation_mode": "align_corners"}),
    "clip": ("Clip", {"low": np.float32(-1), "high": np.float32(0.5)}, {}),
    "relu6": ("Clip", {"low": np.float32(0), "high": np.float32(6)}, {}),
    "leaky": ("LeakyRelu", {}, {"alpha": 0.2}),
    "prelu": ("PRelu", {"s": noise(4, 1, 1)}, {}),
    "prelu_shared": ("PRelu", {"s": noise(1)}, {}),
    "pow": ("Pow", {"e": np.float32(2)}, {}),
    "add_scalar": ("Add", {"c": np.float32(1.5)}, {}),
    "mul_channels": ("Mul", {"c": noise(4, 1, 1)}, {}),
    "div_channels": ("Div", {"c": 1 + np.abs(noise(1, 4, 1, 1))}, {}),
    "sub_columns": ("Sub", {"c": noise(6)}, {}),
    "add_items": ("Add", {"c": noise(2, 4, 7, 6)}, {}),
    "softmax": ("Softmax", {}, {"axis": 1}),
    "log_softmax": ("LogSoftmax", {}, {"axis": 1}),
    "lrn": ("LRN", {}, {"size": 3, "alpha": 0.1, "beta": 0.5, "bias": 2.0}),
    "layer_norm": ("LayerNormalization", {"s": noise(6), "b": noise(6)}, {"axis": -1}),
    "matmul": ("MatMul", {"w": noise(6, 5)}, {}),
    "hard_sigmoid": ("HardSigmoid", {}, {"alpha": 0.3, "beta": 0.4}),
    **{kind.lower(): (kind, {}, {}) for kind in
       ("Relu", "Sigmoid", "Tanh", "Abs", "Softplus", "Exp", "HardSwish", "Mish", "Elu", "Selu", "Neg", "Reciprocal",
        "Identity")},
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_operator(name, tmp_path):
    kind, constants, attributes = OPERATORS[name]
    path = write(tmp_path / "m.onnx", [(kind, ["x", *constants], ["y"], attributes)], {"x": IMAGE}, constants)
    read = imported(path)
    assert differences(read.net, read.model)["y"][1] < 2e-5


def test_what_is_tried_is_what_can_be_read():
    tried = {kind for kind, _, _ in OPERATORS.values()} | set(PAIRS) | {"Gelu", "Gemm", "Pad", "Concat", "Split"}
    tried |= {"Dropout", "Cast", "Squeeze", "Upsample", "Sqrt", "Log"}  # as these are, in nets below
    folded = {"Constant", "ConstantOfShape", "Equal", "Expand", "Floor", "Range", "Shape", "Where"}
    assert set(importable()) == tried | folded


PAIRS = ["Add", "Sub", "Mul", "Div", "Max", "Sum"]


@pytest.mark.parametrize("kind", PAIRS)
def test_two_arrays(kind, tmp_path):
    path = write(tmp_path / "m.onnx", [(kind, ["x", "z"], ["y"], {})], {"x": IMAGE, "z": IMAGE})
    read = imported(path)
    assert differences(read.net, read.model)["y"][1] < 2e-5


@pytest.mark.parametrize("order", [["x", "z"], ["z", "x"]])
@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (1, 4, 7, 1), (1, 1, 1, 6)])
@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Div"])
def test_one_array_over_the_other(kind, shape, order, tmp_path):
    path = write(tmp_path / "m.onnx", [(kind, order, ["y"], {})], {"x": (1, 4, 7, 6), "z": shape})
    read = imported(path)
    assert differences(read.net, read.model)["y"][1] < 2e-5


def test_zeros_around_are_the_padding_of_what_reads_them(tmp_path):
    nodes = [
        ("Pad", ["x", "p"], ["wide"], {}),
        ("Conv", ["wide", "w"], ["c"], {"pads": [1, 0, 1, 0]}),
        ("Pad", ["x", "p"], ["wide_too"], {}),
        ("AveragePool", ["wide_too"], ["m"], {"kernel_shape": [3, 3]}),
    ]
    constants = {"w": W, "p": np.int64([0, 0, 1, 1, 0, 0, 1, 1])}
    path = write(tmp_path / "m.onnx", nodes, {"x": IMAGE}, constants, outputs=("c", "m"))
    read = imported(path)
    assert max(relative for _, relative in differences(read.net, read.model).values()) < 2e-5
    assert [layer.type for layer in read.definition.layer] == ["Input", "Convolution", "Pooling"]


def test_shapes_that_are_computed_are_constants(tmp_path):
    """As PyTorch writes x.view(n, 2, c // 2, h, w).transpose(1, 2)."""
    nodes = [
        ("Shape", ["x"], ["shape"], {}),
        ("Gather", ["shape", "one"], ["c"], {"axis": 0}),
        ("Div", ["c", "two"], ["half"], {}),
        ("Unsqueeze", ["half", "zero"], ["halves"], {}),
        ("Concat", ["n", "twos", "halves", "size"], ["wanted"], {"axis": 0}),
        ("Reshape", ["x", "wanted"], ["grouped"], {}),
        ("Transpose", ["grouped"], ["turned"], {"perm": [0, 2, 1, 3, 4]}),
        ("Shape", ["turned"], ["other"], {}),
        ("Gather", ["other", "zero"], ["n_again"], {"axis": 0}),
        ("Concat", ["n_again", "rest"], ["last"], {"axis": 0}),
        ("Reshape", ["turned", "last"], ["y"], {}),
    ]
    constants = {"one": np.int64(1), "two": np.int64(2), "zero": np.int64([0]), "n": np.int64([-1]),
                 "twos": np.int64([2]), "size": np.int64([7, 6]), "rest": np.int64([4, 7, 6])}  # fmt: skip
    read = imported(write(tmp_path / "m.onnx", nodes, {"x": IMAGE}, constants))
    assert differences(read.net, read.model)["y"][1] == 0
    assert [layer.type for layer in read.definition.layer] == ["Input", "Reshape", "Permute", "Reshape"]


def test_items_stay_items(tmp_path):
    """A model of one item runs on three."""
    nodes = [("Reshape", ["x", "shape"], ["flat"], {}), ("Gemm", ["flat", "w"], ["y"], {"transB": 1})]
    constants = {"shape": np.int64([1, 12]), "w": noise(3, 12)}
    net = imported(write(tmp_path / "m.onnx", nodes, {"x": (1, 3, 2, 2)}, constants)).net
    x = noise(3, 3, 2, 2)
    assert_close(ours(net, {"x": x})["y"], x.reshape(3, 12) @ constants["w"].T)


def test_what_is_left_of_a_cut_is_no_output(tmp_path):
    constants = {"s": np.int64([1]), "e": np.int64([3]), "a": np.int64([1])}
    net = imported(
        write(tmp_path / "m.onnx", [("Slice", ["x", "s", "e", "a"], ["y"], {})], {"x": IMAGE}, constants)
    ).net
    assert net.outputs == ["y"]


@pytest.mark.parametrize("path", ["lenet/lenet.prototxt", "cifar10_full/cifar10_full.prototxt"])
def test_there_and_back(path, tmp_path):
    """Exported, imported from the command line, and run: the same numbers, for another number of items, too."""
    net = Net(str(MODELS / path), TEST)
    random = np.random.default_rng(1)
    for layer in net.layers:
        for blob in layer.blobs:
            blob.fill(random.normal(0, 0.1, blob.shape))
    export(net, tmp_path / "net.onnx")
    main(["import", str(tmp_path / "net.onnx"), "--output", str(tmp_path / "back")])
    again = Net(tmp_path / "back.prototxt", TEST, weights=tmp_path / "back.caffemodel")
    name = net.inputs[0]
    for items in (1, 3):
        inputs = {name: noise(items, *net.engine_blobs[name].shape[1:])}
        assert_close(ours(again, inputs)["prob"], ours(net, inputs)["prob"], 2e-5)


BACK = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 4 dim: 9 dim: 7 } } }
layer { name: "up" type: "Deconvolution" bottom: "x" top: "up"
        convolution_param { num_output: 4 kernel_size: 2 stride: 2 group: 2 } }
layer { name: "bn" type: "BatchNorm" bottom: "up" top: "bn" }
layer { name: "scale" type: "Scale" bottom: "bn" top: "bn" scale_param { bias_term: true } }
layer { name: "prelu" type: "PReLU" bottom: "bn" top: "prelu" }
layer { name: "lrn" type: "LRN" bottom: "prelu" top: "lrn" lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 } }
layer { name: "pool" type: "Pooling" bottom: "lrn" top: "pool"
        pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "crop" type: "Crop" bottom: "pool" bottom: "x" top: "crop" crop_param { offset: 1 offset: 0 } }
layer { name: "power" type: "Power" bottom: "crop" top: "power" power_param { power: 2 scale: 0.5 shift: 1 } }
layer { name: "mvn" type: "MVN" bottom: "power" top: "mvn" }
layer { name: "sum" type: "Eltwise" bottom: "mvn" bottom: "crop" top: "sum" eltwise_param { coeff: 1 coeff: -2 } }
layer { name: "permute" type: "Permute" bottom: "sum" top: "permute"
        permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "fc" type: "InnerProduct" bottom: "permute" top: "fc" inner_product_param { num_output: 6 axis: 2 } }
layer { name: "soft" type: "Softmax" bottom: "fc" top: "soft" softmax_param { axis: 2 } }
layer { name: "mean" type: "Reduction" bottom: "soft" top: "mean" reduction_param { axis: 1 operation: MEAN } }
"""


def test_there_and_back_of_many_layers(tmp_path):
    net = build(BACK)
    x = noise(2, 4, 9, 7)
    expected = ours(net, {"x": x})["mean"]
    export(net, tmp_path / "net.onnx")
    import_model(tmp_path / "net.onnx", tmp_path / "n.prototxt", tmp_path / "n.caffemodel")
    again = Net(tmp_path / "n.prototxt", TEST, weights=tmp_path / "n.caffemodel")
    assert_close(ours(again, {"x": x})["mean"], expected, 2e-5)


def test_definition_is_short(tmp_path):
    nodes = [("Conv", ["x", "w"], ["c"], {}), ("Relu", ["c"], ["y"], {})]
    read = imported(write(tmp_path / "m.onnx", nodes, {"x": IMAGE}, {"w": W}))
    expected = """name: "graph"
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 4 dim: 7 dim: 6 } } }
        layer { name: "node_0" type: "Convolution" bottom: "x" top: "c"
                convolution_param { num_output: 6 kernel_size: 3 bias_term: false } }
        layer { name: "node_1" type: "ReLU" bottom: "c" top: "y" }"""
    assert read.definition == text.parse(expected, NetParameter())


# Bad input


def refusal(path, tmp_path, **shapes) -> str:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(CaffeError) as caught:
        import_model(path, tmp_path / "n.prototxt", tmp_path / "n.caffemodel", shapes)
    assert sorted(tmp_path.iterdir()) == before
    return str(caught.value)


def test_unknown_operators_are_named(tmp_path):
    nodes = [("Relu", ["x"], ["a"], {}), ("Det", ["a"], ["b"], {}), ("Erf", ["a"], ["y"], {})]
    path = write(tmp_path / "m.onnx", nodes, {"x": (2, 3, 3)})
    assert refusal(path, tmp_path) == (
        f'{path}: node "node_1" (Det): no layer computes this operator\n  Nor have: node "node_2" (Erf).'
    )


def test_what_a_layer_cannot_do_is_named(tmp_path):
    constants = {"w": W}
    path = write(tmp_path / "m.onnx", [("Conv", ["x", "w"], ["y"], {"pads": [0, 0, 1, 1]})], {"x": IMAGE}, constants)
    assert refusal(path, tmp_path) == (
        f'{path}: node "node_0" (Conv): the padding [0, 0, 1, 1] differs at the two ends of an axis, which no layer has'
    )
    attributes = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    path = write(tmp_path / "m.onnx", [("AveragePool", ["x"], ["y"], attributes)], {"x": IMAGE})
    assert refusal(path, tmp_path) == (
        f'{path}: node "node_0" (AveragePool): a mean that leaves out the padding is none of Pooling\'s\n'
        "  Export with count_include_pad."
    )
    path = write(tmp_path / "m.onnx", [("Conv", ["x", "z"], ["y"], {})], {"x": IMAGE, "z": (6, 4, 3, 3)})
    assert "its input 1 is computed; only constants can be imported there" in refusal(path, tmp_path)


def test_file_that_is_cut(tmp_path):
    whole = write(tmp_path / "whole.onnx", [("Conv", ["x", "w"], ["y"], {})], {"x": IMAGE}, {"w": W}).read_bytes()
    path = tmp_path / "m.onnx"
    for length in (0, 1, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert str(path) in refusal(path, tmp_path)
    path.write_bytes(whole[: len(whole) // 2])
    said = f"{path}: this is no complete ONNX file: truncated, or another kind of file"
    assert refusal(path, tmp_path) == said
    path.write_bytes(b"name: 'lenet'")
    assert refusal(path, tmp_path) == said


def test_a_name_that_is_no_text(tmp_path):
    path = write(tmp_path / "m.onnx", [("Conv", ["x", "filters"], ["y"], {})], {"x": IMAGE}, {"filters": W})
    path.write_bytes(path.read_bytes().replace(b"filters", b"f\x80lters"))
    assert refusal(path, tmp_path) == f"{path}: a name in this model is no UTF-8 text"


def test_values_in_another_file(tmp_path):
    path = write(tmp_path / "m.onnx", [("Conv", ["x", "w"], ["y"], {})], {"x": IMAGE}, {"w": W})
    model = onnx.load(path)
    onnx.save_model(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    assert imported(path).net.layer_dict["node_0"].blobs[0].shape == W.shape
    (tmp_path / "w.bin").unlink()
    said = refusal(path, tmp_path)
    assert said.startswith(f'{path}: the values of "w" are in another file, "w.bin", which cannot be read: ')
    assert said.endswith("Put it beside the model.")


def test_shapes_of_inputs(tmp_path):
    path = write(tmp_path / "m.onnx", [("Relu", ["x"], ["y"], {})], {"x": ("n", 3, "h", 5)})
    assert refusal(path, tmp_path) == (
        f'{path}: the shape of the input "x" is not known: 1,3,?,5\n  Say it: --shape x=1,3,224,224.'
    )
    assert imported(path, {"x": (1, 3, 4, 5)}).net.engine_blobs["y"].shape == (1, 3, 4, 5)
    assert 'the model has no input "z"' in refusal(path, tmp_path, z=(1,))


def test_command(tmp_path, capsys):
    path = write(tmp_path / "m.onnx", [("Relu", ["x"], ["y"], {})], {"x": ("n", "c", 4, 5)})
    with pytest.raises(SystemExit):
        main(["import", str(path), "--shape", "x=1,two"])
    assert "--shape is NAME=N,C,H,W" in capsys.readouterr().err
    main(["import", str(path), "--shape", "x=1,3,4,5"])
    assert capsys.readouterr().out == (
        f"y: largest difference to onnxruntime 0\nWrote {tmp_path}/m.prototxt and {tmp_path}/m.caffemodel\n"
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.caffemodel", "m.onnx", "m.prototxt"]
    with pytest.raises(SystemExit):
        main(["import", str(path), "--shape", "x=1,3,4,5"])
    assert f"{tmp_path}/m.prototxt: there is a file of this name" in capsys.readouterr().err
    main(["import", str(path), "--shape", "x=1,3,4,5", "--force"])
    permissions.allow_overwriting(False)


def test_constant_that_would_fill_the_memory(tmp_path):
    nodes = [("ConstantOfShape", ["size"], ["big"], {}), ("Add", ["x", "big"], ["y"], {})]
    path = write(tmp_path / "m.onnx", nodes, {"x": (1,)}, {"size": np.int64([1 << 50])})
    assert 'the constant "big" needs' in refusal(path, tmp_path)


# PyTorch's exporter


@pytest.mark.slow
@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v2", "resnet18", "alexnet", "googlenet", "vgg11_bn"])
def test_classifiers_of_torchvision(name, tmp_path):
    torch, models = pytest.importorskip("torch"), pytest.importorskip("torchvision.models")
    more = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    model = getattr(models, name)(weights=None, **more).eval()
    path = str(tmp_path / "m.onnx")
    torch.onnx.export(model, (torch.zeros(1, 3, 224, 224),), path, dynamo=False, input_names=["x"], output_names=["y"])
    import_model(path, tmp_path / "m.prototxt", tmp_path / "m.caffemodel")
    x = noise(2, 3, 224, 224)
    net = Net(tmp_path / "m.prototxt", TEST, weights=tmp_path / "m.caffemodel")
    with torch.no_grad():
        expected = model(torch.from_numpy(x)).numpy()
    assert_close(ours(net, {"x": x})["y"], expected, 1e-4)


@pytest.mark.filterwarnings("ignore")
def test_pytorch_exporter(tmp_path):
    """A small net with what its classifiers are made of."""
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU6())
            self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Hardsigmoid())

        def forward(self, x):
            y = self.conv(x)
            y = y * self.gate(y)
            n, c, h, w = y.shape
            shuffled = y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
            return torch.cat([x + shuffled, nn.functional.silu(x)], 1)

    net = nn.Sequential(
        nn.Conv2d(3, 8, 7, 2, 3), nn.MaxPool2d(3, 2, ceil_mode=True), Block(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Dropout(), nn.Linear(16, 5), nn.Softmax(1),
    ).eval()  # fmt: skip
    path = str(tmp_path / "m.onnx")
    torch.onnx.export(net, (torch.zeros(1, 3, 32, 32),), path, dynamo=False, input_names=["x"], output_names=["y"],
                      dynamic_axes={"x": {0: "n"}})  # fmt: skip
    import_model(path, tmp_path / "m.prototxt", tmp_path / "m.caffemodel")
    again = Net(tmp_path / "m.prototxt", TEST, weights=tmp_path / "m.caffemodel")
    x = noise(2, 3, 32, 32)
    with torch.no_grad():
        expected = net(torch.from_numpy(x)).numpy()
    assert_close(ours(again, {"x": x})["y"], expected, 2e-5)


def test_errors_are_of_the_family():
    with pytest.raises(SnapshotError, match="cannot read the file"):
        imported("nowhere.onnx")
    assert issubclass(ConfigError, CaffeError)
