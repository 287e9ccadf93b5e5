"""The fleet check: the recommended replicas side by side, behind a gateway, loaded once with the target rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.domain.base import RevisionId
from controlplane.domain.fleet import Engine
from controlplane.domain.report import Validity
from controlplane.domain.routing import Backend, RevisionRoute, ServiceRoute
from controlplane.domain.service import ServiceSpec
from controlplane.domain.study import Trial, TrialState
from controlplane.ports import GatewayOpener
from controlplane.services.studies.run_trial import url_of
from controlplane.services.studies.trial_engine import TrialEngines, TrialProgress
from controlplane.services.studies.trial_level import LevelLoad, LevelRunner


@dataclass(frozen=True)
class FleetCheckRunner:
    """Feasible when the fleet met every limit, infeasible when it missed one, failed when the experiment broke."""

    engines: TrialEngines
    levels: LevelRunner
    gateways: GatewayOpener

    def run(self, trial: Trial, spec: ServiceSpec, load: LevelLoad) -> Trial:
        """Return the finished trial. Engines and gateway are gone when this returns or raises. Raises Interrupted."""

        def measure(ready: Trial, engines: Sequence[Engine]) -> Trial:
            return self._check(ready, engines, spec, load)

        return self.engines.run(trial, spec, measure)

    def _check(self, trial: Trial, engines: Sequence[Engine], spec: ServiceSpec, load: LevelLoad) -> Trial:
        self.engines.on_progress(TrialProgress(trial, "opening a gateway"))
        folder = self.levels.folder(trial) / "gateway"
        with self.gateways.open(_route(spec, engines), folder=folder) as url:
            level, outcome = self.levels.run(trial, spec, url, load)
        trial = trial.evolve(levels=(level,))
        if (died := self.engines.died(trial, engines)) is not None:
            return died
        if level.report.validity is Validity.INVALID:
            why = level.report.invalid_reason or outcome.reason
            return self.engines.ended(trial, TrialState.FAILED, f"load test invalid: {why}")
        if outcome.passed:
            return self.engines.ended(trial, TrialState.FEASIBLE, None)
        return self.engines.ended(trial, TrialState.INFEASIBLE, f"at {load.rate_rps:.3g} requests/s {outcome.reason}")


def _route(spec: ServiceSpec, engines: Sequence[Engine]) -> ServiceRoute:
    backends = tuple(
        Backend(engine_id=engine.spec.engine_id, url=url_of(engine), api_key=engine.spec.api_key) for engine in engines
    )
    revision = RevisionRoute(revision=RevisionId("fleet-check"), weight_percent=100, backends=backends)
    return ServiceRoute(service=spec.name, model=spec.model.name, revisions=(revision,), options=spec.gateway)
