"""Nets for small machines: SqueezeNet 1.1, MobileNet v1 and v2, ShuffleNet."""

from __future__ import annotations

from caffepy import layers as L
from caffepy.net.spec import Top
from models.definitions.blocks import MSRA, XAVIER, Net, classified, conv, conv_norm, conv_relu, gaussian, pool, start


def squeezenet(train: bool) -> Net:
    """Fire modules: 1 x 1 convolutions to few channels, from there 1 x 1 and 3 x 3 to many (Iandola et al. 2016)."""
    n = start()
    top = pool(n, "pool1", conv_relu(n, "conv1", "relu_conv1", n.data, 64, 3, stride=2), 3, 2)
    for number, squeezed, expanded in (
        (2, 16, 64), (3, 16, 64), (4, 32, 128), (5, 32, 128), (6, 48, 192), (7, 48, 192), (8, 64, 256), (9, 64, 256),
    ):  # fmt: skip
        top = fire(n, f"fire{number}", top, squeezed, expanded)
        if number in (3, 5):
            top = pool(n, f"pool{number}", top, 3, 2)
    n.drop9 = L.Dropout(top, in_place=True, dropout_ratio=0.5)
    top = conv_relu(n, "conv10", "relu_conv10", n.drop9, 1000, 1, weight_filler=gaussian(0.01))
    return classified(n, pool(n, "pool10", top, kind="AVE"), train)


def fire(n: Net, name: str, bottom: Top, squeezed: int, expanded: int) -> Top:
    top = conv_relu(n, f"{name}/squeeze1x1", f"{name}/relu_squeeze1x1", bottom, squeezed, 1)
    parts = [
        conv_relu(n, f"{name}/expand{k}x{k}", f"{name}/relu_expand{k}x{k}", top, expanded, k, pad=k // 2)
        for k in (1, 3)
    ]
    n[f"{name}/concat"] = L.Concat(*parts)
    return n[f"{name}/concat"]


V1 = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
V1_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
V1_NAMES = ("2_1", "2_2", "3_1", "3_2", "4_1", "4_2", "5_1", "5_2", "5_3", "5_4", "5_5", "5_6", "6")


def separable(n: Net, name: str, bottom: Top, inputs: int, outputs: int, stride: int) -> Top:
    """A 3 x 3 convolution a channel, then a 1 x 1 convolution."""
    top = conv_norm(n, f"{name}/dw", bottom, inputs, 3, pad=1, stride=stride, group=inputs)
    return conv_norm(n, f"{name}/sep", top, outputs, 1)


def mobilenet_v1(train: bool) -> Net:
    """Depthwise separable convolutions (Howard et al. 2017)."""
    n = start()
    top, width = conv_norm(n, "conv1", n.data, 32, 3, pad=1, stride=2), 32
    for name, outputs, stride in zip(V1_NAMES, V1, V1_STRIDES):
        top, width = separable(n, f"conv{name}", top, width, outputs, stride), outputs
    score = conv(n, "fc7", pool(n, "pool6", top, kind="AVE"), 1000, 1, weight_filler=MSRA)
    return classified(n, score, train)


def mobilenet_v2(train: bool) -> Net:
    """Inverted residuals: wide depthwise convolutions between narrow maps (Sandler et al. 2018)."""
    n = start()
    top, width = conv_norm(n, "conv1", n.data, 32, 3, "ReLU6", pad=1, stride=2), 32
    for block, (factor, outputs, units, stride) in enumerate(
        ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)), 2
    ):
        for i in range(1, units + 1):
            top = inverted(n, f"conv{block}_{i}", top, width, factor, outputs, stride if i == 1 else 1)
            width = outputs
    top = pool(n, "pool9", conv_norm(n, "conv9", top, 1280, 1, "ReLU6"), kind="AVE")
    n.drop = L.Dropout(top, in_place=True, dropout_ratio=0.2)
    return classified(n, conv(n, "fc10", n.drop, 1000, 1, weight_filler=MSRA), train)


def inverted(n: Net, name: str, bottom: Top, width: int, factor: int, outputs: int, stride: int) -> Top:
    wide = width * factor
    top = conv_norm(n, f"{name}/expand", bottom, wide, 1, "ReLU6") if factor > 1 else bottom
    top = conv_norm(n, f"{name}/dwise", top, wide, 3, "ReLU6", pad=1, stride=stride, group=wide)
    top = conv_norm(n, f"{name}/linear", top, outputs, 1, "")
    if stride > 1 or width != outputs:
        return top
    n[f"{name}/sum"] = L.Eltwise(bottom, top)
    return n[f"{name}/sum"]


GROUPS = 3


def shufflenet(train: bool) -> Net:
    """1 x 1 convolutions in three groups, whose channels are dealt out anew between (Zhang et al. 2017)."""
    n = start()
    top = pool(n, "pool1", conv_norm(n, "conv1", n.data, 24, 3, pad=1, stride=2), 3, 2)
    width = 24
    for stage, (outputs, units) in enumerate(((240, 4), (480, 8), (960, 4)), 2):
        for i in range(1, units + 1):
            first = stage == 2 and i == 1  # 24 channels are too few for groups
            top = shuffled(n, f"stage{stage}_{i}", top, width, outputs, 2 if i == 1 else 1, 1 if first else GROUPS)
            width = outputs
    score = conv(n, "fc1000", pool(n, "pool_ave", top, kind="AVE"), 1000, 1, weight_filler=XAVIER)
    return classified(n, score, train)


def shuffled(n: Net, name: str, bottom: Top, width: int, outputs: int, stride: int, groups: int) -> Top:
    narrow, grouped = outputs // 4, {"group": groups} if groups > 1 else {}
    top = conv_norm(n, f"{name}/conv1", bottom, narrow, 1, **grouped)
    n[f"{name}/shuffle"] = L.ShuffleChannel(top, group=GROUPS)
    top = conv_norm(n, f"{name}/conv2", n[f"{name}/shuffle"], narrow, 3, "", pad=1, stride=stride, group=narrow)
    if stride == 1:
        top = conv_norm(n, f"{name}/conv3", top, outputs, 1, "", group=GROUPS)
        n[name] = L.Eltwise(bottom, top)
    else:
        top = conv_norm(n, f"{name}/conv3", top, outputs - width, 1, "", group=GROUPS)
        n[name] = L.Concat(pool(n, f"{name}/match", bottom, 3, 2, "AVE"), top)
    n[f"{name}/relu"] = L.ReLU(n[name], in_place=True)
    return n[f"{name}/relu"]
