"""InfogainLoss: a softmax loss that weights every pair of true and predicted class."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from caffepy.errors import CaffeError, ConfigError, DataError, ShapeError
from caffepy.files import read_bytes
from caffepy.layers import labels
from caffepy.layers.multinomial_logistic_loss import LOG_THRESHOLD
from caffepy.layers.softmax import softmax
from caffepy.net.blob import Blob
from caffepy.net.layer import LossLayer, register
from caffepy.proto.caffe_pb2 import BlobProto, LossParameter
from caffepy.proto.wire import get_floats


@register("InfogainLoss")
class InfogainLoss(LossLayer):
    """L = -sum over items and l of H[label, l] log max(p_l, 1e-20) / normalizer, p = softmax(x).

    x (N, K, ...) with classes on `infogain_loss_param.axis` (1), labels (N, ...). H (K * K values) is the third
    bottom or the BlobProto file `source`. `loss_param` as in SoftmaxWithLoss, without the old `normalize`.
    """

    num_bottom = (2, 3)
    num_top = (1, 2)

    def allow_force_backward(self, bottom_index: int) -> bool:
        return bottom_index == 0

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param.infogain_loss_param
        if self.param.loss_param.HasField("normalize"):
            raise ConfigError(
                "InfogainLoss does not know the old normalize", hint="Use normalization: VALID or BATCH_SIZE."
            )
        self.ignore = labels.ignored_label(self.param.loss_param)
        self.mode = labels.normalization(self.param.loss_param, LossParameter.VALID)
        self.matrix = None
        if len(bottom) < 3:
            if not p.source:
                raise ConfigError(
                    "the infogain matrix is missing", hint="Give a third bottom or infogain_loss_param.source."
                )
            self.matrix = self.engine.asarray(read_matrix(p.source))

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.axis = self.canonical_axis(self.param.infogain_loss_param.axis, len(bottom[0].shape))
        self.outer, self.inner = labels.check_label_count(self, bottom, self.axis)
        classes = bottom[0].shape[self.axis]
        count = bottom[2].count if self.matrix is None else self.matrix.shape[0]
        if count != classes * classes:
            raise ShapeError(f"the infogain matrix must have {classes} x {classes} values, it has {count}")
        top[0].reshape(())
        if len(top) > 1:
            top[1].reshape_like(bottom[0])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, classes = self.xp, bottom[0].shape[self.axis]
        p = softmax(xp, bottom[0].data, self.axis)
        if len(top) > 1:
            top[1].data[...] = p
        p = p.reshape((self.outer, classes, self.inner))
        given = bottom[1].data.reshape((self.outer, self.inner))
        index = labels.read_labels(self, given, classes, self.ignore, self.bottom_name(1), bottom[1].shape)
        valid = xp.ones(index.shape, dtype=xp.bool)
        if self.ignore is not None:
            valid = xp.astype(given, xp.int64) != self.ignore
        matrix = (bottom[2].data if self.matrix is None else self.matrix).reshape((classes, classes))
        rows = xp.take(matrix, index.reshape((-1,)), axis=0).reshape((self.outer, self.inner, classes))
        self.weights = xp.where(valid[:, None, :], xp.permute_dims(rows, (0, 2, 1)), 0.0 * p)
        counts = self.outer * self.inner, self.outer, xp.sum(valid)
        self.normalizer = labels.normalizer(xp, self.mode, *counts, self.param.loss_param.pre_fixed_normalizer)
        self.p = p
        top[0].data[...] = -xp.sum(self.weights * xp.log(xp.clip(p, LOG_THRESHOLD, None))) / self.normalizer

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if len(propagate_down) > 2 and propagate_down[2]:
            raise ConfigError("InfogainLoss cannot pass a gradient to its matrix", hint="Set propagate_down: false.")
        if propagate_down[0]:
            sums = self.xp.sum(self.weights, axis=1, keepdims=True)
            dx = (self.p * sums - self.weights) * (top[0].diff / self.normalizer)
            bottom[0].diff[...] = dx.reshape(bottom[0].shape)


def read_matrix(path: str):
    """The values of a BlobProto file, whatever its shape."""
    proto = BlobProto()
    try:
        proto.ParseFromString(read_bytes(path))
    except CaffeError as error:
        raise DataError(f"the infogain matrix: {error.message}", where=path, hint=error.hint) from None
    except DecodeError:
        raise DataError("this is no BlobProto file", where=path) from None
    return get_floats(proto, "data")
