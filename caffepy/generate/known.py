"""The vocabulary that weights were trained with."""

from __future__ import annotations

from pathlib import Path

from caffepy.data.texts import vocabulary as vocabularies
from caffepy.data.texts.vocabulary import VOCABULARY, Vocabulary
from caffepy.errors import ConfigError, DataError
from caffepy.layers.text_data import open_vocabulary
from caffepy.net.weights import is_hdf5, read_weights
from caffepy.proto.caffe_pb2 import TextDataParameter


def find(model: str, weights: str, given: str = "") -> Vocabulary:
    """The vocabulary in the file `given`, else in that which the weights name, else beside the model or the weights.

    Raises DataError where the weights were trained with another one: a `.caffemodel` says so, HDF5 does not.
    """
    files = [path.strip() for path in weights.split(",") if path.strip()]
    trained = next((data for path in files if not is_hdf5(path) and (data := _text_data(path))), None)
    path = given or next((str(p) for p in _places(model, files, trained) if p.is_file()), "")
    if path:
        found = vocabularies.read(path)
    elif trained and trained.level == TextDataParameter.BYTE:
        found = open_vocabulary(trained)
    else:
        raise ConfigError(
            "no vocabulary is found: neither the one that the weights name nor one beside the model",
            hint=f"Give it with --vocabulary {VOCABULARY}.",
        )
    if trained and trained.fingerprint not in ("", found.fingerprint):
        raise DataError(
            "the weights were trained with another vocabulary",
            where=path,
            hint=f"It was called {trained.vocabulary or Path(trained.source).with_name(VOCABULARY)}.",
        )
    return found


def _places(model: str, files: list[str], trained: TextDataParameter | None) -> list[Path]:
    named = [trained.vocabulary or Path(trained.source).with_name(VOCABULARY)] if trained else []
    return [Path(path) for path in named] + [Path(path).with_name(VOCABULARY) for path in (model, *files)]


def _text_data(path: str) -> TextDataParameter | None:
    """Of the layer that has read the text in training."""
    layers = read_weights(path).layer
    return next((layer.text_data_param for layer in layers if layer.HasField("text_data_param")), None)
