"""A model with a fold held out: all kinds of sources, nets of all shapes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from caffepy import passes
from caffepy.errors import CaffeError
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import NetParameter, SearchParameter, SolverParameter
from caffepy.search.folds import Folds, held_out
from caffepy.search.model import Model
from caffepy.solver import Solver
from tests.layers import test_fold_param as sources

REST = """
layer { name: "flat" type: "Flatten" bottom: "x" top: "flat" }
layer { name: "ip" type: "InnerProduct" bottom: "flat" top: "ip" inner_product_param { num_output: 1 } }
layer { name: "loss" type: "Reduction" bottom: "ip" top: "loss" loss_weight: 1 }
"""
SOLVER = 'base_lr: 0.1 lr_policy: "fixed" max_iter: 2 test_iter: 7 test_interval: 2 random_seed: 1 solver_mode: CPU '


def model(layer: str, both: bool = False, solver: str = SOLVER) -> Model:
    """Trained on the source of the layer, tested on another that does not exist; with `both` there is one layer."""
    layer = layer.replace("SHUFFLE", "")
    net = f'layer {{ name: "data" {layer} include {{ phase: TRAIN }} }}'
    other = re.sub(r'source: "[^"]*"', 'source: "nowhere"', layer).replace("batch_size: 3", "batch_size: 2")
    net += f'layer {{ name: "data" {other} include {{ phase: TEST }} }}'
    if both:
        net = f'layer {{ name: "data" {layer} }}'
    Path("net.prototxt").write_text(net + REST)
    return Model.of(text.parse(f'net: "net.prototxt" {solver}', SolverParameter()))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def solver_of(made: Model, folder: Path) -> Solver:
    return Solver(text.read_solver(made.write(folder)), file="solver.prototxt")


def seen(net, batches: int) -> list[float]:
    found = []
    for _ in range(batches):
        passes.of(net).forward()
        found += [float(item.flat[0]) for item in net.engine_blobs["x"].host()]
    return found


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("source", [sources.lmdb, sources.images, sources.hdf5])
def test_every_record_is_held_out_once(source, both, folder):
    whole = model(source(folder), both)
    Folds(3, seed=5, stratify="" if source is sources.lmdb else "label").make(whole, folder / "folds.npy")
    held: list[float] = []
    for fold in range(3):
        made = held_out(whole, fold, folder / "folds.npy")
        (folder / str(fold)).mkdir()
        built = solver_of(made, folder / str(fold))
        tested = seen(built.test_nets[0], made.solver.test_iter[0])
        trained = set(seen(built.net, 12))
        assert len(tested) == len(set(tested)) and not set(tested) & trained
        assert set(tested) | trained == set(range(sources.COUNT))
        held += tested
    assert sorted(held) == list(range(sources.COUNT))
    assert not whole.nets["net.prototxt"].layer[0].HasField("fold_param")


def test_the_net_of_the_test_may_be_a_file_of_its_own(folder):
    made = model(sources.hdf5(folder))
    Path("test.prototxt").write_text(Path("net.prototxt").read_text())
    p = text.parse(f'train_net: "net.prototxt" test_net: "test.prototxt" {SOLVER}', SolverParameter())
    whole = Model.of(p)
    Folds(2).make(whole, folder / "folds.npy")
    made = held_out(whole, 1, folder / "folds.npy")
    assert list(made.solver.test_iter) == [3]  # 5 records of 11, in batches of 2
    (folder / "fold").mkdir()
    built = solver_of(made, folder / "fold")
    built.solve()
    assert set(built.scores) == {"loss"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("test_iter: 7", ""), "there is no test net: set test_iter"),
        (("", ""), "the test net has no data layer like one of the training net's"),
    ],
)
def test_what_cannot_be_tested(change, message, folder):
    whole = model(sources.hdf5(folder), solver=SOLVER.replace(*change) if change[0] else SOLVER)
    if not change[0]:
        test = whole.nets["net.prototxt"].layer[1]
        test.type = "Input"
        test.input_param.shape.add(dim=[2, 1])
    Folds(2).make(whole, folder / "folds.npy")
    with pytest.raises(CaffeError, match=message):
        held_out(whole, 0, folder / "folds.npy")


def test_sources_of_different_lengths(folder):
    whole = model(sources.hdf5(folder))
    more = NetParameter()
    more.CopyFrom(whole.nets["net.prototxt"])
    other = more.layer.add()
    sources.lmdb(folder)
    text.parse(f'name: "more" type: "Data" top: "z" data_param {{ source: "{folder}/db" batch_size: 1 }}', other)
    sources.database(folder / "db2", [np.zeros((1, 1, 1), np.uint8)] * 3)
    other.data_param.source = str(folder / "db2")
    whole.nets["net.prototxt"] = more
    with pytest.raises(CaffeError, match='the data layers have different numbers of records: "data" 11, "more" 3'):
        Folds(2).make(whole, folder / "folds.npy")


def test_the_page_on_searches_shows_a_search():
    page = (Path(__file__).parents[2] / "docs/search.md").read_text()
    start = page.index('    solver: "solver.prototxt"')
    found = text.parse(page[start : page.index("\n\n", start)], SearchParameter())
    assert found.trials == 40 and len(found.param) == 3 and found.name == "digits"
