"""Metrics of the farm in Prometheus' text format; what the store knows is read when it is asked for.

No label takes a value that a client can choose: the number of series is that of boards' states, sites and routes.
"""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Iterator

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from starlette.types import Scope

from farm.api.auth import METRICS, Engineer
from farm.api.services import Services
from farm.domain import BoardState, Health
from farm.store import boards, leases, queue, results, workers

router = APIRouter(tags=["health"])

METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE"})
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Meters:
    """The metrics of one app."""

    def __init__(self, services: Services) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Farm(services))
        labels = ("method", "route", "status")
        self._requests = Counter("farm_http_requests", "Requests that were answered", labels, registry=self.registry)
        self._latency = Histogram(
            "farm_http_request_duration_seconds",
            "From the request to the head of its answer",
            labels[:2],
            buckets=BUCKETS_S,
            registry=self.registry,
        )

    def count(self, scope: Scope, status: int, took_s: float) -> None:
        """Count one request by its route's template, never by its path."""
        method = scope["method"] if scope["method"] in METHODS else "other"
        route = getattr(scope.get("route"), "path", "unmatched")
        self._requests.labels(method, route, str(status)).inc()
        self._latency.labels(method, route).observe(took_s)


class _Farm(Collector):
    """What the store knows."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def describe(self) -> list[Metric]:
        """Nothing is read when this is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read it all."""
        store = self._services.store
        jobs = queue.counts(store)
        yield _gauge("farm_jobs", "Jobs by state", ("state",), {(state,): n for state, n in jobs.items()})
        runs = results.outcomes(store)
        yield _gauge("farm_runs", "Runs by outcome", ("outcome",), {(outcome,): n for outcome, n in runs.items()})
        seen = Count((str(one.state), str(one.health)) for one in boards.glances(store))
        every: dict[tuple[str, ...], int] = {
            (str(state), str(health)): seen[state, health] for state in BoardState for health in Health
        }
        yield _gauge("farm_boards", "Boards by state and health", ("state", "health"), every)
        held = len(leases.unreleased(store))
        yield _gauge("farm_leases", "Leases that are not over", (), {(): held})
        known = workers.list_workers(store)
        sites = Count(one.site for one in known)
        yield _gauge("farm_workers", "Workers by site", ("site",), {(site,): n for site, n in sites.items()})
        slots: Count[str] = Count()
        for one in known:
            slots[one.site] += 0 if one.draining else one.slots
        yield _gauge(
            "farm_slots", "Runs that workers can carry out at once", ("site",), {(s,): slots[s] for s in sites}
        )


def _gauge(name: str, text: str, labels: tuple[str, ...], values: dict[tuple[str, ...], int]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


@router.get(METRICS, response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(_: Engineer, request: Request) -> Response:
    """Metrics for Prometheus."""
    meters: Meters = request.app.state.meters
    return Response(generate_latest(meters.registry), media_type=CONTENT_TYPE_LATEST)
