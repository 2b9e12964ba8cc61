"""A test's answers as pictures: the confusion matrix, and the predictions that were furthest from the truth."""

from __future__ import annotations

import heapq
from itertools import count

import numpy as np

from caffepy.data import class_names
from caffepy.data.pictures.image import encoder
from caffepy.data.pictures.tiles import captioned
from caffepy.errors import ConfigError
from caffepy.files import check_writable
from caffepy.layers.softmax import softmax
from caffepy.net.net import Net
from caffepy.show import insides, pictures

_MOST = 49
_READ = ("Accuracy", "SoftmaxWithLoss", "ConfusionMatrix", "PrecisionRecall")
"""Layers whose first bottom are scores of classes, and whose second are labels."""


class Answers:
    """What a test net answers, batch by batch, by the scores and labels that its accuracy or its loss reads.

    `confusion` and `gallery` are files to draw to, "" for none; `labels` has the names of the classes.
    """

    def __init__(self, net: Net, labels: str, confusion: str, gallery: str):
        self.net, self.confusion, self.gallery = net, confusion, gallery
        pictures.check(confusion, "--confusion")
        nodes = [node for node in net.nodes if node.layer.type in _READ]
        if not nodes:
            raise ConfigError("no layer of the net compares classes", hint=f"It needs one of {', '.join(_READ)}.")
        self.node, classes = nodes[0], nodes[0].bottom[0].shape[1]
        self.of_item = len(nodes[0].bottom[0].shape) == 2
        self.names = class_names.read(labels, classes) if labels else [str(i) for i in range(classes)]
        self.counts = np.zeros((classes, classes))
        self.worst: list[tuple[float, int, np.ndarray, str]] = []
        self._number = count()
        if gallery:
            check_writable(gallery)
            encoder(gallery.rpartition(".")[2])
            tops = [top for node in net.nodes for top in node.top if len(top.shape) == 4]
            if not tops or not self.of_item:
                raise ConfigError("there are no pictures of one label each for --gallery")
            self.pictures = tops[0]

    def add(self) -> None:
        """Take in the batch that the net has just computed."""
        scores = np.moveaxis(self.node.bottom[0].host(), 1, -1)
        scores, labels = scores.reshape(-1, scores.shape[-1]), self.node.bottom[1].host().reshape(-1).astype(int)
        best, known = scores.argmax(axis=1), (labels >= 0) & (labels < len(self.names))
        np.add.at(self.counts, (labels[known], best[known]), 1)
        if self.gallery:
            self._keep_worst(scores, labels, best, known)

    def _keep_worst(self, scores: np.ndarray, labels: np.ndarray, best: np.ndarray, known: np.ndarray) -> None:
        p, shown = softmax(np, scores.astype(float), 1), self.pictures.host()
        for i in np.flatnonzero(known & (best != labels)).tolist():
            sureness = float(p[i, best[i]] - p[i, labels[i]])
            caption = f"{self.names[labels[i]]}\n{self.names[best[i]]} {p[i, best[i]]:.2f}"
            keep = heapq.heappush if len(self.worst) < _MOST else heapq.heappushpop
            keep(self.worst, (sureness, next(self._number), np.array(shown[i]), caption))

    def draw(self) -> None:
        """Write the files."""
        if self.confusion:
            insides.confusion(self.counts, self.names, self.confusion)
        if self.gallery and self.worst:
            ordered = sorted(self.worst, reverse=True, key=lambda found: found[0])
            insides.save(captioned([found[2] for found in ordered], [found[3] for found in ordered]), self.gallery)
