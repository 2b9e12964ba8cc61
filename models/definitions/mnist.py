"""Nets for MNIST that learn without classes: siamese, triplet, autoencoder."""

from __future__ import annotations

from caffepy import layers as L
from caffepy.net.spec import Top
from models.definitions.blocks import XAVIER, Net, inner, pool, relu, start


def _branch(n: Net, bottom: Top, end: str) -> Top:
    """LeNet to two features; branches share their parameters by name."""
    top = bottom
    for number, outputs in ((1, 20), (2, 50)):
        name = f"conv{number}"
        n[name + end] = L.Convolution(
            top, num_output=outputs, kernel_size=5, param=_shared(name), weight_filler=XAVIER,
            bias_filler={"type": "constant"},
        )  # fmt: skip
        top = pool(n, f"pool{number}{end}", n[name + end], 2, 2)
    top = inner(n, f"ip1{end}", top, 500, param=_shared("ip1"), bias_filler={"type": "constant"})
    top = inner(n, f"ip2{end}", relu(n, f"relu1{end}", top), 10, param=_shared("ip2"), bias_filler={"type": "constant"})
    return inner(n, f"feat{end}", top, 2, param=_shared("feat"), bias_filler={"type": "constant"})


def _shared(name: str) -> list[dict]:
    return [{"name": f"{name}_w", "lr_mult": 1}, {"name": f"{name}_b", "lr_mult": 2}]


def siamese(train: bool) -> Net:
    """Pairs: near if of one digit, apart by a margin if not (Hadsell, Chopra, LeCun 2006)."""
    if not train:
        n = start(data=1)
        _branch(n, n.data, "")
        return n
    n = start(pair_data=1, sim=1)
    n.data, n.data_p = L.Slice(n.pair_data, axis=1, slice_point=1, ntop=2)
    features = [_branch(n, n.data, ""), _branch(n, n.data_p, "_p")]
    n.loss = L.ContrastiveLoss(*features, n.sim, margin=1)
    return n


def triplet(train: bool) -> Net:
    """Anchor, another of its digit, one of another digit (Schroff, Kalenichenko, Philbin 2015)."""
    if not train:
        return siamese(False)
    n = start(triplet_data=1)
    n.data, n.data_p, n.data_n = L.Slice(n.triplet_data, axis=1, slice_point=[1, 2], ntop=3)
    features = [_branch(n, top, end) for top, end in ((n.data, ""), (n.data_p, "_p"), (n.data_n, "_n"))]
    n.loss = L.TripletLoss(*features, margin=1)
    return n


SIZES = (1000, 500, 250, 30)
RATES = [{"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 1, "decay_mult": 0}]
SPARSE = {"type": "gaussian", "std": 1, "sparse": 15}


def autoencoder(train: bool) -> Net:
    """784 pixels to 30 numbers and back (Hinton and Salakhutdinov 2006, without pretraining)."""
    n = start(data=1)
    n.flatdata = L.Flatten(n.data)
    top = n.flatdata
    for number, outputs in enumerate(SIZES, 1):
        top = _code(n, f"encode{number}", top, outputs)
        if number < len(SIZES):
            n[f"encode{number}neuron"] = L.Sigmoid(top)
            top = n[f"encode{number}neuron"]
    for number, outputs in zip((4, 3, 2, 1), (*SIZES[2::-1], 784)):
        top = _code(n, f"decode{number}", top, outputs)
        n[f"decode{number}neuron"] = L.Sigmoid(top)
        top = n[f"decode{number}neuron"] if number > 1 else top
    if train:
        n.cross_entropy_loss = L.SigmoidCrossEntropyLoss(top, n.flatdata, loss_weight=1)
        n.l2_error = L.EuclideanLoss(n.decode1neuron, n.flatdata, loss_weight=0)
    return n


def _code(n: Net, name: str, bottom: Top, outputs: int) -> Top:
    return inner(n, name, bottom, outputs, param=RATES, weight_filler=SPARSE, bias_filler={"type": "constant"})
