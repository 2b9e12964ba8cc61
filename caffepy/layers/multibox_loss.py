"""MultiBoxLoss: SSD's loss of boxes and classes."""

from __future__ import annotations

from math import prod

import numpy as np

from caffepy.errors import ConfigError, DataError, ShapeError
from caffepy.layers import labels
from caffepy.layers.detection_output import check_predictions
from caffepy.layers.multibox_matching import NONE, Matches, Objects, find_matches
from caffepy.layers.multibox_mining import boxes_apart, mine_hard_examples, mine_negatives
from caffepy.layers.multibox_targets import labels_of, locate
from caffepy.layers.smooth_l1_loss import smooth_l1, smooth_l1_grad
from caffepy.layers.softmax import softmax
from caffepy.layers.softmax_loss import FLOAT_MIN
from caffepy.net.blob import Array, Blob
from caffepy.net.layer import LossLayer, register
from caffepy.proto.caffe_pb2 import LossParameter, MultiBoxLossParameter, PriorBoxParameter


def softmax_losses(xp, x: Array, label: Array, target: Array) -> Array:
    """-log softmax(x)[label] of each row (R, 1)."""
    e = xp.exp(x - xp.max(x, axis=1, keepdims=True))
    p = xp.take_along_axis(e, label, axis=1) / xp.sum(e, axis=1, keepdims=True)
    return -xp.log(xp.clip(p, FLOAT_MIN, None))


def logistic_losses(xp, x: Array, label: Array, target: Array) -> Array:
    """The cross entropies of the sigmoids of a row, summed: those of `label` have a target of 1 (or `target`)."""
    losses = xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))
    return xp.sum(losses, axis=1, keepdims=True) - target * xp.take_along_axis(x, label, axis=1)


def softmax_grad(xp, x: Array, hot: Array) -> Array:
    return softmax(xp, x, 1) - hot


def logistic_grad(xp, x: Array, hot: Array) -> Array:
    return 1 / (1 + xp.exp(-x)) - hot


def l2(xp, d: Array) -> Array:
    return 0.5 * d * d


LOC = {
    MultiBoxLossParameter.SMOOTH_L1: (smooth_l1, smooth_l1_grad),
    MultiBoxLossParameter.L2: (l2, lambda xp, d: d),
}
CONF = {
    MultiBoxLossParameter.SOFTMAX: (softmax_losses, softmax_grad),
    MultiBoxLossParameter.LOGISTIC: (logistic_losses, logistic_grad),
}


@register("MultiBoxLoss")
class MultiBoxLoss(LossLayer):
    """L = (loc_weight * loss of the boxes of matched priors + loss of the classes of these and of hard negatives) / M.

    Bottoms: offsets (N, 4 P) or, with `share_location: false`, (N, 4 P C); class scores (N, P C), before the softmax;
    priors and variances (1, 2, 4 P); objects (1, 1, G, 8): image, class, instance, box, difficult. M is the number of
    matched priors (VALID), N P (FULL), N (BATCH_SIZE) or 1 (NONE). Liu et al. 2016; `multibox_loss_param` says how
    priors are matched and negatives chosen. The matching is no function of the bottoms as far as gradients go, and
    priors and objects get none. With `propagate_down: false` for one of the first two, its loss is left out.

    Where SSD's code is wrong, this follows what it means: with `encode_variance_in_target` the gradient has the
    division by the variances, and LOGISTIC targets are right without mining and for any `background_label_id`.
    """

    num_bottom = 4
    recordable = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.multibox_loss_param
        if not p.num_classes:
            raise ConfigError("multibox_loss_param.num_classes is not set", hint="Count the background, too.")
        if p.background_label_id >= p.num_classes:
            raise ConfigError(f"background_label_id {p.background_label_id} is none of {p.num_classes} classes")
        self.mines = p.mining_type != MultiBoxLossParameter.NONE
        if p.HasField("do_neg_mining") and p.do_neg_mining != self.mines:
            raise ConfigError("do_neg_mining contradicts mining_type", hint="Leave out do_neg_mining, the older one.")
        if self.mines and not p.share_location:
            raise ConfigError("mining needs share_location: true", hint="Set mining_type: NONE, or share_location.")
        if p.map_object_to_agnostic and p.num_classes != 2:
            raise ConfigError(f"map_object_to_agnostic needs num_classes: 2, got {p.num_classes}")
        if p.mining_type == MultiBoxLossParameter.HARD_EXAMPLE and p.sample_size <= 0:
            raise ConfigError(f"sample_size must be at least 1, got {p.sample_size}")
        self.mode = labels.normalization(self.param.loss_param, LossParameter.VALID)
        asked = list(self.param.propagate_down) or [True, True]
        self.counts_loc, self.counts_conf = (float(counts) for counts in asked[:2])

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index < 2

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.multibox_loss_param
        self.priors = check_predictions(self, bottom, p.num_classes, p.share_location)
        self.shape = (bottom[0].shape[0], self.priors, 1 if p.share_location else p.num_classes, 4)
        if bottom[3].shape[-1:] != (8,):
            raise ShapeError(f"objects {self.bottom_name(3)} must be (1, 1, G, 8), they are {bottom[3].shape}")
        top[0].reshape(())

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, p = self.xp, self.param.multibox_loss_param
        loc, prior, rows = (self.engine.to_host(bottom[i].data) for i in (0, 2, 3))
        loc, (priors, variances) = loc.reshape(self.shape), prior.reshape(2, self.priors, 4)
        objects = Objects.read(rows, p.use_difficult_gt)
        self._check(objects, bottom)
        matches = find_matches(p, objects, loc, priors, variances)
        label = labels_of(p, objects, matches)
        losses = self._class_losses(bottom[1], label)
        counted = np.ones(label.shape, bool)
        if self.mines:
            matches, negative = self._mine(objects, matches, loc, priors, variances, self.engine.to_host(losses))
            counted = (matches.found[:, 0] > NONE) | negative
        self.located = locate(p, objects, matches, loc, priors, variances)
        self.rows, self.label = np.flatnonzero(counted), label.reshape(-1, 1)[counted.reshape(-1)]
        self.divisor = self._divisor(len(self.located.rows))
        loc_loss = float(np.sum(LOC[p.loc_loss_type][0](np, self.located.difference)))
        conf_loss = xp.sum(xp.take(losses, xp.asarray(self.rows), axis=0))
        top[0].data[...] = (conf_loss * self.counts_conf + loc_loss * p.loc_weight * self.counts_loc) / self.divisor

    def _check(self, objects: Objects, bottom: list[Blob]) -> None:
        p, name = self.param.multibox_loss_param, self.bottom_name(3)
        known = (objects.labels >= 0) & (p.map_object_to_agnostic | (objects.labels < p.num_classes))
        for i in np.flatnonzero(~known | (objects.labels == p.background_label_id))[:1]:
            raise DataError(
                f"an object of {name} has the class {objects.labels[i]}; there are 0 .. {p.num_classes - 1}, and "
                f"{p.background_label_id} is the background",
                hint="Correct the annotations, num_classes or background_label_id.",
            )
        empty = (objects.boxes[:, 2:] <= objects.boxes[:, :2]).any(axis=1)
        for i in np.flatnonzero(empty & (p.code_type == PriorBoxParameter.CENTER_SIZE))[:1]:
            raise DataError(f"an object of {name} has no area: {objects.boxes[i].tolist()}")

    def _class_losses(self, conf: Blob, label: Array) -> Array:
        """The loss (N P, 1) of each prior's class scores."""
        p = self.param.multibox_loss_param
        rows = conf.data.reshape((-1, p.num_classes))
        losses = self.engine.zeros(rows.shape[0]).reshape((-1, 1))
        where = self.xp.asarray(label.reshape(-1, 1))
        self.engine.map(CONF[p.conf_loss_type][0], rows, where, self._target(label.reshape(-1, 1)), out=losses)
        return losses

    def _target(self, label: Array) -> Array:
        """What the score of a prior's class should become: 1; to LOGISTIC without mining the background is no class."""
        p = self.param.multibox_loss_param
        always = self.mines or p.conf_loss_type == MultiBoxLossParameter.SOFTMAX
        return self.engine.asarray(always | (label != p.background_label_id))

    def _mine(
        self, objects: Objects, matches: Matches, loc: Array, priors: Array, variances: Array, losses: Array
    ) -> tuple[Matches, Array]:
        """The matches that count, and which priors (N, P) do as negative ones."""
        p = self.param.multibox_loss_param
        losses = losses.reshape(matches.found.shape[0], -1)
        boxes = boxes_apart(p, loc, priors, variances)
        if p.mining_type == MultiBoxLossParameter.MAX_NEGATIVE:
            return matches, mine_negatives(p, matches, losses, boxes)
        located = locate(p, objects, matches, loc, priors, variances)
        losses = losses.copy()
        losses.reshape(-1)[located.rows] += LOC[p.loc_loss_type][0](np, located.difference).sum(axis=1)
        return mine_hard_examples(p, matches, losses, boxes, objects.images)

    def _divisor(self, matched: int) -> float:
        p = self.param.loss_param
        counts = {
            LossParameter.VALID: matched,
            LossParameter.FULL: prod(self.shape[:2]),
            LossParameter.BATCH_SIZE: self.shape[0],
            LossParameter.PRE_FIXED: p.pre_fixed_normalizer,
        }
        return float(max(1, counts.get(self.mode, 1)))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        xp, p = self.xp, self.param.multibox_loss_param
        weight = top[0].diff / self.divisor
        for blob, wanted in zip(bottom, propagate_down):
            if wanted:
                blob.diff[...] = 0
        if propagate_down[0] and len(self.located.rows):
            gradient = LOC[p.loc_loss_type][1](np, self.located.difference) * self.located.factor * p.loc_weight
            with self.written_as(bottom[0].diff, (prod(self.shape[:3]), 4)) as dx:
                dx[xp.asarray(self.located.rows)] = self.engine.asarray(gradient) * weight
        if propagate_down[1] and len(self.rows):
            index, label = xp.asarray(self.rows), xp.asarray(self.label)
            rows = xp.take(bottom[1].data.reshape((-1, p.num_classes)), index, axis=0)
            hot = (xp.arange(p.num_classes) == label) * self._target(self.label)
            with self.written_as(bottom[1].diff, (prod(self.shape[:2]), p.num_classes)) as dx:
                dx[index] = CONF[p.conf_loss_type][1](xp, rows, hot) * weight
