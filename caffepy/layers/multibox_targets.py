"""What priors should predict, for MultiBoxLoss: the classes and boxes of their objects. On the host."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from caffepy.data.pictures.boxes import Array
from caffepy.layers.boxes import decode, encode
from caffepy.layers.multibox_matching import NONE, Matches, Objects, decoding
from caffepy.proto.caffe_pb2 import MultiBoxLossParameter


def labels_of(p: MultiBoxLossParameter, objects: Objects, matches: Matches) -> Array:
    """The class (N, P) of each prior's object, or the background; of several objects that of the largest class."""
    known = np.append(objects.labels, p.background_label_id)  # at -1
    if p.map_object_to_agnostic:
        known[:-1] = p.background_label_id + 1
    n, _, count = matches.found.shape
    label = np.full((n, count), p.background_label_id)
    for index in matches.found.transpose(1, 0, 2):
        label = np.where(index > NONE, known[np.maximum(index, NONE)], label)
    return label


class Located(NamedTuple):
    """Rows of the offsets (N P L, 4) that objects belong to, factor * prediction - target for them, and that factor."""

    rows: Array
    difference: Array
    factor: Array


def locate(
    p: MultiBoxLossParameter, objects: Objects, matches: Matches, loc: Array, priors: Array, variances: Array
) -> Located:
    """Compare the offsets loc (N, P, L, 4) of matched priors with those of their objects.

    The factor is 1 / variance with `encode_variance_in_target`, and 0 for coordinates outside of the picture with
    `bp_inside`.
    """
    image, label, prior = np.nonzero(matches.found > NONE)
    rows = (image * loc.shape[1] + prior) * loc.shape[2] + label
    predicted, prior_boxes, of_prior = loc.reshape(-1, 4)[rows], priors[prior], variances[prior]
    boxes = objects.boxes[matches.found[image, label, prior]]
    target = encode(p.code_type, boxes, prior_boxes, of_prior)
    factor = 1 / of_prior if p.encode_variance_in_target else np.ones_like(predicted)
    difference = predicted * factor - target
    if p.bp_inside:
        compared = prior_boxes
        if not p.use_prior_for_matching:
            compared = decode(p.code_type, predicted, prior_boxes, decoding(p, of_prior))
        inside = (compared >= 0) & (compared <= 1)
        difference, factor = difference * inside, factor * inside
    return Located(rows, difference, factor)
