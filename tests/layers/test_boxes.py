"""Offsets, non-maximum suppression and matching against loops over boxes, as SSD has them."""

from __future__ import annotations

import numpy as np
import pytest

from caffepy.data.pictures.boxes import iou
from caffepy.layers import box_matching, boxes, nms
from caffepy.proto.caffe_pb2 import PriorBoxParameter
from tests.layers.detection import random_boxes

CODES = PriorBoxParameter.CodeType.keys()


@pytest.mark.parametrize("code", CODES)
def test_decode_undoes_encode(code):
    random = np.random.default_rng(1)
    code = PriorBoxParameter.CodeType.Value(code)
    things, priors = random_boxes(random, 20).astype(float), random_boxes(random, 20).astype(float)
    variances = random.uniform(0.1, 0.3, (20, 4))
    offsets = boxes.encode(code, things, priors, variances)
    assert np.allclose(boxes.decode(code, offsets, priors, variances), things)


def test_decode_by_the_formulas():
    offsets, prior, v = np.array([[0.5, -1, 0.2, 0.4]]), np.array([[0.2, 0.2, 0.6, 0.4]]), np.full((1, 4), 0.1)
    corner = boxes.decode(PriorBoxParameter.CORNER, offsets, prior, v)
    assert np.allclose(corner, [[0.25, 0.1, 0.62, 0.44]])
    corner_size = boxes.decode(PriorBoxParameter.CORNER_SIZE, offsets, prior, v)
    assert np.allclose(corner_size, [[0.2 + 0.05 * 0.4, 0.2 - 0.1 * 0.2, 0.6 + 0.02 * 0.4, 0.4 + 0.04 * 0.2]])
    x, y, w, h = 0.4 + 0.05 * 0.4, 0.3 - 0.1 * 0.2, 0.4 * np.exp(0.02), 0.2 * np.exp(0.04)
    centre = boxes.decode(PriorBoxParameter.CENTER_SIZE, offsets, prior, v)
    assert np.allclose(centre, [[x - w / 2, y - h / 2, x + w / 2, y + h / 2]])


@pytest.mark.parametrize("count", [-1, 0, 1, 3, 5, 9])
def test_best_keeps_the_order_of_equals(count):
    scores = np.array([0.5, 0.9, 0.5, 0.1, 0.9, 0.5], np.float32)
    expected = sorted(range(6), key=lambda i: -scores[i])
    assert nms.best(scores, count).tolist() == (expected if count < 0 else expected[:count])


def slow_nms(things, threshold, eta, limit):
    kept = []
    for i in range(len(things)):
        if len(kept) == limit:
            break
        if all(iou(things[[i]], things[[j]])[0, 0] <= threshold for j in kept):
            kept.append(i)
            if eta < 1 and threshold > 0.5:
                threshold *= eta
    return kept


@pytest.mark.parametrize("eta, threshold", [(1, 0.3), (1, 0), (0.7, 0.9)])
@pytest.mark.parametrize("count, limit", [(0, None), (1, None), (60, None), (300, None), (300, 7)])
def test_nms(count, limit, eta, threshold):
    things = random_boxes(np.random.default_rng(count), count)
    kept = nms.nms(things, threshold, eta, limit=limit).tolist()
    assert kept == slow_nms(things, threshold, eta, limit)


def slow_match(overlaps, threshold):
    """SSD's MatchBBox."""
    index = [-1] * len(overlaps)
    largest = [max([o for o in row if o > 1e-6], default=0) for row in overlaps]
    pool = list(range(overlaps.shape[1]))
    while pool:
        pair, most = None, -1
        for i, row in enumerate(overlaps):
            for j in pool:
                if index[i] == -1 and row[j] > 1e-6 and row[j] > most:
                    pair, most = (i, j), row[j]
        if pair is None:
            break
        index[pair[0]], largest[pair[0]] = pair[1], most
        pool.remove(pair[1])
    for i, row in enumerate(overlaps):
        if threshold is not None and index[i] == -1:
            most = -1
            for j, overlap in enumerate(row):
                if overlap > 1e-6 and overlap >= threshold and overlap > most:
                    index[i], most = j, overlap
    return index, largest


@pytest.mark.parametrize("threshold", [None, 0.5, 0.1])
@pytest.mark.parametrize("count, things", [(40, 5), (3, 5), (10, 1), (10, 0)])
def test_match(count, things, threshold):
    random = np.random.default_rng(count + things)
    overlaps = iou(random_boxes(random, count), random_boxes(random, things))
    index, largest = box_matching.match(overlaps, threshold)
    expected, overlap = slow_match(overlaps, threshold)
    assert index.tolist() == expected
    assert np.allclose(largest, overlap)


def test_of_two_boxes_that_overlap_alike_the_first_is_matched():
    overlaps = np.array([[0.2, 0.6], [0.6, 0.6], [0.6, 0]], np.float32)
    assert box_matching.match(overlaps, None)[0].tolist() == [1, 0, -1] == slow_match(overlaps, None)[0]
