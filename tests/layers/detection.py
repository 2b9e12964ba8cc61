"""What the tests of detection layers share: their gradient cases, pictures with priors and objects.

Gradients: as in test_gradients.py, which adds these to its own.
"""

from __future__ import annotations

import numpy as np

PRIORS, CLASSES = 12, 3

# Rows of regions: image, x1, y1, x2, y2 in pixels of a picture four times as large as the map.
REGIONS = np.array(
    [[0, 1, 2, 17, 22], [1, 0, 0, 9, 9], [1, 5, 3, 21, 23], [0, 12, 8, 13, 9], [0, -9, 4, 40, 7], [1, 30, 30, 44, 44]],
    np.float32,
)
FEATURES = (2, 3, 6, 6)


def random_boxes(random: np.random.Generator, count: int, least: float = 0.1, most: float = 0.5) -> np.ndarray:
    """Boxes (K, 4) in a picture, some of which reach beyond it."""
    centres, sides = random.uniform(0, 1, (count, 2)), random.uniform(least, most, (count, 2))
    return np.concatenate([centres - sides / 2, centres + sides / 2], axis=1).astype(np.float32)


def priors(random: np.random.Generator, count: int = PRIORS) -> np.ndarray:
    """A PriorBox's top (1, 2, 4 P)."""
    variances = np.tile(np.array([0.1, 0.1, 0.2, 0.2], np.float32), count)
    return np.stack([random_boxes(random, count).reshape(-1), variances])[None]


def objects(random: np.random.Generator, images: int, classes: int = CLASSES, most: int = 4) -> np.ndarray:
    """AnnotatedData's second top (1, 1, G, 8); the first image has no object."""
    rows = []
    for image in range(1, images):
        for box in random_boxes(random, int(random.integers(1, most + 1)), 0.2, 0.6).clip(0, 1):
            rows.append([image, random.integers(1, classes), len(rows), *box, random.integers(2)])
    return np.array(rows or [[-1] * 8], np.float32)[None, None]


def _multibox(fields: str, located: int = 1):
    shapes = [(2, 4 * PRIORS * located), ("spaced", (2, PRIORS * CLASSES)), ("priors", (1, 2, 4 * PRIORS))]
    return (
        f"multibox_loss_param {{ num_classes: {CLASSES} overlap_threshold: 0.3 {fields} }}",
        [[*shapes, ("objects", (1, 1, 4, 8))]],
    )


_PAIR = [(4, 6), (4, 6)]
_WEIGHTS = [("selector", (4, 6)), ("target", (4, 6))]
_ROIS = ("regions", REGIONS.shape)

CASES = {
    "MultiBoxLoss": [
        _multibox(""),
        _multibox("code_type: CENTER_SIZE loc_weight: 2 neg_pos_ratio: 2"),
        _multibox("code_type: CORNER_SIZE conf_loss_type: LOGISTIC loc_loss_type: L2"),
        _multibox("mining_type: NONE bp_inside: true"),
        _multibox("mining_type: NONE conf_loss_type: LOGISTIC share_location: false", CLASSES),
        _multibox("encode_variance_in_target: true code_type: CENTER_SIZE"),
        _multibox("mining_type: HARD_EXAMPLE sample_size: 5"),
    ],
    "Normalize": [
        ("", [[(2, 3, 4, 5)]]),
        ("norm_param { channel_shared: false }", [[(2, 3, 2, 2)]]),
        ("norm_param { across_spatial: false channel_shared: false eps: 0.1 }", [[(2, 3, 4, 5)]]),
    ],
    "PSROIPooling": [
        ("psroi_pooling_param { spatial_scale: 0.25 output_dim: 2 group_size: 2 }", [[(2, 8, 6, 6), _ROIS]]),
    ],
    "Permute": [
        ("permute_param { order: 0 order: 2 order: 3 order: 1 }", [[(2, 3, 4, 5)]]),
        ("permute_param { order: 2 }", [[(2, 3, 4, 5)], [(4, 3, 2)]]),
    ],
    "ROIAlign": [
        ("roi_align_param { pooled_h: 2 pooled_w: 3 spatial_scale: 0.25 }", [[FEATURES, _ROIS]]),
        ("roi_align_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.25 sampling_ratio: 2 }", [[FEATURES, _ROIS]]),
    ],
    "ROIPooling": [
        ("roi_pooling_param { pooled_h: 2 pooled_w: 3 spatial_scale: 0.25 }", [[("spaced", FEATURES), _ROIS]]),
    ],
    "Reorg": [
        ("", [[(1, 4, 4, 6)]]),
        ("reorg_param { stride: 2 reverse: true }", [[(2, 8, 2, 3)]]),
        ("reorg_param { stride: 3 order: CAFFE_PORT }", [[(1, 9, 3, 6)]]),
        ("reorg_param { stride: 2 order: CAFFE_PORT reverse: true }", [[(1, 8, 2, 3)]]),
        ("reorg_param { reorg_stride: 2 order: SPACE_TO_DEPTH }", [[(2, 3, 4, 2)]]),
        ("reorg_param { stride: 2 order: SPACE_TO_DEPTH reverse: true }", [[(2, 8, 2, 3)]]),
    ],
    "SmoothL1Loss": [
        ("", [_PAIR, [(2, 3, 2, 2)] * 2]),
        ("smooth_l1_loss_param { sigma: 2 }", [[*_PAIR, *_WEIGHTS]]),
        ("loss_param { normalization: PRE_FIXED pre_fixed_normalizer: 7 }", [[*_PAIR, _WEIGHTS[0]]]),
    ],
    "SmoothL1LossOHEM": [("", [_PAIR, [(2, 3, 2, 2)] * 2]), ("loss_param { normalization: NONE }", [_PAIR])],
    "SoftmaxWithLossOHEM": [("loss_param { ignore_label: 1 }", [[(4, 3), ("index 3", (4,))]])],
}  # fmt: skip

WITHOUT_GRADIENT = {
    "AnnotatedData", "BoxAnnotatorOHEM", "DetectionEvaluate", "DetectionOutput", "PriorBox", "Proposal",
}  # fmt: skip

VALUES = {
    "regions": lambda random, shape: REGIONS,
    "priors": lambda random, shape: priors(random, shape[2] // 4),
    "objects": lambda random, shape: objects(random, 2),
}
"""Kinds of bottoms without gradient."""
