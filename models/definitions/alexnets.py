"""CaffeNet and ZFNet: AlexNet and what it became; NiN."""

from __future__ import annotations

from caffepy import layers as L
from caffepy.net.spec import Top
from models.definitions.blocks import Net, classified, conv_relu, gaussian, inner, pool, relu, start


def _dense(n: Net, top: Top, train: bool) -> Net:
    for number in (6, 7):
        bias = {"type": "constant", "value": 1}
        top = inner(n, f"fc{number}", top, 4096, weight_filler=gaussian(0.005), bias_filler=bias)
        top = relu(n, f"relu{number}", top)
        n[f"drop{number}"] = L.Dropout(top, in_place=True, dropout_ratio=0.5)
        top = n[f"drop{number}"]
    return classified(n, inner(n, "fc8", top, 1000, weight_filler=gaussian(0.01)), train)


def _lrn(n: Net, name: str, bottom: Top) -> Top:
    n[name] = L.LRN(bottom, local_size=5, alpha=0.0001, beta=0.75)
    return n[name]


def caffenet(train: bool) -> Net:
    n = start()
    one = {"type": "constant", "value": 1}
    top = conv_relu(n, "conv1", "relu1", n.data, 96, 11, stride=4, weight_filler=gaussian(0.01))
    top = _lrn(n, "norm1", pool(n, "pool1", top, 3, 2))
    top = conv_relu(n, "conv2", "relu2", top, 256, 5, pad=2, group=2, weight_filler=gaussian(0.01), bias_filler=one)
    top = _lrn(n, "norm2", pool(n, "pool2", top, 3, 2))
    for number, outputs, group in ((3, 384, 1), (4, 384, 2), (5, 256, 2)):
        split = {"group": group} if group > 1 else {}
        bias = {} if number == 3 else {"bias_filler": one}
        names = f"conv{number}", f"relu{number}"
        top = conv_relu(n, *names, top, outputs, 3, pad=1, weight_filler=gaussian(0.01), **split, **bias)
    return _dense(n, pool(n, "pool5", top, 3, 2), train)


def zfnet(train: bool) -> Net:
    n = start()
    top = conv_relu(n, "conv1", "relu1", n.data, 96, 7, stride=2, pad=1, weight_filler=gaussian(0.01))
    top = _lrn(n, "norm1", pool(n, "pool1", top, 3, 2))
    top = conv_relu(n, "conv2", "relu2", top, 256, 5, stride=2, weight_filler=gaussian(0.01))
    top = _lrn(n, "norm2", pool(n, "pool2", top, 3, 2))
    for number, outputs in ((3, 384), (4, 384), (5, 256)):
        top = conv_relu(n, f"conv{number}", f"relu{number}", top, outputs, 3, pad=1, weight_filler=gaussian(0.01))
    return _dense(n, pool(n, "pool5", top, 3, 2), train)


def nin(train: bool) -> Net:
    """Four convolutions, the first three and the last followed by perceptrons over channels."""
    n = start()
    top = n.data
    stages = (
        ("conv1", 96, {"kernel": 11, "stride": 4}, ("cccp1", "cccp2")),
        ("conv2", 256, {"kernel": 5, "pad": 2}, ("cccp3", "cccp4")),
        ("conv3", 384, {"kernel": 3, "pad": 1}, ("cccp5", "cccp6")),
        ("conv4", 1024, {"kernel": 3, "pad": 1}, ("cccp7", "cccp8")),
    )
    for number, (name, outputs, settings, perceptrons) in enumerate(stages, 1):
        if number == 4:
            n.drop = L.Dropout(top, in_place=True, dropout_ratio=0.5)
            top = n.drop
        std = gaussian(0.01 if number == 1 else 0.05)
        top = conv_relu(n, name, f"relu_{name}", top, outputs, weight_filler=std, **settings)
        for each in perceptrons:
            width = 1000 if each == "cccp8" else outputs
            top = conv_relu(n, each, f"relu_{each}", top, width, 1, weight_filler=gaussian(0.05))
        if number < 4:
            top = pool(n, f"pool{number}", top, 3, 2)
    return classified(n, pool(n, "pool4", top, kind="AVE"), train)
