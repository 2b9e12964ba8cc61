"""Sequence whose nets are those of scripts."""

from __future__ import annotations

from caffepy.arrays import sequence
from caffepy.pycaffe.net import Net


class Sequence(sequence.Sequence):
    __doc__ = sequence.Sequence.__doc__

    net_class = Net
