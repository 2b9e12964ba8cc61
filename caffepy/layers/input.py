"""Input: tops that the caller fills."""

from __future__ import annotations

from caffepy.errors import ConfigError
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register


@register("Input")
class Input(Layer):
    """Tops of the shapes in `input_param.shape` (one for all, or one a top), whose values the caller sets."""

    num_bottom = 0
    num_top = (1, None)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        shapes = self.param.input_param.shape
        if len(shapes) not in (0, 1, len(top)):
            raise ConfigError(f"{len(shapes)} input_param.shape given for {len(top)} top(s); give one, or one for each")
        for i, blob in enumerate(top):
            if shapes:
                dims = shapes[0 if len(shapes) == 1 else i].dim
                if any(d < 0 for d in dims):
                    raise ConfigError(f"input_param.shape has a negative dim: {list(dims)}")
                blob.reshape(tuple(dims))

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        """The caller shapes the tops."""

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        """The caller fills the tops."""
