"""Pictures with objects in them through SSD's transformations: every step takes the objects with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caffepy.data.pictures import distortion, expansion, resizing, sampling
from caffepy.data.pictures.annotations import Annotations, mirrored, seen_in
from caffepy.data.pictures.boxes import UNIT, Array
from caffepy.data.pictures.data_transformer import Choice
from caffepy.data.pictures.shaping import check_bytes
from caffepy.errors import ConfigError
from caffepy.proto.caffe_pb2 import BatchSampler, TransformationParameter


class Scenes:
    """Distorts, expands and cuts pictures, and follows their objects through that and what comes behind it."""

    def __init__(self, param: TransformationParameter, samplers: Sequence[BatchSampler]):
        self.param, self.samplers = param, samplers
        for sampler in samplers:
            sampling.check(sampler)
        if param.HasField("distort_param"):
            distortion.check(param.distort_param)
        if param.HasField("expand_param"):
            expansion.check(param)
        if param.min_crop_area < 1:
            raise ConfigError("min_crop_area would leave the objects behind", hint="Use a batch_sampler instead.")
        self.constraint = param.emit_constraint if param.HasField("emit_constraint") else None

    def before(
        self, picture: Array, objects: Annotations, random: np.random.Generator, where: str
    ) -> tuple[Array, Annotations]:
        """The picture (C, H, W) in other colours, on a larger canvas, or a part of it."""
        distorts, expands = (self.param.HasField(name) for name in ("distort_param", "expand_param"))
        if distorts or expands:
            check_bytes(picture, where)
        if distorts:
            picture = distortion.distorted(picture, self.param.distort_param, random)
        if expands:
            picture, canvas = expansion.expanded(picture, self.param, random)
            if canvas is not UNIT:
                objects = seen_in(canvas, objects, self.constraint)
        part = sampling.sample(self.samplers, objects.boxes, random)
        if part is None:
            return picture, objects
        return sampling.cut(picture, part), seen_in(part, objects, self.constraint)

    def behind(
        self, objects: Annotations, before: tuple[int, ...], after: tuple[int, ...], choice: Choice
    ) -> Annotations:
        """The objects where a picture was resized from one shape (C, H, W) to another, then cropped and mirrored."""
        p, (_, height, width) = self.param, before
        resizes = p.HasField("resize_param")
        if resizes:
            objects = objects.at(resizing.moved(objects.boxes, p.resize_param, height, width))
        crop = choice.box(after, (p.crop_h or p.crop_size, p.crop_w or p.crop_size))
        objects = seen_in(crop, objects, self.constraint)
        if choice.mirror:
            objects = mirrored(objects)
        if resizes:
            objects = objects.at(resizing.stretched(objects.boxes, p.resize_param, height, width, crop))
        return objects
