"""Look at everything once and say how it stands."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from controlplane.domain.engines.fleet import EngineState
from controlplane.domain.engines.gpu import EngineGpu
from controlplane.domain.errors import Unavailable
from controlplane.domain.operations.health import (
    Finding,
    InstallationHealth,
    Replicas,
    ServiceHealth,
    Standing,
    alert_findings,
    controller_findings,
    service_health,
    space_findings,
    worst,
)
from controlplane.domain.operations.live import Live, live, reach
from controlplane.domain.operations.space import Space
from controlplane.domain.serving import Service
from controlplane.domain.studies.study import StudyState
from controlplane.ports.fleet import FleetView
from controlplane.ports.gateways import RecordSource
from controlplane.ports.metrics import MetricsSource
from controlplane.ports.store import Store
from controlplane.services.fleet.scaling import read_memory
from controlplane.services.fleet.serving import service_status
from controlplane.services.operations.alerts import alerts_that_last
from controlplane.services.operations.notifying import LOST
from controlplane.services.operations.savings import read_saved
from controlplane.services.operations.watch import gateways_silent_since

WINDOW_S = 300.0
RECENT = timedelta(hours=1)
_STUDIES = 50
_LOST = 100


def installation_health(
    store: Store,
    fleet: FleetView,
    records: RecordSource,
    *,
    now: datetime,
    metrics: MetricsSource | None = None,
    passed_s_ago: float | None = None,
    space: Space | None = None,
) -> InstallationHealth:
    """Return how every service stands. `passed_s_ago`: since the controller's last pass; `space`: beside the data.

    Raises Unavailable when the store or the fleet cannot be asked."""
    services = tuple(
        _service(store, fleet, records, row.value, now, _gpus(metrics, row.value)) for row in store.list_services()
    )
    studies = [study for study, _ in store.list_studies(limit=_STUDIES)]
    failed = [s for s in studies if s.state is StudyState.FAILED and s.finished_at and now - s.finished_at < RECENT]
    findings = (
        *controller_findings(passed_s_ago),
        *alert_findings(alerts_that_last(store, None)),
        *space_findings(space),
        *_silent_gateways(store),
        *_untold(store, now),
        *(Finding(standing=Standing.WATCH, text=f"study {s.study_id} failed: {s.reason}") for s in failed),
    )
    everything = [*findings, *(found for each in services for found in each.findings)]
    return InstallationHealth(
        at=now,
        standing=worst(everything),
        services=services,
        free_gpus=fleet.free_gpus(),
        studies_running=sum(study.state is StudyState.RUNNING for study in studies),
        findings=findings,
    )


def _service(
    store: Store,
    fleet: FleetView,
    records: RecordSource,
    service: Service,
    now: datetime,
    gpus: Sequence[EngineGpu],
) -> ServiceHealth:
    status = service_status(store, fleet, service.name, now=now)
    ready = [e for e in status.engines if e.state is EngineState.READY]
    scaling = read_memory(store, service.name).value.decision if service.spec.autoscale.enabled else None
    saved = read_saved(store, service)
    found = service_health(
        service,
        replicas=Replicas(
            ready=sum(status.ready_replicas.values()),
            wanted=sum(status.desired_replicas.values()),
            hanging=sum(not engine.answers for engine in ready),
            asleep=len(status.asleep),
        ),
        live=_live(records, service, now),
        rollout=status.rollout,
        scaling=scaling,
        alerts=alerts_that_last(store, service.name),
        gpus=gpus,
        reclaimed=status.reclaimed,
        unknown=status.unknown,
    )
    return found.evolve(saved_usd_per_hour=None if saved is None else saved.saved_usd_per_hour)


def _gpus(metrics: MetricsSource | None, service: Service) -> Sequence[EngineGpu]:
    """Return what is known of a service's GPUs: an answer about everything else does not wait for them."""
    try:
        return () if metrics is None else metrics.gpus(service.spec.model.name)
    except Unavailable:
        return ()


def _live(records: RecordSource, service: Service, now: datetime) -> Live | None:
    try:
        since = now - timedelta(seconds=WINDOW_S) - reach(service.spec)
        found = records.read(service.name, since=since)
    except Unavailable:
        return None
    return live(service.spec, found, now=now, window_s=WINDOW_S, bucket_s=WINDOW_S)


def _silent_gateways(store: Store) -> Sequence[Finding]:
    """Say at once what is told after a minute: clients of a silent gateway get nothing already."""
    since = gateways_silent_since(store)
    if since is None:
        return ()
    text = f"a gateway does not answer since {since:%H:%M:%S} UTC: `fleetune doctor` on its host says which"
    return (Finding(standing=Standing.WRONG, text=text),)


def _untold(store: Store, now: datetime) -> Sequence[Finding]:
    """Say whom nobody could tell of an alert within the hour, and why, once each."""
    lost = store.list_events(actions=(LOST,), since=now - RECENT, limit=_LOST)
    newest = {each.subject.removeprefix("notify/"): each.reason for each in reversed(lost)}
    return [Finding(standing=Standing.WATCH, text=f"{name} hears of nothing: {why}") for name, why in newest.items()]
