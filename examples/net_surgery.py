"""Net surgery: a classifier's InnerProduct layers become Convolutions, and it looks at a picture of any size at once.

python examples/net_surgery.py
"""

import digits
import numpy as np

import caffepy as caffe
from caffepy import layers as L


def classifier():
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 1, 28, 28]))
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=8, weight_filler=dict(type="xavier"))
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2)
    n.fc2 = L.InnerProduct(n.pool1, num_output=32, weight_filler=dict(type="xavier"))
    n.relu2 = L.ReLU(n.fc2, in_place=True)
    n.fc3 = L.InnerProduct(n.fc2, num_output=10, weight_filler=dict(type="xavier"))
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


def main() -> float:
    caffe.set_random_seed(1)
    net = caffe.Net(classifier(), caffe.TEST)
    full = caffe.Net(convolutional(56, 84), caffe.TEST)
    full.params["conv1"][0].data[...] = net.params["conv1"][0].data
    full.params["conv1"][1].data[...] = net.params["conv1"][1].data
    for dense, conv in (("fc2", "fc2-conv"), ("fc3", "fc3-conv")):
        weights, bias = net.params[dense]
        print(f"{dense} {weights.data.shape} -> {conv} {full.params[conv][0].data.shape}")
        # The same numbers in the same order: (out, in * height * width) to (out, in, height, width).
        full.params[conv][0].data[...] = weights.data.reshape(full.params[conv][0].data.shape)
        full.params[conv][1].data[...] = bias.data

    images, _ = digits.load("test", 6)
    sheet = images.reshape(2, 3, 28, 28).transpose(0, 2, 1, 3).reshape(1, 1, 56, 84)
    heatmap = full.forward(data=sheet)["prob"][0]  # (10, 15, 29): windows two pixels apart
    worst = 0.0
    for i in range(heatmap.shape[1]):
        for j in range(heatmap.shape[2]):
            window = sheet[:, :, 2 * i : 2 * i + 28, 2 * j : 2 * j + 28]
            worst = max(worst, float(np.abs(net.forward(data=window)["prob"][0] - heatmap[:, i, j]).max()))
    print(f"one pass over the sheet equals {heatmap[0].size} passes over its windows, to {worst:.1e}")
    return worst


if __name__ == "__main__":
    main()
