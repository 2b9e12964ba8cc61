"""BoxAnnotatorOHEM: the hardest regions of an image, as R-FCN mines them online."""

from __future__ import annotations

import numpy as np

from caffepy.errors import ConfigError, ShapeError
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register


def hardest(images: np.ndarray, losses: np.ndarray, count: int) -> np.ndarray:
    """Which regions are among the `count` of their image with the largest loss; of equals the first."""
    order = np.lexsort((-losses, images))
    ranked = images[order]
    first = np.searchsorted(ranked, ranked)  # where the image of each begins
    kept = np.zeros(len(order), bool)
    kept[order[np.arange(len(order)) - first < count]] = True
    return kept


@register("BoxAnnotatorOHEM")
class BoxAnnotatorOHEM(Layer):
    """Labels and box weights of the `roi_per_img` regions of each image with the largest loss.

    Bottoms: regions (R, 5, H, W), image first; losses, labels (R, 1, H, W); weights (R, C, H, W), where H and W may be
    left out. Tops: labels (R, 1, H, W), `box_annotator_ohem_param.ignore_label` (-1) for all other regions, and weights
    (R, C, H, W), 0 for these. Shrivastava et al. 2016. No gradients.
    """

    num_bottom = 4
    num_top = 2
    recordable = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        if not self.param.box_annotator_ohem_param.roi_per_img:
            raise ConfigError("box_annotator_ohem_param.roi_per_img is not set", hint="128 is usual.")

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        shapes = [(*blob.shape, 1, 1, 1)[:4] for blob in bottom]
        n, channels, *size = shapes[0]
        if channels != 5:
            raise ShapeError(f"regions {self.bottom_name(0)} must be (R, 5), they are {bottom[0].shape}")
        for i in (1, 2, 3):
            if shapes[i][0] != n or shapes[i][2:] != tuple(size) or (i < 3 and shapes[i][1] != 1):
                raise ShapeError(f"{self.bottom_name(i)} {bottom[i].shape} does not fit {n} regions of {size}")
        top[0].reshape((n, 1, *size))
        top[1].reshape((n, shapes[3][1], *size))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, shape = self.param.box_annotator_ohem_param, top[0].shape
        regions, losses, labels, weights = (self.engine.to_host(blob.data) for blob in bottom)
        images = regions.reshape((shape[0], 5, *shape[2:]))[:, 0].astype(np.int64)
        kept = hardest(images.reshape(-1), losses.reshape(-1), p.roi_per_img).reshape(shape)
        top[0].data[...] = self.engine.asarray(np.where(kept, labels.reshape(shape), p.ignore_label))
        top[1].data[...] = self.engine.asarray(np.where(kept, weights.reshape(top[1].shape), 0))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        for blob, wanted in zip(bottom, propagate_down):
            if wanted:
                blob.diff[...] = 0
