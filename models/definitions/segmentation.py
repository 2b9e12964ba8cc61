"""Nets that label pixels: FCN (Shelhamer, Long, Darrell 2015), SegNet (Badrinarayanan, Kendall, Cipolla 2015)."""

from __future__ import annotations

from typing import Any

from caffepy import layers as L
from caffepy.net.spec import Top
from models.definitions.blocks import FROZEN, MSRA, TEST, ZERO, Net, conv, conv_norm, conv_relu, pool, start
from models.definitions.vgg import DEPTHS, WIDTHS, stack

VOC = 21
NO_FILLER = {"weight_filler": ZERO}
"""The scores begin at 0, as published: all learning is fine-tuning."""


def upscore(n: Net, name: str, bottom: Top, classes: int, factor: int, **others: Any) -> Top:
    """Scores on a map `factor` times finer, bilinear; not learnt."""
    settings = {
        "num_output": classes, "kernel_size": 2 * factor, "stride": factor, "group": classes, "bias_term": False,
        "weight_filler": {"type": "bilinear"},
    }  # fmt: skip
    n[name] = L.Deconvolution(bottom, param=FROZEN, convolution_param=settings | others)
    return n[name]


def fused(n: Net, name: str, coarse: Top, skipped: Top, number: int, offset: int) -> Top:
    """Scores of a finer map of the trunk, cut to the size of the coarser scores, and added."""
    score = conv(n, f"score_pool{number}", skipped, VOC, 1, **NO_FILLER)
    n[f"score_pool{number}c"] = L.Crop(score, coarse, axis=2, offset=offset)
    n[name] = L.Eltwise(coarse, n[f"score_pool{number}c"])
    return n[name]


def fcn(stride: int, train: bool) -> Net:
    """VGG-16 with convolutions for its inner products; scores from maps of 32, of 16 and of 8 pixels a cell."""
    n = start()
    top, pools = n.data, {}
    for number, count in enumerate(DEPTHS[16], 1):
        first = {"pad": 100} if number == 1 else {}
        top = pools[number] = pool(n, f"pool{number}", stack(n, top, number, count, first), 2, 2)
    for name, kernel, number in (("fc6", 7, 6), ("fc7", 1, 7)):
        top = conv_relu(n, name, f"relu{number}", top, 4096, kernel)
        n[f"drop{number}"] = L.Dropout(top, in_place=True, dropout_ratio=0.5)
        top = n[f"drop{number}"]
    top = conv(n, "score_fr", top, VOC, 1, **NO_FILLER)
    # Where a map's cells lie on the picture follows from the padding of 100.
    if stride < 32:
        top = fused(n, "fuse_pool4", upscore(n, "upscore2", top, VOC, 2), pools[4], 4, 5)
    if stride < 16:
        top = fused(n, "fuse_pool3", upscore(n, "upscore_pool4", top, VOC, 2), pools[3], 3, 9)
    top = upscore(n, f"upscore{stride}", top, VOC, stride)
    n.score = L.Crop(top, n.data, axis=2, offset={32: 19, 16: 27, 8: 31}[stride])
    return judged(n, n.score, train, 255, normalize=False)


def judged(n: Net, score: Top, train: bool, ignored: int, **loss: Any) -> Net:
    """The loss, and in tests pixel accuracy, mean recall and mean intersection over union."""
    if train:
        n.loss = L.SoftmaxWithLoss(score, n.label, loss_param={"ignore_label": ignored, **loss})
        n.segmentation = L.SegAccuracy(score, n.label, ignore_label=ignored, include=TEST)
    else:
        n.prob = L.Softmax(score)
    return n


def shapes(train: bool) -> Net:
    """A small FCN-4s for pictures of 96 x 96: scores from maps of 16, 8 and 4 pixels a cell."""
    n = start()
    top, scores = conv_norm(n, "conv1", n.data, 24, 3, pad=1, stride=2), {}
    for number, outputs in ((2, 48), (3, 64), (4, 96)):
        for i in (1, 2):
            top = conv_norm(n, f"conv{number}_{i}", top, outputs, 3, pad=1, stride=2 if i == 1 else 1)
        scores[number] = conv(n, f"score{number}", top, 4, 1, weight_filler=MSRA)
    top = scores[4]
    for number in (3, 2):
        n[f"fuse{number}"] = L.Eltwise(upscore(n, f"upscore{number}", top, 4, 2, pad=1), scores[number])
        top = n[f"fuse{number}"]
    return judged(n, upscore(n, "score", top, 4, 4, pad=2), train, 255)


CAMVID = 11


def segnet(train: bool) -> Net:
    """VGG-16's convolutions, then back: where a maximum was, its value goes."""
    n = start()
    top, masks, sizes = n.data, {}, [(360, 480), (180, 240), (90, 120), (45, 60), (23, 30)]
    for number, count in enumerate(DEPTHS[16], 1):
        for i in range(1, count + 1):
            top = _bn_relu(n, f"conv{number}_{i}", top, WIDTHS[number - 1])
        n[f"pool{number}"], n[f"pool{number}_mask"] = L.Pooling(top, kernel_size=2, stride=2, pool="MAX", ntop=2)
        top, masks[number] = n[f"pool{number}"], n[f"pool{number}_mask"]
    for number in (5, 4, 3, 2, 1):
        height, width = sizes[number - 1]
        n[f"upsample{number}"] = L.Upsample(top, masks[number], upsample_h=height, upsample_w=width)
        top = n[f"upsample{number}"]
        for i in range(DEPTHS[16][number - 1], 0, -1):
            outputs = WIDTHS[max(0, number - 2)] if i == 1 else WIDTHS[number - 1]
            if (number, i) == (1, 1):
                top = conv(n, "conv1_1_D", top, CAMVID, 3, pad=1, weight_filler=MSRA)
            else:
                top = _bn_relu(n, f"conv{number}_{i}_D", top, outputs)
    return judged(n, top, train, 11)


def _bn_relu(n: Net, name: str, bottom: Top, outputs: int) -> Top:
    top = conv(n, name, bottom, outputs, 3, pad=1, weight_filler=MSRA)
    scale, shift = {"type": "constant", "value": 1}, {"type": "constant", "value": 0.001}
    rates = [{"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 1, "decay_mult": 0}]
    n[f"{name}_bn"] = L.BN(
        top, in_place=True, scale_filler=scale, shift_filler=shift, bn_mode="LEARN", param=rates
    )  # fmt: skip
    n[f"{name}_relu"] = L.ReLU(n[f"{name}_bn"], in_place=True)
    return n[f"{name}_relu"]
