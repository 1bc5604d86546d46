"""What the server counts, as Prometheus reads it."""

import time
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.log import LogWriter

PREFIX = "mnist_pipeline"
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)  # seconds


class Metrics:
    """The counters of one server."""

    def __init__(self, log: LogWriter | None) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            f"{PREFIX}_requests", "Requests answered", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            f"{PREFIX}_request_seconds", "Time to the whole answer", ["route"], buckets=BUCKETS, registry=self._registry
        )
        self._predictions = Counter(
            f"{PREFIX}_predictions", "Images, by their likeliest class", ["version", "label"], registry=self._registry
        )
        self._unsure = Counter(
            f"{PREFIX}_unsure", "Images answered without a label", ["version"], registry=self._registry
        )
        if log:
            self._registry.register(_LogMetrics(log))

    def predicted(self, version: int, labels: Iterable[str], unsure: int) -> None:
        for label in labels:
            self._predictions.labels(version, label).inc()
        self._unsure.labels(version).inc(unsure)

    def exposition(self) -> bytes:
        return generate_latest(self._registry)

    def count(self, app: ASGIApp) -> ASGIApp:
        """Return `app`, with its requests counted."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            status, begun = 500, time.perf_counter()

            async def watch(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await app(scope, receive, watch)
            finally:
                if scope["type"] == "http":
                    route = getattr(scope.get("route"), "path", "other")  # a path that is none could be any
                    self._requests.labels(route, status).inc()
                    self._seconds.labels(route).observe(time.perf_counter() - begun)

        return counted


class _LogMetrics(Collector):
    def __init__(self, log: LogWriter) -> None:
        self.log = log

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(f"{PREFIX}_log_backlog", "Answers that wait to be kept", self.log.backlog)
        yield CounterMetricFamily(f"{PREFIX}_log_dropped", "Answers that could not be kept", self.log.dropped)
