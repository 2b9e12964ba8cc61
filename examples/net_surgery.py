"""Net surgery: a classifier's InnerProduct layers become Convolutions, and it looks at a picture of any size at once.

python examples/net_surgery.py
"""

import digits
import numpy as np

import caffepy as caffe
from caffepy import layers as L


def classifier(batch_size: int = 1, train: bool = False):
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[batch_size, 1, 28, 28]))
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=8, weight_filler=dict(type="xavier"))
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2)
    n.fc2 = L.InnerProduct(n.pool1, num_output=32, weight_filler=dict(type="xavier"))
    n.relu2 = L.ReLU(n.fc2, in_place=True)
    n.fc3 = L.InnerProduct(n.fc2, num_output=10, weight_filler=dict(type="xavier"))
    if train:
        n.label = L.Input(shape=dict(dim=[batch_size]))
        n.loss = L.SoftmaxWithLoss(n.fc3, n.label)
    else:
        n.prob = L.Softmax(n.fc3)
    return n.to_proto()


def convolutional(height: int, width: int):
    """The same net on a larger picture: fc2 sees 12 x 12 of its bottom, wherever that lies."""
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 1, height, width]))
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=8)
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2)
    n["fc2-conv"] = L.Convolution(n.pool1, kernel_size=12, num_output=32)
    n.relu2 = L.ReLU(n["fc2-conv"], in_place=True)
    n["fc3-conv"] = L.Convolution(n["fc2-conv"], kernel_size=1, num_output=10)
    n.prob = L.Softmax(n["fc3-conv"])
    return n.to_proto()


def main() -> tuple[float, int]:
    """The largest difference between the heat map and the windows, and how many of six digits it names."""
    caffe.set_random_seed(1)
    trained = caffe.Net(classifier(50, train=True), caffe.TRAIN)
    trained.fit(*digits.load("train", 4000), epochs=2, solver={"type": "SGD", "base_lr": 0.01, "momentum": 0.9})
    net = caffe.Net(classifier(), caffe.TEST)
    net.share_with(trained)

    full = caffe.Net(convolutional(56, 84), caffe.TEST)
    for old, new in (("conv1", "conv1"), ("fc2", "fc2-conv"), ("fc3", "fc3-conv")):
        (weights, bias), (new_weights, new_bias) = net.params[old], full.params[new]
        print(f"{old} {weights.data.shape} -> {new} {new_weights.data.shape}")
        # The same numbers in the same order: (out, in * height * width) to (out, in, height, width).
        new_weights.data.flat = weights.data.flat
        new_bias.data[...] = bias.data

    images, labels = digits.load("test", 6)
    sheet = images.reshape(2, 3, 28, 28).transpose(0, 2, 1, 3).reshape(1, 1, 56, 84)
    heatmap = full.forward(data=sheet)["prob"][0]  # (10, 15, 29): windows two pixels apart
    found = heatmap[:, ::14, ::14].argmax(axis=0).ravel()  # the windows that hold one digit each
    print(f"on the sheet are {labels.astype(int).tolist()}, the heat map says {found.tolist()}")

    worst = 0.0
    for i in range(heatmap.shape[1]):
        for j in range(heatmap.shape[2]):
            window = sheet[:, :, 2 * i : 2 * i + 28, 2 * j : 2 * j + 28]
            worst = max(worst, float(np.abs(net.forward(data=window)["prob"][0] - heatmap[:, i, j]).max()))
    print(f"one pass over the sheet equals {heatmap[0].size} passes over its windows, to {worst:.1e}")
    return worst, int((found == labels).sum())


if __name__ == "__main__":
    main()
