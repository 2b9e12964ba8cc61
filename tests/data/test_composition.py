"""Datasets composed: what each composition gives, that it resumes anywhere, and that nets and fit take it."""

from __future__ import annotations

import itertools
import threading
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import caffepy
from caffepy import data
from caffepy.data.composition import stacked
from caffepy.data.order import Cursor
from caffepy.errors import CaffeError, ConfigError, DataError, ShapeError
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import NetParameter, SolverParameter
from caffepy.solver.solver import Solver
from tests.data.databases import database

NUMBERS = data.dataset(list(range(10)))


def epochs(records, count=3):
    return [[records.at(epoch, i) for i in range(len(records))] for epoch in range(count)]


def test_what_each_gives():
    assert list(NUMBERS.concat([20, 30])) == [*range(10), 20, 30] == list(data.concat(NUMBERS, [20], [30]))
    assert list(NUMBERS.subset([3, 1, 3])) == [3, 1, 3] and list(NUMBERS[2:8:3]) == [2, 5]
    assert list(NUMBERS.map(lambda x: x * 2).filter(lambda x: x % 3 == 0)) == [0, 6, 12, 18]
    assert list(NUMBERS.zip(NUMBERS.map(str)))[4] == (4, "4")
    assert [b.tolist() for b in NUMBERS.batch(4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert len(NUMBERS.batch(4, partial=False)) == 2 and NUMBERS[-1] == 9
    a, b = NUMBERS.split(0.7, 0.3)
    assert sorted([*a, *b]) == list(range(10)) and len(a) == 7 and list(a) != list(range(7))
    assert [list(part) for part in NUMBERS.split(0.2, 0.8, seed=None)] == [[0, 1], list(range(2, 10))]


def test_shuffled_anew_in_every_epoch():
    found = epochs(NUMBERS.shuffle(3))
    assert all(sorted(epoch) == list(range(10)) for epoch in found) and found[0] != found[1]
    assert found == epochs(NUMBERS.shuffle(3)) != epochs(NUMBERS.shuffle(4))


def test_resampled_to_equal_classes():
    records = data.dataset([(i, int(i >= 8)) for i in range(10)])
    for epoch in epochs(records.resample()):
        assert Counter(label for _, label in epoch) == {0: 5, 1: 5}
    by_letter = data.dataset(["aa", "ab", "ba"]).resample(label=lambda word: word[0])
    assert all({word[0] for word in epoch} == {"a", "b"} for epoch in epochs(by_letter))


def test_random_maps_are_the_records_own():
    noisy = NUMBERS.map(lambda x, random: x + random.random(), seed=1)
    found = epochs(noisy)
    assert found[0] != found[1] and found == epochs(noisy)
    assert sorted(itertools.chain(*epochs(noisy.shuffle(2)))) == sorted(itertools.chain(*found))


def test_a_cache_asks_once():
    asked = []
    cached = NUMBERS.map(lambda x: asked.append(x) or x).cache()
    assert epochs(cached, 2) == [list(range(10))] * 2 and asked == list(range(10))


def test_parallel_keeps_the_order_and_uses_threads():
    barrier = threading.Barrier(4)

    def meet(x):
        barrier.wait(5)  # only threads at the same time pass it
        return x

    assert list(data.dataset(list(range(4))).map(meet).parallel(4)) == [0, 1, 2, 3]
    assert next(iter(NUMBERS.parallel(3).map(str).batch(4))).tolist() == ["0", "1", "2", "3"]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 60))
def test_a_position_is_where_it_goes_on(stop):
    make = NUMBERS.map(lambda x, random: (x, int(random.integers(100))), seed=5).shuffle(1).concat([(1, 2), (3, 4)])
    make = make.resample(lambda r: r[0] % 3, 2).parallel(2).batch(3)
    whole = [batch[0].tolist() for batch in make.records(epochs=16)]
    reading = make.records(epochs=16)
    for _ in range(stop):
        next(reading)
    again = make.records(Cursor(*tuple(reading.position)), epochs=16)
    assert [batch[0].tolist() for batch in again] == whole[stop:]


def test_stacked_records():
    assert stacked([{"x": 1, "y": (1, [2, 3])}, {"x": 2, "y": (3, [4, 5])}])["y"][1].tolist() == [[2, 3], [4, 5]]
    with pytest.raises(ShapeError, match=r"record 1 of the batch has shape \(2,\), the first one \(3,\)"):
        stacked([np.zeros(3), np.zeros(2)])


def test_databases_and_folders(tmp_path):
    pictures = [np.full((3, 4, 5), i, np.uint8) for i in range(4)]
    path = database(tmp_path / "db", pictures)
    picture, label = data.database(path)[2]
    np.testing.assert_array_equal(picture, pictures[2])
    assert isinstance(label, int)


NET = """
layer { name: "in" type: "Input" top: "data" top: "label"
  input_param { shape { dim: 5 dim: 1 dim: 2 dim: 2 } shape { dim: 5 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 2
  weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
READ = 'layer { name: "d" type: "Data" top: "data" data_param { reader: "dataset" source: "%s" %s }'
X = np.random.default_rng(0).normal(size=(23, 1, 2, 2)).astype("f4")
Y = (X.sum((1, 2, 3)) > 0).astype("f4")


def net():
    caffepy.set_random_seed(1)
    return caffepy.Net(text.parse(NET, NetParameter()), caffepy.TRAIN)


def test_fit_evaluate_and_predict_take_datasets():
    options = {"epochs": 3, "batch_size": 4, "validation_split": 0.2, "progress": False}
    caffepy.set_random_seed(2)
    expected, found = net().fit(X, Y, **options), None
    caffepy.set_random_seed(2)
    trained = net()
    found = trained.fit(data.arrays(X, Y).parallel(2), **options)
    assert found.history == expected.history
    by_name = data.arrays(X, Y).map(lambda r: {"label": r[1], "data": r[0]})
    assert trained.evaluate(by_name, batch_size=7) == trained.evaluate(X, Y, batch_size=7)
    caffepy_predicted = trained.predict(data.dataset(list(X)), output="ip")
    np.testing.assert_array_equal(caffepy_predicted, trained.predict(X, output="ip"))


def test_fit_sees_every_epochs_own_records():
    seen = []
    noisy = data.arrays(X, Y).map(lambda r, random: (seen.append(random.random()) or r[0], r[1]), seed=3)
    net().fit(noisy, epochs=2, batch_size=23, progress=False)
    assert len(set(seen)) >= 46


def test_a_data_layer_reads_a_dataset_and_resumes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pictures = data.dataset([(np.full((1, 2, 2), i, np.uint8), i % 2) for i in range(7)])
    noisy = pictures.shuffle(3).map(lambda r, random: (r[0] + np.float32(random.random()), r[1]), seed=4)
    data.offer("noisy", noisy)
    layer = READ % ("noisy", 'batch_size: 3 } top: "label"')
    solver = f"""net_param {{ {layer} {NET[NET.index('layer { name: "ip"') :]} }}
      base_lr: 0.01 lr_policy: "fixed" max_iter: 9 snapshot: 4 snapshot_prefix: "s" random_seed: 1"""

    def run(resume=None):
        built = Solver(text.parse(solver, SolverParameter()), file="s.prototxt")
        seen = []
        if resume:
            built.restore(resume)
        while built.iter < 9:
            built.step(1)
            seen.append(built.net.engine_blobs["data"].host().ravel().tolist())
        built.snapshot() if not resume else None
        return seen

    straight = run()
    expected = [noisy.at(*divmod(k, 7)) for k in range(27)]
    np.testing.assert_allclose(np.ravel(straight), np.ravel([picture for picture, _ in expected]))
    assert run("s_iter_4.solverstate") == straight[4:]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: data.dataset(3), "a dataset is a sequence of records, got int"),
        (lambda: NUMBERS.split(0.8, 0.4), "split takes shares that add up to 1 at most, such as 0.8, 0.2"),
        (lambda: NUMBERS.subset([10]), "record 10 of 10 is in the subset"),
        (lambda: NUMBERS.zip([1]), "datasets of 10, 1 records cannot be zipped"),
        (lambda: NUMBERS.batch(0), "size must be a whole number, at least 1, got 0"),
        (lambda: data.arrays(X, Y[:3]), r"arrays of one length are needed, got \[23, 3\]"),
        (lambda: net().fit(data.arrays(X, Y, Y)), "the records have 3 parts, the net's inputs are data, label"),
        (lambda: net().fit(data.dataset([])), "the dataset is empty"),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(CaffeError, match=message):
        make()


def test_a_dataset_that_was_not_offered():
    data.offer("known", NUMBERS)
    with pytest.raises(DataError, match='no dataset is called "knwon"\n  Did you mean "known"'):
        caffepy.Net(text.parse(READ % ("knwon", "batch_size: 3 }"), NetParameter()), caffepy.TRAIN)
    with pytest.raises(ConfigError, match="a dataset has an order of its own"):
        caffepy.Net(text.parse(READ % ("known", "batch_size: 3 shuffle: true }"), NetParameter()), caffepy.TRAIN)


def test_fit_makes_batches_ahead_on_a_thread():
    threads = set()

    def told(record):
        threads.add(threading.current_thread())
        return record

    net().fit(data.arrays(X, Y).map(told), epochs=2, batch_size=5, progress=False)
    assert threading.main_thread() in threads and len(threads) > 1  # the first record tells the parts
    assert not [t for t in threading.enumerate() if t in threads and t is not threading.main_thread()]
