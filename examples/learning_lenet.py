"""Learning LeNet, step by step: a net written in Python, a solver, and a look inside after every few iterations.

python examples/learning_lenet.py
"""

import tempfile
from pathlib import Path

import digits
import numpy as np

import caffepy as caffe
from caffepy import layers as L
from caffepy import params as P


def lenet(batch_size: int):
    """The net as a NetParameter; its Input layers are filled by hand below."""
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[batch_size, 1, 28, 28]))
    n.label = L.Input(shape=dict(dim=[batch_size]))
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=20, weight_filler=dict(type="xavier"))
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.conv2 = L.Convolution(n.pool1, kernel_size=5, num_output=50, weight_filler=dict(type="xavier"))
    n.pool2 = L.Pooling(n.conv2, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.fc1 = L.InnerProduct(n.pool2, num_output=500, weight_filler=dict(type="xavier"))
    n.relu1 = L.ReLU(n.fc1, in_place=True)
    n.score = L.InnerProduct(n.relu1, num_output=10, weight_filler=dict(type="xavier"))
    n.accuracy = L.Accuracy(n.score, n.label)
    n.loss = L.SoftmaxWithLoss(n.score, n.label)
    return n.to_proto()


def main(iterations: int = 100) -> float:
    caffe.set_random_seed(1)
    images, labels = digits.load("train", 6400)
    with tempfile.TemporaryDirectory() as folder:
        net, solver = Path(folder, "net.prototxt"), Path(folder, "solver.prototxt")
        net.write_text(str(lenet(64)))
        solver.write_text(
            f'net: "{net}" base_lr: 0.01 momentum: 0.9 weight_decay: 0.0005 lr_policy: "inv" gamma: 1e-4 power: 0.75\n'
            f'max_iter: {iterations} type: "SGD" solver_mode: CPU random_seed: 1 snapshot_prefix: "{folder}/lenet"\n'
        )
        solver = caffe.get_solver(str(solver))
    print("blobs:", {name: blob.data.shape for name, blob in solver.net.blobs.items()})
    print("parameters:", {name: [p.data.shape for p in params] for name, params in solver.net.params.items()})

    losses = []
    for i in range(iterations):
        batch = slice(i * 64 % len(images), i * 64 % len(images) + 64)
        solver.net.blobs["data"].data[...] = images[batch]
        solver.net.blobs["label"].data[...] = labels[batch]
        solver.step(1)  # one forward, backward and update
        losses.append(float(solver.net.blobs["loss"].data))
        if i % 20 == 0:
            gradient = np.abs(solver.net.params["conv1"][0].diff).mean()
            print(f"iteration {i}: loss {losses[-1]:.3f}, mean gradient of conv1 {gradient:.2e}")

    test_images, test_labels = digits.load("test", 640)
    right = 0
    for start in range(0, len(test_images), 64):
        solver.net.blobs["data"].data[...] = test_images[start : start + 64]
        solver.net.forward(end="score")
        found = solver.net.blobs["score"].data.argmax(1)
        right += int((found == test_labels[start : start + 64]).sum())
    accuracy = right / len(test_images)
    print(f"accuracy on {len(test_images)} digits it has not seen: {accuracy:.3f}")
    return accuracy


if __name__ == "__main__":
    main()
