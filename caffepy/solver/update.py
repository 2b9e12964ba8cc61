"""From gradients to new weights: clipping, `iter_size`, decay and `lr_mult`, once around every rule."""

from __future__ import annotations

import logging
import math

from caffepy.net.blob import Array, Blob, take_back
from caffepy.net.net import Net
from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.solver.rules import Rule

log = logging.getLogger(__name__)


class Update:
    """A rule at work on the parameters of a net."""

    def __init__(self, p: SolverParameter, rule: Rule, net: Net):
        self.p, self.rule, self.net = p, rule, net
        blobs = [param.blob for param in net.learnable_params]
        self.history = [Blob(b.shape, net.engine, b.channels_last) for _ in range(rule.history) for b in blobs]
        """What the rule remembers of each parameter, zeros at first: all first blobs, then all second ones."""

    def run(self, rate: float, t: int) -> None:
        """Take the step number t, from 1 on, with the gradients that are there; they become what was subtracted."""
        take_back()
        self._clip_gradients()
        params = self.net.learnable_params
        for i, param in enumerate(params):
            history = [blob.flat() for blob in self.history[i :: len(params)]]
            local_rate, decay = rate * param.lr_mult, self.p.weight_decay * param.decay_mult
            w, g = param.blob.flat("data"), param.blob.flat("diff")
            self.net.engine.map(self._step, w, g, *history, t, local_rate, decay, out=(w, g, *history))

    def _clip_gradients(self) -> None:
        """Scale all gradients so that the L2 norm of their sum over `iter_size` is at most `clip_gradients`."""
        limit, xp = self.p.clip_gradients, self.net.engine.xp
        if limit < 0:
            return
        flats = [param.blob.flat("diff") for param in self.net.learnable_params]
        if self.net.engine.lazy:  # without a look at the norm, hence without the log's line
            factor = xp.minimum(limit / xp.sqrt(sum(xp.sum(flat * flat) for flat in flats)), 1.0)
            _scale(flats, factor)
            return
        norm = math.sqrt(sum(float(xp.sum(flat * flat)) for flat in flats))
        if norm > limit:
            factor = limit / norm
            log.info(
                "Gradient clipping: scaling down gradients (L2 norm %.6g > %.6g) by scale factor %.6g",
                norm, limit, factor,
            )  # fmt: skip
            _scale(flats, factor)

    def _step(self, xp, w, g, *rest):
        """One update of a tile: average, clip, decay, rule. Returns the new weights, the step and the new history."""
        *history, t, rate, decay = rest
        p = self.p
        if p.iter_size > 1:
            g = g * (1 / p.iter_size)
        if p.clip_value > 0:
            g = xp.clip(g, -p.clip_value, p.clip_value)
        if decay and not p.decoupled_weight_decay:
            g = g + decay * (w if p.regularization_type == "L2" else xp.sign(w))
        step, history = self.rule.step(xp, g, history, rate, p, t)
        if decay and p.decoupled_weight_decay:
            step = step + rate * decay * w
        return (w - step, step, *history)


def _scale(flats: list[Array], factor: Array) -> None:
    for flat in flats:
        flat *= factor
