"""Which LoRA adapters a study's trials load and ask for, where `tuning.adapters` leaves it to the service."""

from __future__ import annotations

from controlplane.domain.adapters import ServedAdapter
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.service import ServiceSpec
from controlplane.domain.serving import Service
from controlplane.domain.studies.tuning_options import TrialAdapter
from controlplane.ports.store import Store
from controlplane.services.adapters.manage import check_config
from controlplane.services.adapters.shares import SeenShares, read_shares


def with_adapters(store: Store, service: Service, spec: ServiceSpec, baseline: EngineConfig) -> ServiceSpec:
    """Return the service with the adapters that its trials load, each with its share of the requests.

    Those that it declares, else those that it serves, by what users asked for in the last day: a share that nobody saw
    is none, the adapter is loaded and not asked for. Raises InvalidInput where engines load no adapters.
    """
    if spec.tuning.adapters is None and service.adapters:
        seen = read_shares(store, service.name)
        found = {each.name: _trial_adapter(each, seen) for each in service.adapters}
        spec = spec.evolve(tuning=spec.tuning.evolve(adapters=found))
    if spec.tuning.adapters:
        check_config(spec, baseline)
    return spec


def _trial_adapter(adapter: ServedAdapter, seen: SeenShares) -> TrialAdapter:
    number = adapter.stable or adapter.canary
    path = next(version.path for version in adapter.versions if version.number == number)
    return TrialAdapter(path=path, share_percent=round(seen.percent(adapter.name), 2))
