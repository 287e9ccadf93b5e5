"""The fleet check: the recommended replicas side by side, behind a gateway, loaded with the target rate until it is
clear whether they hold it; one more engine joins those that run when they do not, one fewer is loaded when they do.
Spare replicas (N+1) run and get no load: the fleet must hold without them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from controlplane.domain.base import RevisionId
from controlplane.domain.door.routing import AdapterPart, AdapterRoute, Backend, RevisionRoute, ServiceRoute
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.errors import Unavailable
from controlplane.domain.report import Validity
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.study import Trial, TrialState
from controlplane.ports.gateways import GatewayOpener, OpenGateway
from controlplane.services.studies.run_trial import url_of
from controlplane.services.studies.trial_engine import TrialEngines, TrialProgress
from controlplane.services.studies.trial_level import LevelLoad, LevelRunner, broken
from tuner.answer.fewer import told
from tuner.answer.fleet_check import Move


class FleetPlan(NamedTuple):
    """How a check goes on: each is asked with the trial as it is then."""

    load: Callable[[Trial], LevelLoad]
    move: Callable[[Trial], Move]
    cannot_grow: Callable[[Trial], str | None]
    cannot_shrink: Callable[[Trial], str | None]


@dataclass(frozen=True)
class FleetCheckRunner:
    """Feasible when the fleet met every limit, infeasible when it missed one, failed when the experiment broke."""

    engines: TrialEngines
    levels: LevelRunner
    gateways: GatewayOpener

    def run(self, trial: Trial, spec: ServiceSpec, plan: FleetPlan) -> Trial:
        """Return the finished trial. Engines, gateway and what loads them are gone when this returns or raises.

        Raises Interrupted.
        """

        def measure(ready: Trial, engines: Sequence[Engine]) -> Trial:
            return self._check(ready, engines, spec, plan)

        try:
            return self.engines.run(trial, spec, measure)
        finally:
            self.levels.rest()

    def _check(self, trial: Trial, engines: Sequence[Engine], spec: ServiceSpec, plan: FleetPlan) -> Trial:
        running = list(engines)
        while True:
            trial = self._loaded(trial, running[: trial.loaded_replicas], spec, plan)
            if trial.state is not TrialState.RUNNING:
                return trial
            if (move := plan.move(trial)) is Move.HELD:
                trial = trial.evolve(held_replicas=trial.loaded_replicas)
                if plan.cannot_shrink(trial) is None:
                    self.engines.save(trial)
                    continue
            if move in (Move.HELD, Move.ENOUGH):
                return self.engines.ended(trial, TrialState.FEASIBLE, told(trial))
            if (why := plan.cannot_grow(trial)) is not None:
                return self.engines.ended(trial, TrialState.INFEASIBLE, f"{_missed(trial)}; {why}")
            trial, joined = self.engines.grow(trial, spec)
            if joined is None:
                return trial
            running.append(joined)

    def _loaded(self, trial: Trial, engines: Sequence[Engine], spec: ServiceSpec, plan: FleetPlan) -> Trial:
        """Load a fleet of one size, level after level, until it is clear; return the trial, ended when it broke."""
        spare = trial.spared(spec.tuning.objective.spare_replicas)
        self.engines.on_progress(TrialProgress(trial, _opening(trial, spare)))
        folder = self.levels.folder(trial) / f"gateway-{len(engines)}"
        with self.gateways.open(_route(spec, engines[: len(engines) - spare]), folder=folder) as gateway:
            while plan.move(trial) is Move.AGAIN:
                trial = self._one_more(trial, engines, spec, gateway, plan)
                if trial.state is not TrialState.RUNNING:
                    break
        return trial

    def _one_more(
        self, trial: Trial, engines: Sequence[Engine], spec: ServiceSpec, gateway: OpenGateway, plan: FleetPlan
    ) -> Trial:
        load = plan.load(trial)._replace(api_key=gateway.api_key)
        try:
            level, _ = self.levels.run(trial, spec, gateway.url, load)
        except Unavailable as error:
            if trial.held_replicas is None:
                raise
            return self._spoilt(trial, str(error))
        trial = trial.evolve(levels=(*trial.levels, level))
        self.engines.save(trial)
        if (died := self.engines.died(trial, engines)) is not None:
            return died
        if (why := broken(trial)) is not None:
            return self._spoilt(trial, why)
        for engine in engines:
            self.engines.settle(engine)
        return trial

    def _spoilt(self, trial: Trial, why: str) -> Trial:
        """Return the trial ended by levels that tell nothing: what held before held."""
        if trial.held_replicas is not None:
            return self.engines.ended(trial, TrialState.FEASIBLE, f"one replica fewer was not measured: {why}")
        return self.engines.ended(trial, TrialState.FAILED, why)


def _opening(trial: Trial, spare: int) -> str:
    left = f", {spare} of them without load: the fleet is to do without" if spare else ""
    if trial.held_replicas is None:
        return f"opening a gateway{left}"
    return f"opening a gateway to {trial.loaded_replicas} of {trial.replicas} replicas{left}: they may be enough"


def _missed(trial: Trial) -> str:
    """Say where the last level that missed did."""
    valid = [level for level in trial.levels if level.report.validity is Validity.VALID]
    level = next((each for each in reversed(valid) if not each.passed), valid[-1])
    return f"at {level.rate_rps:.3g} requests/s {level.reason}"


def _route(spec: ServiceSpec, engines: Sequence[Engine]) -> ServiceRoute:
    backends = tuple(
        Backend(engine_id=engine.spec.engine_id, url=url_of(engine), api_key=engine.spec.api_key) for engine in engines
    )
    revision = RevisionRoute(revision=RevisionId("fleet-check"), weight_percent=100, backends=backends)
    everywhere = tuple(engine.spec.engine_id for engine in engines)
    adapters = tuple(
        AdapterRoute(name=name, parts=(AdapterPart(loaded_as=name, share_percent=100, engines=everywhere),))
        for name in spec.tuning.adapters or {}
    )
    return ServiceRoute(
        service=spec.name, model=spec.model.name, revisions=(revision,), options=spec.gateway, adapters=adapters
    )
