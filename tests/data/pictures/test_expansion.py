"""expand_param: the picture lies somewhere on a canvas of the mean's colour, and the box says where."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.data.pictures.boxes import UNIT, project
from caffepy.data.pictures.expansion import check, expanded
from caffepy.errors import ConfigError
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import TransformationParameter

PICTURE = np.full((3, 10, 20), 200, np.uint8)


def param(fields: str) -> TransformationParameter:
    return text.parse(fields, TransformationParameter())


@pytest.mark.parametrize("seed", range(8))
def test_where_the_picture_lies(seed):
    p = param("mean_value: 104 mean_value: 117 mean_value: 122.6 expand_param { max_expand_ratio: 4 }")
    canvas, box = expanded(PICTURE, p, np.random.default_rng(seed))
    _, height, width = canvas.shape
    assert 10 <= height <= 40 and 20 <= width <= 80 and abs(width / height - 2) < 0.2
    there = np.rint(project(UNIT, box) * [width, height, width, height]).astype(int)
    inside = np.zeros((height, width), bool)
    inside[there[1] : there[3], there[0] : there[2]] = True
    assert inside.sum() == 200
    for plane, colour in zip(canvas, (104, 117, 123)):
        assert (plane[inside] == 200).all() and (plane[~inside] == colour).all()


def test_how_often_and_of_which_colour_without_mean():
    random, p = np.random.default_rng(0), param("expand_param { prob: 0.25 max_expand_ratio: 3 }")
    made = [expanded(PICTURE, p, random) for _ in range(400)]
    larger = [canvas for canvas, box in made if box is not UNIT]
    assert 70 < len(larger) < 130
    assert {int(v) for canvas in larger for v in np.unique(canvas)} == {0, 200}


@pytest.mark.parametrize(
    "fields, message",
    [
        ("expand_param { prob: 0.5 }", "max_expand_ratio must exceed 1, got 1"),
        ('mean_file: "m" expand_param { max_expand_ratio: 2 }', "expand_param cannot go with mean_file"),
    ],
)
def test_refusals(fields, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        check(param(fields))
