"""Parameter: a learned blob as a top."""

from __future__ import annotations

from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register


@register("Parameter")
class Parameter(Layer):
    """y = the parameter, of shape `parameter_param.shape`, sharing its memory and that of its gradient.

    So its gradient is the top's, overwritten and not added to, as in Caffe.
    """

    num_bottom = 0

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.add_blob(tuple(self.param.parameter_param.shape.dim))

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].reshape_like(self.blobs[0])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].share_data(self.blobs[0])
        top[0].share_diff(self.blobs[0])

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """The gradient is there already."""
