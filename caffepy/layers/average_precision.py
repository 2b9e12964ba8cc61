"""Mean average precision of detections, in SSD's three ways, from what DetectionEvaluate puts out."""

from __future__ import annotations

import numpy as np

from caffepy.errors import ConfigError

Array = np.ndarray

EPS = 1e-6
"""Steps of recall below this add nothing."""


def precision_recall(scores: Array, right: Array, positives: int) -> tuple[Array, Array]:
    """Precision and recall (D) after each detection, best score first; of equal scores the first given comes first.

    Rounded to single precision, as in SSD, whose recall of 7 in 10 is below 0.7.
    """
    hits = np.cumsum(right[np.argsort(-scores, kind="stable")]).astype(np.float32)
    precision, recall = hits / np.arange(1, len(hits) + 1, dtype=np.float32), hits / np.float32(positives)
    return precision.astype(float), recall.astype(float)


def eleven_point(precision: Array, recall: Array) -> float:
    """The mean over 0, 0.1, ..., 1 of the largest precision at a recall of at least that (VOC 2007)."""
    return float(np.mean([precision[recall >= j / 10].max(initial=0) for j in range(11)]))


def max_integral(precision: Array, recall: Array) -> float:
    """The integral over recall of the largest precision at a recall of at least that (VOC 2012, ILSVRC).

    In SSD, and so here, the step up to a detection has the precision of the one before it, if that is larger.
    """
    largest = np.maximum.accumulate(precision[::-1])[::-1]
    return natural_integral(np.concatenate([largest[:1], largest[:-1]]), recall)


def natural_integral(precision: Array, recall: Array) -> float:
    """The integral of precision over recall, each step with the precision at its end."""
    steps = np.diff(recall, prepend=0)
    return float(np.sum(np.where(steps > EPS, precision * steps, 0)))


VERSIONS = {"11point": eleven_point, "MaxIntegral": max_integral, "Integral": natural_integral}


def average_precision(scores: Array, right: Array, positives: int, version: str = "Integral") -> float:
    """Average precision of one class: scores (D) and which of its detections are right, of `positives` objects.

    `version` is "11point", "MaxIntegral" or "Integral", SSD's `ap_version`. 0 where nothing is detected or to be found.
    """
    if version not in VERSIONS:
        raise ConfigError(f'no ap_version "{version}"', hint=f"Known: {', '.join(VERSIONS)}.")
    if not len(scores) or not positives:
        return 0.0
    return VERSIONS[version](*precision_recall(scores, right, positives))


def mean_average_precision(rows: Array, version: str = "Integral") -> tuple[float, dict[int, float]]:
    """mAP and each class's average precision, from DetectionEvaluate's rows (K, 5) of all batches of a test together.

    The mean is over all classes that the layer counts objects of, as in SSD: one without object or detection adds 0.
    """
    rows = rows.reshape(-1, 5)
    counts, found = rows[rows[:, 0] == -1], rows[(rows[:, 0] != -1) & (rows[:, 3:].sum(axis=1) != 0)]
    precisions = {}
    for label in np.unique(counts[:, 1]):
        of_label = found[found[:, 1] == label]
        positives = int(counts[counts[:, 1] == label, 2].sum())
        precisions[int(label)] = average_precision(of_label[:, 2], of_label[:, 3] != 0, positives, version)
    return float(np.mean(list(precisions.values()))) if precisions else 0.0, precisions
