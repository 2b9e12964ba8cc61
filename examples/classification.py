"""Classification with a trained net: pictures from files, the Transformer, the five likeliest classes, a Classifier.

python examples/classification.py
"""

import tempfile
from pathlib import Path

import digits
import numpy as np
from PIL import Image

import caffepy as caffe
from caffepy import layers as L


def deploy(batch_size: int = 1):
    n = caffe.NetSpec()
    n.data = L.Input(shape=dict(dim=[batch_size, 1, 28, 28]))
    n.ip1 = L.InnerProduct(n.data, num_output=64, weight_filler=dict(type="xavier"))
    n.relu1 = L.ReLU(n.ip1, in_place=True)
    n.score = L.InnerProduct(n.ip1, num_output=10, weight_filler=dict(type="xavier"))
    n.prob = L.Softmax(n.score)
    return n


def train(weights: str) -> None:
    """Stands in for a model that somebody else has trained, on bytes with their mean subtracted, over 255."""
    n = deploy(50)
    n.label = L.Input(shape=dict(dim=[50]))
    n.loss = L.SoftmaxWithLoss(n.score, n.label)
    net = caffe.Net(n.to_proto(), caffe.TRAIN)
    images, labels = digits.load("train", 5000)
    net.fit((images * 255 - 33) / 255, labels, epochs=4, solver={"base_lr": 0.001, "type": "Adam", "momentum": 0.9})
    net.save(weights)


def main() -> tuple[float, float]:
    caffe.set_random_seed(1)
    images, labels = digits.load("test", 100)
    with tempfile.TemporaryDirectory() as folder:
        model, weights = f"{folder}/deploy.prototxt", f"{folder}/digits.caffemodel"
        Path(model).write_text(str(deploy().to_proto()))
        train(weights)
        files = []
        for i, image in enumerate(images):
            files.append(f"{folder}/{i}.png")
            Image.fromarray((image[0] * 255).astype(np.uint8)).save(files[-1])

        net = caffe.Net(model, weights, caffe.TEST)
        transformer = caffe.io.Transformer({"data": net.blobs["data"].data.shape})
        transformer.set_transpose("data", (2, 0, 1))  # height, width, channels to channels, height, width
        transformer.set_raw_scale("data", 255)  # load_image gives [0, 1], the net learned from bytes
        transformer.set_mean("data", np.array([33]))
        transformer.set_input_scale("data", 1 / 255)
        right = 0
        for number, (file, label) in enumerate(zip(files, labels)):
            net.blobs["data"].data[...] = transformer.preprocess("data", caffe.io.load_image(file, color=False))
            prob = net.forward()["prob"][0]
            right += int(prob.argmax() == label)
            if number < 3:
                top = prob.argsort()[::-1][:5]
                print(f"a {int(label)}:", ", ".join(f"{k} {prob[k]:.1%}" for k in top))

        classifier = caffe.Classifier(model, weights, mean=np.array([33]), raw_scale=255, input_scale=1 / 255)
        pictures = [caffe.io.load_image(file, color=False) for file in files]
        predicted = classifier.predict(pictures, oversample=False).argmax(axis=1)
    by_hand, by_classifier = right / len(files), float((predicted == labels).mean())
    print(f"accuracy by hand {by_hand:.2f}, by caffe.Classifier {by_classifier:.2f}")
    return by_hand, by_classifier


if __name__ == "__main__":
    main()
