"""Where Caffe loses a gradient: in front of a Flatten."""

from __future__ import annotations

import logging
from functools import cache

from caffepy.net.blob import Blob

log = logging.getLogger(__name__)


def gradient_is_lost(name: str, top: Blob) -> bool:
    """Whether Caffe loses the gradient of this top, which there shares the memory of its bottom's gradient.

    Caffe's Flatten points the gradient of its bottom to that of its top. If that bottom is the top of a Reshape (or of
    a Concat or Slice of one blob), which copies nothing backward, no gradient arrives in front of the two.
    """
    if top.diff_moved:
        _warn(name)
    return top.diff_moved


@cache
def _warn(name: str) -> None:
    log.warning(
        'layer "%s": its top goes to a Flatten, and Caffe loses the gradient there, so it is lost here, too. '
        "Use one Reshape in place of the two layers.",
        name,
    )
