"""Brewing logistic regression from HDF5: two classes of points, first a linear net, then one with a hidden layer.

python examples/brewing_logreg.py
"""

import os
import tempfile

import h5py
import numpy as np

import caffepy as caffe
from caffepy import layers as L


def points(count: int, seed: int):
    """Four coordinates, of which two form a ring around a blob: no line parts the classes."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((count, 4)).astype(np.float32)
    return x, (np.hypot(x[:, 0], x[:, 1]) > 1.2).astype(np.float32)


def net(source: str, batch_size: int, hidden: int = 0):
    n = caffe.NetSpec()
    n.data, n.label = L.HDF5Data(batch_size=batch_size, source=source, ntop=2)
    top = n.data
    if hidden:
        n.ip1 = L.InnerProduct(top, num_output=hidden, weight_filler=dict(type="xavier"))
        n.relu1 = top = L.ReLU(n.ip1, in_place=True)
    n.score = L.InnerProduct(top, num_output=2, weight_filler=dict(type="xavier"))
    n.accuracy = L.Accuracy(n.score, n.label)
    n.loss = L.SoftmaxWithLoss(n.score, n.label)
    return n.to_proto()


def train(hidden: int) -> float:
    """The accuracy on test points after 1,000 iterations."""
    for part in ("train", "test"):
        with open(f"{part}.prototxt", "w") as file:
            file.write(str(net(f"{part}.txt", 50 if part == "train" else 250, hidden)))
    with open("solver.prototxt", "w") as file:
        file.write(
            'train_net: "train.prototxt" test_net: "test.prototxt" test_iter: 4 test_interval: 1000\n'
            'base_lr: 0.05 momentum: 0.9 lr_policy: "fixed" max_iter: 1000 random_seed: 1 snapshot_prefix: "logreg"\n'
        )
    solver = caffe.get_solver("solver.prototxt")
    solver.solve()
    accuracy = 0.0
    for _ in range(4):
        accuracy += float(solver.test_nets[0].forward()["accuracy"]) / 4
    return accuracy


def main() -> tuple[float, float]:
    kept = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for part, count, seed in (("train", 5000, 0), ("test", 1000, 1)):
                with h5py.File(f"{part}.h5", "w") as file:
                    file["data"], file["label"] = points(count, seed)
                with open(f"{part}.txt", "w") as file:
                    file.write(f"{part}.h5\n")
            linear, deep = train(hidden=0), train(hidden=40)
        finally:
            os.chdir(kept)
    print(f"logistic regression: {linear:.3f}, with a hidden layer: {deep:.3f}")
    return linear, deep


if __name__ == "__main__":
    main()
