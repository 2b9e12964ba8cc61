"""A model that is served and its versions: what is configured, and in which state it is."""

from __future__ import annotations

from dataclasses import dataclass, field

from caffepy.serve import policy
from caffepy.serve.api.tensorflow_serving_pb2 import ModelConfig, ModelVersionStatus
from caffepy.serve.batching import Batcher
from caffepy.serve.model import LoadedModel
from caffepy.serve.stores import SeenVersion, Store

START, LOADING, AVAILABLE, UNLOADING, END = (
    ModelVersionStatus.START,
    ModelVersionStatus.LOADING,
    ModelVersionStatus.AVAILABLE,
    ModelVersionStatus.UNLOADING,
    ModelVersionStatus.END,
)
STATES = ModelVersionStatus.State


@dataclass(eq=False)
class Version:
    """A version of a model, from the moment that it is seen."""

    model_name: str
    number: int
    found: SeenVersion
    base: str
    state: int = START
    error: str = ""
    attempts: int = 0
    retry_at: float = 0.0
    model: LoadedModel | None = None
    batcher: Batcher | None = None
    active: int = 0
    """Requests that use it."""
    loaded_at: float = 0.0

    @property
    def failed(self) -> bool:
        return self.state == END and bool(self.error)

    @property
    def seen_as(self) -> tuple:
        return self.base, self.found.print


@dataclass(eq=False)
class Served:
    """A model: what is configured, and what is there."""

    config: ModelConfig
    store: Store
    versions: dict[int, Version] = field(default_factory=dict)
    renewals: dict[int, Version] = field(default_factory=dict)
    """Versions whose files have changed, on their way to take the place of those that serve."""
    labels: dict[str, int] = field(default_factory=dict)
    problem: str = ""
    """Why the base path cannot be read."""
    suspended: bool = False
    """Unloaded by request."""
    looked: bool = False
    share: policy.CanaryShare = field(default_factory=policy.CanaryShare)

    @property
    def available(self) -> list[int]:
        return [number for number, version in self.versions.items() if version.state == AVAILABLE]

    def is_any(self, number: int) -> bool:
        """Whether the number leaves the choice to us: 0, as OpenVINO's clients send it, where there is no version 0."""
        return number == 0 and number not in self.versions
