"""ResNet (He et al. 2015), and with squeeze and excitation (Hu et al. 2017)."""

from __future__ import annotations

from caffepy import layers as L
from caffepy.net.spec import Top
from models.definitions.blocks import MSRA, WEIGHTS, Net, classified, conv, inner, norm, pool, relu, start

DEPTHS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def unit_name(stage: int, unit: int, depth: int) -> str:
    """2a, 2b, ...; in stages of many units 3a, 3b1, 3b2, ..."""
    long = depth > 50 and stage in (3, 4)
    return f"{stage}{'a' if unit == 0 else f'b{unit}' if long else chr(ord('a') + unit)}"


def _conv(n: Net, tail: str, bottom: Top, outputs: int, kernel: int, stride: int = 1) -> Top:
    n[f"res{tail}"] = L.Convolution(
        bottom, num_output=outputs, kernel_size=kernel, stride=stride, pad=kernel // 2, bias_term=False,
        param=WEIGHTS, weight_filler=MSRA,
    )  # fmt: skip
    return norm(n, f"bn{tail}", f"scale{tail}", n[f"res{tail}"])


def unit(n: Net, name: str, bottom: Top, width: int, stride: int, bottleneck: bool, projected: bool) -> Top:
    """The bottom, or its projection, plus two convolutions, or three: narrow, 3 x 3, wide."""
    outputs = 4 * width if bottleneck else width
    shortcut = _conv(n, f"{name}_branch1", bottom, outputs, 1, stride) if projected else bottom
    shapes = [(width, 1), (width, 3), (outputs, 1)] if bottleneck else [(width, 3), (width, 3)]
    top = bottom
    for i, (size, kernel) in enumerate(shapes):
        tail = f"{name}_branch2{'abc'[i]}"
        top = _conv(n, tail, top, size, kernel, stride if i == 0 else 1)
        if i < len(shapes) - 1:
            top = relu(n, f"res{tail}_relu", top)
    n[f"res{name}"] = L.Eltwise(shortcut, top)
    return relu(n, f"res{name}_relu", n[f"res{name}"])


def resnet(depth: int, train: bool) -> Net:
    n = start()
    n.conv1 = L.Convolution(
        n.data, num_output=64, kernel_size=7, stride=2, pad=3, bias_term=False, param=WEIGHTS, weight_filler=MSRA
    )
    top = pool(n, "pool1", relu(n, "conv1_relu", norm(n, "bn_conv1", "scale_conv1", n.conv1)), 3, 2)
    for stage, units in enumerate(DEPTHS[depth], 2):
        for i in range(units):
            stride = 2 if i == 0 and stage > 2 else 1
            projected = i == 0 and (stage > 2 or depth >= 50)
            top = unit(n, unit_name(stage, i, depth), top, 32 << (stage - 1), stride, depth >= 50, projected)
    return classified(n, inner(n, "fc1000", pool(n, "pool5", top, kind="AVE"), 1000, weight_filler=MSRA), train)


def se_resnet50(train: bool) -> Net:
    n = start()
    top = _bare(n, "conv1/7x7_s2", n.data, 64, 7, 2)
    top = pool(n, "pool1/3x3_s2", relu(n, "conv1/relu_7x7_s2", top), 3, 2)
    for stage, units in enumerate(DEPTHS[50], 2):
        for i in range(1, units + 1):
            top = _se_unit(n, f"conv{stage}_{i}", top, 32 << (stage - 1), 2 if i == 1 and stage > 2 else 1, i == 1)
    return classified(n, inner(n, "classifier", pool(n, "pool5/7x7_s1", top, kind="AVE"), 1000), train)


def _bare(n: Net, name: str, bottom: Top, outputs: int, kernel: int, stride: int = 1) -> Top:
    n[name] = L.Convolution(
        bottom, num_output=outputs, kernel_size=kernel, stride=stride, pad=kernel // 2, bias_term=False,
        param=WEIGHTS, weight_filler=MSRA,
    )  # fmt: skip
    return norm(n, f"{name}/bn", f"{name}/bn/scale", n[name])


def _se_unit(n: Net, name: str, bottom: Top, width: int, stride: int, projected: bool) -> Top:
    """As `unit`, with each channel of the sum's second part scaled by what the whole picture says of it."""
    top = relu(n, f"{name}_1x1_reduce/relu", _bare(n, f"{name}_1x1_reduce", bottom, width, 1, stride))
    top = relu(n, f"{name}_3x3/relu", _bare(n, f"{name}_3x3", top, width, 3))
    top = _bare(n, f"{name}_1x1_increase", top, 4 * width, 1)
    gate = pool(n, f"{name}_global_pool", top, kind="AVE")
    gate = relu(n, f"{name}_1x1_down/relu", conv(n, f"{name}_1x1_down", gate, width // 4, 1))
    n[f"{name}_prob"] = L.Sigmoid(conv(n, f"{name}_1x1_up", gate, 4 * width, 1), in_place=True)
    shortcut = _bare(n, f"{name}_1x1_proj", bottom, 4 * width, 1, stride) if projected else bottom
    n[name] = L.Axpy(n[f"{name}_prob"], top, shortcut)
    return relu(n, f"{name}/relu", n[name])
