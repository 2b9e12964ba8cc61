"""What is counted: requests, batches, loads. Plain numbers on the event loop's thread, shown in Prometheus' format.

Names are TensorFlow Serving's; times in its microseconds.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from typing import Any

from caffepy.serve.batching import Work

BOUNDS = [10 * 1.8**i for i in range(33)]
SIZES = [float(1 << i) for i in range(11)]


class Histogram:
    """Counts between bounds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: list[float]):
        self.bounds, self.counts, self.total = bounds, [0] * (len(bounds) + 1), 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def add(self, other: Histogram) -> None:
        self.counts = [a + b for a, b in zip(self.counts, other.counts)]
        self.total += other.total

    @property
    def count(self) -> int:
        return sum(self.counts)


class Statistics:
    """What Triton's statistics of a version tell; times in nanoseconds."""

    def __init__(self) -> None:
        self.success = self.success_ns = self.fail = self.fail_ns = 0
        self.queue_ns = self.compute_ns = self.items = self.executions = self.last = 0
        self.batches: Counter[int] = Counter()
        self.batch_ns: Counter[int] = Counter()

    def add(self, other: Statistics) -> None:
        last = max(self.last, other.last)
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        self.last = last


class Metrics:
    """All numbers of a server."""

    def __init__(self) -> None:
        self.requests: Counter[tuple] = Counter()  # model, version, signature, status
        self.latency: dict[tuple, Histogram] = {}  # model, version, API, entrypoint
        self.queue: dict[tuple, Histogram] = {}  # model, version
        self.compute: dict[tuple, Histogram] = {}
        self.batch_size: dict[tuple, Histogram] = {}
        self.loads: Counter[tuple] = Counter()  # model, status
        self.load_time: dict[tuple, Histogram] = {}
        self.statistics: defaultdict[tuple, Statistics] = defaultdict(Statistics)
        self.states: dict[tuple, int] = {}  # model, version: state
        self.recent: deque[tuple[float, float]] = deque(maxlen=5000)  # time, seconds: for the page

    def request(self, key: tuple[str, str, str], api: str, entrypoint: str, status: str, seconds: float) -> None:
        """Count a request; `key` is model, version, signature."""
        self.requests[(*key, status)] += 1
        model, version, _ = key
        where = model, version, api, entrypoint
        histogram = self.latency.get(where)
        if histogram is None:
            histogram = self.latency[where] = Histogram(BOUNDS)
        histogram.observe(seconds * 1e6)
        self.recent.append((time.monotonic(), seconds))
        statistics = self.statistics[model, version]
        if status == "OK":
            statistics.success += 1
            statistics.success_ns += int(seconds * 1e9)
        else:
            statistics.fail += 1
            statistics.fail_ns += int(seconds * 1e9)

    def batch(self, model: str, version: str, works: list[Work]) -> None:
        """Count what was computed together."""
        key = model, version
        if key not in self.queue:
            self.queue[key], self.compute[key] = Histogram(BOUNDS), Histogram(BOUNDS)
            self.batch_size[key] = Histogram(SIZES)
        statistics, first = self.statistics[key], works[0]
        spent = first.computed - first.started
        self.compute[key].observe(spent * 1e6)
        self.batch_size[key].observe(first.batch)
        queue = self.queue[key]
        for work in works:
            waited = work.started - work.enqueued
            queue.observe(waited * 1e6)
            statistics.queue_ns += int(waited * 1e9)
            statistics.compute_ns += int(spent * 1e9)
        statistics.items += first.batch
        statistics.executions += 1
        statistics.batches[first.batch] += 1
        statistics.batch_ns[first.batch] += int(spent * 1e9)
        statistics.last = int(time.time() * 1000)

    def load(self, model: str, status: str, seconds: float) -> None:
        self.loads[model, status] += 1
        self.load_time.setdefault((model,), Histogram(BOUNDS)).observe(seconds * 1e6)

    def forget(self, model: str, version: str) -> None:
        """Of a version that was unloaded its state and statistics; counters stay, as Prometheus wants it."""
        self.states.pop((model, version), None)

    def add(self, other: Metrics) -> None:
        """Those of another process: sums, and of each version's state the one that has come least far."""
        self.requests.update(other.requests)
        self.loads.update(other.loads)
        for name in ("latency", "queue", "compute", "batch_size", "load_time"):
            mine = getattr(self, name)
            for key, histogram in getattr(other, name).items():
                mine.setdefault(key, Histogram(histogram.bounds)).add(histogram)
        for key, statistics in other.statistics.items():
            self.statistics[key].add(statistics)
        for key, state in other.states.items():
            self.states[key] = min(state, self.states.get(key, state))
        self.recent = deque(sorted([*self.recent, *other.recent]), maxlen=self.recent.maxlen)

    def text(self) -> bytes:
        """All in Prometheus' text format."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry()
        registry.register(self)  # type: ignore[arg-type]
        # Counters of TensorFlow Serving have no "_total", which the library puts behind their names.
        return re.sub(rb"(?m)^(# (?:HELP|TYPE) :tensorflow:\S+)_total ", rb"\1 ", generate_latest(registry))

    def collect(self) -> Iterator[Any]:
        """What prometheus_client asks for."""
        version = ("model_name", "version")
        serving, batching = ":tensorflow:serving:", ":tensorflow:serving:batching_session:"
        yield _numbers(
            f"{serving}request_count", "counter", "Requests.", (*version, "signature", "status"), self.requests.items()
        )
        for name, what, labels, found in (
            (f"{serving}request_latency", "Microseconds from request to reply.", (*version, "API", "entrypoint"),
             self.latency),
            (f"{serving}runtime_latency", "Microseconds that a batch is computed.", version, self.compute),
            (f"{batching}queuing_latency", "Microseconds that a request waits to be computed.", version, self.queue),
            (f"{batching}batch_size", "Items of a batch.", version, self.batch_size),
            (":tensorflow:cc:saved_model:load_latency", "Microseconds to load a version.", ("model_name",),
             self.load_time),
        ):  # fmt: skip
            yield _histograms(name, what, labels, found)
        runs = [(key, found.count) for key, found in self.compute.items()]
        yield _numbers(f"{batching}wrapped_run_count", "counter", "Batches.", version, runs)
        yield _numbers(
            ":tensorflow:cc:saved_model:load_attempt_count", "counter", "Loads, by how they ended.",
            ("model_name", "status"), self.loads.items(),
        )  # fmt: skip
        yield _numbers(
            "caffepy_model_version_state", "gauge", "10 start, 20 loading, 30 available, 40 unloading, 50 end.",
            version, self.states.items(),
        )  # fmt: skip


def _numbers(name: str, kind: str, what: str, labels: tuple[str, ...], found: Iterable[tuple[tuple, float]]) -> Any:
    from prometheus_client import Metric

    metric = Metric(name, what, kind)
    for key, value in list(found):
        metric.add_sample(name, dict(zip(labels, map(str, key))), value)
    return metric


def _histograms(name: str, what: str, labels: tuple[str, ...], found: dict[tuple, Histogram]) -> Any:
    from prometheus_client import Metric

    metric = Metric(name, what, "histogram")
    for key, histogram in list(found.items()):
        named, total = dict(zip(labels, map(str, key))), 0
        for bound, count in zip([*histogram.bounds, float("inf")], histogram.counts):
            total += count
            metric.add_sample(
                f"{name}_bucket", {**named, "le": "+Inf" if bound == float("inf") else f"{bound:.6g}"}, total
            )
        metric.add_sample(f"{name}_sum", named, histogram.total)
        metric.add_sample(f"{name}_count", named, total)
    return metric
