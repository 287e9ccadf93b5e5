"""Ring for the controller as soon as a request is held for a service without a replica. Beside its pass."""

from __future__ import annotations

from collections.abc import Callable

from controlplane.domain.serving import Service
from controlplane.ports.gateways import HeldRequests
from controlplane.ports.store import Store


class HeldWatcher:
    """`run` is one wait at the gateways, some seconds at most; gateways are not asked while no service is at zero."""

    def __init__(self, *, store: Store, held: HeldRequests, ring: Callable[[], None]) -> None:
        self._store = store
        self._held = held
        self._ring = ring

    def run(self) -> bool:
        """Return True to wait on at once: nothing was held. Raises Unavailable."""
        if not any(_is_at_zero(row.value) for row in self._store.list_services()):
            return False
        if not self._held.await_held():
            return True
        self._ring()
        return False


def _is_at_zero(service: Service) -> bool:
    return service.spec.autoscale.scales_to_zero and service.stable_replicas == 0 and not service.stopped
