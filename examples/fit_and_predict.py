"""The short way: a Sequence of layers, fit, evaluate and predict on arrays, and the net as prototxt and back.

python examples/fit_and_predict.py
"""

import tempfile

import digits

import caffepy as caffe
from caffepy import layers as L


def report(epoch: int, logs: dict[str, float]) -> None:
    print(f"epoch {epoch}:", ", ".join(f"{name} {value:.3f}" for name, value in logs.items()))


def main() -> tuple[float, float]:
    caffe.set_random_seed(1)
    (x, y), (test_x, test_y) = digits.load("train", 5000), digits.load("test")
    xavier = dict(type="xavier")
    sequence = caffe.Sequence(
        [
            L.Convolution(num_output=16, kernel_size=5, stride=2, weight_filler=xavier),
            L.ReLU(),
            L.InnerProduct(num_output=100, weight_filler=xavier),
            L.ReLU(),
            L.Dropout(),
            L.InnerProduct(name="score", num_output=10, weight_filler=xavier),
            L.Accuracy(name="accuracy"),
            L.SoftmaxWithLoss(name="loss"),
        ],
        input=(50, 1, 28, 28),
    )
    net = sequence.net()
    history = net.fit(x, y, epochs=3, validation_split=0.1, callbacks=[report])
    accuracy = net.evaluate(test_x, test_y)["accuracy"]
    print(f"accuracy {accuracy:.3f}; losses {[round(loss, 3) for loss in history['loss']]}")

    with tempfile.TemporaryDirectory() as folder:
        sequence.save(f"{folder}/net.prototxt")  # caffepy train and caffepy test take it, too
        net.save(f"{folder}/net.caffemodel")
        again = caffe.Sequence.load(f"{folder}/net.prototxt").net(caffe.TEST, weights=f"{folder}/net.caffemodel")
    scores = again.predict(test_x, output="score")
    same = float((scores.argmax(axis=1) == test_y).mean())
    print(f"loaded again: {same:.3f}")
    return accuracy, same


if __name__ == "__main__":
    main()
