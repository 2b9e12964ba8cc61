"""SegAccuracy."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError, DataError, ShapeError
from tests.support import ENGINES, Built, assert_close

SCORES = np.random.default_rng(1).standard_normal((2, 4, 5, 6)).astype("f4")
LABELS = np.random.default_rng(2).integers(0, 3, (2, 1, 5, 6))  # class 3 does not occur


def expected(pairs, classes):
    """Accuracy, mean recall, mean intersection over union of (label, prediction) pairs, counted one by one."""
    recalls, unions = [], []
    for k in range(classes):
        both = sum(a == b == k for a, b in pairs)
        labelled, predicted = sum(a == k for a, _ in pairs), sum(b == k for _, b in pairs)
        if labelled:
            recalls.append(both / labelled)
        union = labelled + predicted - both
        unions.append(both / union if union else 1)
    right = sum(a == b for a, b in pairs)
    return [right / len(pairs), np.mean(recalls), np.mean(unions)] if pairs else [0, 0, 1]


def pairs_of(labels, scores, ignored=()):
    found = zip(labels.ravel().tolist(), scores.argmax(axis=1).ravel().tolist())
    return [(a, b) for a, b in found if a not in ignored]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("ignored", [(), (1,), (0, 1), (0, 1, 2)])
def test_values(ignored, engine):
    fields = " ".join(f"ignore_label: {k}" for k in ignored)
    built = Built(f'type: "SegAccuracy" seg_accuracy_param {{ {fields} }}', SCORES, LABELS, engine=engine)
    for _ in range(2):
        y = built.forward()[0]
        assert_close(y, np.reshape(expected(pairs_of(LABELS, SCORES, ignored), 4), (1, 1, 1, 3)))


@pytest.mark.parametrize("engine", ENGINES)
def test_counting_goes_on(engine):
    built = Built('type: "SegAccuracy" seg_accuracy_param { reset: false }', SCORES, LABELS, engine=engine)
    built.forward()
    state = built.layer.state()
    other = Built('type: "SegAccuracy" seg_accuracy_param { reset: false }', -SCORES, LABELS, engine=engine)
    other.layer.set_state(state)
    pairs = pairs_of(LABELS, SCORES) + pairs_of(LABELS, -SCORES)
    assert_close(other.forward()[0], np.reshape(expected(pairs, 4), (1, 1, 1, 3)))
    assert Built('type: "SegAccuracy"', SCORES, LABELS).layer.state() == {}


@pytest.mark.parametrize("reset", ["true", "false"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_test_counts_the_pixels_of_all_its_batches(reset, engine):
    """And of no test before it."""
    built = Built(f'type: "SegAccuracy" seg_accuracy_param {{ reset: {reset} }}', SCORES, LABELS, engine=engine)
    built.forward()
    meter, other = built.layer.meter(0), built.layer.meter(0)
    for scores, each in ((SCORES, meter), (-SCORES, meter), (2 * SCORES, other)):
        built.bottom[0].data[...] = built.layer.engine.asarray(scores)
        built.forward()
        each.add(built.top[0], built.bottom, 1)
    meter.merge(other)
    pairs = 2 * pairs_of(LABELS, SCORES) + pairs_of(LABELS, -SCORES)
    assert_close(meter.value(), expected(pairs, 4))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_class_of_its_own_top(engine):
    text = 'type: "SegAccuracy" seg_accuracy_param { output_label: 1 output_label: 3 }'
    _, one, three = Built(text, SCORES, LABELS, engine=engine, tops=3).forward()
    pairs = pairs_of(LABELS, SCORES)
    both, labelled, predicted = pairs.count((1, 1)), sum(a == 1 for a, _ in pairs), sum(b == 1 for _, b in pairs)
    values = [both / predicted, both / labelled, both / (labelled + predicted - both)]
    assert_close(one, np.reshape(values, (1, 1, 1, 3)))
    assert not three.any()


@pytest.mark.parametrize("engine", ENGINES)
def test_one_probability(engine):
    x, labels = np.array([0.2, 0.5, 0.51, 0.9]).reshape(1, 1, 2, 2), np.array([0, 0, 1, 0]).reshape(1, 1, 2, 2)
    y = Built('type: "SegAccuracy"', x, labels, engine=engine).forward()[0]
    assert_close(y.ravel(), [3 / 4, (2 / 3 + 1) / 2, (2 / 3 + 1 / 2) / 2])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_label_outside(engine):
    labels = LABELS.copy()
    labels[1, 0, 2, 3] = 255
    built = Built('type: "SegAccuracy" bottom: "x" bottom: "l"', SCORES, labels, engine=engine)
    message = (
        'label 255 at position (1, 0, 2, 3) of "l" is outside 0 .. 3\n'
        "  Give seg_accuracy_param.ignore_label for labels that do not count."
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        built.forward()


def test_refused():
    with pytest.raises(ConfigError, match=r"^1 top\(s\) for 1 output_label: one, and one for each$"):
        Built('type: "SegAccuracy" seg_accuracy_param { output_label: 1 }', SCORES, LABELS)
    with pytest.raises(ConfigError, match=r"^output_label must lie in 0 .. 3, got \[4\]$"):
        Built('type: "SegAccuracy" seg_accuracy_param { output_label: 4 }', SCORES, LABELS, tops=2)
    with pytest.raises(ShapeError, match="needs one label a pixel"):
        Built('type: "SegAccuracy"', SCORES, LABELS[:, :, :4])
    with pytest.raises(ShapeError, match=r"^SegAccuracy needs scores"):
        Built('type: "SegAccuracy"', np.ones(3), np.ones(3))
