"""AnnotatedDatum, the record of SSD's databases: a picture and the objects in it."""

from __future__ import annotations

import numpy as np
from google.protobuf.message import DecodeError

from caffepy.data.pictures.annotations import Annotations
from caffepy.data.sources.datum import where
from caffepy.errors import DataError
from caffepy.proto.caffe_pb2 import AnnotatedDatum

_HINT = "SSD's convert_annoset writes such records; those of convert-imageset are for a Data layer."


def parse(value: bytes, key: bytes, source: str) -> AnnotatedDatum:
    """Raises DataError naming the database and the key of what is no AnnotatedDatum with a picture."""
    record = AnnotatedDatum()
    try:
        record.ParseFromString(value)
    except DecodeError:
        raise DataError("the record is no AnnotatedDatum", where=where(source, key), hint=_HINT) from None
    if not (record.datum.data or record.datum.float_data):
        raise DataError("the record is no AnnotatedDatum, or has no picture", where=where(source, key), hint=_HINT)
    return record


def objects_in(record: AnnotatedDatum) -> Annotations:
    """The objects, in the record's order."""
    rows = [
        (group.group_label, one.instance_id, box.xmin, box.ymin, box.xmax, box.ymax, box.difficult)
        for group in record.annotation_group
        for one in group.annotation
        for box in (one.bbox,)
    ]
    return Annotations(np.array(rows, np.float32).reshape(-1, 7))
