"""What stands in a draft of a net for a layer whose data or code are not here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from caffepy.engine import Engine
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, LossLayer
from caffepy.proto.caffe_pb2 import LayerParameter

Shape = tuple[int, ...]
Shapes = Callable[[Sequence[Shape]], Sequence[Shape | None]]
"""The tops' shapes for those of the bottoms; None for what nobody knows."""


def unknown(bottoms: Sequence[Shape]) -> Sequence[Shape | None]:
    """Nothing is known of the tops."""
    return ()


def scalars(bottoms: Sequence[Shape]) -> Sequence[Shape | None]:
    """The tops of a loss."""
    return [()] * 16


class StandIn(Layer):
    """Tops of the shapes that the layer would give them. It computes nothing."""

    num_bottom = (0, None)
    num_top = (0, None)

    def __init__(
        self, param: LayerParameter, engine: Engine, shapes: Shapes = unknown, kind: type[Layer] | None = None
    ):
        own = LayerParameter()
        own.CopyFrom(param)
        for field in ("param_str", "blobs", "param"):  # of parameters that are not made
            own.ClearField(field)  # type: ignore[arg-type]
        super().__init__(own, own.phase, engine)
        self.type = param.type
        self._shapes, self._is_loss = shapes, _is_loss(param, kind)
        self.unknown: list[Blob] = []
        """The tops whose shapes are not known."""

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        shapes = list(self._shapes([blob.shape for blob in bottom])) + [None] * len(top)
        self.unknown = []
        for blob, shape in zip(top, shapes):
            blob.num_ids = 1  # of a table that is not here: an Embed learns then how many ids there are
            if shape is None:
                self.unknown.append(blob)
            else:
                blob.reshape(shape)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        raise NotImplementedError("a draft of a net does not run")

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        raise NotImplementedError("a draft of a net does not run")

    def default_loss_weight(self, top_index: int) -> float:
        return float(self._is_loss and top_index == 0)


def _is_loss(param: LayerParameter, kind: type[Layer] | None) -> bool:
    return issubclass(kind, LossLayer) if kind else param.type.endswith("Loss")
