"""HDF5Output: writes two blobs to a file."""

from __future__ import annotations

from caffepy.errors import ConfigError, DataError, ShapeError
from caffepy.files import atomic_write, new_hdf5
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register


@register("HDF5Output")
class HDF5Output(Layer):
    """Writes its bottoms to `hdf5_output_param.file_name` as datasets "data" and "label", four axes each.

    For one forward pass: the second raises DataError, as in Caffe.
    """

    recordable = False
    num_bottom = 2
    num_top = 0

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.file = self.param.hdf5_output_param.file_name
        if not self.file:
            raise ConfigError("hdf5_output_param.file_name is not set")
        self.written = False

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        for i, blob in enumerate(bottom):
            if len(blob.shape) > 4:
                raise ShapeError(f"{self.bottom_name(i)} {blob.shape} has more than four axes")
        if bottom[0].num != bottom[1].num:
            raise ShapeError(
                f"{self.bottom_name(0)} {bottom[0].shape} and {self.bottom_name(1)} {bottom[1].shape} "
                "must have the same number of items (first axis)"
            )

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        if self.written:
            raise DataError(
                "HDF5Output writes one forward pass, this is the second",
                where=self.file,
                hint="Run one iteration with the batch size of all that is to be written.",
            )
        try:
            with atomic_write(self.file) as temporary, new_hdf5(temporary) as h5:
                for name, blob in zip(("data", "label"), bottom):
                    shape = (*blob.shape, 1, 1, 1, 1)[:4]
                    h5[name] = self.engine.to_host(blob.data).reshape(shape)
        except OSError as error:
            raise DataError(f"cannot write the file: {error.strerror or error}", where=self.file) from None
        self.written = True

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """It has no gradient, and asks for none: what leads here alone gets no loss."""
