"""What is to be served: as it is configured, and as requests have changed it since."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from caffepy.errors import CaffeError
from caffepy.serve.api.tensorflow_serving_pb2 import ModelConfig, ReloadConfigRequest
from caffepy.serve.options import ServeOptions, changed_at, models_of
from caffepy.serve.refusal import Refused
from caffepy.serve.stores import open_store

log = logging.getLogger("caffepy.serve")


class Wanted:
    """The models, and which of them are away by Triton's unload."""

    def __init__(self, models: Iterable[ModelConfig]):
        self.models, self.away = list(models), set[str]()

    def __getstate__(self) -> dict[str, Any]:
        """For other processes: messages of a pool of their own cannot be pickled."""
        return {"models": packed(self.models), "away": self.away}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.models, self.away = unpacked(state["models"]), state["away"]

    def replace(self, models: list[ModelConfig]) -> list[bytes]:
        """Serve these and no others. Raises CaffeError, with nothing changed, for a store that cannot be read."""
        for config in models:
            open_store(config.base_path)
        self.models = models
        self.away.clear()
        return packed(models)

    def change(self, kind: str, payload: Any) -> Any:
        """Note a request (`reload`, `load` or `unload`), and return what each process is told. Raises CaffeError."""
        if kind == "reload":
            return self.replace(merged(self.models, ReloadConfigRequest.FromString(payload)))
        if kind == "unload":
            self.away.add(payload)
        elif kind == "load":
            self.away.discard(payload)
        return payload


def packed(models: Iterable[ModelConfig]) -> list[bytes]:
    return [config.SerializeToString() for config in models]


def unpacked(models: Iterable[bytes]) -> list[ModelConfig]:
    return [ModelConfig.FromString(data) for data in models]


def merged(models: Iterable[ModelConfig], request: ReloadConfigRequest) -> list[ModelConfig]:
    """The request's models, and with its mode MERGE those of others that it does not name. Raises CaffeError."""
    found = models_of(request.config, "the request")
    if request.mode == ReloadConfigRequest.MERGE:
        names = {config.name for config in found}
        return found + [config for config in models if config.name not in names]
    if not request.config.WhichOneof("config"):
        raise Refused("INVALID_ARGUMENT", "the request has no model_config_list")
    return found


class ConfigFile:
    """--model-config-file, read anew when it has changed."""

    def __init__(self, options: ServeOptions):
        self.options, self.path = options, options.config_file
        self.seconds = options.config_poll_seconds if self.path else 0.0
        """Between two looks; 0: it is read once."""
        self._seen = changed_at(self.path) if self.path else ()

    def changed(self, wanted: Wanted) -> list[bytes] | None:
        """What is served from now on; None where nothing has changed, or what has is wrong, which is logged."""
        now = changed_at(self.path)
        if not now or now == self._seen:
            return None
        self._seen = now
        try:
            found = wanted.replace(self.options.configured())
        except CaffeError as error:
            log.error("the configuration stays as it was: %s", error)
            return None
        log.info("%s: read anew", self.path)
        return found
