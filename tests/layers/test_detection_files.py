"""The files with detections, as SSD writes them."""

from __future__ import annotations

import json
import logging
import re

import numpy as np
import pytest

from caffepy.errors import ConfigError, DataError
from caffepy.layers.detection_files import ResultFiles
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import SaveOutputParameter
from tests.support import Built

# image, label, score, box
ROWS = np.array(
    [[0, 1, 0.987654321, 0.1, 0.2, 0.5, 0.6], [0, 2, 0.5, -0.2, 0, 0.3, 1.5], [1, 1, 1e-5, 0.123456, 0, 1, 1]],
    np.float32,
)


@pytest.fixture
def folder(tmp_path):
    classes = {"bg": 0, "cat": 1, "18": 2}
    items = "".join(f'item {{ name: "{name}" label: {label} display_name: "x" }}\n' for name, label in classes.items())
    (tmp_path / "map.prototxt").write_text(items)
    (tmp_path / "sizes.txt").write_text("000012 100 200\npic 50 30\nlast 10 10\n")
    return tmp_path


def param(folder, fields: str) -> SaveOutputParameter:
    names = f'label_map_file: "{folder}/map.prototxt" name_size_file: "{folder}/sizes.txt"'
    return text.parse(f'output_directory: "{folder}/out" {names} {fields}', SaveOutputParameter())


def written(folder, fields: str) -> dict[str, str]:
    files = ResultFiles(param(folder, f"num_test_image: 2 {fields}"), [1, 2])
    for i in (0, 1):
        files.add(ROWS[ROWS[:, 0] == i])
    return {path.name: path.read_text() for path in (folder / "out").iterdir()}


def test_voc(folder):
    assert written(folder, 'output_format: "VOC" output_name_prefix: "comp4_det_test_"') == {
        "comp4_det_test_cat.txt": "000012 0.987654 20 20 100 60\npic 1e-05 3 0 29 50\n",
        "comp4_det_test_18.txt": "000012 0.5 0 0 60 100\n",
    }


def test_ilsvrc(folder):
    assert written(folder, 'output_format: "ILSVRC" output_name_prefix: "det"') == {
        "det.txt": "000012 1 0.987654 20 20 100 60\n000012 2 0.5 0 0 60 100\npic 1 1e-05 3 0 29 50\n"
    }


def test_coco(folder):
    files = written(folder, 'output_format: "COCO" output_name_prefix: "det"')
    rows = json.loads(files["det.json"])
    assert [row["image_id"] for row in rows] == [12, 12, "pic"]
    assert [row["category_id"] for row in rows] == ["cat", 18, "cat"]
    assert rows[0]["bbox"] == [20, 20, 80, 40] and rows[2]["bbox"] == [3.7, 0, 26.3, 50]
    assert rows[0]["score"] == pytest.approx(0.987654321)


def test_padding_is_undone(folder):
    fields = 'output_format: "ILSVRC" resize_param { height: 9 width: 9 resize_mode: FIT_LARGE_SIZE_AND_PAD }'
    lines = written(folder, fields)[".txt"].splitlines()
    assert lines[0] == "000012 1 0.987654 20 0 100 70"  # 200 x 100: from a quarter to three quarters


def test_the_next_pictures_start_anew(folder):
    files = ResultFiles(param(folder, 'num_test_image: 1 output_format: "VOC"'), [1, 2])
    files.add(ROWS[:1])
    files.add(np.zeros((0, 7), np.float32))
    assert (folder / "out/cat.txt").read_text() == ""


def test_the_layer_writes_them(folder):
    """Two batches of one picture; nothing before the last."""
    loc, conf, prior = np.zeros((1, 4)), np.array([[0.1, 0.7, 0.2]]), np.array([[[0.1, 0.2, 0.5, 0.6], [1, 1, 1, 1]]])
    fields = text.to_text(param(folder, 'num_test_image: 2 output_format: "VOC"'))
    built = Built(
        'type: "DetectionOutput" detection_output_param { num_classes: 3 confidence_threshold: 0.3 '
        f"save_output_param {{ {fields} }} }}", loc, conf, prior,
    )  # fmt: skip
    built.forward()
    assert not list((folder / "out").iterdir())
    built.forward()
    assert (folder / "out/cat.txt").read_text() == "000012 0.7 20 20 100 60\npic 0.7 3 10 15 30\n"
    assert (folder / "out/18.txt").read_text() == ""


def test_nothing_is_written_without_names(folder, caplog):
    bottoms = np.zeros((1, 4)), np.ones((1, 2)), np.zeros((1, 2, 4))
    with caplog.at_level(logging.WARNING, logger="caffepy"):
        Built(
            f'type: "DetectionOutput" detection_output_param {{ num_classes: 2 visualize: true save_output_param {{ '
            f'output_directory: "{folder}/none" }} }}', *bottoms,
        ).forward()  # fmt: skip
    assert "writes nothing without label_map_file" in caplog.text and "visualize shows nothing" in caplog.text
    assert not (folder / "none").exists()


@pytest.mark.parametrize(
    "fields, error, message",
    [
        ('output_format: "XML"', ConfigError, 'no output_format "XML"'),
        ('output_format: "VOC" num_test_image: 9', ConfigError, "num_test_image is 9"),
        ('output_format: "VOC"', DataError, "the label map has no class 3"),
    ],
)
def test_refusals(folder, fields, error, message):
    with pytest.raises(error, match=re.escape(message)):
        ResultFiles(param(folder, fields), [1, 2, 3])


def test_a_class_cannot_lead_elsewhere(folder):
    (folder / "map.prototxt").write_text('item { name: "../../cat" label: 1 }')
    with pytest.raises(DataError, match="no name of a file"):
        ResultFiles(param(folder, 'output_format: "VOC"'), [1])
