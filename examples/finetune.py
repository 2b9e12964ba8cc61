"""Fine-tuning: a net that knows the digits 0 to 4 learns 5 to 9, its features copied by layer name.

python examples/finetune.py
"""

import tempfile
from pathlib import Path

import digits
import numpy as np

import caffepy as caffe
from caffepy import layers as L


def net(last: str, feature_rate: float = 1.0):
    """`last` names the layer of the classes: under a new name it keeps its random weights."""
    rate = [dict(lr_mult=feature_rate)] * 2
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[50, 1, 28, 28]))
    n.label = L.Input(shape=dict(dim=[50]))
    n.conv1 = L.Convolution(
        n.data, kernel_size=5, stride=2, num_output=16, param=rate, weight_filler=dict(type="xavier")
    )
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.conv2 = L.Convolution(
        n.conv1, kernel_size=5, stride=2, num_output=32, param=rate, weight_filler=dict(type="xavier")
    )
    n.relu2 = L.ReLU(n.conv2, in_place=True)
    n[last] = L.InnerProduct(n.conv2, num_output=5, weight_filler=dict(type="xavier"))
    n.accuracy = L.Accuracy(n[last], n.label)
    n.loss = L.SoftmaxWithLoss(n[last], n.label)
    return n.to_proto()


def main() -> tuple[dict[str, float], dict[str, float]]:
    """The accuracies, and how far the features moved away from the copied ones, of the three ways to learn."""
    caffe.set_random_seed(1)
    (x, y), (test_x, test_y) = digits.load("train", 8000), digits.load("test")
    old, new, test = y < 5, y >= 5, test_y >= 5
    few, epochs = 100, 5  # little data and little time: the copied features have a head start
    solver = {"type": "SGD", "base_lr": 0.01, "momentum": 0.9}
    accuracies, moved = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        weights = str(Path(folder, "old.caffemodel"))
        first = caffe.Net(net("score"), caffe.TRAIN)
        first.fit(x[old], y[old], epochs=5, solver=solver)
        first.save(weights)
        for name, rate in (("from scratch", None), ("features learn slowly", 0.1), ("features stay", 0.0)):
            second = caffe.Net(net("score_new", 1.0 if rate is None else rate), caffe.TRAIN)
            if rate is not None:
                second.copy_from(weights)  # conv1 and conv2 fit by name, score_new starts anew
            # With lr_mult 0 the backward pass ends at score_new: nothing before it needs a gradient.
            second.fit(x[new][:few], y[new][:few] - 5, epochs=epochs, solver=solver)
            accuracies[name] = second.evaluate(test_x[test], test_y[test] - 5)["accuracy"]
            moved[name] = float(np.abs(second.params["conv1"][0].data - first.params["conv1"][0].data).mean())
            print(f"{name}: accuracy {accuracies[name]:.3f} after {epochs} epochs of {few} new digits")
    return accuracies, moved


if __name__ == "__main__":
    main()
