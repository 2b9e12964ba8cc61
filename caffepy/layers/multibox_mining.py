"""Which priors count in MultiBoxLoss: those with the largest losses. On the host."""

from __future__ import annotations

import numpy as np

from caffepy.data.pictures.boxes import Array, area
from caffepy.layers.boxes import decode
from caffepy.layers.multibox_matching import NONE, Matches, decoding
from caffepy.layers.nms import best, nms
from caffepy.proto.caffe_pb2 import MultiBoxLossParameter

SMALLEST = 1e-5
"""Boxes of a smaller area are no examples where overlapping ones are kept apart."""


def boxes_apart(p: MultiBoxLossParameter, loc: Array, priors: Array, variances: Array) -> Array | None:
    """The boxes (N or 1, P, 4) of which `nms_param` takes but one where several overlap; None without it."""
    if not p.HasField("nms_param") or p.nms_param.nms_threshold <= 0:
        return None
    return priors[None] if p.use_prior_for_nms else decode(p.code_type, loc[:, :, 0], priors, decoding(p, variances))


def mine_negatives(p: MultiBoxLossParameter, matches: Matches, losses: Array, boxes: Array | None) -> Array:
    """Which priors without object (N, P) count: at most `neg_pos_ratio` for each that has one.

    Those with the largest losses (N, P) among all that overlap objects by less than `neg_overlap`; so none in images
    without objects.
    """
    negative = np.zeros(losses.shape, bool)
    for i, (index, overlap) in enumerate(zip(matches.found[:, 0], matches.overlap[:, 0])):
        among = np.flatnonzero((index == NONE) & (overlap < p.neg_overlap))
        count = min(int(np.sum(index > NONE) * p.neg_pos_ratio), len(among))
        negative[i, _largest(p, i, losses, boxes, among, count)] = True
    return negative


def mine_hard_examples(
    p: MultiBoxLossParameter, matches: Matches, losses: Array, boxes: Array | None, images: Array
) -> tuple[Matches, Array]:
    """Of the matches, and of priors without object (N, P), those with the `sample_size` largest losses of their image.

    Only of `images`, those with objects.
    """
    chosen = np.zeros(losses.shape, bool)
    every = np.arange(losses.shape[1])
    for i in np.unique(images[images < len(losses)]):
        chosen[i, _largest(p, i, losses, boxes, every, p.sample_size)] = True
    index = matches.found[:, 0]
    kept = np.where((index > NONE) & ~chosen, NONE, index)
    return matches._replace(found=kept[:, None]), chosen & (index == NONE)


def _largest(
    p: MultiBoxLossParameter, image: int, losses: Array, boxes: Array | None, among: Array, count: int
) -> Array:
    """The `count` largest losses among some of an image's, or of those that non-maximum suppression leaves."""
    if boxes is None:
        return among[best(losses[image, among], count)]
    limit = p.nms_param.top_k if p.nms_param.HasField("top_k") else -1
    order = among[best(losses[image, among], limit)]
    own = boxes[image % len(boxes), order]
    order, own = order[area(own) >= SMALLEST], own[area(own) >= SMALLEST]
    return order[nms(own, p.nms_param.nms_threshold)][:count]
