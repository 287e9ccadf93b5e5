"""Several ways to split traffic as one TrafficRouter: each is given the same table, and each is read back."""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.domain.door.routing import RoutingTable
from controlplane.domain.errors import StaleVersion, Unavailable
from controlplane.ports.gateways import TrafficRouter


class EveryRouter:
    """Gives a table to every router, whatever the others say of it."""

    def __init__(self, routers: Sequence[TrafficRouter]) -> None:
        self._routers = routers

    def apply(self, table: RoutingTable) -> None:
        """Give the table to all. Raises the first refusal (StaleVersion, Unavailable) once all were asked."""
        refusals: list[StaleVersion | Unavailable] = []
        for router in self._routers:
            try:
                router.apply(table)
            except (StaleVersion, Unavailable) as error:
                refusals.append(error)
        if refusals:
            raise refusals[0]

    def actual(self) -> Sequence[RoutingTable | None]:
        """Return what all of them use, None for a router that does not answer. Raises Unavailable when none does."""
        found: list[RoutingTable | None] = []
        silent: list[Unavailable] = []
        for router in self._routers:
            try:
                found += router.actual()
            except Unavailable as error:
                silent.append(error)
        if len(silent) == len(self._routers):
            raise silent[0]
        return [*found, *(None for _ in silent)]
