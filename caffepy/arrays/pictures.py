"""What makes a net's input of a picture."""

from __future__ import annotations

import logging

from caffepy.arrays.inputs import check_inputs
from caffepy.data.pictures.prepared import Preparation, Prepared, as_in, beside
from caffepy.errors import ConfigError
from caffepy.net.net import Net

log = logging.getLogger(__name__)


def prepared(net: Net, model: str, like: str | None, own, resize, rgb: bool) -> Prepared:
    """What makes the net's input of a picture, as the options or the net beside it say."""
    check_inputs(net)
    shape = net.engine_blobs[net.inputs[0]].shape[1:]
    if len(shape) != 3:
        raise ConfigError(
            f'the input "{net.inputs[0]}" is {shape}, no picture', where=model, hint="Give an HDF5 file or a table."
        )
    said = own.ByteSize() > 0 or resize
    if not like and not said:
        like = beside(model, [layer.name for layer in net.layers if layer.blobs])
        if like:
            log.info("Pictures are prepared as in %s", like)
        else:
            log.warning(
                "Pictures are resized to the net's input and taken as they are, 0 to 255: see --like, --mean-value"
            )
    preparation = as_in(like) if like else Preparation(own)
    if like:
        if own.mean_value:
            preparation.param.ClearField("mean_file")
        preparation.param.MergeFrom(own)
    return Prepared(preparation._replace(size=resize or preparation.size), shape, rgb)
