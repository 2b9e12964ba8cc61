"""Which versions are loaded, and which of them answers."""

from __future__ import annotations

from collections.abc import Collection

from caffepy.serve.api.tensorflow_serving_pb2 import ModelConfig


def wanted(config: ModelConfig, found: Collection[int]) -> set[int]:
    """Of the versions found, those that are to be loaded; a canary's comes on top of the newest."""
    policy = config.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    canary = {config.canary.version} & set(found) if config.HasField("canary") else set()
    if kind == "all":
        return set(found)
    if kind == "specific":
        return set(policy.specific.versions) & set(found) | canary
    newest = sorted(set(found) - canary)[-max(1, policy.latest.num_versions) :]
    return set(newest) | canary


class CanaryShare:
    """Says for each request whether it is the canary's: exactly the share, spread evenly."""

    def __init__(self) -> None:
        self._owed = 0.0

    def next(self, percent: float) -> bool:
        self._owed += percent / 100
        if self._owed >= 1 - 1e-9:
            self._owed -= 1
            return True
        return False
