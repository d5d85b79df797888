"""A run's metrics for Prometheus, on a port of its own while the run lasts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cosmos_curate.engine.metrics import Metrics
from cosmos_curate.errors import InputError

if TYPE_CHECKING:
    from prometheus_client.core import Metric

COUNTERS = {
    "items": "items that the stage saw",
    "reused": "of them, results that the ledger had",
    "quarantined": "of them, put aside",
    "wall_s": "seconds of work, over all workers",
    "cpu_s": "seconds of the workers' threads",
    "gpu_s": "seconds for which GPUs were held",
    "video_s": "seconds of video",
}
NAMES = {"wall_s": "wall_seconds", "cpu_s": "cpu_seconds", "gpu_s": "gpu_seconds", "video_s": "video_seconds"}


class Collector:
    """Metrics in Prometheus's own types, made anew at each scrape."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics

    def collect(self) -> "Iterator[Metric]":
        """Yield all of them."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        report = self.metrics.to_json()
        for key, about in COUNTERS.items():
            family = CounterMetricFamily(f"cosmos_curate_{NAMES.get(key, key)}", about, labels=["stage"])
            for stage, total in report["stages"].items():
                family.add_metric([stage], total[key])
            yield family
        drops = CounterMetricFamily("cosmos_curate_drops", "clips dropped", labels=["rule"])
        for rule, count in report["drops"].items():
            drops.add_metric([rule], count)
        yield drops
        queues = GaugeMetricFamily("cosmos_curate_queue_depth", "items that wait", labels=["step"])
        for step, queue in report["queues"].items():
            queues.add_metric([step], queue["depth"])
        yield queues


@contextmanager
def endpoint(metrics: Metrics, port: int, host: str = "127.0.0.1") -> Iterator[int]:
    """Serve `http://host:port/metrics` and give the port.

    Args:
        port: 0 for any that is free.
        host: address to listen on; this machine alone unless told otherwise.

    Raises:
        InputError: the port cannot be had.
    """
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    registry.register(Collector(metrics))
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except (OSError, OverflowError) as error:
        raise InputError(f"metrics cannot be served on {host}:{port}: {error}") from None
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
