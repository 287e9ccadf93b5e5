"""Makes every running replica have the adapters that are wanted, whenever it was started; beside the controller.

Loading takes seconds, so it happens in a pass of its own. What replicas have is written down for the controller, whose
routing table sends requests for an adapter only to replicas that have it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from controlplane.domain.adapters import AdapterVersion, is_ours
from controlplane.domain.base import EngineId, ServiceName
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.errors import FleetuneError, StaleVersion
from controlplane.domain.serving import Service
from controlplane.ports.adapters import AdapterLoader
from controlplane.ports.fleet import FleetView
from controlplane.ports.store import Store
from controlplane.services.fleet.bases import is_base
from controlplane.services.fleet.loaded import LoadedAdapters, read_loaded, write_loaded
from controlplane.services.fleet.resting import read_asleep
from controlplane.services.fleet.world import service_of

GRACE_S = 10.0
"""An adapter that is wanted no more stays loaded for so long: gateways may still be told of it."""


class AdapterKeeper:
    """One pass over all services. `monotonic` in seconds."""

    def __init__(
        self, *, store: Store, fleet: FleetView, loader: AdapterLoader, monotonic: Callable[[], float]
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._loader = loader
        self._monotonic = monotonic
        self._unwanted_since: dict[tuple[EngineId, str], float] = {}

    def run(self) -> Sequence[str]:
        """Load what is missing and unload what is not wanted any more; returns what could not be done."""
        services = [row.value for row in self._store.list_services()]
        if not any(service.adapters or read_loaded(self._store, service.name).engines for service in services):
            return ()
        engines = [each for each in self._fleet.list() if each.takes_traffic]
        there = {each.spec.engine_id for each in engines}
        self._unwanted_since = {key: since for key, since in self._unwanted_since.items() if key[0] in there}
        return [problem for service in services for problem in self._keep(service, engines)]

    def _keep(self, service: Service, engines: Sequence[Engine]) -> Sequence[str]:
        asleep = read_asleep(self._store, service.name)  # would load nothing before they wake
        mine = [each for each in engines if service_of(each) == service.name and each.spec.engine_id not in asleep]
        versions = {a.loaded_as(v.number): v for a in service.adapters for v in a.served}
        found, problems = dict[EngineId, tuple[str, ...]](), dict[str, str]()
        for engine in mine:
            wanted = self._made_for(service, engine, versions, problems)
            found[engine.spec.engine_id] = self._made_true(engine, wanted, problems)
        self._write(service.name, LoadedAdapters(engines=found, problems=problems))
        return tuple(problems.values())

    def _made_for(
        self, service: Service, engine: Engine, versions: Mapping[str, AdapterVersion], problems: dict[str, str]
    ) -> Mapping[str, str]:
        """Return by name what an engine is to have: not what was made for another model than it serves."""
        wanted = dict[str, str]()
        for name, version in versions.items():
            if version.base is None or is_base(self._store, service, version.base, engine.spec.model):
                wanted[name] = version.path
            else:
                engine_id, serves = engine.spec.engine_id, engine.spec.model
                problems[name] = f"{version.path} was made for {version.base}; {engine_id} serves {serves}"
        return wanted

    def _made_true(self, engine: Engine, wanted: Mapping[str, str], problems: dict[str, str]) -> tuple[str, ...]:
        """Return what an engine has loaded now."""
        try:
            loaded = set(self._loader.loaded(engine))
        except FleetuneError as error:
            problems[engine.spec.engine_id] = str(error)
            return ()
        for name in sorted(wanted.keys() - loaded):
            try:
                self._loader.load(engine, name, wanted[name])
                loaded.add(name)
            except FleetuneError as error:  # one bad adapter does not keep the others away
                problems[name] = str(error)
        for name in wanted:  # once it is unwanted again its grace begins anew
            self._unwanted_since.pop((engine.spec.engine_id, name), None)
        loaded -= self._unload(engine, {name for name in loaded if is_ours(name)} - wanted.keys(), problems)
        return tuple(sorted(loaded & wanted.keys()))

    def _unload(self, engine: Engine, unwanted: set[str], problems: dict[str, str]) -> set[str]:
        gone, now = set[str](), self._monotonic()
        for name in unwanted:
            since = self._unwanted_since.setdefault((engine.spec.engine_id, name), now)
            if now - since < GRACE_S:
                continue
            try:
                self._loader.unload(engine, name)
                gone.add(name)
                del self._unwanted_since[engine.spec.engine_id, name]
            except FleetuneError as error:
                problems[name] = str(error)
        return gone

    def _write(self, service: ServiceName, found: LoadedAdapters) -> None:
        try:
            write_loaded(self._store, service, found)
        except StaleVersion:  # another controller took over: the next pass looks again
            return
