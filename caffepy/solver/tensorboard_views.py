"""What TensorBoard shows besides curves: histograms, filters, the graph, pictures with predictions, settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor

from caffepy.data.pictures.image import encode
from caffepy.data.pictures.tiles import captioned, tiles
from caffepy.errors import MissingExtraError
from caffepy.net.net import Net
from caffepy.proto.caffe_pb2 import SolverParameter

_BINS, _MOST_FILTERS, _MOST_PICTURES = 30, 256, 16


def histogram(values: np.ndarray) -> Any:
    """A HistogramProto of `values`; numbers that are none are left out."""
    from tensorboard.compat.proto import summary_pb2

    kept = values[np.isfinite(values)].astype(float)
    if not kept.size:
        return summary_pb2.HistogramProto()
    counts, edges = np.histogram(kept, _BINS)
    return summary_pb2.HistogramProto(
        min=kept.min(), max=kept.max(), num=kept.size, sum=kept.sum(), sum_squares=(kept * kept).sum(),
        bucket_limit=edges[1:].tolist(), bucket=counts.tolist(),
    )  # fmt: skip


def picture(pixels: np.ndarray) -> Any:
    """An Image summary of (3, H, W)."""
    from tensorboard.compat.proto import summary_pb2

    _, height, width = pixels.shape
    return summary_pb2.Summary.Image(
        height=height, width=width, colorspace=3, encoded_image_string=encode(pixels, "png")
    )


def filters(net: Net) -> Iterator[tuple[str, np.ndarray]]:
    """Name and picture of the filters of layers that read pictures: of one or three channels."""
    for layer in net.layers:
        if layer.blobs and len(layer.blobs[0].shape) == 4 and layer.blobs[0].shape[1] in (1, 3):
            values = layer.blobs[0].host()
            if max(values.shape[2:]) > 1:
                yield layer.name, tiles(values[:_MOST_FILTERS], 32)


def predictions(net: Net) -> np.ndarray | None:
    """The pictures of the batch that a test net has just computed, with label and prediction; None without them."""
    for node in net.nodes:
        if node.layer.type in ("Accuracy", "SoftmaxWithLoss") and len(node.bottom) > 1:
            scores, given = node.bottom[0].host(), node.bottom[1].host().reshape(-1)
            data = next((b for n in net.nodes[:1] for b in n.top if len(b.shape) == 4 and b.shape[1] in (1, 3)), None)
            if data is None or scores.reshape(len(scores), -1).shape[0] != len(given) or max(data.shape[2:]) < 2:
                return None
            count = min(_MOST_PICTURES, len(given))
            best = scores.reshape(len(scores), -1)[:count].argmax(axis=1)
            captions = [f"{int(t)}" if t == b else f"{int(t)}: {b} !" for t, b in zip(given, best.tolist())]
            return captioned(list(data.host()[:count]), captions)
    return None


def graph(net: Net) -> bytes:
    """A GraphDef: a node for each layer, edges for its bottoms."""
    from tensorboard.compat.proto import graph_pb2

    made, maker = graph_pb2.GraphDef(), dict[str, str]()
    for node in net.nodes:
        made.node.add(
            name=node.layer.name, op=node.layer.type, input=[maker[b] for b in node.bottom_names if b in maker]
        )
        maker |= dict.fromkeys(node.top_names, node.layer.name)
    return made.SerializeToString()


def settings(p: SolverParameter) -> Any:
    """A Summary of the solver's fields of one number or word, for TensorBoard's table of hyper-parameters."""
    from tensorboard.compat.proto import summary_pb2
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    start = plugin_data_pb2.SessionStartInfo()
    for field, value in p.ListFields():
        if not isinstance(value, (str, int, float)):
            continue
        if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            start.hparams[field.name].string_value = value
        elif field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
            start.hparams[field.name].string_value = field.enum_type.values_by_number[value].name
        elif isinstance(value, bool):
            start.hparams[field.name].bool_value = value
        else:
            start.hparams[field.name].number_value = value
    data = plugin_data_pb2.HParamsPluginData(session_start_info=start)
    return summary_pb2.Summary(
        value=[
            summary_pb2.Summary.Value(
                tag=metadata.SESSION_START_INFO_TAG,
                metadata=metadata.create_summary_metadata(hparams_plugin_data_pb=data),
                tensor=metadata.NULL_TENSOR,
            )
        ]
    )


def pictures_possible() -> bool:
    """Whether pictures can be made: Pillow is there."""
    from caffepy.data.pictures.image import pillow

    try:
        pillow()
    except MissingExtraError:
        return False
    return True
