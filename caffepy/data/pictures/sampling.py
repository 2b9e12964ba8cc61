"""SSD's batch samplers: parts of a picture, drawn at random, that show an object as the sampler wants it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from caffepy.data.pictures.boxes import Array, clip, coverage, iou
from caffepy.errors import ConfigError
from caffepy.proto.caffe_pb2 import BatchSampler, SampleConstraint, Sampler


def check(sampler: BatchSampler) -> None:
    """Raises ConfigError for a sampler that cannot draw."""
    s = sampler.sampler
    if not 0 < s.min_scale <= s.max_scale <= 1:
        raise ConfigError(f"a sampler's scales must be 0 < min <= max <= 1, got {s.min_scale:g} and {s.max_scale:g}")
    if not 0 < s.min_aspect_ratio <= s.max_aspect_ratio:
        raise ConfigError(
            f"a sampler's aspect ratios must be 0 < min <= max, got {s.min_aspect_ratio:g} and {s.max_aspect_ratio:g}"
        )


def draw(sampler: Sampler, count: int, random: np.random.Generator) -> Array:
    """Boxes (count, 4) of w = s sqrt(r), h = s / sqrt(r) somewhere in the picture, scale s and ratio r even.

    r is kept within s^2 and 1 / s^2, so that they fit.
    """
    s = random.uniform(sampler.min_scale, sampler.max_scale, count)
    r = random.uniform(sampler.min_aspect_ratio, sampler.max_aspect_ratio, count).clip(s**2, 1 / s**2)
    sides = np.stack([s * np.sqrt(r), s / np.sqrt(r)], axis=1)
    low = random.uniform(0, 1, (count, 2)) * np.maximum(1 - sides, 0)
    return clip(np.concatenate([low, low + sides], axis=1).astype(np.float32))


def meets(constraint: SampleConstraint, parts: Array, objects: Array) -> Array:
    """For which of the parts (P, 4) one of the objects (K, 4) is within all bounds; without bounds for all."""
    within = np.ones((len(parts), len(objects)), bool)
    bounded = False
    for kind, values in (
        ("jaccard_overlap", iou(parts, objects)),
        ("sample_coverage", coverage(parts, objects)),
        ("object_coverage", coverage(objects, parts).T),
    ):
        for bound, outside in (("min", np.less), ("max", np.greater)):
            if constraint.HasField(f"{bound}_{kind}"):
                within &= ~outside(values, np.float32(getattr(constraint, f"{bound}_{kind}")))
                bounded = True
    return np.any(within, axis=1) | (not bounded)


def sample(samplers: Iterable[BatchSampler], objects: Array, random: np.random.Generator) -> Array | None:
    """One of all the parts that the samplers find, each among `max_trials` draws; None if none finds any."""
    found = []
    for sampler in samplers:
        if sampler.use_original_image:
            parts = draw(sampler.sampler, sampler.max_trials, random)
            good = parts[meets(sampler.sample_constraint, parts, objects)]
            found.append(good[: sampler.max_sample] if sampler.HasField("max_sample") else good)
    every = np.concatenate(found) if found else np.zeros((0, 4), np.float32)
    return every[random.integers(len(every))] if len(every) else None


def cut(picture: Array, part: Array) -> Array:
    """The pixels (C, h, w) of a part of a picture (C, H, W), rounded down to whole ones."""
    _, height, width = picture.shape
    left, top, right, bottom = (part * np.array([width, height, width, height], np.float32)).tolist()
    rows = slice(int(top), int(top) + max(1, int(bottom - top)))
    return picture[:, rows, int(left) : int(left) + max(1, int(right - left))]
