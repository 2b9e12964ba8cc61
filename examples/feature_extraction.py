"""Feature extraction: what a hidden layer says about pictures finds their like better than the pixels do.

python examples/feature_extraction.py
"""

import digits
import learning_lenet
import numpy as np

import caffepy as caffe
from caffepy import layers as L


def nearest(features, queries):
    """Index of the nearest row of `features` for each query, by the angle between them."""
    a, b = (
        x.reshape(len(x), -1) / np.linalg.norm(x.reshape(len(x), -1), axis=1, keepdims=True)
        for x in (queries, features)
    )
    return (a @ b.T).argmax(axis=1)


def main() -> dict[str, float]:
    caffe.set_random_seed(1)
    images, labels = digits.load("train", 3200)
    data, label = L.Input(shape=[dict(dim=[64, 1, 28, 28]), dict(dim=[64])], ntop=2)
    net = caffe.Net(learning_lenet.lenet(data, label), caffe.TRAIN)
    net.fit(images, labels, epochs=2, solver={"type": "SGD", "base_lr": 0.01, "momentum": 0.9})

    known, queries = slice(0, 500), slice(500, 1000)
    pictures, kinds = digits.load("test", 1000)
    fc1 = net.predict(pictures, output="fc1")  # (1000, 500), in batches; only the layers up to fc1 run
    shares = {}
    for name, features in (("pixels", pictures), ("fc1", fc1)):
        like = nearest(features[known], features[queries])
        shares[name] = float((kinds[known][like] == kinds[queries]).mean())
        print(f"the nearest picture by {name} {features.shape[1:]} shows the same digit: {shares[name]:.3f}")
    return shares


if __name__ == "__main__":
    main()
