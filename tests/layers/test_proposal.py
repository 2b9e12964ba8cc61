"""Proposal against py-faster-rcnn's way, box by box."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError, ShapeError
from caffepy.layers.proposal import anchors
from tests.support import ENGINES, Built, assert_close

FIELDS = "feat_stride: 8 base_size: 8 min_size: 6 ratio: 0.5 ratio: 1 ratio: 2 scale: 1 scale: 3"
A, H, W = 6, 4, 5


def test_anchors_are_faster_rcnns():
    """The nine that its paper's code prints."""
    expected = [
        [-84, -40, 99, 55], [-176, -88, 191, 103], [-360, -184, 375, 199], [-56, -56, 71, 71], [-120, -120, 135, 135],
        [-248, -248, 263, 263], [-36, -80, 51, 95], [-80, -168, 95, 183], [-168, -344, 183, 359],
    ]  # fmt: skip
    assert_close(anchors(16, [0.5, 1, 2], [8, 16, 32]), np.array(expected), 0)


def build(fields: str = "", engine: str = "numpy", tops: int = 2, pictures: int = 2) -> Built:
    random = np.random.default_rng(5)
    scores, offsets = random.random((pictures, 2 * A, H, W)), random.standard_normal((pictures, 4 * A, H, W))
    info = np.array([[32, 40, 1], [28, 39, 1.5]])[:pictures]
    text = f'type: "Proposal" proposal_param {{ {FIELDS} {fields} }}'
    return Built(text, scores, offsets / 2, info, engine=engine, tops=tops)


def slowly(built: Built):
    p = built.layer.param.proposal_param
    scores, offsets, info = (built.host(blob.data).astype(float) for blob in built.bottom)
    rows, of_rows = [], []
    for n, (height, width, scale) in enumerate(info):
        found = []
        for y, x, a in np.ndindex(H, W, A):
            x1, y1, x2, y2 = anchors(8, p.ratio, p.scale)[a] + np.array([x, y, x, y]) * 8
            w, h = x2 - x1 + 1, y2 - y1 + 1
            dx, dy, dw, dh = offsets[n, 4 * a : 4 * a + 4, y, x]
            cx, cy, w, h = x1 + w / 2 + dx * w, y1 + h / 2 + dy * h, w * np.exp(dw), h * np.exp(dh)
            box = np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
            box = np.clip(box, 0, np.array([width, height, width, height]) - 1)
            if min(box[2:] - box[:2] + 1) >= p.min_size * scale:
                found.append((scores[n, A + a, y, x], box))
        found = sorted(found, key=lambda pair: -pair[0])[: p.pre_nms_topn]
        kept = []
        for score, box in found:
            if len(kept) < p.post_nms_topn and all(overlap(box, other) <= p.nms_thresh for _, other in kept):
                kept.append((score, box))
        rows += [[n, *box] for _, box in kept]
        of_rows += [score for score, _ in kept]
    return np.array(rows), np.array(of_rows)


def overlap(a, b):
    w, h = (max(0, min(a[i + 2], b[i + 2]) - max(a[i], b[i]) + 1) for i in (0, 1))
    size = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)]
    return w * h / (sum(size) - w * h)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("fields", ["", "pre_nms_topn: 30 post_nms_topn: 5", "nms_thresh: 0.3"])
def test_against_loops(fields, engine):
    built = build(fields, engine)
    ours, reference = built.forward(), slowly(built)
    for values, expected in zip(ours, reference, strict=True):
        assert_close(values, expected)
    built.top[0].diff[...] = built.engine.asarray(np.ones(built.top[0].shape))
    assert all(not gradient.any() for gradient in built.backward())


@pytest.mark.parametrize("engine", ENGINES)
def test_one_top_of_boxes_alone(engine):
    assert_close(build(engine=engine, tops=1, pictures=1).forward()[0], build(pictures=1).forward()[0])


def test_refusals():
    with pytest.raises(ConfigError, match="needs ratio and scale"):
        Built('type: "Proposal"', *[np.zeros((1, 4, 2, 2))] * 2, np.zeros((1, 3)))
    with pytest.raises(ConfigError, match="feat_stride and base_size"):
        Built(
            'type: "Proposal" proposal_param { ratio: 1 scale: 1 feat_stride: 0 }',
            np.zeros((1, 2, 2, 2)),
            np.zeros((1, 4, 2, 2)),
            np.zeros((1, 3)),
        )
    one = 'type: "Proposal" proposal_param { ratio: 1 scale: 1 }'
    with pytest.raises(ShapeError, match=re.escape("bottom 0 must be (N, 2, H, W) for 1 anchors")):
        Built(one, np.zeros((1, 4, 2, 2)), np.zeros((1, 4, 2, 2)), np.zeros((1, 3)))
    with pytest.raises(ShapeError, match=re.escape("bottom 2 must be (1, 3): height, width, scale; it is (1, 2)")):
        Built(one, np.zeros((1, 2, 2, 2)), np.zeros((1, 4, 2, 2)), np.zeros((1, 2)))
