"""Rollouts of a person's own choice: flags laid over what is stable, as many replicas as serve now."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from controlplane.domain.base import ServiceName
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.flag_changes import laid_over
from controlplane.domain.engines.flags import FlagValue
from controlplane.domain.rollouts.rollout import Rollout
from controlplane.domain.rollouts.rollout_options import RolloutOptions
from controlplane.domain.serving import Service
from controlplane.ports.store import Store
from controlplane.services.rollouts.manage import start_rollout


def start_by_hand(
    store: Store,
    *,
    service: ServiceName,
    changes: Mapping[str, FlagValue | None],
    replicas: int | None = None,
    options: RolloutOptions | None = None,
    actor: str,
    reason: str = "",
    now: datetime,
) -> Rollout:
    """Save a rollout of the stable flags with `changes` over them; a change to None takes a flag away.

    `replicas` default to those that serve. Raises as `start_rollout`.
    """
    found = store.get_service(service).value
    return start_rollout(
        store,
        service=service,
        config=changed_config(store, found, changes),
        replicas=served_replicas(found) if replicas is None else replicas,
        options=options,
        actor=actor,
        reason=reason,
        now=now,
    )


def changed_config(store: Store, service: Service, changes: Mapping[str, FlagValue | None]) -> EngineConfig:
    """Return the flags that are stable, or else the service's base flags, with `changes` laid over them."""
    present = service.spec.baseline if service.stable is None else store.get_revision(service.stable).config
    return EngineConfig(flags=laid_over(present.flags, changes))


def served_replicas(service: Service) -> int:
    """Return how many replicas a rollout is for unless told otherwise: as many as serve, one where none does."""
    return max(1, service.stable_replicas)
