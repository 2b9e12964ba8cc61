"""The files that DetectionOutput writes its results to, for the evaluation programs of VOC, COCO and ILSVRC."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from caffepy.data.pictures.boxes import Array
from caffepy.data.pictures.resizing import in_pixels
from caffepy.data.sources.picture_sizes import read_sizes
from caffepy.errors import ConfigError, DataError
from caffepy.files import atomic_write
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import LabelMap, SaveOutputParameter

log = logging.getLogger(__name__)


class Detection(NamedTuple):
    """An object that was found: xmin, ymin, width, height in pixels of the original picture, to two decimals."""

    picture: str
    label: int
    score: float
    box: tuple[float, float, float, float]

    @property
    def corners(self) -> str:
        """xmin ymin xmax ymax, whole pixels, rounded down as SSD does."""
        x, y, width, height = (int(value) for value in self.box)
        return f"{x} {y} {x + width} {y + height}"


class ResultFiles:
    """Collects the detections of `num_test_image` pictures, in the order of `name_size_file`, then writes the files.

    VOC: a file a class, `picture score xmin ymin xmax ymax`. ILSVRC: one file with the class behind the picture. COCO:
    one JSON list. Then it starts again. Raises ConfigError and DataError for what it cannot read or write.
    """

    def __init__(self, p: SaveOutputParameter, labels: Sequence[int]):
        if p.output_format not in FORMATS:
            raise ConfigError(f'no output_format "{p.output_format}"', hint=f"Known: {', '.join(FORMATS)}.")
        self.p = p
        self.sizes = read_sizes(p.name_size_file)
        self.count = p.num_test_image or len(self.sizes)
        if self.count > len(self.sizes):
            raise ConfigError(f"num_test_image is {self.count}, {p.name_size_file} names {len(self.sizes)} pictures")
        self.names = read_label_map(p.label_map_file, labels)
        self.folder = Path(p.output_directory)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"cannot make the folder: {error.strerror}", where=str(self.folder)) from None
        self.seen = 0
        self.found: list[Detection] = []

    def add(self, rows: Array) -> None:
        """The detections (D, 7) of the next picture."""
        size = self.sizes[self.seen]
        resizing = self.p.resize_param if self.p.HasField("resize_param") else None
        boxes = in_pixels(rows[:, 3:], resizing, size.height, size.width)
        boxes[:, 2:] -= boxes[:, :2]
        for row, box in zip(rows.tolist(), boxes.tolist()):
            x, y, width, height = (round(value, 2) for value in box)
            self.found.append(Detection(size.name, int(row[1]), row[2], (x, y, width, height)))
        self.seen += 1
        if self.seen == self.count:
            for name, content in FORMATS[self.p.output_format](self.found, self.names):
                self._write(f"{self.p.output_name_prefix}{name}", content)
            self.seen, self.found = 0, []

    def _write(self, name: str, content: str) -> None:
        try:
            with atomic_write(self.folder / name) as temporary:
                Path(temporary).write_text(content, encoding="utf-8")
        except OSError as error:
            raise DataError(f"cannot write the results: {error.strerror}", where=str(self.folder / name)) from None


def result_files(p: SaveOutputParameter, labels: Sequence[int]) -> ResultFiles | None:
    """What writes the results, or None where no folder is named; as in SSD also where the files with names are not."""
    if p.output_directory and not (p.label_map_file and p.name_size_file):
        log.warning("save_output_param writes nothing without label_map_file and name_size_file")
    return ResultFiles(p, labels) if p.output_directory and p.label_map_file and p.name_size_file else None


def read_label_map(path: str, labels: Sequence[int]) -> dict[int, str]:
    """Names of the classes by label. Raises DataError for labels without one, and for a name that is no file's."""
    names = {item.label: item.name for item in text.read(path, LabelMap()).item}
    for label in labels:
        if label not in names:
            raise DataError(f"the label map has no class {label}", where=path)
        if Path(names[label]).name != names[label]:
            raise DataError(f'the class {label} is called "{names[label]}", which is no name of a file', where=path)
    return {label: names[label] for label in labels}


Files = Iterable[tuple[str, str]]
"""Names without the prefix, and contents."""


def _voc(found: list[Detection], names: dict[int, str]) -> Files:
    for label, name in names.items():
        lines = [f"{d.picture} {d.score:g} {d.corners}\n" for d in found if d.label == label]
        yield f"{name}.txt", "".join(lines)


def _ilsvrc(found: list[Detection], names: dict[int, str]) -> Files:
    yield ".txt", "".join(f"{d.picture} {d.label} {d.score:g} {d.corners}\n" for d in found)


def _coco(found: list[Detection], names: dict[int, str]) -> Files:
    rows = [
        {"image_id": _number(d.picture), "category_id": _number(names[d.label]), "bbox": list(d.box), "score": d.score}
        for d in found
    ]
    yield ".json", json.dumps(rows, indent=1) + "\n"


def _number(name: str) -> Any:
    """COCO's pictures and classes have numbers for names."""
    return int(name) if name.isdecimal() else name


FORMATS: dict[str, Callable[[list[Detection], dict[int, str]], Files]] = {"VOC": _voc, "COCO": _coco, "ILSVRC": _ilsvrc}
