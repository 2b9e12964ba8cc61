"""HDF5Output: writes two blobs to a file."""

from __future__ import annotations

from contextlib import suppress

from caffepy.errors import ConfigError, DataError, ShapeError
from caffepy.files import atomic_write, check_replaceable, new_hdf5
from caffepy.hdf5 import open_hdf5
from caffepy.net.blob import Blob
from caffepy.net.layer import Layer, register

_MARK = "written_by_caffepy"


def _is_output(path: str) -> bool:
    """Data to train on have the same names inside: it takes our mark."""
    with suppress(DataError, OSError), open_hdf5(path) as file:
        return file.has_attribute(_MARK)
    return False


@register("HDF5Output")
class HDF5Output(Layer):
    """Writes its bottoms to `hdf5_output_param.file_name` as datasets "data" and "label", four axes each.

    For one forward pass: the second raises DataError, as in Caffe. A file that is there already is written over if a
    layer of this type wrote it, or with --force.
    """

    recordable = False
    num_bottom = 2
    num_top = 0

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.file = self.param.hdf5_output_param.file_name
        if not self.file:
            raise ConfigError("hdf5_output_param.file_name is not set")
        self._check_replaceable()
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
            self._check_replaceable()
            with atomic_write(self.file) as temporary, new_hdf5(temporary) as h5:
                h5.attrs[_MARK] = True
                for name, blob in zip(("data", "label"), bottom):
                    shape = (*blob.shape, 1, 1, 1, 1)[:4]
                    h5[name] = self.engine.to_host(blob.data).reshape(shape)
        except OSError as error:
            raise DataError(f"cannot write the file: {error.strerror or error}", where=self.file) from None
        self.written = True

    def _check_replaceable(self) -> None:
        check_replaceable(self.file, "output of HDF5Output", _is_output, DataError, "Move it, or add --force.")

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """It has no gradient, and asks for none: what leads here alone gets no loss."""
