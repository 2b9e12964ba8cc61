"""Drafts have the shapes of the nets that they stand for, and cost nothing."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from caffepy import rng
from caffepy.net.net import Net
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import TEST, TRAIN, NetState
from caffepy.show.draft import Sources, StandIn, draft
from tests.support import GOLDEN

MODELS = Path(__file__).parents[3] / "models"


def drafted(path, phase=TEST, **options):
    return draft(text.read_net(path), NetState(phase=phase), Sources(**options))


FILLERS = (
    'type: "gaussian" std: 1 sparse: 3',
    'type: "xavier"',
    'type: "msra"',
    'type: "positive_unitball"',
    'type: "uniform"',
)


@pytest.mark.parametrize("filler", FILLERS)
def test_fillers_are_looked_at_and_not_run(filler):
    net = text.caffe_pb2.NetParameter()
    text.parse(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 5 } } } layer { name: "f" '
        'type: "InnerProduct" bottom: "x" top: "f" '
        f"inner_product_param {{ num_output: 3 weight_filler {{ {filler} }} }} }}",
        net,
    )
    assert draft(text.definition(net), NetState(phase=TRAIN), Sources()).is_whole


@pytest.mark.parametrize("name", ["lenet/lenet.prototxt", "cifar10_quick/cifar10_quick.prototxt"])
def test_a_draft_has_the_shapes_of_the_net(name):
    built, net = drafted(MODELS / name), Net(MODELS / name, TEST)
    assert built.is_whole
    assert {name: blob.shape for name, blob in built.blobs.items()} == {
        name: blob.shape for name, blob in net.engine_blobs.items()
    }
    assert [b.shape for node in built.nodes for b in node.layer.blobs] == [b.shape for x in net.layers for b in x.blobs]


def test_a_draft_takes_no_memory_and_no_random_numbers():
    before = rng.generator.bit_generator.state
    tracemalloc.start()
    built = drafted(MODELS / "bvlc_alexnet/deploy.prototxt")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert built.is_whole and peak < 30e6  # its parameters alone are 244 MB
    after = rng.generator.bit_generator.state
    assert str(before) == str(after)


def test_layers_whose_data_are_here_are_built_of_them():
    path = GOLDEN / "db" / "mnist_lmdb"
    if not path.exists():
        pytest.skip("no database among the golden files")
    net = text.caffe_pb2.NetParameter()
    text.parse(
        f'layer {{ name: "d" type: "Data" top: "x" data_param {{ source: "{path}" batch_size: 3 backend: LMDB }} }}',
        net,
    )
    sources = Sources()
    built = draft(text.definition(net), NetState(phase=TRAIN), sources)
    assert not isinstance(built.nodes[0].layer, StandIn) and not sources.absent
    assert built.blobs["x"].shape[0] == 3


def test_batch_changes_all_that_has_as_many_items():
    built = drafted(MODELS / "bvlc_alexnet/train_val.prototxt", TRAIN, batch=7)
    assert built.blobs["data"].shape == (7, 3, 227, 227) and built.blobs["label"].shape == (7,)
    assert drafted(MODELS / "lenet/lenet.prototxt", batch=2).blobs["prob"].shape == (2, 10)


SOURCES = {
    "ImageData": ('image_data_param { source: "no" batch_size: 2 new_height: 9 new_width: 8 }', [(2, 3, 9, 8), (2,)]),
    "ImageData gray": ('image_data_param { source: "no" batch_size: 2 new_height: 9 new_width: 8 is_color: false } '
                       "transform_param { crop_size: 7 }", [(2, 1, 7, 7), (2,)]),
    "ImageSegData": ('image_data_param { source: "no" batch_size: 2 } transform_param { crop_size: 7 }',
                     [(2, 3, 7, 7), (2, 1, 7, 7)]),
    "DenseImageData": ('dense_image_data_param { source: "no" batch_size: 2 }',
                       [(2, 3, 224, 224), (2, 1, 224, 224)]),
    "WindowData": ('window_data_param { source: "no" batch_size: 2 } transform_param { crop_size: 7 }',
                   [(2, 3, 7, 7), (2,)]),
    "AnnotatedData": ('data_param { source: "no" batch_size: 2 } transform_param { resize_param { height: 30 width: 40 '
                      "} }", [(2, 3, 30, 40), (1, 1, 1, 8)]),
    "HDF5Data": ('hdf5_data_param { source: "no" batch_size: 2 }', [(2, 3, 224, 224), (2,)]),
    "TableData": ('table_data_param { source: "no" batch_size: 2 negatives: 3 }', [(8,), (8,)]),
    "TableData of groups": ('table_data_param { source: "no" batch_size: 2 group_by: "a" }', [(2,), (2, 1)]),
    "TextData": ('text_data_param { source: "no" batch_size: 2 time_steps: 7 columns: "data" columns: "lengths" }',
                 [(7, 2), (2,)]),
    "TextData of sentences": ('text_data_param { source: "no" batch_size: 2 time_steps: 7 labels: SENTENCE '
                              'columns: "data" columns: "label" }', [(7, 2), (2,)]),
}  # fmt: skip


@pytest.mark.parametrize("name", SOURCES)
def test_shapes_of_sources_that_are_absent(name):
    fields, shapes = SOURCES[name]
    net = text.caffe_pb2.NetParameter()
    text.parse(f'layer {{ name: "d" type: "{name.split()[0]}" top: "a" top: "label" {fields} }}', net)
    built = draft(text.definition(net), NetState(phase=TRAIN), Sources())
    assert not built.problems
    assert [built.blobs[top].shape for top in ("a", "label")] == shapes
