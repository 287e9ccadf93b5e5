"""Which adapters replicas have loaded, as the adapter pass last saw: kept in the store for who routes and who asks."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from controlplane.domain.base import EngineId, ServiceName, Value
from controlplane.ports.store import Store
from controlplane.services.kept import read_kept


class LoadedAdapters(Value):
    """Of one service."""

    engines: Mapping[EngineId, tuple[str, ...]] = Field(default_factory=dict)
    problems: Mapping[str, str] = Field(default_factory=dict, description="By adapter or engine: what went wrong.")


def read_loaded(store: Store, service: ServiceName) -> LoadedAdapters:
    """Return what was seen last; nothing where another version wrote it, until the next pass writes it anew."""
    return read_kept(store, _setting(service), LoadedAdapters.model_validate_json, LoadedAdapters()).value


def write_loaded(store: Store, service: ServiceName, found: LoadedAdapters) -> None:
    """Keep what was seen, where it is news. Raises StaleVersion when somebody else wrote in between."""
    saved = store.read_setting(_setting(service))
    value = found.model_dump_json()
    if saved is None and found == LoadedAdapters():
        return
    if saved is None or saved.value != value:
        store.write_setting(_setting(service), value, 0 if saved is None else saved.version)


def _setting(service: ServiceName) -> str:
    return f"adapters/{service}"
