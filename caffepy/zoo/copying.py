"""A net of the zoo made one's own: copied, with classes, data, batch size and learning rate as one wants them."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from caffepy.errors import ConfigError
from caffepy.files import read_text
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import TEST, LayerParameter, SolverParameter
from caffepy.temporary import temporary_folder
from caffepy.zoo import edits, heads, own_data, schedule
from caffepy.zoo.catalogue import ZooEntry, zoo_folder
from caffepy.zoo.edits import Block
from caffepy.zoo.own_data import OwnData
from caffepy.zoo.schedule import Schedule

COPIED = (".prototxt", ".py", ".md")
BGR_MEANS = "mean_value: 104 mean_value: 117 mean_value: 123"
"""Of ImageNet, where one's own data has no mean picture."""


@dataclass(frozen=True)
class Wishes:
    """What is to be other than in the zoo; empty and 0 leave it."""

    data: str = ""
    classes: int = 0
    batch_size: int = 0
    base_lr: float = 0
    finetune: str = ""


def copy(entry: ZooEntry, folder: str, wishes: Wishes) -> None:
    """Copy a net to the new folder `folder`. Raises ConfigError for wishes that the net cannot meet."""
    target = Path(folder)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ConfigError("there is such a file or folder already", where=folder, hint="Choose another name.")
    if not target.absolute().parent.is_dir():
        raise ConfigError(f"there is no folder {target.parent} to write into", where=folder, hint="Make it first.")
    files = written(entry, target.as_posix(), wishes)
    with temporary_folder(target) as temporary:
        for name, content in files.items():
            (temporary / name).write_text(content, encoding="utf-8")
        if target.exists():
            target.rmdir()
        os.rename(temporary, target)


def written(entry: ZooEntry, folder: str, wishes: Wishes) -> dict[str, str]:
    """The files of the copy, by name."""
    if not entry.classes and (wishes.classes or wishes.finetune):
        option = "--classes" if wishes.classes else "--finetune"
        raise ConfigError(f"{entry.name} has no last layer with an output a class", hint=f"Leave out {option}.")
    source = zoo_folder() / entry.folder
    files = {path.name: read_text(path) for path in source.iterdir() if path.suffix in COPIED}
    files = {name: _moved(content, entry, folder) for name, content in files.items()}
    data = own_data.look(wishes.data, _kind(files[entry.net], entry)) if wishes.data else None
    if data:  # other recipes are for the data that they name
        others = [name for name in files if name.endswith("solver.prototxt") and name != entry.solver]
        files = {name: content for name, content in files.items() if name not in others}
    if not (wishes.classes or data is None):
        wishes = replace(wishes, classes=data.classes if entry.classes else 0)
    published = _published(files[entry.net], entry, text.parse(files[entry.solver], SolverParameter()))
    if data:
        own = schedule.fitted(published, data.records, data.test_records, wishes.batch_size)
    else:
        own = replace(published, batch=wishes.batch_size or published.batch)
    nets = [name for name in files if name.endswith(".prototxt") and "solver" not in name]
    files |= {name: _net(files[name], own, data) for name in nets}
    if data and data.shape and entry.deploy:
        files[entry.deploy] = _deploy(files[entry.deploy], files[entry.net], data)
    if wishes.finetune:
        files |= heads.frozen(entry, {name: files[name] for name in nets}, Path(folder).name, wishes.finetune)
    if wishes.classes:
        files |= {name: heads.with_classes(entry, files[name], wishes.classes) for name in nets}
    files[entry.solver] = _solver(files[entry.solver], published, own, data, wishes)
    return files


def _moved(content: str, entry: ZooEntry, folder: str) -> str:
    """With paths, and modules of Python layers, of the new folder; an absolute one has to be on the Python path."""
    module = "" if Path(folder).is_absolute() else folder.strip("./").replace("/", ".") + "."
    return content.replace(f"models/{entry.folder}/", f"{folder}/").replace(f"models.{entry.folder}.", module)


def _kind(net: str, entry: ZooEntry) -> str:
    types = [block.layer.type for block in edits.blocks(net)[1]]
    kinds = [own_data.KINDS[kind] for kind in types if kind in own_data.KINDS]
    if "TextData" in types:
        hint = "Leave out --data; then caffepy convert-text FILES FOLDER/text writes what the copy in FOLDER reads."
        raise ConfigError(f"{entry.name} reads a text of its own vocabulary", hint=hint)
    if not kinds:
        raise ConfigError(f"{entry.name} makes its own data", hint="Leave out --data.")
    return kinds[0]


def _is_test(layer: LayerParameter) -> bool:
    return any(rule.phase == TEST and rule.HasField("phase") for rule in layer.include)


def _batch(layer: LayerParameter) -> int:
    """Records a batch of a layer that reads data."""
    found = [value.batch_size for field, value in layer.ListFields() if hasattr(value, "batch_size")]
    return next((size for size in found if size), 0)


def _published(net: str, entry: ZooEntry, solver: SolverParameter) -> Schedule:
    """What the solver was made for."""
    readers = [b.layer for b in edits.blocks(net)[1] if _batch(b.layer)]
    train = next((_batch(layer) for layer in readers if not _is_test(layer)), 1)
    test = next((_batch(layer) for layer in readers if _is_test(layer)), 1)
    return Schedule(entry.records, train, 0, test, solver.iter_size)


def _net(definition: str, own: Schedule, data: OwnData | None) -> str:
    """Sources and batch sizes of a net's data layers."""

    def change(block: Block) -> str:
        part, layer = block
        if data:
            part = _with_sources(part, layer, data)
        if _batch(layer):
            part = edits.put(part, "batch_size", str(own.test_batch if _is_test(layer) else own.batch))
        return part

    return edits.edit(definition, change)


def _with_sources(part: str, layer: LayerParameter, data: OwnData) -> str:
    if layer.type not in own_data.KINDS:
        if layer.HasField("ratings_param"):
            return edits.put(part, "source", edits.quoted(data.train))
        return part
    part = edits.put(part, "source", edits.quoted(data.test if _is_test(layer) else data.train))
    part = edits.without_fields(part, "backend")  # the folder tells it
    crop = layer.transform_param.crop_size
    if data.shape and min(data.shape[1:]) < crop:
        raise ConfigError(
            f"the pictures are {data.shape[2]} x {data.shape[1]}, and the net takes {crop} x {crop} of them",
            where=data.train,
            hint="Convert them again, larger.",
        )
    if layer.transform_param.HasField("mean_file"):
        means = BGR_MEANS if data.shape[:1] == (3,) else "mean_value: 128"
        part = edits.replace(part, "mean_file", f"mean_file: {edits.quoted(data.mean)}" if data.mean else means)
    return part


def _deploy(definition: str, net: str, data: OwnData) -> str:
    """The input is as the data: with their channels and, unless the net cuts them, of their size."""
    reader = next(b.layer for b in edits.blocks(net)[1] if b.layer.type in own_data.KINDS)
    crop, resized = reader.transform_param.crop_size, reader.transform_param.HasField("resize_param")
    channels, *size = data.shape

    def change(block: Block) -> str:
        part, layer = block
        if layer.type != "Input" or len(layer.input_param.shape[0].dim) != 4:
            return part
        old = [str(dim) for dim in layer.input_param.shape[0].dim]
        new = iter([old[0], str(channels), *(old[2:] if crop or resized else map(str, size))])
        return edits.values(part, "dim", lambda value: next(new), count=4)

    return edits.edit(definition, change)


def _solver(solver: str, published: Schedule, own: Schedule, data: OwnData | None, wishes: Wishes) -> str:
    param = text.parse(solver, SolverParameter())
    fields: dict[str, str] = {}
    if data and published.records:
        solver = edits.without_comments(solver)
        fields = schedule.fields(param, published, own, bool(wishes.finetune))
        factor = schedule.stretch(published, own, bool(wishes.finetune))
        solver = edits.values(solver, "stepvalue", lambda value: str(max(1, round(int(value) * factor))))
        solver = f"# An epoch, {own.records} records, is {own.epoch} iterations.\n{solver}"
    if wishes.base_lr:
        fields["base_lr"] = f"{wishes.base_lr:g}"
    if wishes.finetune:
        fields["weights"] = edits.quoted(wishes.finetune)
    return edits.lines_put(solver, fields)
