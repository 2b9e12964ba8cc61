"""MultiBoxLoss against SSD's loops, prior by prior, in double precision."""

from __future__ import annotations

import re

import numpy as np
import pytest

from caffepy.data.pictures.boxes import area, iou
from caffepy.errors import ConfigError, DataError, ShapeError
from caffepy.layers.boxes import decode, encode
from caffepy.layers.nms import nms
from caffepy.proto.caffe_pb2 import MultiBoxLossParameter
from tests.layers.detection import objects, priors
from tests.layers.test_boxes import slow_match
from tests.support import ENGINES, Built, assert_close

N, P, C = 3, 24, 4


def build(fields: str, engine: str = "numpy", located: int = 1, things=None, rest: str = "") -> Built:
    random = np.random.default_rng(7)
    loc, conf = random.standard_normal((N, 4 * P * located)), 2 * random.standard_normal((N, P * C))
    things = objects(random, N, C) if things is None else things
    text = f'type: "MultiBoxLoss" multibox_loss_param {{ num_classes: {C} {fields} }} {rest}'
    return Built(text, loc, conf, priors(random, P), things, engine=engine)


class Slow:
    """The same loss, one prior after the other."""

    def __init__(self, built: Built):
        self.p: MultiBoxLossParameter = built.layer.param.multibox_loss_param
        loc, conf, prior, things = (built.host(blob.data).astype(float) for blob in built.bottom)
        self.located = loc.shape[1] // (4 * P)
        self.loc, self.conf = loc.reshape(N, P, self.located, 4), conf.reshape(N, P, C)
        self.priors, self.variances = prior.reshape(2, P, 4)
        self.things = [[row for row in things[0, 0] if row[0] == n] for n in range(N)]
        self.loss, self.matched = 0.0, 0
        for n in range(N):
            self.image(n)

    def image(self, n: int) -> None:
        p = self.p
        things = [row for row in self.things[n] if p.use_difficult_gt or not row[7]]
        matches = self.matches(n, things)
        labels = [0] * P
        for _, index, _ in matches:
            for k in range(P):
                if index[k] > -1:
                    labels[k] = int(things[index[k]][1])
        conf_losses = [self.conf_loss(self.conf[n, k], labels[k]) for k in range(P)]
        negatives = set(range(P))
        if p.mining_type != MultiBoxLossParameter.NONE:
            negatives = self.mined(n, things, matches, conf_losses) if things else set()
        counted = set(negatives)
        for c, index, _ in matches:
            for k in range(P):
                if index[k] > -1:
                    counted.add(k)
                    self.matched += 1
                    self.loss += p.loc_weight * self.loc_loss(n, c, k, things[index[k]])
        self.loss += sum(conf_losses[k] for k in counted)

    def matches(self, n, things):
        """(class, index, overlap) for each class that has locations of its own."""
        p, out = self.p, []
        for c in range(self.located):
            if self.located > 1 and c == p.background_label_id:
                continue
            boxes, own = self.priors, list(range(len(things)))
            if not p.use_prior_for_matching:
                boxes = decode(p.code_type, self.loc[n, :, c], self.priors, self.variances)
                own = [g for g in own if self.located == 1 or things[g][1] == c]
            targets = np.array([things[g][3:7] for g in own]).reshape(-1, 4)
            overlaps = iou(boxes, targets)
            outside = [bool(p.ignore_cross_boundary_bbox and things and (min(b) < 0 or max(b) > 1)) for b in boxes]
            overlaps[outside] = 0
            per = p.match_type == MultiBoxLossParameter.PER_PREDICTION
            index, overlap = slow_match(overlaps, p.overlap_threshold if per else None)
            index = [own[i] if i > -1 else -1 for i in index]
            if p.use_prior_for_matching and self.located > 1:
                index = [i if i > -1 and things[i][1] == c else -1 for i in index]
            index = [-2 if o else i for o, i in zip(outside, index)]
            out.append((c, index, overlap))
        return out

    def mined(self, n, things, matches, conf_losses):
        p = self.p
        ((c, index, overlap),) = matches
        losses = np.array(conf_losses)
        hard = p.mining_type == MultiBoxLossParameter.HARD_EXAMPLE
        if hard:
            losses += [self.loc_loss(n, c, k, things[index[k]]) if index[k] > -1 else 0 for k in range(P)]
        among = [k for k in range(P) if hard or (index[k] == -1 and overlap[k] < p.neg_overlap)]
        count = p.sample_size if hard else int(sum(i > -1 for i in index) * p.neg_pos_ratio)
        order = sorted(among, key=lambda k: -losses[k])
        if p.HasField("nms_param"):
            boxes = self.priors if p.use_prior_for_nms else decode(p.code_type, self.loc[n, :, 0], *self.both)
            order = [k for k in order if area(boxes[k]) >= 1e-5]
            order = [order[i] for i in nms(boxes[order], p.nms_param.nms_threshold)]
        chosen = set(order[: min(count, len(among))])
        negatives = {k for k in chosen if index[k] == -1}
        if hard:
            index[:] = [-1 if i > -1 and k not in chosen else i for k, i in enumerate(index)]
        return negatives

    @property
    def both(self):
        return self.priors, self.variances

    def conf_loss(self, x, label):
        p = self.p
        if p.conf_loss_type == MultiBoxLossParameter.SOFTMAX:
            return np.log(np.exp(x).sum()) - x[label]
        target = np.arange(C) == label
        if p.mining_type == MultiBoxLossParameter.NONE and label == 0:
            target[:] = False
        return np.sum(np.log1p(np.exp(x)) - x * target)

    def loc_loss(self, n, c, k, thing):
        p, v = self.p, self.variances[k]
        predicted = self.loc[n, k, c]
        target = encode(p.code_type, thing[3:7], self.priors[k], v)
        d = (predicted / v if p.encode_variance_in_target else predicted) - target
        if p.bp_inside:
            compared = self.priors[k] if p.use_prior_for_matching else decode(p.code_type, predicted, self.priors[k], v)
            d = d * ((compared >= 0) & (compared <= 1))
        if p.loc_loss_type == MultiBoxLossParameter.L2:
            return 0.5 * np.sum(d * d)
        return np.sum(np.where(abs(d) < 1, 0.5 * d * d, abs(d) - 0.5))


SHARED = [
    "",
    "code_type: CENTER_SIZE loc_weight: 0.5",
    "code_type: CORNER_SIZE match_type: BIPARTITE",
    "overlap_threshold: 0.2 neg_pos_ratio: 1 neg_overlap: 0.3",
    "overlap_threshold: 0.2 use_difficult_gt: false loc_loss_type: L2",
    "overlap_threshold: 0.2 conf_loss_type: LOGISTIC",
    "overlap_threshold: 0.2 mining_type: NONE conf_loss_type: LOGISTIC",
    "overlap_threshold: 0.2 mining_type: NONE encode_variance_in_target: true",
    "overlap_threshold: 0.2 mining_type: HARD_EXAMPLE sample_size: 6",
    "overlap_threshold: 0.2 mining_type: HARD_EXAMPLE sample_size: 6 nms_param { nms_threshold: 0.2 }",
    "overlap_threshold: 0.2 nms_param { nms_threshold: 0.3 } use_prior_for_nms: true",
    "overlap_threshold: 0.1 use_prior_for_matching: false",
    "overlap_threshold: 0.1 ignore_cross_boundary_bbox: true bp_inside: true",
    "overlap_threshold: 0.1 use_prior_for_matching: false bp_inside: true code_type: CORNER",
]
EACH = [
    "mining_type: NONE overlap_threshold: 0.2",
    "mining_type: NONE overlap_threshold: 0.1 use_prior_for_matching: false conf_loss_type: LOGISTIC",
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "fields, located", [(f, 1) for f in SHARED] + [(f"share_location: false {f}", C) for f in EACH]
)
def test_against_loops(fields, located, engine):
    built = build(fields, engine, located)
    slow = Slow(built)
    assert slow.matched
    assert_close(built.forward()[0], slow.loss / slow.matched)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "loss_param, divisor",
    [
        ("normalization: VALID", None),
        ("normalization: FULL", N * P),
        ("normalization: BATCH_SIZE", N),
        ("normalization: NONE", 1),
        ("normalize: false", N),
        ("normalization: PRE_FIXED pre_fixed_normalizer: 16", 16),
    ],
)
def test_normalization(loss_param, divisor, engine):
    built = build("", engine, rest=f"loss_param {{ {loss_param} }}")
    slow = Slow(built)
    assert_close(built.forward()[0], slow.loss / (divisor or slow.matched))


@pytest.mark.parametrize("engine", ENGINES)
def test_propagate_down_leaves_a_loss_out(engine):
    both = build("loc_weight: 3", engine).forward()[0]
    parts = []
    for first, second in (("true", "false"), ("false", "true")):
        rest = f"propagate_down: {first} propagate_down: {second} propagate_down: false propagate_down: false"
        parts.append(build("loc_weight: 3", engine, rest=rest).forward()[0])
    assert all(0 < part < both for part in parts)
    assert_close(sum(parts), both)


@pytest.mark.parametrize("engine", ENGINES)
def test_no_objects_no_loss(engine):
    built = build("", engine, things=-np.ones((1, 1, 1, 8)))
    assert built.forward()[0] == 0
    assert all(not gradient.any() for gradient in built.backward(1.0))


@pytest.mark.parametrize("engine", ENGINES)
def test_without_mining_a_batch_without_objects_is_background(engine):
    built = build("mining_type: NONE", engine, things=-np.ones((1, 1, 1, 8)))
    slow = Slow(built)
    assert_close(built.forward()[0], slow.loss)


@pytest.mark.parametrize("engine", ENGINES)
def test_priors_and_objects_get_no_gradient(engine):
    built = build("", engine)
    built.forward()
    for blob in built.bottom:
        blob.diff[...] = 5
    gradients = built.backward(1.0)
    assert gradients[0].any() and gradients[1].any() and not gradients[2].any() and not gradients[3].any()


def test_agnostic_classes():
    random = np.random.default_rng(2)
    things = objects(random, 2, 9)
    bottoms = [random.standard_normal((2, 4 * P)), random.standard_normal((2, P * 2)), priors(random, P)]
    text = 'type: "MultiBoxLoss" multibox_loss_param { num_classes: 2 map_object_to_agnostic: true }'
    agnostic = Built(text, *bottoms, things).forward()[0]
    things[..., 1] = 1
    assert agnostic == Built(text.replace("true", "false"), *bottoms, things).forward()[0]


REFUSED = [
    ("background_label_id: 7", "background_label_id 7 is none of 4 classes"),
    ("do_neg_mining: false", "do_neg_mining contradicts mining_type"),
    ("share_location: false", "mining needs share_location: true"),
    ("map_object_to_agnostic: true", "map_object_to_agnostic needs num_classes: 2, got 4"),
    ("mining_type: HARD_EXAMPLE sample_size: 0", "sample_size must be at least 1"),
]


@pytest.mark.parametrize("fields, message", REFUSED)
def test_refused_definitions(fields, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        build(fields)


def test_refused_shapes_and_objects():
    with pytest.raises(ShapeError, match=re.escape("must be (1, 1, G, 8), they are (1, 1, 2, 7)")):
        build("", things=np.zeros((1, 1, 2, 7)))
    for row, message in (
        ([0, 0, 0, 0.1, 0.1, 0.4, 0.4, 0], "an object of bottom 3 has the class 0; there are 0 .. 3, and 0 is the"),
        ([0, 9, 0, 0.1, 0.1, 0.4, 0.4, 0], "has the class 9"),
        ([0, 1, 0, 0.4, 0.1, 0.4, 0.4, 0], "has no area"),
    ):
        with pytest.raises(DataError, match=re.escape(message)):
            build("code_type: CENTER_SIZE", things=np.array(row).reshape(1, 1, 1, 8)).forward()
