"""SSD: single shot multibox detector (Liu et al. 2016)."""

from __future__ import annotations

from typing import Any, NamedTuple

from caffepy import layers as L
from caffepy.net.spec import Top
from models.definitions.blocks import TEST, XAVIER, Net, conv, conv_norm, conv_relu, pool, start
from models.definitions.mobile import V1_STRIDES, separable
from models.definitions.vgg import DEPTHS, stack

DECODING = {"share_location": True, "background_label_id": 0, "code_type": "CENTER_SIZE"}


class Source(NamedTuple):
    """A map that boxes are read from, and its priors: sizes in pixels of the input, and ratios of their sides."""

    top: Top
    min_size: float
    max_size: float
    ratios: tuple[float, ...]
    step: int = 0

    @property
    def priors(self) -> int:
        return 1 + bool(self.max_size) + 2 * len(self.ratios)


def boxes(n: Net, sources: dict[str, Source], classes: int, clip: bool, kernel: int, filler: dict) -> None:
    """Offsets, class scores and priors of all maps: `mbox_loc`, `mbox_conf`, `mbox_priorbox`."""
    parts: dict[str, list[Top]] = {"loc": [], "conf": [], "priorbox": []}
    for name, source in sources.items():
        for part, width in (("loc", 4), ("conf", classes)):
            outputs = width * source.priors
            top = conv(n, f"{name}_mbox_{part}", source.top, outputs, kernel, pad=kernel // 2, weight_filler=filler)
            n[f"{name}_mbox_{part}_perm"] = L.Permute(top, order=[0, 2, 3, 1])
            n[f"{name}_mbox_{part}_flat"] = L.Flatten(n[f"{name}_mbox_{part}_perm"], axis=1)
            parts[part].append(n[f"{name}_mbox_{part}_flat"])
        settings: dict[str, Any] = {"min_size": source.min_size, "flip": True, "clip": clip, "offset": 0.5}
        settings |= {"max_size": source.max_size} if source.max_size else {}
        settings |= {"step": source.step} if source.step else {}
        n[f"{name}_mbox_priorbox"] = L.PriorBox(
            source.top, n.data, aspect_ratio=list(source.ratios), variance=[0.1, 0.1, 0.2, 0.2], **settings
        )
        parts["priorbox"].append(n[f"{name}_mbox_priorbox"])
    for part, tops in parts.items():
        n[f"mbox_{part}"] = L.Concat(*tops, axis=2 if part == "priorbox" else 1)


def finished(n: Net, classes: int, train: bool, keep: int = 200) -> Net:
    """The loss, and what is found: for deployment, or judged in tests."""
    test = {"include": TEST} if train else {}
    if train:
        n.mbox_loss = L.MultiBoxLoss(
            n.mbox_loc, n.mbox_conf, n.mbox_priorbox, n.label, num_classes=classes, loc_loss_type="SMOOTH_L1",
            conf_loss_type="SOFTMAX", loc_weight=1, match_type="PER_PREDICTION", overlap_threshold=0.5,
            use_difficult_gt=True, mining_type="MAX_NEGATIVE", neg_pos_ratio=3, neg_overlap=0.5,
            loss_param={"normalization": "VALID"}, propagate_down=[True, True, False, False], **DECODING,
        )  # fmt: skip
    n.mbox_conf_reshape = L.Reshape(n.mbox_conf, shape={"dim": [0, -1, classes]}, **test)
    n.mbox_conf_softmax = L.Softmax(n.mbox_conf_reshape, axis=2, **test)
    n.mbox_conf_flatten = L.Flatten(n.mbox_conf_softmax, axis=1, **test)
    n.detection_out = L.DetectionOutput(
        n.mbox_loc, n.mbox_conf_flatten, n.mbox_priorbox, num_classes=classes, keep_top_k=keep,
        confidence_threshold=0.01, nms_param={"nms_threshold": 0.45, "top_k": 2 * keep}, **DECODING, **test,
    )  # fmt: skip
    if train:
        n.detection_eval = L.DetectionEvaluate(
            n.detection_out, n.label, num_classes=classes, background_label_id=0, overlap_threshold=0.5,
            evaluate_difficult_gt=False, include=TEST,
        )  # fmt: skip
    return n


def shapes(train: bool) -> Net:
    """A small trunk of five convolutions for pictures of 96 x 96; boxes from maps of 12, 6 and 3."""
    n = start()
    top = conv_norm(n, "conv1", n.data, 24, 3, pad=1, stride=2)
    top = conv_norm(n, "conv2", top, 48, 3, pad=1, stride=2)
    sources = {}
    for name, outputs, sizes in (("conv3", 64, (12, 20)), ("conv4", 96, (24, 32)), ("conv5", 96, (40, 48))):
        top = conv_norm(n, name, top, outputs, 3, pad=1, stride=2)
        sources[name] = Source(top, *sizes, ())
    boxes(n, sources, 4, clip=False, kernel=3, filler=XAVIER)
    return finished(n, 4, train, keep=50)


def vgg300(train: bool) -> Net:
    """The paper's: VGG-16 without its last pooling and inner products, in whose place come a dilated convolution and
    ever smaller maps; boxes from maps of 38, 19, 10, 5, 3 and 1."""
    n = start()
    top, sources = n.data, {}
    for number, count in enumerate(DEPTHS[16], 1):
        top = stack(n, top, number, count)
        if number == 4:
            n.conv4_3_norm = L.Normalize(
                top, across_spatial=False, channel_shared=False, scale_filler={"type": "constant", "value": 20}
            )
            sources["conv4_3_norm"] = Source(n.conv4_3_norm, 30, 60, (2,), 8)
        top = pool(n, "pool5", top, 3, 1, pad=1) if number == 5 else pool(n, f"pool{number}", top, 2, 2)
    top = conv_relu(n, "fc6", "relu6", top, 1024, 3, pad=6, dilation=6)
    top = conv_relu(n, "fc7", "relu7", top, 1024, 1)
    sources["fc7"] = Source(top, 60, 111, (2, 3), 16)
    for name, narrow, wide, shape, size, ratios, step in (
        ("conv6", 256, 512, {"pad": 1, "stride": 2}, (111, 162), (2, 3), 32),
        ("conv7", 128, 256, {"pad": 1, "stride": 2}, (162, 213), (2, 3), 64),
        ("conv8", 128, 256, {}, (213, 264), (2,), 100),
        ("conv9", 128, 256, {}, (264, 315), (2,), 300),
    ):
        top = conv_relu(n, f"{name}_1", f"{name}_1_relu", top, narrow, 1)
        top = conv_relu(n, f"{name}_2", f"{name}_2_relu", top, wide, 3, **shape)
        sources[f"{name}_2"] = Source(top, *size, ratios, step)
    boxes(n, sources, 21, clip=False, kernel=3, filler=XAVIER)
    return finished(n, 21, train)


MOBILE = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)


def mobilenet300(train: bool) -> Net:
    """MobileNet v1 with four more maps; boxes from maps of 19, 10, 5, 3, 2 and 1."""
    n = start()
    top, width, sources = conv_norm(n, "conv0", n.data, 32, 3, pad=1, stride=2), 32, {}
    for number, (outputs, stride) in enumerate(zip(MOBILE, V1_STRIDES), 1):
        top, width = separable(n, f"conv{number}", top, width, outputs, stride), outputs
        if number == 11:
            sources["conv11"] = Source(top, 60, 0, (2,))
    sources["conv13"] = Source(top, 105, 150, (2, 3))
    for number, narrow, wide, size in (
        (14, 256, 512, (150, 195)), (15, 128, 256, (195, 240)), (16, 128, 256, (240, 285)), (17, 64, 128, (285, 300)),
    ):  # fmt: skip
        top = conv_norm(n, f"conv{number}_1", top, narrow, 1)
        top = conv_norm(n, f"conv{number}_2", top, wide, 3, pad=1, stride=2)
        sources[f"conv{number}_2"] = Source(top, *size, (2, 3))
    boxes(n, sources, 21, clip=False, kernel=1, filler={"type": "msra"})
    return finished(n, 21, train, keep=100)
