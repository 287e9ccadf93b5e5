"""Which base model adapters are made for, and which of what may serve is that model."""

from __future__ import annotations

from controlplane.domain.adapters import same_base
from controlplane.domain.errors import Conflict, NotFound
from controlplane.domain.serving import Service
from controlplane.ports.store import Store


def served_base(store: Store, service: Service) -> str:
    """Return the model that adapters loaded now are made for: what the description says, unless another one serves.

    That is so after a roll-back to a revision of another model.
    """
    described = service.spec.model.path
    if service.stable is None:
        return described
    try:
        serving = store.get_revision(service.stable).model.path
    except NotFound:
        return described
    return described if is_base(store, service, described, serving) else serving


def is_base(store: Store, service: Service, base: str, path: str) -> bool:
    """Say whether a path is the base model: by name, as one of the service's alternatives, or as a variant of it."""
    if same_base(base, path):
        return True
    ways = {service.spec.model.path, *(each.path for each in service.spec.alternatives.values() if each.path)}
    return {base, path} <= ways or any(
        {base, path} <= set(version.sources) for model, _ in store.list_models() for version in model.versions
    )


def refuse_other_base(store: Store, service: Service, path: str) -> None:
    """Raise Conflict when a service with adapters is to be given a model that one of them was not made for."""
    for adapter in service.adapters:
        for version in adapter.served:
            base = version.base or service.spec.model.path
            if not is_base(store, service, base, path):
                raise Conflict(
                    f"{service.name} cannot be given another base model while it serves the adapter {adapter.name}",
                    why=f"{version.path} was made for {base}, not for {path}",
                    allowed=f"`fleetune adapter unload {service.name} {adapter.name}` first; load one made for the new "
                    "model once that serves",
                )
