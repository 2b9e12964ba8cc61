"""Folds: index sets over the records of one source, for cross-validation."""

from __future__ import annotations

import logging

import numpy as np

from caffepy.errors import ConfigError

log = logging.getLogger(__name__)


def divide(
    length: int, folds: int, seed: int, strata: np.ndarray | None = None, groups: np.ndarray | None = None
) -> np.ndarray:
    """The fold (N,) of each of `length` records, drawn by `seed`, all as large as can be.

    With `strata` (N,) each fold has of each label as many as can be; records with one value of `groups` (N,) are in
    one fold.
    """
    random = np.random.default_rng([seed, folds])
    labels = np.zeros(length, int) if strata is None else np.unique(strata, return_inverse=True)[1].reshape(-1)
    keys = None if groups is None else np.unique(groups, return_inverse=True)[1].reshape(-1)
    parts = length if keys is None else int(keys.max(initial=-1)) + 1
    if not 2 <= folds <= parts:
        kind = "records" if keys is None else "groups"
        raise ConfigError(f"{folds} folds cannot be made of {parts} {kind}", hint=f"From 2 to {parts} can.")
    if strata is not None and (least := int(np.bincount(labels).min())) < folds:
        log.warning("A label has %d records only: not each of the %d folds has one", least, folds)
    return _dealt(labels, folds, random) if keys is None else _packed(labels, keys, folds, random)


def _dealt(labels: np.ndarray, folds: int, random: np.random.Generator) -> np.ndarray:
    """Label after label, mixed, to one fold after the other."""
    order = random.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    out = np.empty(len(labels), np.uint16)
    out[order] = np.arange(len(labels)) % folds
    return out


def _packed(labels: np.ndarray, keys: np.ndarray, folds: int, random: np.random.Generator) -> np.ndarray:
    """The largest groups first, each where it brings the shares of the labels nearest to even."""
    counts = np.zeros((keys.max() + 1, labels.max() + 1))
    np.add.at(counts, (keys, labels), 1)
    weights = 1 / counts.sum(axis=0)
    held = np.zeros((folds, counts.shape[1]))
    order = random.permutation(len(counts))
    fold_of = np.empty(len(counts), np.uint16)
    for group in order[np.argsort(-counts[order].sum(axis=1), kind="stable")]:
        # What it adds to the sum of squares of all shares.
        cost = ((2 * held + counts[group]) * counts[group] * weights).sum(axis=1)
        fold = int(np.lexsort((held.sum(axis=1), cost))[0])
        held[fold] += counts[group]
        fold_of[group] = fold
    return fold_of[keys]
