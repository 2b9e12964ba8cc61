"""Configurations that cannot be right are refused when the layer is set up, in words that say what and where."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import CaffeError, ConfigError, DataError, ShapeError
from tests.support import ENGINES, Built

IMAGE, MATRIX, LABELS = (2, 6, 5, 5), (4, 6), (4,)

SET_UP = [
    ("Concat", "concat_param { axis: 1 concat_dim: 1 }", [MATRIX, MATRIX], ConfigError, "both axis and its old name"),
    ("Concat", "", [(2, 3), (3, 3)], ShapeError, "must agree on all axes but 1"),
    ("Concat", "concat_param { axis: 2 }", [MATRIX], ConfigError, "axis 2 is out of range for a bottom with 2 axes"),
    ("Slice", "slice_param { slice_point: 2 slice_point: 4 }", [MATRIX], ConfigError, "make 3 parts, but there are 1"),
    ("Slice", 'top: "a" top: "b" slice_param { slice_point: 6 }', [MATRIX], ConfigError, "must increase strictly"),
    ("Slice", 'top: "a" top: "b" top: "c" top: "d"', [MATRIX], ShapeError, "does not divide evenly into 4 tops"),
    ("Reshape", "reshape_param { shape { dim: -1 dim: -1 } }", [MATRIX], ConfigError, "one -1 (infer), got [-1, -1]"),
    ("Reshape", "reshape_param { shape { dim: 5 dim: -1 } }", [MATRIX], ShapeError, "24 values, no multiple of 5"),
    ("Reshape", "reshape_param { shape { dim: 5 } }", [MATRIX], ShapeError, "the new shape (5,) has 5"),
    ("Reshape", "reshape_param { axis: 4 }", [MATRIX], ConfigError, "axis 4 is out of range"),
    ("Flatten", "flatten_param { axis: 3 end_axis: 1 }", [IMAGE], ConfigError, "end_axis 1 lies before axis 3"),
    ("Crop", "crop_param { offset: 1 offset: 2 offset: 3 }", [IMAGE, (2, 6, 3, 3)], ConfigError, "3 offsets for 2"),
    ("Crop", "crop_param { offset: 3 }", [IMAGE, (2, 6, 3, 3)], ShapeError, "offset 3 + size 3"),
    ("Tile", "", [MATRIX], ConfigError, "tile_param.tiles is not set"),
    ("Tile", "tile_param { tiles: 0 }", [MATRIX], ConfigError, "must be at least 1, got 0"),
    ("ArgMax", "argmax_param { top_k: 7 }", [MATRIX], ConfigError, "top_k must lie in 1 .. 6"),
    ("Reduction", "reduction_param { axis: 3 }", [MATRIX], ConfigError, "axis 3 is out of range"),
    ("Eltwise", "", [MATRIX], ConfigError, "takes at least 2 bottom blob(s), 1 given"),
    ("Eltwise", "", [MATRIX, (4, 5)], ShapeError, "is (4, 6) and"),
    ("Eltwise", "eltwise_param { coeff: 1 }", [MATRIX, MATRIX], ConfigError, "1 coeff for 2 bottoms"),
    (
        "Eltwise",
        "eltwise_param { operation: PROD coeff: 1 coeff: 1 }",
        [MATRIX] * 2,
        ConfigError,
        "PROD takes no coeff",
    ),
    ("Exp", "exp_param { base: 0 }", [MATRIX], ConfigError, "must be positive, or -1 for e; got 0"),
    ("Log", "log_param { base: 1 }", [MATRIX], ConfigError, "must be positive and not 1"),
    ("PReLU", "", [(4,)], ShapeError, "needs at least two axes"),
    ("BatchNorm", "", [(4,)], ShapeError, "needs at least two axes (N, C)"),
    ("BatchNorm", "param { lr_mult: 1 }", [IMAGE], ConfigError, "not trained, but lr_mult is 1"),
    ("Scale", "scale_param { axis: 1 num_axes: 4 }", [IMAGE], ConfigError, "reaches beyond the 4 axes"),
    ("Scale", "", [IMAGE, (5,)], ShapeError, "the factor (5,) does not fit"),
    ("Bias", "bias_param { num_axes: -2 }", [IMAGE], ConfigError, "num_axes must be -1"),
    ("LRN", "lrn_param { local_size: 4 }", [IMAGE], ConfigError, "must be odd, got 4"),
    ("LRN", "", [MATRIX], ShapeError, "needs a bottom (N, C, H, W)"),
    ("MVN", "", [(1, 2, 3, 4, 5)], ShapeError, "takes up to four axes"),
    ("SPP", "", [IMAGE], ConfigError, "pyramid_height must be at least 1"),
    ("SPP", "spp_param { pyramid_height: 3 }", [IMAGE], ConfigError, "must be smaller than the kernel"),
    ("Embed", "embed_param { num_output: 3 }", [(4,)], ConfigError, "must be at least 1, got 3 and 0"),
    ("BatchReindex", "", [IMAGE, (2, 1)], ShapeError, "must have one axis"),
    ("Filter", "", [IMAGE, (3,)], ShapeError, "differ in their items"),
    ("Filter", "", [IMAGE, (2, 2)], ShapeError, "must be (N) or (N, 1, ...)"),
    (
        "DummyData",
        "dummy_data_param { shape { dim: 1 } shape { dim: 2 } }",
        [],
        ConfigError,
        "is given 2 time(s) for 1",
    ),
    ("DummyData", "dummy_data_param { shape { dim: 1 } num: 1 }", [], ConfigError, "both shape and the old"),
    ("EuclideanLoss", "", [MATRIX, (4, 5)], ShapeError, "differ in size"),
    ("EuclideanLoss", "", [MATRIX, (3, 6)], ShapeError, "same number of items"),
    ("HingeLoss", "", [MATRIX, (4, 2)], ShapeError, "one for each of the 4 items"),
    ("ContrastiveLoss", "", [MATRIX, (4, 5), LABELS], ShapeError, "must both be (N, C)"),
    ("ContrastiveLoss", "", [MATRIX, MATRIX, (4, 2)], ShapeError, "one value a pair, 4"),
    ("InfogainLoss", "", [MATRIX, LABELS], ConfigError, "the infogain matrix is missing"),
    ("InfogainLoss", "", [MATRIX, LABELS, (5, 5)], ShapeError, "must have 6 x 6 values, it has 25"),
    ("InfogainLoss", "loss_param { normalize: true }", [MATRIX, LABELS, (6, 6)], ConfigError, "old normalize"),
    ("InfogainLoss", 'infogain_loss_param { source: "nope" }', [MATRIX, LABELS], DataError, "cannot read the file"),
    ("MultinomialLogisticLoss", "", [MATRIX, (4, 3)], ShapeError, "one for each of the 4 items"),
    ("SigmoidCrossEntropyLoss", "", [MATRIX, (4, 7)], ShapeError, "must have the same count"),
    ("SoftmaxWithLoss", "", [MATRIX, (4, 6)], ShapeError, "needs one label for each of 4 positions"),
    ("SoftmaxWithLoss", "loss_weight: 1 loss_weight: 2", [MATRIX, LABELS], ConfigError, "2 loss_weight(s) given for 1"),
    ("SoftmaxWithLoss", "softmax_param { axis: -3 }", [MATRIX, LABELS], ConfigError, "axis -3 is out of range"),
    ("Silence", 'top: "y"', [MATRIX], ConfigError, "takes 0 top blob(s), 1 given"),
]


@pytest.mark.parametrize("kind, fields, shapes, error, message", SET_UP, ids=lambda v: v if isinstance(v, str) else "")
def test_set_up(kind, fields, shapes, error, message):
    bottoms = [np.zeros(shape, "f4") for shape in shapes]
    with pytest.raises(error, match=re.escape(message)):
        Built(f'type: "{kind}" {fields}', *bottoms, tops=0 if kind == "Silence" else 1)


@pytest.mark.parametrize("kind", ["AbsVal", "Flatten", "Reshape", "Split"])
def test_in_place_is_refused(kind):
    built = Built('type: "ReLU"', np.zeros((2, 3), "f4"))
    from caffepy.net.layer import create
    from caffepy.proto.caffe_pb2 import LayerParameter

    with pytest.raises(ConfigError, match="cannot run in place"):
        create(LayerParameter(type=kind)).set_up(built.bottom, built.bottom)


RUN_TIME = [
    ("SoftmaxWithLoss", "", [(3, 4)], [0, 4, 1], "label 4 at position (1,) of", "0 .. 3"),
    ("Accuracy", "", [(3, 4)], [0, 1, -1], "label -1 at position (2,) of", "0 .. 3"),
    ("HingeLoss", "", [(3, 4)], [9, 0, 0], "label 9 at position (0,) of", "0 .. 3"),
    ("MultinomialLogisticLoss", "", [(3, 4)], [0, 0, 7], "label 7 at position (2,) of", "0 .. 3"),
    ("Embed", "embed_param { num_output: 2 input_dim: 5 }", [], [0, 5], "index 5 at position (1,) of", "0 .. 4"),
    ("BatchReindex", "", [(3, 4)], [0, 3], "index 3 at position 1 of", "0 .. 2"),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind, fields, shapes, given, message, allowed", RUN_TIME, ids=lambda v: str(v)[:20])
def test_labels_and_indices_out_of_range(kind, fields, shapes, given, message, allowed, engine):
    built = Built(f'type: "{kind}" {fields}', *(np.ones(s, "f4") for s in shapes), np.array(given), engine=engine)
    with pytest.raises(CaffeError) as caught:
        built.forward()
    assert message in str(caught.value) and allowed in str(caught.value)


def test_an_ignored_label_may_be_out_of_range():
    built = Built('type: "SoftmaxWithLoss" loss_param { ignore_label: 255 }', np.zeros((2, 4), "f4"), [255, 1])
    assert built.forward()[0] == pytest.approx(np.log(4))
