"""PriorBox beyond the recordings."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError, ShapeError
from caffepy.layers.prior_box import ratios
from tests.support import ENGINES, Built, assert_close

# SSD-300's maps: side, min_size, max_size, further ratios.
SSD = [(38, 30, 60, [2]), (19, 60, 111, [2, 3]), (10, 111, 162, [2, 3]), (5, 162, 213, [2, 3]), (3, 213, 264, [2]),
       (1, 264, 315, [2])]  # fmt: skip


def build(fields: str, cells=(2, 3), picture=(30, 40), engine: str = "numpy") -> Built:
    text = f'type: "PriorBox" prior_box_param {{ {fields} }}'
    return Built(text, np.zeros((1, 4, *cells)), np.zeros((1, 3, *picture)), engine=engine)


def test_ssd_has_8732_priors():
    count = 0
    for side, least, most, shapes in SSD:
        fields = f"min_size: {least} max_size: {most} " + " ".join(f"aspect_ratio: {r}" for r in shapes)
        built = build(fields, (side, side), (300, 300))
        count += built.top[0].shape[2] // 4
    assert count == 8732


@pytest.mark.parametrize("engine", ENGINES)
def test_by_hand(engine):
    """A map of 1 x 2 in a picture of 20 x 40: centres at (10, 10) and (30, 10)."""
    built = build("min_size: 8 max_size: 18 aspect_ratio: 4", (1, 2), (20, 40), engine)
    sides = [(8, 8), (12, 12), (16, 4), (4, 16)]
    boxes = [
        [(x - w / 2) / 40, (10 - h / 2) / 20, (x + w / 2) / 40, (10 + h / 2) / 20] for x in (10, 30) for w, h in sides
    ]
    (ours,) = built.forward()
    assert_close(ours[0, 0].reshape(-1, 4), np.array(boxes))
    assert_close(ours[0, 1], np.full(32, 0.1))


@pytest.mark.parametrize(
    "fields, same",
    [
        ("img_size: 60", "img_h: 60 img_w: 60"),
        ("step: 5", "step_h: 5 step_w: 5"),
        ("", "img_h: 30 img_w: 40"),
        ("variance: 0.1", "variance: 0.1 variance: 0.1 variance: 0.1 variance: 0.1"),
    ],
)
def test_two_ways_to_say_it(fields, same):
    one, other = (build(f"min_size: 8 {text}").forward()[0] for text in (fields, same))
    assert_close(one, other, 0)


def test_repeated_ratios_are_dropped():
    assert ratios([2, 0.5, 1, 2], flip=True) == [1, 2, 0.5]
    assert ratios([2, 0.5, 1, 2], flip=False) == [1, 2, 0.5]
    assert ratios([3], flip=False) == [1, 3]


@pytest.mark.parametrize("engine", ENGINES)
def test_gradients_are_zero(engine):
    built = build("min_size: 8", engine=engine)
    built.bottom[0].diff[...] = 3
    assert not built.backward(np.ones(built.top[0].shape))[0].any()


def test_another_size_of_the_picture():
    built = build("min_size: 8")
    before = built.forward()[0]
    built.bottom[1].reshape((1, 3, 60, 80))
    assert_close(built.forward()[0], build("min_size: 8", picture=(60, 80)).forward()[0], 0)
    assert not np.allclose(before, built.forward()[0])


REFUSED = [
    ("", "prior_box_param.min_size is not set"),
    ("min_size: 0", "min_size must be at least 1 pixel, got 0"),
    ("min_size: 8 max_size: 12 max_size: 14", "2 max_size for 1 min_size; give none, or one for each"),
    ("min_size: 8 max_size: 8", "each max_size must exceed its min_size: 8, 8"),
    ("min_size: 8 aspect_ratio: -2", "aspect_ratio must be positive, got -2"),
    ("min_size: 8 variance: 0.1 variance: 0.2", "variance must be none, 1 or 4 positive numbers, got 0.1, 0.2"),
    ("min_size: 8 img_size: 30 img_h: 30", "give img_size, or img_h and img_w, not img_size and img_h"),
    ("min_size: 8 step_h: 30", "give step, or step_h and step_w, not step_h"),
    ("min_size: 8 step: -1", "step must be positive"),
]


@pytest.mark.parametrize("fields, message", REFUSED)
def test_refusals(fields, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        build(fields)


def test_refused_shape():
    with pytest.raises(ShapeError, match=re.escape("needs bottoms (N, C, H, W), bottom 1 is (2, 3)")):
        Built('type: "PriorBox" prior_box_param { min_size: 8 }', np.zeros((1, 2, 3, 3)), np.zeros((2, 3)))
