"""Batch samplers: their draws lie where they should, and their constraints are those of SSD."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.data.pictures import sampling
from caffepy.data.pictures.boxes import coverage, iou
from caffepy.errors import ConfigError
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import BatchSampler

OBJECTS = np.array([[0.1, 0.1, 0.5, 0.6], [0.7, 0.7, 0.9, 0.9]], np.float32)


def sampler(fields: str) -> BatchSampler:
    return text.parse(fields, BatchSampler())


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_draws():
    s = sampler("sampler { min_scale: 0.3 max_scale: 0.9 min_aspect_ratio: 0.5 max_aspect_ratio: 2 }").sampler
    parts = sampling.draw(s, 2000, rng())
    assert (parts >= 0).all() and (parts <= 1 + 1e-6).all()
    width, height = (parts[:, 2:] - parts[:, :2]).T
    scale, ratio = np.sqrt(width * height), width / height
    assert 0.3 <= scale.min() < 0.31 and 0.89 < scale.max() <= 0.9 + 1e-6
    assert 0.5 - 1e-4 <= ratio.min() < 0.52 and 1.9 < ratio.max() <= 2 + 1e-4
    assert abs(scale.mean() - 0.6) < 0.02
    for low, side in ((parts[:, 0], width), (parts[:, 1], height)):
        free = side < 0.99
        assert abs((low[free] / (1 - side[free])).mean() - 0.5) < 0.03  # even over where they fit


def test_the_whole_picture():
    assert sampling.draw(sampler("").sampler, 3, rng()).tolist() == [[0, 0, 1, 1]] * 3


@pytest.mark.parametrize(
    "constraint, kind",
    [
        ("min_jaccard_overlap: 0.3", lambda p: iou(p, OBJECTS) >= 0.3),
        ("max_jaccard_overlap: 0.01", lambda p: iou(p, OBJECTS) <= np.float32(0.01)),
        ("min_jaccard_overlap: 0.1 max_jaccard_overlap: 0.2", lambda p: abs(iou(p, OBJECTS) - 0.15) <= 0.05),
        ("min_sample_coverage: 0.5", lambda p: coverage(p, OBJECTS) >= 0.5),
        ("min_object_coverage: 0.9", lambda p: coverage(OBJECTS, p).T >= 0.9),
        (
            "min_object_coverage: 0.9 max_jaccard_overlap: 0.2",
            lambda p: (coverage(OBJECTS, p).T >= 0.9) & (iou(p, OBJECTS) <= 0.2),
        ),
    ],
)
def test_constraints(constraint, kind):
    s = sampler(f"sampler {{ min_scale: 0.1 max_aspect_ratio: 2 }} sample_constraint {{ {constraint} }}")
    parts = sampling.draw(s.sampler, 400, rng())
    ours = sampling.meets(s.sample_constraint, parts, OBJECTS)
    assert np.array_equal(ours, kind(parts).any(axis=1))
    assert ours.any() and not ours.all()
    assert not sampling.meets(s.sample_constraint, parts, np.zeros((0, 4), np.float32)).any()


def test_one_of_what_all_samplers_find():
    """SSD's usual samplers: the whole picture once, and a part that overlaps an object."""
    samplers = [
        sampler("max_sample: 1 max_trials: 1"),
        sampler("sampler { min_scale: 0.3 } sample_constraint { min_jaccard_overlap: 0.5 } max_sample: 1"),
        sampler("sampler { min_scale: 0.3 } use_original_image: false"),
    ]
    random = rng()
    parts = np.array([sampling.sample(samplers, OBJECTS, random) for _ in range(200)])
    whole = (parts == [0, 0, 1, 1]).all(axis=1)
    assert 70 < whole.sum() < 130
    assert (iou(parts[~whole], OBJECTS).max(axis=1) >= 0.5).all()


def test_nothing_found():
    impossible = sampler("sample_constraint { min_jaccard_overlap: 0.9 }")
    assert sampling.sample([impossible], OBJECTS, rng()) is None
    assert sampling.sample([], OBJECTS, rng()) is None


def test_cut():
    picture = np.arange(3 * 10 * 20).reshape(3, 10, 20)
    part = np.array([0.26, 0.15, 0.8, 0.96], np.float32)
    assert np.array_equal(
        sampling.cut(picture, part), picture[:, 1:9, 5:15]
    )  # 8.1 rows from 1.5, 10.8 columns from 5.2
    assert sampling.cut(picture, np.array([0.5, 0.5, 0.501, 0.501], np.float32)).shape == (3, 1, 1)


@pytest.mark.parametrize(
    "fields, message",
    [
        ("min_scale: 0", "scales must be 0 < min <= max <= 1, got 0 and 1"),
        ("max_scale: 1.5", "got 1 and 1.5"),
        ("min_scale: 0.5 max_scale: 0.4", "got 0.5 and 0.4"),
        ("min_aspect_ratio: 2", "aspect ratios must be 0 < min <= max, got 2 and 1"),
    ],
)
def test_refusals(fields, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        sampling.check(sampler(f"sampler {{ {fields} }}"))
