"""Learning LeNet, step by step: databases, nets written in Python, a solver, and a look inside on the way.

python examples/learning_lenet.py
"""

import tempfile
from pathlib import Path

import digits
import lmdb
import numpy as np

import caffepy as caffe
from caffepy import layers as L
from caffepy import params as P


def write_database(path: str, part: str, count: int) -> None:
    """What `caffepy convert-mnist` does, by hand: a Datum for each picture under keys that sort as they are to come."""
    images, labels = digits.load(part, count)
    with lmdb.open(path, map_size=1 << 28) as database, database.begin(write=True) as transaction:
        for i, (image, label) in enumerate(zip(images, labels)):
            datum = caffe.io.array_to_datum((image * 255).round().astype(np.uint8), int(label))
            transaction.put(f"{i:08}".encode(), datum.SerializeToString())


def lenet(data, label):
    """The net on these tops, two of a Data or Input layer: a NetParameter."""
    n = caffe.NetSpec()
    n.data, n.label = data, label
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


def make_solver(folder: Path) -> caffe.SGDSolver:
    for part, count, batch_size in (("train", 6400, 64), ("test", 1000, 100)):
        database = f"{folder}/{part}_lmdb"
        write_database(database, part, count)
        data, label = L.Data(
            source=database,
            backend=P.Data.LMDB,
            batch_size=batch_size,
            transform_param=dict(scale=1 / 255),
            ntop=2,
        )
        Path(folder, f"{part}.prototxt").write_text(str(lenet(data, label)))
    solver = Path(folder, "solver.prototxt")
    solver.write_text(
        f'train_net: "{folder}/train.prototxt" test_net: "{folder}/test.prototxt"\n'
        "test_iter: 10 test_interval: 1000 test_initialization: false  # we test by hand\n"
        'type: "SGD" base_lr: 0.01 momentum: 0.9 weight_decay: 0.0005 lr_policy: "inv" gamma: 1e-4 power: 0.75\n'
        f'max_iter: 10000 random_seed: 1 snapshot_prefix: "{folder}/lenet"\n'
    )
    return caffe.SGDSolver(str(solver))


def test(net: caffe.Net) -> float:
    """The share of right answers in ten batches of a hundred."""
    right = 0
    for _ in range(10):
        net.forward()
        right += int((net.blobs["score"].data.argmax(1) == net.blobs["label"].data).sum())
    return right / 1000


def main(iterations: int = 100) -> tuple[list[float], list[float]]:
    """The loss of each iteration; the accuracy before the first and after every 25."""
    with tempfile.TemporaryDirectory() as folder:
        solver = make_solver(Path(folder))
        net, test_net = solver.net, solver.test_nets[0]
        test_net.share_with(net)  # from its first own test on the solver sees to that
        print("blobs:", {name: blob.data.shape for name, blob in net.blobs.items() if "_split_" not in name})
        print("parameters:", {name: [blob.data.shape for blob in blobs] for name, blobs in net.params.items()})

        losses, accuracies = [], [test(test_net)]
        for i in range(1, iterations + 1):
            solver.step(1)  # one forward, backward and update
            losses.append(float(net.blobs["loss"].data))
            if i % 25 == 0:
                accuracies.append(test(test_net))
                gradient = np.abs(net.params["conv1"][0].diff).mean()
                print(
                    f"iteration {i}: loss {losses[-1]:.3f}, accuracy {accuracies[-1]:.3f}, "
                    f"mean gradient of conv1 {gradient:.1e}"
                )
    return losses, accuracies


if __name__ == "__main__":
    main()
