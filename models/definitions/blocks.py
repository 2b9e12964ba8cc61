"""What many nets are built of."""

from __future__ import annotations

from typing import Any

from caffepy import NetSpec
from caffepy import layers as L
from caffepy.net.spec import Top

Net = NetSpec
RATES = [{"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 2, "decay_mult": 0}]
"""Of weights and bias, as Caffe's nets have them."""
WEIGHTS = [{"lr_mult": 1, "decay_mult": 1}]
FROZEN = [{"lr_mult": 0, "decay_mult": 0}]
XAVIER = {"type": "xavier"}
MSRA = {"type": "msra"}
ZERO = {"type": "constant", "value": 0}
TEST = {"phase": 1}


def gaussian(std: float) -> dict[str, Any]:
    return {"type": "gaussian", "std": std}


def start(**inputs: int) -> Net:
    """A net with inputs, whose shapes and layers are said elsewhere."""
    n = NetSpec()
    for name in inputs or {"data": 1, "label": 1}:
        n[name] = L.Input()
    return n


def conv(n: Net, name: str, bottom: Top, outputs: int, kernel: int, **others: Any) -> Top:
    """A convolution with bias."""
    settings = {"param": RATES, "weight_filler": XAVIER, "bias_filler": ZERO, "kernel_size": kernel} | others
    n[name] = L.Convolution(bottom, num_output=outputs, **settings)
    return n[name]


def relu(n: Net, name: str, bottom: Top) -> Top:
    n[name] = L.ReLU(bottom, in_place=True)
    return n[name]


def conv_relu(n: Net, name: str, relu_name: str, bottom: Top, outputs: int, kernel: int, **others: Any) -> Top:
    return relu(n, relu_name, conv(n, name, bottom, outputs, kernel, **others))


def inner(n: Net, name: str, bottom: Top, outputs: int, **others: Any) -> Top:
    """An inner product."""
    settings = {"param": RATES, "weight_filler": XAVIER, "bias_filler": ZERO} | others
    n[name] = L.InnerProduct(bottom, num_output=outputs, **settings)
    return n[name]


def norm(n: Net, bn: str, scale: str, bottom: Top, eps: float | None = None) -> Top:
    """BatchNorm and Scale, in place."""
    settings = {} if eps is None else {"eps": eps}
    n[bn] = L.BatchNorm(bottom, in_place=True, param=FROZEN * 3, **settings)
    rates = [{"lr_mult": 1, "decay_mult": 0}] * 2
    n[scale] = L.Scale(n[bn], in_place=True, bias_term=True, param=rates)
    return n[scale]


def conv_norm(n: Net, name: str, bottom: Top, outputs: int, kernel: int, relu_type: str = "ReLU", **others: Any) -> Top:
    """A convolution without bias, BatchNorm, Scale, and a rectifier unless `relu_type` is empty."""
    settings = {"param": WEIGHTS, "weight_filler": MSRA, "bias_term": False, "kernel_size": kernel} | others
    n[name] = L.Convolution(bottom, num_output=outputs, **settings)
    top = norm(n, f"{name}/bn", f"{name}/scale", n[name])
    if relu_type:
        n[f"{name}/relu"] = getattr(L, relu_type)(top, in_place=True)
        top = n[f"{name}/relu"]
    return top


def pool(n: Net, name: str, bottom: Top, kernel: int = 0, stride: int = 1, kind: str = "MAX", **others: Any) -> Top:
    """A pooling; without kernel, of the whole picture."""
    size = {"kernel_size": kernel, "stride": stride} if kernel else {"global_pooling": True}
    n[name] = L.Pooling(bottom, pool=kind, **size, **others)
    return n[name]


def classified(n: Net, score: Top, train: bool) -> Net:
    """The end of a classifier: probabilities, or the loss and the accuracies of tests."""
    if train:
        n.loss = L.SoftmaxWithLoss(score, n.label)
        n["accuracy/top1"] = L.Accuracy(score, n.label, include=TEST)
        n["accuracy/top5"] = L.Accuracy(score, n.label, top_k=5, include=TEST)
    else:
        n.prob = L.Softmax(score)
    return n
