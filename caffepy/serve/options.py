"""What a server is told: flags, and configuration files in TensorFlow Serving's own formats."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from google.protobuf.message import Message

from caffepy.errors import ConfigError
from caffepy.proto import text
from caffepy.serve.api.tensorflow_serving_pb2 import (
    BatchingParameters,
    ModelConfig,
    ModelServerConfig,
    MonitoringConfig,
    SSLConfig,
)
from caffepy.serve.batching import Limits

M = TypeVar("M", bound=Message)
Stop = Callable[[], Awaitable[object]]
"""Ends a server after its drain."""

METRICS = "/monitoring/prometheus/metrics"


@dataclass
class ServeOptions:
    """Flags of `caffepy serve`; see its help."""

    host: str = "127.0.0.1"
    port: int | None = 8500
    rest_port: int | None = 8501
    models: list[ModelConfig] = field(default_factory=list)
    config_file: str = ""
    config_poll_seconds: float = 1.0
    poll_seconds: float = 1.0
    canaries: list[str] = field(default_factory=list)
    """MODEL=VERSION:PERCENT%."""
    batching: bool = True
    batching_file: str = ""
    monitoring_file: str = ""
    ssl_file: str = ""
    token_file: str = ""
    max_message: int = 64 << 20
    """Bytes of a request or a reply."""
    rest_seconds: float = 30.0
    drain_seconds: float = 30.0
    unload_first: bool = False
    labels_ahead: bool = False
    load_threads: int = 1
    retry_seconds: float = 1.0
    python_layers: bool = False
    engine: str | None = None
    gpu: bool = False
    threads: int = 0
    raw_tensors: bool = False
    workers: int = 1

    def __getstate__(self) -> dict:
        """For other processes: messages of a pool of their own cannot be pickled."""
        return self.__dict__ | {"models": [config.SerializeToString() for config in self.models]}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self.models = [ModelConfig.FromString(data) for data in state["models"]]

    def check(self) -> None:
        """Raises ConfigError for what cannot be."""
        if bool(self.models) == bool(self.config_file):
            raise ConfigError(
                "give either --model-name and --model-base-path, or --model-config-file",
                hint="caffepy serve --model_name lenet --model_base_path models/lenet_served",
            )
        if not 1 << 10 <= self.max_message < 1 << 31:
            raise ConfigError(f"--max-message-size is between 1 KB and 2 GB, got {self.max_message}")
        if self.port is None and self.rest_port is None:
            raise ConfigError("neither --port nor --rest-api-port is given")
        if self.workers < 1:
            raise ConfigError(f"--workers must be at least 1, got {self.workers}")
        for canary in self.canaries:
            canary_of(canary)

    def configured(self) -> list[ModelConfig]:
        """The models, from the flags or as the file says now. Raises ConfigError."""
        found = models_of(read(self.config_file, ModelServerConfig()), self.config_file) if self.config_file else [
            _copy(config) for config in self.models
        ]  # fmt: skip
        names = {config.name: config for config in found}
        for canary in self.canaries:
            name, version, percent = canary_of(canary)
            if name not in names:
                raise ConfigError(f'--canary {canary}: no model is called "{name}"')
            names[name].canary.version, names[name].canary.percent = version, percent
        return found

    def batching_parameters(self) -> BatchingParameters | None:
        """Of all models that have none of their own."""
        if not self.batching:
            return read_text("max_batch_size { value: 1 }", BatchingParameters())
        if not self.batching_file:
            return None
        found = read(self.batching_file, BatchingParameters())
        try:
            Limits.of(found)
        except ConfigError as error:
            raise error.at(self.batching_file) from None
        return found

    def metrics_paths(self) -> list[str]:
        """Where Prometheus finds the metrics."""
        if not self.monitoring_file:
            return [METRICS, "/metrics"]
        found = read(self.monitoring_file, MonitoringConfig()).prometheus_config
        if not found.enable:
            return []
        path = found.path or METRICS
        if not path.startswith("/"):
            raise ConfigError(f'the path "{path}" does not begin with /', where=self.monitoring_file)
        return list(dict.fromkeys([path, "/metrics"]))

    def tls(self) -> SSLConfig | None:
        if not self.ssl_file:
            return None
        found = read(self.ssl_file, SSLConfig())
        if not found.server_key or not found.server_cert:
            raise ConfigError("server_key and server_cert must both be given, as PEM text", where=self.ssl_file)
        if found.client_verify and not found.custom_ca:
            raise ConfigError("client_verify needs custom_ca", where=self.ssl_file)
        return found


def _copy(config: ModelConfig) -> ModelConfig:
    copied = ModelConfig()
    copied.CopyFrom(config)
    return copied


def read(path: str, message: M) -> M:
    """A text protobuf. Raises ConfigError with file, line and column."""
    return text.parse(text.read_text(path), message, path)


def read_text(source: str, message: M) -> M:
    return text.parse(source, message)


def models_of(config: ModelServerConfig, where: str) -> list[ModelConfig]:
    """The models of a configuration. Raises ConfigError for what is missing or twice there."""
    if config.HasField("custom_model_config"):
        raise ConfigError("custom_model_config is not served", where=where, hint="Use model_config_list.")
    seen: set[str] = set()
    for model in config.model_config_list.config:
        if not model.name or "/" in model.name or ":" in model.name:
            raise ConfigError(f'"{model.name}" is no name of a model', where=where, hint="It has neither / nor :.")
        if not model.base_path:
            raise ConfigError(f'model "{model.name}" has no base_path', where=where)
        if model.name in seen:
            raise ConfigError(f'model "{model.name}" is there twice', where=where)
        if model.HasField("canary") and not 0 <= model.canary.percent <= 100:
            raise ConfigError(f'model "{model.name}": {model.canary.percent:g} is no percentage', where=where)
        try:
            Limits.of(model.batching_parameters if model.HasField("batching_parameters") else None)
        except ConfigError as error:
            raise error.at(f'{where}: model "{model.name}"') from None
        seen.add(model.name)
    return list(config.model_config_list.config)


def canary_of(said: str) -> tuple[str, int, float]:
    """Name, version and percentage of `lenet=2:10%`."""
    name, _, rest = said.rpartition("=")
    version, _, share = rest.partition(":")
    try:
        number, percent = int(version), float(share.removesuffix("%"))
        if not name or number < 0 or not 0 <= percent <= 100:
            raise ValueError
    except ValueError:
        raise ConfigError(f'--canary: "{said}" is not MODEL=VERSION:PERCENT%', hint="Write lenet=2:10%.") from None
    return name, number, percent


def changed_at(path: str) -> tuple:
    """What changes when the file does."""
    try:
        state = Path(path).stat()
    except OSError:
        return ()
    return state.st_mtime_ns, state.st_size, state.st_ino


def bracketed(host: str) -> str:
    """As it stands before a port."""
    return f"[{host}]" if ":" in host else host
