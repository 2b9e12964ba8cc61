"""From the versions that are there to those that are loaded."""

from __future__ import annotations

import time

from caffepy.serve import policy
from caffepy.serve.loading import Loader
from caffepy.serve.served import AVAILABLE, END, START, Served, Version
from caffepy.serve.stores import SeenVersion

KEPT = 8
"""Unloaded versions of a model that its status still tells of."""


def reconcile(served: Served, found: dict[int, SeenVersion], loader: Loader, labels_ahead: bool) -> None:
    """Load what is wanted of the versions found, unload what no longer is, and move the labels."""
    wanted = policy.wanted(served.config, found)
    now = time.monotonic()
    if loader.unload_first and any(n not in served.available for n in wanted):
        for number in set(served.available) - wanted:
            loader.unload(served.versions[number])
    for number in sorted(wanted, reverse=True):
        seen = found[number]
        version = served.versions.get(number)
        if version is None or (version.state == END and not version.error):
            version = served.versions[number] = Version(served.config.name, number, seen, served.store.base)
        same = version.seen_as == (served.store.base, seen.print)
        if version.state == AVAILABLE and not same:
            renewal = served.renewals.get(number)
            if renewal is None or (renewal.state == END and renewal.seen_as != (served.store.base, seen.print)):
                renewal = served.renewals[number] = Version(served.config.name, number, seen, served.store.base)
            version, same = renewal, renewal.seen_as == (served.store.base, seen.print)
        if version.state == START or (version.failed and (now >= version.retry_at or not same)):
            if version.failed and not same:
                version.attempts = 0
            version.found, version.base = seen, served.store.base
            if seen.complete:
                loader.start(served, version)
    for number in [n for n, v in served.versions.items() if v.state == START and n not in wanted]:
        del served.versions[number]
    _retire(served, wanted, loader)
    move_labels(served, labels_ahead)


def _retire(served: Served, wanted: set[int], loader: Loader) -> None:
    """Unload what is no longer wanted, once something that is has been loaded."""
    if not wanted & set(served.available):
        return
    for number in set(served.available) - wanted:
        loader.unload(served.versions[number])
    failed = [n for n, v in served.versions.items() if v.failed and n not in wanted]
    ended = [n for n, v in served.versions.items() if v.state == END and not v.error]
    for number in [*failed, *ended[:-KEPT]]:
        served.versions.pop(number)


def move_labels(served: Served, labels_ahead: bool) -> None:
    """Labels move to their versions as soon as these are loaded; what is no longer configured goes."""
    configured = served.config.version_labels
    for label, number in configured.items():
        if number in served.available or (labels_ahead and label not in served.labels):
            served.labels[label] = number
    for label in [label for label in served.labels if label not in configured]:
        del served.labels[label]
