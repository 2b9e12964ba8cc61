"""ConvolutionDepthwise and DepthwiseConvolution: a filter of its own for each channel."""

from __future__ import annotations

from caffepy.errors import ConfigError
from caffepy.layers.convolution import Convolution
from caffepy.net.blob import Blob
from caffepy.net.layer import register


@register("ConvolutionDepthwise")
class ConvolutionDepthwise(Convolution):
    """y[n, c] = b[c] + x[n, c] * w[c]; x (N, C, H, W), w (C, 1, kh, kw), y (N, C, h, w), h as in Convolution.

    Reads `convolution_param` without `num_output` and `group`, which are the number of channels whatever it says.
    """

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.convolution_param
        axis = self.canonical_axis(p.axis, len(bottom[0].shape))
        p.num_output = p.group = bottom[0].shape[axis]
        super().setup(bottom, top)


@register("DepthwiseConvolution")
class DepthwiseConvolution(Convolution):
    """Convolution with `group` and `num_output` equal to the number of channels, written out."""

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().setup(bottom, top)
        p = self.param.convolution_param
        if not p.group == p.num_output == self.channels:
            raise ConfigError(
                f"group {p.group} and num_output {p.num_output} must both be {self.channels}, the number of channels",
                hint='Write type: "Convolution" for other groups.',
            )
