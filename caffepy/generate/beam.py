"""Beam search: the most probable continuation among those that the best `beam` of every step lead to."""

from __future__ import annotations

import numpy as np

from caffepy.generate.stepper import Stepper
from caffepy.net.blob import Array


def log_softmax(xp, scores: Array) -> Array:
    scores = scores - xp.max(scores, axis=-1, keepdims=True)
    return scores - xp.log(xp.sum(xp.exp(scores), axis=-1, keepdims=True))


def search(stepper: Stepper, prompt: np.ndarray, length: int, beam: int, hidden: int, end: int = -1) -> list[int]:
    """The best of `beam` sequences of `length` tokens behind the prompt (T,), or up to the token `end`.

    Scores, their order and the choice of the best stay in the engine's arrays; tokens below `hidden` are not chosen.
    A sequence that has ended stays as it is and keeps its place.
    """
    xp, engine = stepper.engine.xp, stepper.engine
    scores = stepper.read(np.repeat(prompt[:, None], beam, axis=1))
    size = stepper.size
    barred = engine.asarray(np.where(np.arange(size) < hidden, -np.inf, 0)[None, :])
    stay = engine.asarray(np.where(np.arange(size) == end, 0, -np.inf)[None, :])
    totals = engine.asarray(np.array([0.0, *[-np.inf] * (beam - 1)]))
    ended = engine.asarray(np.zeros(beam))
    trail: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(length):
        step = xp.where(xp.reshape(ended, (beam, 1)) > 0, stay, log_softmax(xp, scores + barred))
        joint = xp.reshape(xp.reshape(totals, (beam, 1)) + step, (-1,))
        best = xp.argsort(-joint)[:beam]
        totals = xp.take(joint, best, axis=0)
        parents, tokens = best // size, best % size
        trail.append((engine.to_host(parents), engine.to_host(tokens)))
        ended = xp.astype(tokens == end, totals.dtype)
        if bool(xp.all(ended > 0)):
            break
        stepper.choose(parents)
        scores = stepper.read(xp.reshape(tokens, (1, beam)))
    return _traced(trail, end)


def _traced(trail: list[tuple[np.ndarray, np.ndarray]], end: int) -> list[int]:
    """The tokens that led to the first sequence, up to `end`."""
    at, out = 0, []
    for parents, tokens in reversed(trail):
        out.append(int(tokens[at]))
        at = int(parents[at])
    out.reverse()
    return out[: out.index(end)] if end in out else out
