"""AnnotatedData: batches of pictures and of the objects in them, from a database of AnnotatedDatum records."""

from __future__ import annotations

from typing import Any

import numpy as np

from caffepy.data.pictures.annotations import Annotations, label_rows
from caffepy.data.pictures.boxes import Array
from caffepy.data.pictures.data_transformer import Choice
from caffepy.data.pictures.scenes import Scenes
from caffepy.data.sources import annotated
from caffepy.data.sources import datum as datums
from caffepy.errors import DataError
from caffepy.layers.batches import Batch, Picture
from caffepy.layers.data import Data, Record
from caffepy.net.blob import Blob
from caffepy.net.layer import register

Objects = tuple[Annotations, tuple[int, ...]]
"""What is in a picture, and its shape (C, H, W) before it is resized."""


@register("AnnotatedData")
class AnnotatedData(Data):
    """Batches from an LMDB or LevelDB of AnnotatedDatum records: data (N, C, H, W), and objects (1, 1, G, 8).

    A row of the second top is number of the picture in the batch, class, number of the object, xmin, ymin, xmax, ymax
    as shares of the picture, difficult. A batch without objects has one row of -1, and G is another in each batch.
    Where records have no type and `anno_type` is not set, labels (N) take the place of the objects.

    A picture is distorted, expanded, cut as one of `annotated_data_param.batch_sampler` says, resized, spoilt by noise,
    cropped and mirrored, in both phases (crops are random in TRAIN); objects go with it as far as `emit_constraint`
    lets them. SSD packs the picture into a JPEG after each step, this does not. Reads `data_param` as Data does, and
    all of `transform_param`; `label_map_file` is for tools. Liu et al. 2016.
    """

    refused_fields = ()
    draws = True
    size_hint = "Set transform_param { resize_param { height: 300 width: 300 } }, for example."

    @classmethod
    def expected_label(cls, size: int, picture: Picture | None) -> tuple[int, ...] | None:
        return (1, 1, 1, 8)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.typed = self.param.annotated_data_param.HasField("anno_type")
        self.scenes = Scenes(self.param.transform_param, self.param.annotated_data_param.batch_sampler)
        super().setup(bottom, top)

    def decode(self, record: Record) -> tuple[Array, Any]:
        """Picture and the objects in it, or its label."""
        key, value = record
        found = annotated.parse(value, key, self.reader.path)
        if found.datum.encoded:
            picture = datums.picture(found.datum, key, self.reader.path, self._channels)
        else:
            picture = datums.image(found.datum, key, self.reader.path)
        typed = self.typed or found.HasField("type")
        return picture, annotated.objects_in(found) if typed else float(found.datum.label)

    def label_of(self, key: bytes, value: bytes) -> int:
        return annotated.parse(value, key, self.reader.path).datum.label

    def change(self, image: Array, label: Any, random: np.random.Generator, where: str) -> tuple[Array, Any]:
        objects = label if isinstance(label, Annotations) else Annotations.none()
        image, objects = self.scenes.before(image, objects, random, where)
        shape = image.shape
        image, _ = super().change(image, label, random, where)
        return image, (objects, shape) if isinstance(label, Annotations) else label

    def label_arrays(
        self, given: list[Any], images: list[Array], choices: list[Choice], recycled: Batch | None
    ) -> list[Array]:
        """Objects (1, 1, G, 8) as they are in the transformed pictures, or labels (N)."""
        typed = [isinstance(one, tuple) for one in given]
        if not any(typed):
            return super().label_arrays(given, images, choices, recycled)
        if not all(typed):
            raise DataError(
                "some records have annotations, others a label alone",
                where=self.reader.path,
                hint="Set annotated_data_param { anno_type: BBOX } if these have no objects.",
            )
        seen = [
            self.scenes.behind(objects, before, image.shape, choice)
            for (objects, before), image, choice in zip(given, images, choices)
        ]
        return [label_rows(seen)]
