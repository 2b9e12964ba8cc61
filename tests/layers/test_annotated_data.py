"""AnnotatedData: what it reads, how objects follow the pictures, exact resumes, what goes wrong."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.data.pictures import image
from caffepy.data.sources.databases import create_database
from caffepy.data.sources.datum import from_image
from caffepy.errors import CaffeError, ConfigError, DataError
from caffepy.proto.caffe_pb2 import TEST, TRAIN, AnnotatedDatum, Datum
from caffepy.solver.resume_file import from_json, to_json
from tests.data.databases import batches, database, layer, pictures, same

BOX = [0.25, 0.5, 0.75, 1.0]
SAMPLERS = """batch_sampler { max_sample: 1 max_trials: 1 }
  batch_sampler { sampler { min_scale: 0.3 max_aspect_ratio: 2 min_aspect_ratio: 0.5 }
                  sample_constraint { min_jaccard_overlap: 0.3 } max_sample: 1 max_trials: 50 }"""
EVERYTHING = """mirror: true resize_param { height: 16 width: 20 interp_mode: AREA interp_mode: LINEAR }
  distort_param { brightness_prob: 0.5 brightness_delta: 32 hue_prob: 0.5 hue_delta: 18 random_order_prob: 0.5 }
  expand_param { prob: 0.5 max_expand_ratio: 2 } emit_constraint { emit_type: CENTER } mean_value: 100
  crop_h: 14 crop_w: 18"""


def record(picture, boxes, typed: bool = True, encoded: bool = False) -> AnnotatedDatum:
    """A record with objects of classes 1, 2, ..., two of each class in a group; the last one is difficult."""
    datum = Datum(data=image.encode(picture, "png"), encoded=True) if encoded else from_image(picture, 9)
    out = AnnotatedDatum(datum=datum)
    if typed:
        out.type = AnnotatedDatum.BBOX
    for i, box in enumerate(boxes):
        if i % 2 == 0:
            out.annotation_group.add(group_label=1 + i // 2)
        one = out.annotation_group[-1].annotation.add(instance_id=i % 2)
        for name, value in zip(("xmin", "ymin", "xmax", "ymax"), box):
            setattr(one.bbox, name, value)
        one.bbox.difficult = i == len(boxes) - 1
    return out


def store(path, records):
    with create_database(path, "lmdb") as put:
        for i, one in enumerate(records):
            put(b"%04d" % i, one.SerializeToString())
    return path


def options(source, transform: str = "", annotated: str = "", batch: int = 3, data: str = "") -> str:
    return (
        f'data_param {{ source: "{source}" backend: LMDB batch_size: {batch} {data} }} '
        f"transform_param {{ {transform} }} annotated_data_param {{ {annotated} }}"
    )


@pytest.fixture
def db(tmp_path):
    shapes = [(24, 30), (20, 20), (30, 16), (18, 40)]
    boxes = [[BOX], [], [BOX, [0, 0, 0.5, 0.5], [0.5, 0.1, 0.9, 0.4]], [[0.1, 0.1, 0.2, 0.9]]]
    images = [pictures(1, *shape)[0] for shape in shapes]
    return store(tmp_path / "db", [record(*pair, encoded=i % 2 == 1) for i, pair in enumerate(zip(images, boxes))])


def first(text: str, phase: int = TEST, **rest):
    return batches(layer("AnnotatedData", text, phase, **rest), 1)[0]


def test_pictures_and_objects(tmp_path):
    images = pictures(3)
    source = store(
        tmp_path / "db", [record(images[0], [BOX, BOX, BOX]), record(images[1], []), record(images[2], [BOX])]
    )
    data, label = first(options(source))
    assert np.array_equal(data, images)
    assert label.tolist() == [[[
        [0, 1, 0, *BOX, 0], [0, 1, 1, *BOX, 0], [0, 2, 0, *BOX, 1], [2, 1, 0, *BOX, 1],
    ]]]  # fmt: skip


def test_a_batch_without_objects(tmp_path):
    source = store(tmp_path / "db", [record(p, []) for p in pictures(2)])
    assert first(options(source, batch=2))[1].tolist() == [[[[-1] * 8]]]


def test_the_number_of_objects_changes_from_batch_to_batch(db):
    net = layer("AnnotatedData", options(db, "resize_param { height: 8 width: 8 }", batch=1))
    assert [label.shape[2] for _, label in batches(net, 5)] == [1, 1, 3, 1, 1]


@pytest.mark.parametrize("transform, channels", [("", 3), ("force_color: true", 3), ("force_gray: true", 1)])
def test_encoded_pictures(tmp_path, transform, channels):
    source = store(tmp_path / "db", [record(p, [BOX], encoded=True) for p in pictures(2)])
    data, label = first(options(source, transform, batch=2))
    assert data.shape == (2, channels, 12, 10) and label.shape == (1, 1, 2, 8)
    if channels == 3:
        assert np.array_equal(data, pictures(2))


def test_boxes_are_cut_and_empty_ones_left_out(tmp_path):
    boxes = [[-0.5, 0.2, 0.5, 1.5], [0.3, 0.3, 0.3, 0.8], [1.1, 0, 1.5, 1]]
    source = store(tmp_path / "db", [record(pictures(1)[0], boxes)])
    label = first(options(source, batch=1))[1]
    assert np.allclose(label[0, 0], [[0, 1, 0, 0, 0.2, 0.5, 1, 0]])


def test_centre_crop_in_test(tmp_path):
    """A crop of 6 x 4 of 12 x 10: rows 3 to 9, columns 3 to 7."""
    source = store(tmp_path / "db", [record(pictures(1)[0], [BOX])])
    data, label = first(options(source, "crop_h: 6 crop_w: 4", batch=1))
    assert np.array_equal(data[0], pictures(1)[0][:, 3:9, 3:7])
    assert np.allclose(label[0, 0, 0, 3:7], [0, 0.5, 1, 1])


@pytest.mark.parametrize("phase", [TRAIN, TEST])
def test_mirrored_objects(tmp_path, phase):
    picture = np.zeros((3, 10, 20), np.uint8)
    picture[:, :, 2:8] = 255
    source = store(tmp_path / "db", [record(picture, [[0.1, 0, 0.4, 1]])] * 8)
    data, label = first(options(source, "mirror: true", batch=8), phase)
    for one, row in zip(data, label[0, 0]):
        assert np.allclose(row[3:7], bright_box(one[0]))
    assert {round(float(row[3]), 3) for row in label[0, 0]} == {0.1, 0.6}


def bright_box(plane) -> list[float]:
    """The box of what is bright in a picture (H, W)."""
    rows, columns = np.nonzero(plane > 128)
    height, width = plane.shape
    return [columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height]


@pytest.mark.parametrize("mode", ["WARP", "FIT_LARGE_SIZE_AND_PAD"])
def test_objects_follow_every_step(tmp_path, mode):
    """A bright rectangle on black: its box stays around it, whatever is drawn."""
    picture = np.zeros((3, 240, 360), np.uint8)
    picture[:, 60:180, 120:300] = 255
    source = store(tmp_path / "db", [record(picture, [[1 / 3, 1 / 4, 5 / 6, 3 / 4]])])
    transform = (
        f"mirror: true crop_h: 140 crop_w: 180 resize_param {{ height: 160 width: 200 resize_mode: {mode} }} "
        "expand_param { max_expand_ratio: 2 }"
    )
    net = layer("AnnotatedData", options(source, transform, SAMPLERS, batch=1), TRAIN)
    found = [(row, plane) for data, label in batches(net, 25) for row, plane in ((label[0, 0, 0], data[0, 0]),)]
    found = [(row, plane) for row, plane in found if row[0] == 0]
    assert len(found) > 20
    for row, plane in found:
        assert np.allclose(row[3:7], bright_box(plane), atol=0.025)


def test_records_without_type_have_labels(tmp_path):
    source = store(tmp_path / "db", [record(p, [BOX], typed=False) for p in pictures(2)])
    assert first(options(source, batch=2))[1].tolist() == [9, 9]
    assert first(options(source, annotated="anno_type: BBOX", batch=2))[1].shape == (1, 1, 2, 8)


@pytest.mark.parametrize("data", ["", "shuffle: true threads: 3"])
def test_resumes_to_the_bit(db, data):
    text = options(db, EVERYTHING, SAMPLERS, data=data)
    straight = batches(layer("AnnotatedData", text), 9)
    net = layer("AnnotatedData", text)
    batches(net, 4)
    state = from_json(to_json(net.layers[0].state()))
    other = layer("AnnotatedData", text, seed=99)
    other.layers[0].set_state(state)
    assert same(batches(other, 5), straight[4:])
    assert not same(batches(layer("AnnotatedData", text, seed=8), 2), straight[:2])


def test_threads_change_nothing(db):
    one = batches(layer("AnnotatedData", options(db, EVERYTHING, SAMPLERS)), 5)
    assert same(batches(layer("AnnotatedData", options(db, EVERYTHING, SAMPLERS, data="threads: 3")), 5), one)


def test_without_labels(db):
    (data,) = first(options(db, EVERYTHING, SAMPLERS), TRAIN, tops="data")
    assert data.shape == (3, 3, 14, 18)


REFUSED = [
    ("", "batch_sampler { sampler { min_scale: 2 } }", ConfigError, "a sampler's scales"),
    ("resize_param { height: 3 }", "", ConfigError, "resize_param needs height and width"),
    ("expand_param { }", "", ConfigError, "max_expand_ratio must exceed 1"),
    ("distort_param { hue_delta: -1 }", "", ConfigError, "hue_delta must not be negative"),
    ("min_crop_area: 0.5 crop_size: 4", "", ConfigError, "min_crop_area would leave the objects behind"),
    ("crop_h: 4", "", ConfigError, "give crop_size, or crop_h and crop_w"),
    ("crop_h: 40 crop_w: 2", "", CaffeError, "the crop 40x2 is larger than the picture, 24x30"),
    ("", "", DataError, "Set transform_param { resize_param { height: 300 width: 300 } }, for example."),
]


@pytest.mark.parametrize("transform, annotated, error, message", REFUSED)
def test_refusals(db, transform, annotated, error, message):
    with pytest.raises(error, match=re.escape(message)):
        first(options(db, transform, annotated))


def test_other_records(tmp_path):
    source = database(tmp_path / "plain", pictures(2))
    with pytest.raises(DataError, match='key "0000": the record is no AnnotatedDatum'):
        first(options(source))
    mixed = store(tmp_path / "mixed", [record(pictures(1)[0], [BOX]), record(pictures(1)[0], [], typed=False)])
    with pytest.raises(DataError, match="some records have annotations, others a label alone"):
        first(options(mixed, batch=2))


def test_pictures_of_other_values(tmp_path):
    one = record(pictures(1)[0], [BOX])
    one.datum.float_data.extend(np.arange(360, dtype=float))
    one.datum.data = b""
    source = store(tmp_path / "db", [one])
    assert first(options(source, batch=1))[0].max() == 359
    for transform in ("expand_param { max_expand_ratio: 2 }", "resize_param { height: 4 width: 4 }"):
        with pytest.raises(DataError, match="only pictures of bytes can be changed so"):
            first(options(source, transform, batch=1))


def test_other_layers_resize_too_but_know_no_objects(tmp_path):
    source = database(tmp_path / "plain", pictures(2))
    text = f'data_param {{ source: "{source}" backend: LMDB batch_size: 2 }} transform_param {{ %s }}'
    (data, _), = batches(layer("Data", text % "resize_param { height: 6 width: 5 }", TEST), 1)  # fmt: skip
    assert np.array_equal(data[1], image.resize(pictures(2)[1], 6, 5))
    with pytest.raises(ConfigError, match=re.escape("Data has no transform_param.expand_param")):
        layer("Data", text % "expand_param { max_expand_ratio: 2 }")
