"""The small layers of detection nets: Permute, Normalize, Reorg, SmoothL1Loss, hard example mining of regions."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.errors import ConfigError, ShapeError
from caffepy.layers.box_annotator_ohem import hardest
from tests.support import ENGINES, Built, assert_close

RANDOM = np.random.default_rng(11)
A, B, W = (RANDOM.standard_normal((4, 6)).astype("f4") for _ in range(3))
IMAGE = RANDOM.standard_normal((2, 8, 4, 6)).astype("f4")
engines = pytest.mark.parametrize("engine", ENGINES)


@engines
@pytest.mark.parametrize("order", [(0, 2, 3, 1), (3, 2, 1, 0), (1,), ()])
def test_permute(order, engine):
    full = (*order, *(i for i in range(4) if i not in order))
    fields = " ".join(f"order: {i}" for i in order)
    built = Built(f'type: "Permute" permute_param {{ {fields} }}', IMAGE, engine=engine)
    assert_close(built.forward()[0], IMAGE.transpose(full), 0)
    assert_close(built.backward(IMAGE.transpose(full))[0], IMAGE, 0)
    assert built.layer.divisible() == (full[0] == 0)


@engines
def test_normalize_channels(engine):
    built = Built('type: "Normalize" norm_param { across_spatial: false }', IMAGE, engine=engine)
    assert_close(built.forward()[0], IMAGE / np.linalg.norm(IMAGE, axis=1, keepdims=True))
    zero = Built('type: "Normalize" norm_param { across_spatial: false }', 0 * IMAGE, engine=engine)
    assert not zero.forward()[0].any()  # eps is inside the root


@engines
@pytest.mark.parametrize("order", ["DARKNET", "CAFFE_PORT", "SPACE_TO_DEPTH"])
@pytest.mark.parametrize("reverse", ["true", "false"])
def test_reorg_moves_every_value_once(reverse, order, engine):
    built = Built(f'type: "Reorg" reorg_param {{ order: {order} reverse: {reverse} }}', IMAGE, engine=engine)
    (ours,) = built.forward()
    assert ours.shape == ((2, 2, 8, 12) if reverse == "true" else (2, 32, 2, 3))
    assert np.array_equal(np.sort(ours[0], axis=None), np.sort(IMAGE[0], axis=None))
    assert_close(built.backward(ours)[0], IMAGE, 0)


def test_space_to_depth_and_back():
    there = Built('type: "Reorg" reorg_param { order: SPACE_TO_DEPTH }', IMAGE).forward()[0]
    assert np.array_equal(there[:, 8:16], IMAGE[:, :, ::2, 1::2])
    back = Built('type: "Reorg" reorg_param { order: SPACE_TO_DEPTH reverse: true }', there).forward()[0]
    assert np.array_equal(back, IMAGE)


def test_caffe_ports_undo_what_darknet_does():
    there = Built('type: "Reorg"', IMAGE).forward()[0].reshape(IMAGE.shape)
    back = Built('type: "Reorg" reorg_param { order: CAFFE_PORT }', there).forward()[0]
    assert np.array_equal(back.reshape(IMAGE.shape), IMAGE)


def smooth_l1(d, sigma=1.0):
    d = np.abs(d.astype(float))
    return np.where(d < 1 / sigma**2, 0.5 * (sigma * d) ** 2, d - 0.5 / sigma**2)


@engines
@pytest.mark.parametrize(
    "kind, loss_param, divisor",
    [
        ("SmoothL1Loss", "", 2),
        ("SmoothL1Loss", "loss_param { normalization: VALID }", 2 * 24),
        ("SmoothL1Loss", "loss_param { normalize: false }", 2),
        ("SmoothL1LossOHEM", "", 2 * 24),
        ("SmoothL1LossOHEM", "loss_param { normalization: FULL }", 2 * 24),
        ("SmoothL1LossOHEM", "loss_param { normalization: BATCH_SIZE }", 2),
        ("SmoothL1LossOHEM", "loss_param { normalization: NONE }", 1),
        ("SmoothL1LossOHEM", "loss_param { normalization: PRE_FIXED pre_fixed_normalizer: 128 }", 128),
        ("SmoothL1LossOHEM", "loss_param { normalization: PRE_FIXED pre_fixed_normalizer: 0.5 }", 1),
    ],
)
def test_what_smooth_l1_is_divided_by(kind, loss_param, divisor, engine):
    target = np.zeros_like(IMAGE)
    built = Built(f'type: "{kind}" {loss_param}', IMAGE, target, engine=engine)
    assert_close(built.forward()[0], smooth_l1(IMAGE).sum() / divisor)


@engines
def test_smooth_l1_of_each_instance(engine):
    weights = (RANDOM.random((2, 8, 4, 6)) < 0.5).astype("f4")
    built = Built('type: "SmoothL1LossOHEM"', IMAGE, 0 * IMAGE, weights, engine=engine, tops=2)
    total, each = built.forward()
    assert each.shape == (2, 1, 4, 6)
    assert_close(each[:, 0], smooth_l1(weights * IMAGE).sum(axis=1))
    assert_close(total, each.sum() / 48)
    flat = Built('type: "SmoothL1Loss"', A, B, engine=engine, tops=2).forward()
    assert flat[1].shape == (4, 1, 1, 1)


@engines
def test_softmax_with_loss_of_each_instance(engine):
    labels = np.array([1, 5, -1, 0])
    text = 'type: "SoftmaxWithLossOHEM" loss_param { ignore_label: -1 }'
    built = Built(text, A, labels, engine=engine, tops=3)
    total, p, each = built.forward()
    exact = np.exp(A.astype(float)) / np.exp(A.astype(float)).sum(axis=1, keepdims=True)
    assert_close(p, exact)
    expected = -np.log(exact[np.arange(4), labels]) * (labels >= 0)
    assert_close(each, expected)
    assert_close(total, expected.sum() / 3)
    one = Built(text, A, labels, engine=engine)
    one.forward()
    assert_close(built.backward(1.0, 9 * p, each, propagate_down=[True, False])[0],
                 one.backward(1.0, propagate_down=[True, False])[0], 0)  # fmt: skip


@engines
@pytest.mark.parametrize("fixed, divisor", [(128, 128), (0.5, 1)])
def test_a_fixed_normalizer_of_softmax(fixed, divisor, engine):
    loss_param = f"loss_param {{ normalization: PRE_FIXED pre_fixed_normalizer: {fixed} }}"
    built = Built(f'type: "SoftmaxWithLossOHEM" {loss_param}', A, np.array([1, 5, 2, 0]), engine=engine, tops=3)
    total, _, each = built.forward()
    assert_close(total, each.sum() / divisor)
    (dx,) = built.backward(propagate_down=[True, False])[:1]
    assert_close(np.abs(dx).sum(), 2 * (1 - np.exp(-each)).sum() / divisor)


def test_hardest_of_each_image():
    images, losses = np.array([0, 1, 0, 1, 0, 2]), np.array([0.5, 0.1, 0.7, 0.2, 0.5, 0])
    assert hardest(images, losses, 2).tolist() == [True, True, True, True, False, True]
    assert hardest(images, losses, 1).tolist() == [False, False, True, True, False, True]


@engines
@pytest.mark.parametrize("tail", [(), (1, 1)])
def test_box_annotator(tail, engine):
    regions = np.zeros((5, 5))
    regions[:, 0] = [0, 0, 1, 0, 1]
    losses, labels = np.array([3, 1, 2, 2, 0]), np.array([4, 0, 7, 2, 1])
    weights = np.arange(1, 41).reshape(5, 8)
    bottoms = [np.reshape(x, (5, -1, *tail) if x is regions or x is weights else (5, *[1] * bool(tail), *tail))
               for x in (regions, losses, labels, weights)]  # fmt: skip
    text = 'type: "BoxAnnotatorOHEM" box_annotator_ohem_param { roi_per_img: 1 ignore_label: -1 }'
    built = Built(text, *bottoms, engine=engine, tops=2)
    ours, chosen = built.forward()
    assert ours.shape == (5, 1, 1, 1)
    assert ours.reshape(-1).tolist() == [4, -1, 7, -1, -1]
    kept = np.array([1, 0, 1, 0, 0])[:, None]
    assert np.array_equal(chosen.reshape(5, 8), weights * kept)
    assert all(not gradient.any() for gradient in built.backward(ours, chosen))


REFUSED = [
    ("Permute", "permute_param { order: 0 order: 4 }", [(2, 3, 4, 5)], ConfigError, "order [0, 4] must name axes of"),
    ("Permute", "permute_param { order: 1 order: 1 }", [(2, 3, 4, 5)], ConfigError, "0 to 3, each once"),
    ("Normalize", "", [(2, 3)], ShapeError, "needs a bottom (N, C, H, W), bottom 0 is (2, 3)"),
    ("Reorg", "", [(2, 3)], ShapeError, "needs a bottom (N, C, H, W)"),
    ("Reorg", "", [(1, 6, 4, 4)], ShapeError, "has 6 channels, no multiple of 2^2"),
    ("Reorg", "", [(1, 4, 4, 5)], ShapeError, "is 4 x 5, no multiple of the stride 2"),
    ("Reorg", "reorg_param { stride: 0 }", [(1, 4, 4, 4)], ConfigError, "be at least 1, got 0"),
    ("Reorg", "reorg_param { stride: 2 reorg_stride: 3 }", [(1, 4, 4, 4)], ConfigError, "given once"),
    ("SmoothL1Loss", "smooth_l1_loss_param { sigma: 0 }", [(2, 3)] * 2, ConfigError, "sigma must be positive, got 0"),
    ("SmoothL1Loss", "", [(2, 3), (2, 4)], ShapeError, "bottom 0 (2, 3) and bottom 1 (2, 4) must have one shape"),
    ("SmoothL1LossOHEM", "", [(2, 3)] * 4, ConfigError, "takes 2 to 3 bottom blob(s), 4 given"),
]


@pytest.mark.parametrize("kind, fields, shapes, error, message", REFUSED)
def test_refusals(kind, fields, shapes, error, message):
    with pytest.raises(error, match=re.escape(message)):
        Built(f'type: "{kind}" {fields}', *(np.zeros(shape) for shape in shapes))


def test_refused_regions():
    bottoms = [np.zeros((5, 4)), np.zeros(5), np.zeros(5), np.zeros((5, 8))]
    with pytest.raises(ConfigError, match="roi_per_img is not set"):
        Built('type: "BoxAnnotatorOHEM"', *bottoms, tops=2)
    text = 'type: "BoxAnnotatorOHEM" box_annotator_ohem_param { roi_per_img: 1 }'
    with pytest.raises(ShapeError, match=re.escape("must be (R, 5), they are (5, 4)")):
        Built(text, *bottoms, tops=2)
    with pytest.raises(ShapeError, match=re.escape("bottom 2 (4,) does not fit 5 regions")):
        Built(text, np.zeros((5, 5)), np.zeros(5), np.zeros(4), np.zeros((5, 8)), tops=2)
