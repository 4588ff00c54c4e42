"""What Prometheus reads; one registry for each application, nothing global."""

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from samlet.server.bodies import Budget
    from samlet.server.cache import Cache
    from samlet.server.pool import Pool

_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """Counters and times of one application.

    Attributes:
        requests: Answers by route, method and status; 499 means that the client left.
        seconds: Time from the request to the end of the answer, by route.
        work_seconds: Time in a worker, by kind.
    """

    def __init__(self, pool: "Pool", cache: "Cache", budget: "Budget") -> None:
        """Register everything.

        Args:
            pool: Its queue and workers are gauges.
            cache: Its bytes and entries are gauges.
            budget: Bytes of requests held.
        """
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "samlet_requests_total", "Answers", ["route", "method", "status"], registry=self._registry
        )
        self.seconds = Histogram(
            "samlet_request_seconds",
            "Time to answer",
            ["route"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self.work_seconds = Histogram(
            "samlet_work_seconds", "Time in a worker", ["kind"], buckets=_BUCKETS, registry=self._registry
        )
        gauges = {
            "samlet_queue_waiting": ("Requests that wait for a worker", lambda: pool.waiting),
            "samlet_workers_busy": ("Workers that work", lambda: pool.running),
            "samlet_bodies_bytes": ("Bytes of requests held", lambda: budget.taken),
            "samlet_cache_bytes": ("Bytes of embeddings held", lambda: cache.facts()["bytes"]),
            "samlet_cache_entries": ("Embeddings held", lambda: cache.facts()["entries"]),
            "samlet_cache_hits": ("Embeddings found so far", lambda: cache.facts()["hits"]),
            "samlet_cache_misses": ("Embeddings not found so far", lambda: cache.facts()["misses"]),
            "samlet_cache_evicted": ("Embeddings that made room so far", lambda: cache.facts()["evicted"]),
        }
        for name, (text, value) in gauges.items():
            Gauge(name, text, registry=self._registry).set_function(value)

    def text(self) -> bytes:
        """Give everything in Prometheus' text form."""
        return generate_latest(self._registry)
