"""DummyData: tops filled by fillers."""

from __future__ import annotations

from caffepy.errors import ConfigError
from caffepy.net import fillers
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register
from caffepy.proto.caffe_pb2 import FillerParameter


@register("DummyData")
class DummyData(Layer):
    """Tops of given shapes with filled values: constant ones once, random ones anew for every forward pass.

    `dummy_data_param.shape` (or the old num, channels, height, width) and `data_filler` are given once for all tops or
    once a top; no filler means 0.
    """

    num_bottom = 0
    num_top = (1, None)

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.dummy_data_param
        given = list(p.data_filler) or [FillerParameter(type="constant", value=0)]
        self.fillers = self._for_each(given, len(top), "data_filler")
        old = [list(getattr(p, f)) for f in ("num", "channels", "height", "width")]
        if p.shape and any(old):
            raise ConfigError("both shape and the old num, channels, height, width are given", hint="Keep shape.")
        if p.shape:
            shapes = [tuple(s.dim) for s in p.shape]
        else:
            shapes = list(zip(*(self._for_each(values, len(top), "num, channels, height, width") for values in old)))
        for blob, shape in zip(top, self._for_each(shapes, len(top), "shape")):
            if any(d < 0 for d in shape):
                raise ConfigError(f"the shape {shape} has a negative dim")
            blob.reshape(shape)
        for blob, filler in zip(top, self.fillers):
            if filler.type == "constant":
                fillers.fill_blob(blob, filler)
            else:  # not filled yet: as in Caffe, the first pass takes the first random numbers
                fillers.check(filler)

    @staticmethod
    def _for_each(values: list, count: int, what: str) -> list:
        if len(values) not in (1, count):
            raise ConfigError(
                f"{what} is given {len(values)} time(s) for {count} top(s); give one, or one for each",
                hint="" if values else "Set dummy_data_param { shape { dim: 2 dim: 3 } }, for example.",
            )
        return values * count if len(values) == 1 else values

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Shapes are fixed."""

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        for blob, filler in zip(top, self.fillers):
            if filler.type != "constant":
                fillers.fill_blob(blob, filler)
