"""DetectionOutput against SSD's loops, box by box."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.data.pictures.boxes import iou
from caffepy.errors import ConfigError, ShapeError
from caffepy.layers.boxes import decode
from caffepy.proto.caffe_pb2 import TEST, PriorBoxParameter
from tests.layers.detection import priors
from tests.support import ENGINES, Built, assert_close

N, P, C = 2, 30, 4


def build(fields: str, engine: str = "numpy", located: int = 1, seed: int = 0) -> Built:
    random = np.random.default_rng(seed)
    loc = random.standard_normal((N, 4 * P * located))
    conf = random.dirichlet([0.5] * C, (N, P)).reshape(N, -1).round(2)  # equal scores happen
    text = f'type: "DetectionOutput" detection_output_param {{ num_classes: {C} {fields} }}'
    return Built(text, loc, conf, priors(random, P), engine=engine, phase=TEST)


def slowly(built: Built, background: int = 0) -> list[list[float]]:
    p = built.layer.param.detection_output_param
    loc, conf, prior = (built.host(blob.data) for blob in built.bottom)
    boxes, variances = prior.reshape(2, P, 4)
    rows = []
    for n in range(N):
        found = []
        for c in range(C):
            if c == background:
                continue
            offsets = loc[n].reshape(P, -1, 4)[:, 0 if p.share_location else c]
            own = decode(p.code_type, offsets, boxes, variances)
            scores = conf[n].reshape(P, C)[:, c]
            order = [i for i in range(P) if scores[i] > p.confidence_threshold]
            order = sorted(order, key=lambda i: -scores[i])[: p.nms_param.top_k if p.nms_param.top_k else None]
            kept = []
            for i in order:
                if all(iou(own[[i]], own[[j]])[0, 0] <= p.nms_param.nms_threshold for j in kept):
                    kept.append(i)
            found += [[n, c, scores[i], *own[i]] for i in kept]
        if 0 <= p.keep_top_k < len(found):
            found = sorted(found, key=lambda row: -row[2])[: p.keep_top_k]
        rows += sorted(found, key=lambda row: (row[1], -row[2]))
    return rows


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("code", PriorBoxParameter.CodeType.keys())
@pytest.mark.parametrize("fields", ["", "keep_top_k: 4", "nms_param { top_k: 3 nms_threshold: 0.1 }"])
@pytest.mark.parametrize("located", [1, C])
def test_against_loops(located, fields, code, engine):
    shared = f"share_location: {str(located == 1).lower()}"
    built = build(f"{shared} code_type: {code} confidence_threshold: 0.2 {fields}", engine, located)
    (ours,) = built.forward()
    assert_close(ours[0, 0], slowly(built))


def test_another_background():
    built = build("background_label_id: 2 confidence_threshold: 0.3")
    assert set(built.forward()[0][0, 0, :, 1]) == {0, 1, 3}
    assert_close(built.forward()[0][0, 0], slowly(built, background=2))


def test_no_background_and_shared_locations():
    """SSD's own code aborts here, for no reason."""
    built = build("background_label_id: -1 confidence_threshold: 0.3")
    assert_close(built.forward()[0][0, 0], slowly(built, background=-1))


@pytest.mark.parametrize("engine", ENGINES)
def test_without_a_threshold_all_scores_count(engine):
    (ours,) = build("nms_param { nms_threshold: 1 }", engine).forward()
    assert ours.shape == (1, 1, N * P * (C - 1), 7)


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_found(engine):
    (ours,) = build("confidence_threshold: 2", engine).forward()
    assert ours[0, 0].tolist() == [[0, *[-1] * 6], [1, *[-1] * 6]]


@pytest.mark.parametrize(
    "fields, shapes, error, text",
    [
        ("", [(2, 8), (2, 6), (1, 2, 8)], ConfigError, "num_classes is not set"),
        ("num_classes: 3 nms_param { eta: 0 }", [(2, 8), (2, 6), (1, 2, 8)], ConfigError, "eta must be in (0, 1]"),
        ("num_classes: 3 nms_param { nms_threshold: -1 }", [(2, 8), (2, 6), (1, 2, 8)], ConfigError, "negative"),
        ("num_classes: 3", [(2, 8), (2, 6), (1, 8)], ShapeError, "must be (1, 2, 4 P) as of PriorBox"),
        ("num_classes: 3", [(2, 7), (2, 6), (1, 2, 8)], ShapeError, "must have 8 values an item: there are 2 priors"),
        ("num_classes: 3", [(2, 8), (2, 8), (1, 2, 8)], ShapeError, "must have 6 values an item"),
        ("num_classes: 3", [(2, 8), (1, 6), (1, 2, 8)], ShapeError, "differ in items"),
        ("num_classes: 3 share_location: false", [(2, 8), (2, 6), (1, 2, 8)], ShapeError, "must have 24 values"),
    ],
)
def test_refusals(fields, shapes, error, text):
    with pytest.raises(error, match=re.escape(text)):
        Built(f'type: "DetectionOutput" detection_output_param {{ {fields} }}', *(np.zeros(s) for s in shapes))
