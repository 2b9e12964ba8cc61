"""Filter: the items of a batch that a selector chooses."""

from __future__ import annotations

from caffepy.errors import ConfigError, ShapeError
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register


@register("Filter")
class Filter(Layer):
    """The items of all but the last bottom whose selector, the last bottom (N) or (N, 1, ...), is not 0.

    The tops have N items when the net is built, and the true number after forward.
    """

    in_place = "refused"
    recordable = False
    num_bottom = (2, None)
    num_top = (1, None)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        if len(top) != len(bottom) - 1:
            raise ConfigError(f"{len(bottom)} bottoms need {len(bottom) - 1} top(s), one for each but the selector")
        for blob, source in zip(top, bottom):
            blob.reshape_like(source)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        selector = bottom[-1].shape
        if any(d != 1 for d in selector[1:]):
            raise ShapeError(
                f"the selector {self.bottom_name(len(bottom) - 1)} must be (N) or (N, 1, ...), it is {selector}"
            )
        for i, blob in enumerate(bottom[:-1]):
            if blob.shape[:1] != selector[:1]:
                raise ShapeError(
                    f"{self.bottom_name(i)} {blob.shape} and the selector {selector} differ in their items"
                )

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.kept = self.xp.nonzero(bottom[-1].data.reshape((-1,)))[0]
        for blob, source in zip(top, bottom):
            blob.reshape((self.kept.shape[0], *source.shape[1:]))
            blob.data[...] = source.data[self.kept]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[-1]:
            raise ConfigError("Filter cannot pass a gradient to its selector", hint="Set propagate_down: false.")
        for blob, source, wanted in zip(top, bottom, propagate_down):
            if wanted:
                source.diff[...] = 0
                source.diff[self.kept] = blob.diff
