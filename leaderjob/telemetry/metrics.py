"""What a replica counts and measures, for Prometheus. The names are a contract: ``docs/metrics.md``.

Counters and histograms follow the events; gauges are read from the replica's state when they are asked for.
Labels have few values: names of jobs, outcomes, and reasons that are codes and no sentences.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from leaderjob.telemetry.events import Events

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_RUN_BUCKETS_S = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)
_LATENESS_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300)
_ROUND_TRIP_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2)


@dataclass(frozen=True, slots=True)
class JobState:
    """One job, at one moment. None: there is none.

    :param version_age_s: since the version that is served here was published.
    :param next_fire: in seconds since the epoch.
    """

    served_version: int | None = None
    published_version: int | None = None
    version_age_s: float | None = None
    next_fire: float | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A replica, at one moment. ``term_age_s`` and ``trust_left_s`` are 0 while it does not lead."""

    is_leader: bool = False
    term_age_s: float = 0.0
    trust_left_s: float = 0.0
    members: int = 0
    unloaded: int = 0
    jobs: Mapping[str, JobState] = field(default_factory=dict)


_PER_JOB: tuple[tuple[str, str, Callable[[JobState], float | None]], ...] = (
    ("served_version", "The version that this replica serves.", lambda job: job.served_version),
    ("published_version", "The version that is published.", lambda job: job.published_version),
    (
        "version_age_seconds",
        "Since the version that this replica serves was published.",
        lambda job: job.version_age_s,
    ),
    (
        "next_fire_timestamp_seconds",
        "When the job is due next, in seconds since the epoch.",
        lambda job: job.next_fire,
    ),
)


class Metrics:
    """The metrics of one replica.

    :param snapshot: its state now, called in the thread that asks. None: it cannot be told, and the gauges
        are left out.
    """

    def __init__(
        self, *, replica: str, namespace: str, release: str, snapshot: Callable[[], Snapshot | None]
    ) -> None:
        self._registry = registry = CollectorRegistry()
        Info("leaderjob", "Which replica this is, and of which release.", registry=registry).info(
            {"replica": replica, "namespace": namespace, "release": release}
        )
        self._terms = Counter("leaderjob_terms", "Elections that this replica won.", registry=registry)
        self._fires = Counter(
            "leaderjob_fires",
            "Fires and triggers that were settled by this replica as leader.",
            ["job", "outcome", "reason"],
            registry=registry,
        )
        self._duration = Histogram(
            "leaderjob_run_duration_seconds",
            "From the start of a run's first attempt to the end of the run.",
            ["job", "outcome"],
            buckets=_RUN_BUCKETS_S,
            registry=registry,
        )
        self._lateness = Histogram(
            "leaderjob_run_lateness_seconds",
            "From the instant at which a run was due to the start of its first attempt.",
            ["job"],
            buckets=_LATENESS_BUCKETS_S,
            registry=registry,
        )
        self._round_trip = Histogram(
            "leaderjob_etcd_round_trip_seconds",
            "Calls to etcd that were answered.",
            buckets=_ROUND_TRIP_BUCKETS_S,
            registry=registry,
        )
        registry.register(_State(snapshot))
        ProcessCollector(registry=registry)

    def tell(self, event: Events, fields: Mapping[str, Any]) -> None:
        """An event happened: a listener, see ``events.listen``."""
        if event is Events.TERM_WON:
            self._terms.inc()
        elif event is Events.FIRES_REFUSED and "outcome" in fields:
            labels = (fields["job"], str(fields["outcome"]), fields.get("code", ""))
            self._fires.labels(*labels).inc(fields["count"])
        elif event is Events.RUN_STARTED and "late_s" in fields:
            self._lateness.labels(fields["job"]).observe(fields["late_s"])
        elif event is Events.RUN_FINISHED:
            outcome = str(fields["outcome"])
            self._fires.labels(fields["job"], outcome, "").inc()
            if "seconds" in fields:
                self._duration.labels(fields["job"], outcome).observe(fields["seconds"])

    def round_trip(self, seconds: float) -> None:
        """etcd answered a call after so long."""
        self._round_trip.observe(seconds)

    def exposition(self) -> bytes:
        """All of it, in the text format of Prometheus."""
        return generate_latest(self._registry)


class _State(Collector):
    """Gauges, from the replica's state."""

    def __init__(self, snapshot: Callable[[], Snapshot | None]) -> None:
        self._snapshot = snapshot

    def describe(self) -> Iterator[Metric]:
        """Nothing: to register is not yet to ask."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        now = self._snapshot()
        if now is None:
            return
        yield _gauge("is_leader", "1 while this replica leads, else 0.", float(now.is_leader))
        yield _gauge(
            "term_age_seconds", "Since this replica was elected; 0 while it does not lead.", now.term_age_s
        )
        yield _gauge(
            "trust_left_seconds",
            "How long the leader may go on without another confirmed keepalive; 0 while it does not lead.",
            now.trust_left_s,
        )
        yield _gauge("members", "Replicas that are alive, as this one sees it.", float(now.members))
        yield _gauge(
            "modules_not_loaded",
            "Job modules of this replica that have not been imported, and jobs of others that cannot be used.",
            float(now.unloaded),
        )
        for name, meaning, of in _PER_JOB:
            yield _per_job(name, meaning, {job: of(state) for job, state in now.jobs.items()})


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"leaderjob_{name}", meaning, value=value)


def _per_job(name: str, meaning: str, values: Mapping[str, float | None]) -> Metric:
    family = GaugeMetricFamily(f"leaderjob_{name}", meaning, labels=["job"])
    for job, value in sorted(values.items()):
        if value is not None:
            family.add_metric([job], value)
    return family
