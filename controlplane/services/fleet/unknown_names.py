"""Names in a description that mean nothing here: they may come later, so they are said and not refused."""

from __future__ import annotations

from collections.abc import Iterator

from controlplane.domain.errors import NotFound
from controlplane.domain.service import ServiceSpec
from controlplane.ports.store import Store


def unknown_names(store: Store, spec: ServiceSpec) -> tuple[str, ...]:
    """Return a sentence for each name that nobody knows at this moment: what follows from it, and what would help."""
    return (*_fallback(store, spec), *_followed(store, spec))


def _fallback(store: Store, spec: ServiceSpec) -> Iterator[str]:
    """Gateways fall back to what a service serves, not to its adapters or versions."""
    model = spec.gateway.fallback
    if model is None:
        return
    served = sorted(row.value.spec.model.name for row in store.list_services() if row.value.name != spec.service)
    if model not in served:
        others = f"the others serve {', '.join(served)}" if served else "there is no other service"
        yield f"gateway.fallback is {model}, which no service here serves: nothing falls back ({others})"


def _followed(store: Store, spec: ServiceSpec) -> Iterator[str]:
    """A model of MLflow's comes with the first look at it, so of one that is followed there nothing is said."""
    if spec.follows is None:
        return
    name, _, alias = spec.follows.partition("@")
    stays = f"{spec.model.path} serves until it is there"
    try:
        store.get_model(name).value.find(alias)
    except NotFound as error:
        yield f"follows is {spec.follows}: {error}; {stays} (fleetune model register, fleetune model alias)"
