"""DetectionEvaluate against pictures that are judged by hand, and average precision against SSD's loops."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError, DataError, ShapeError
from caffepy.layers.average_precision import average_precision, mean_average_precision
from tests.support import ENGINES, Built, assert_close

BOX, NEAR, FAR = [0.1, 0.1, 0.5, 0.5], [0.1, 0.1, 0.5, 0.45], [0.6, 0.6, 0.9, 0.9]
# image, class, instance, box, difficult
OBJECTS = [[0, 1, 0, *BOX, 0], [0, 2, 0, *FAR, 1], [2, 1, 0, *BOX, 0], [2, 1, 1, *FAR, 0]]
# image, class, score, box
FOUND = [
    [0, 1, 0.5, *NEAR],
    [0, 1, 0.9, *BOX],
    [0, 1, 0.7, *FAR],
    [0, 2, 0.8, *FAR],
    [1, 2, 0.3, *BOX],
    [2, 1, 0.6, *FAR],
    [2, 2, 0.2, *BOX],
]


def build(fields: str = "", found=FOUND, objects=OBJECTS, engine: str = "numpy") -> Built:
    text = f'type: "DetectionEvaluate" detection_evaluate_param {{ num_classes: 3 {fields} }}'
    return Built(text, np.array(found)[None, None], np.array(objects)[None, None], engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("difficult", [True, False])
def test_by_hand(difficult, engine):
    (rows,) = build(f"evaluate_difficult_gt: {str(difficult).lower()}", engine=engine).forward()
    expected = [
        [-1, 1, 3, -1, -1],
        [-1, 2, int(difficult), -1, -1],
        [0, 1, 0.9, 1, 0],  # best of its object
        [0, 1, 0.7, 0, 1],  # no object there
        [0, 1, 0.5, 0, 1],  # its object is taken
        [0, 2, 0.8, int(difficult), 0],  # of a difficult object
        [1, 2, 0.3, 0, 1],  # an image without objects
        [2, 1, 0.6, 1, 0],
        [2, 2, 0.2, 0, 1],  # no object of its class
    ]
    assert_close(rows[0, 0], np.array(expected, np.float32), 0)


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_found(engine):
    found = [[0, *[-1] * 6], [1, *[-1] * 6]]
    (rows,) = build(found=found, engine=engine).forward()
    assert rows[0, 0].tolist() == [[-1, 1, 3, -1, -1], [-1, 2, 1, -1, -1]]


def test_the_threshold():
    overlap = 0.4 * 0.35 / (0.4 * 0.4)
    for threshold, right in ((overlap - 0.01, 1), (overlap + 0.01, 0)):
        rows = build(f"overlap_threshold: {threshold}", [[0, 1, 0.5, *NEAR]]).forward()[0][0, 0]
        assert rows[2].tolist() == [0, 1, 0.5, right, 1 - right]


def test_sizes_of_pictures(tmp_path):
    """In pixels widths have one more; and the padding of the resized picture is no part of it."""
    names = tmp_path / "names.txt"
    names.write_text("a 10 20\nb 20 10\n")
    # 20 x 10 in a square: the upper and lower quarter are padding. The other picture's sides are padded.
    found = [[0, 1, 0.5, 0.5, 0.25, 1, 0.75], [1, 1, 0.5, 0.25, 0.5, 0.75, 1]]
    objects = [[0, 1, 0, 0.5, 0.25, 1, 0.5, 0], [1, 1, 0, 0.25, 0.75, 0.75, 1, 0]]
    resize = "resize_param { height: 30 width: 30 resize_mode: FIT_LARGE_SIZE_AND_PAD }"
    # Boxes of 10 x 10 and 10 x 5 pixels: overlap 11 * 6 / (11 * 11) without, 0.5 with shares.
    for threshold, right in ((0.52, 1), (0.56, 0)):
        built = build(f'overlap_threshold: {threshold} name_size_file: "{names}" {resize}', found, objects)
        for _ in range(2):  # the file starts again
            assert built.forward()[0][0, 0, 2:, 3].tolist() == [right, right]
    assert built.layer.state() == {"seen": 0}


def test_refusals(tmp_path):
    with pytest.raises(ConfigError, match="num_classes is not set"):
        Built('type: "DetectionEvaluate"', np.zeros((1, 1, 1, 7)), np.zeros((1, 1, 1, 8)))
    with pytest.raises(ConfigError, match="overlap_threshold must be positive"):
        build("overlap_threshold: 0")
    with pytest.raises(ShapeError, match=re.escape("objects bottom 1 must be (1, 1, K, 8)")):
        build(objects=FOUND)
    with pytest.raises(DataError, match="has a row of class 0, the background"):
        build(found=[[0, 0, 0.5, *BOX]]).forward()
    names = tmp_path / "names.txt"
    names.write_text("a 10 20\nb 20\n")
    with pytest.raises(DataError, match=re.escape('names.txt:2: "b 20" is no line "name height width"')):
        build(f'name_size_file: "{names}"')
    names.write_text("\n")
    with pytest.raises(DataError, match="names no picture"):
        build(f'name_size_file: "{names}"')


def slow_average_precision(pairs, positives, version):
    """SSD's ComputeAP, in single precision."""
    f4 = np.float32
    pairs = sorted(pairs, key=lambda pair: -pair[0])
    hits = np.cumsum([hit for _, hit in pairs])
    prec = [f4(h) / f4(i + 1) for i, h in enumerate(hits)]
    rec = [f4(h) / f4(positives) for h in hits]
    total, num = 0.0, len(pairs)
    if version == "11point":
        most, start = [0.0] * 11, num - 1
        for j in range(10, -1, -1):
            for i in range(start, -1, -1):
                if float(rec[i]) < j / 10:
                    start = i
                    if j > 0:
                        most[j - 1] = most[j]
                    break
                most[j] = max(most[j], prec[i])
        return sum(most) / 11
    if version == "MaxIntegral":
        last_rec, last_prec = rec[-1], prec[-1]
        for i in range(num - 2, -1, -1):
            last_prec = max(prec[i], last_prec)
            if abs(last_rec - rec[i]) > 1e-6:
                total += last_prec * abs(last_rec - rec[i])
            last_rec = rec[i]
        return total + last_rec * last_prec
    before = 0.0
    for p, r in zip(prec, rec):
        if abs(r - before) > 1e-6:
            total += p * abs(r - before)
        before = r
    return total


@pytest.mark.parametrize("version", ["11point", "MaxIntegral", "Integral"])
@pytest.mark.parametrize("seed", range(6))
def test_average_precision(seed, version):
    random = np.random.default_rng(seed)
    count = [1, 5, 40, 40, 100, 400][seed]
    right = random.random(count) < [1, 0.5, 0.1, 0.9, 0.5, 0.7][seed]
    scores = random.random(count).round(2).astype("f4")
    positives = int(right.sum()) + [0, 0, 3, 0, 30, 7][seed]
    expected = slow_average_precision(zip(scores, right), max(positives, 1), version)
    assert average_precision(scores, right, max(positives, 1), version) == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_a_recall_of_seven_in_ten_is_below_07_in_single_precision():
    right, scores = np.ones(7), np.linspace(1, 0.5, 7)
    assert average_precision(scores, right, 10, "11point") == pytest.approx(7 / 11)


def test_average_precision_of_nothing():
    assert average_precision(np.zeros(0), np.zeros(0), 3) == 0
    assert average_precision(np.ones(2), np.ones(2), 0) == 0
    with pytest.raises(ConfigError, match='no ap_version "voc"'):
        average_precision(np.ones(1), np.ones(1), 1, "voc")


def test_mean_over_a_whole_test():
    """The rows of two batches together; class 3 has no detection, and what belongs to difficult objects is left out."""
    first = [[-1, 1, 2, -1, -1], [-1, 3, 1, -1, -1], [0, 1, 0.9, 1, 0], [0, 1, 0.8, 0, 1], [0, 1, 0.95, 0, 0]]
    second = [[-1, 1, 1, -1, -1], [-1, 3, 0, -1, -1], [0, 1, 0.7, 1, 0]]
    mean, each = mean_average_precision(np.array(first + second), "Integral")
    assert each == {1: pytest.approx(1 / 3 + 2 / 3 / 3), 3: 0}
    assert mean == pytest.approx(each[1] / 2)


def test_a_test_of_several_batches_has_their_mean_average_precision():
    """Batches have as many rows as there are detections."""
    built = build()
    meter, other = built.layer.meter(0), built.layer.meter(0)
    rows = [built.forward()[0].reshape(-1, 5)]
    meter.add(built.top[0], built.bottom, 1)
    fewer = build(found=FOUND[:2])
    rows.append(fewer.forward()[0].reshape(-1, 5))
    other.add(fewer.top[0], fewer.bottom, 1)
    assert len(rows[0]) != len(rows[1])
    meter.merge(other)
    assert meter.value() == mean_average_precision(np.concatenate(rows))[0] > 0
