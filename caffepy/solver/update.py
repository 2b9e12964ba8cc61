"""From gradients to new weights: clipping, `iter_size`, decay and `lr_mult`, once around every rule.

A gradient that is rows (`param { sparse: true }`) updates the rows of table and history that it touches, and reads no
others. So with every rule momentum, decay (AdamW's and LAMB's own, too) and moving averages of a row go on when it is
touched the next time, while Adam's corrections of the first steps count all steps; LAMB's |w| / |step| is that of the
touched rows together, not of the table.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

from caffepy.errors import FieldError
from caffepy.net.blob import Array, Blob
from caffepy.net.net import Net
from caffepy.net.rows import Rows
from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.solver.rules import Rule

log = logging.getLogger(__name__)


Numbers = tuple[int, float, float]
"""The number of the step from 1 on, the rate, the decay."""


class Update:
    """A rule at work on the parameters of a net."""

    def __init__(self, p: SolverParameter, rule: Rule, net: Net):
        self.p, self.rule, self.net = p, rule, net
        blobs = [param.blob for param in net.learnable_params]
        self.history = [Blob(b.shape, net.engine, b.channels_last) for _ in range(rule.history) for b in blobs]
        """What the rule remembers of each parameter, zeros at first: all first blobs, then all second ones."""
        if rule.layerwise and (spread := [blob.name for blob in blobs if blob.spread is not None]):
            raise FieldError(
                f"{p.type} compares a parameter with its step as a whole, but the rows of {spread[0]} are spread over "
                "processes",
                "type",
                hint="Choose another type, or sparse: true instead of spread: true.",
            )
        for i, blob in enumerate(self.history):
            blob.name, blob.spread = f"history[{i}]", blobs[i % len(blobs)].spread

    def run(self, rate: float, t: int) -> None:
        """Take the step number t, from 1 on, with the gradients that are there; they become what was subtracted."""
        with self.net.lock, self.net.engine.computing():
            self._step_all(rate, t)

    def _step_all(self, rate: float, t: int) -> None:
        self._clip_gradients()
        params = self.net.learnable_params
        groups: dict[Numbers, list[list[Array]]] = {}
        for i, param in enumerate(params):
            blobs = [param.blob, *self.history[i :: len(params)]]
            numbers = t, rate * param.lr_mult, self.p.weight_decay * param.decay_mult
            if param.blob.rows is not None:
                self._update_rows(param.blob.rows, blobs, *numbers)
                continue
            (w, *history), g = (blob.flat() for blob in blobs), param.blob.flat("diff")
            if param.blob.count > self.net.engine.cheap_copy or self.rule.layerwise:
                self._map(w, g, history, numbers)
            else:
                groups.setdefault(numbers, []).append([w, g, *history])
        for numbers, group in groups.items():
            self._map_together(group, numbers)

    def _map_together(self, group: Sequence[Sequence[Array]], numbers: Numbers) -> None:
        """A step of parameters, each with gradient and history: of copies of all of them in one piece."""
        if len(group) == 1:
            ((w, g, *history),) = group
            self._map(w, g, history, numbers)
            return
        pieces = [self.net.engine.xp.concat(arrays) for arrays in zip(*group)]
        w, g, *history = pieces
        self._map(w, g, history, numbers)
        start = 0
        for arrays in group:
            end = start + arrays[0].shape[0]
            for array, piece in zip(arrays, pieces):
                array[...] = piece[start:end]
            start = end

    def _map(self, w: Array, g: Array, history: Sequence[Array], numbers: Numbers) -> None:
        """A step of a parameter, or of rows of it: w, history and, as what was subtracted, g change."""
        engine = self.net.engine
        if not self.rule.layerwise:
            engine.map(self._step, w, g, *history, *numbers, out=(w, g, *history))
            return
        t, rate, decay = numbers
        engine.map(self._direction, w, g, *history, t, decay, out=(g, *history))
        engine.map(lambda xp, w, g, far: (w - far * g, far * g), w, g, rate * self._trust(w, g), out=(w, g))

    def _trust(self, w: Array, step: Array) -> Array:
        """|w| / |step|, 1 where one of them is 0."""
        xp = self.net.engine.xp
        ours, its = xp.sqrt(xp.sum(w * w)), xp.sqrt(xp.sum(step * step))
        return xp.where((ours > 0) & (its > 0), ours / xp.where(its > 0, its, 1.0), 1.0)

    def _update_rows(self, rows: Rows, blobs: Sequence[Blob], *numbers: Any) -> None:
        """A step of the rows of a table and its history that the gradient touches."""
        found, engine = rows.merged(), self.net.engine
        if found is None:
            return
        index, g = found
        if (spread := blobs[0].spread) is not None:
            index, g = spread.own_of(index, g)
        tables = [blob.flat().reshape((blob.shape[0], rows.width)) for blob in blobs]
        touched = [engine.zeros(g.shape[0] * rows.width).reshape(g.shape) for _ in tables]
        for table, values in zip(tables, touched):
            engine.gather(table, index, values)
        w, *history = touched
        self._map(w, g, history, numbers)
        for table, values in zip(tables, touched):
            engine.put_rows(table, index, values)

    def _clip_gradients(self) -> None:
        """Scale all gradients so that the L2 norm of their sum over `iter_size` is at most `clip_gradients`."""
        limit, xp = self.p.clip_gradients, self.net.engine.xp
        if limit < 0:
            return
        flats = [flat for param in self.net.learnable_params if (flat := _gradient(param.blob)) is not None]
        if not flats:
            return
        squares = [xp.sum(flat * flat) for flat in flats]
        known = [number for square in squares if (number := self.net.engine.known(square)) is not None]
        if len(known) < len(squares):  # without a look at the norm, hence without the log's line
            _scale(flats, xp.minimum(limit / xp.sqrt(sum(squares)), 1.0))
            return
        norm = math.sqrt(sum(known))
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
        decoupled = p.decoupled_weight_decay or self.rule.decoupled
        if decay and not decoupled:
            g = g + decay * (w if p.regularization_type == "L2" else xp.sign(w))
        step, history = self.rule.step(xp, g, history, rate, p, t)
        if decay and decoupled:
            step = step + rate * decay * w
        return (w - step, step, *history)

    def _direction(self, xp, w, g, *rest):
        """The step at a rate of 1, and the new history."""
        *history, t, decay = rest
        _, *found = self._step(xp, w, g, *history, t, 1.0, decay)
        return tuple(found)


def _gradient(blob: Blob) -> Array | None:
    """The values of the gradient, those that are there: None where no row is touched."""
    if blob.rows is None:
        return blob.flat("diff")
    found = blob.rows.merged()
    return None if found is None else found[1]


def _scale(flats: list[Array], factor: Array) -> None:
    for flat in flats:
        flat *= factor
