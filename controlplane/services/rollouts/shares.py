"""Who has a service's traffic at fixed shares: its A/B test, as far as rollouts and scaling need to know."""

from __future__ import annotations

from datetime import datetime

from controlplane.domain.ab_tests.ab_test import AbState, AbTest, AbTestId
from controlplane.domain.ab_tests.policy import event_of, move
from controlplane.domain.base import ServiceName
from controlplane.domain.errors import Conflict
from controlplane.domain.serving import Service
from controlplane.ports.store import Store, Versioned


def active_ab_test(store: Store, service: ServiceName) -> Versioned[AbTest] | None:
    """Return the service's test that is not over. There is at most one, and it is among the newest."""
    return next((row for row in store.list_ab_tests(service, limit=5) if not row.value.is_over), None)


def refuse_during_ab_test(store: Store, service: ServiceName, verb: str) -> None:
    """Raise Conflict while a test of the service is not over."""
    active = active_ab_test(store, service)
    if active is not None:
        why = f"A/B test {active.value.test_id} is {active.value.state}"
        raise Conflict(f"{service} cannot be {verb} now", why=why, allowed="wait for it, or `fleetune ab stop` it")


def refuse_on_shared_gpus(service: Service, verb: str) -> None:
    """Raise Conflict for a service that shares its GPUs: two revisions of it would need a turn each at once."""
    if service.spec.shares is not None:
        why = f"it takes turns on the GPUs of {service.spec.shares.pool}, one engine at a time"
        allowed = "stop it, change it, start it; or take `shares` away while it is stopped"
        raise Conflict(f"{service.name} cannot be {verb}", why=why, allowed=allowed)


def stop_ab_test(store: Store, test_id: AbTestId, *, actor: str, reason: str = "", now: datetime) -> AbTest:
    """Give all traffic back to the control. Raises NotFound, and Conflict for a test that is over."""
    test, version = store.get_ab_test(test_id)
    after = move(test, AbState.STOPPED, reason=reason or "stopped by hand", now=now)
    store.save_ab_test(after, version, events=[event_of(after, actor=actor, now=now)])
    return after
