"""Collect what the rollout policy decides on: engines, exits, shortage, and the judgement of live records."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from controlplane.domain.analysis import Analysis, Counts
from controlplane.domain.base import RevisionId
from controlplane.domain.errors import Unavailable
from controlplane.domain.judge import Control, Evidence, Outcome, add, could_not_measure, guard, judge, outcomes, tally
from controlplane.domain.rollout import Rollout, StepRecord
from controlplane.domain.rollout_policy import Facts
from controlplane.ports import RecordSource, Store
from controlplane.services.fleet.engines import Trouble
from controlplane.services.fleet.world import World, exits


class FactFinder:
    """Looks at the world of one service whose rollout is under way."""

    def __init__(self, *, store: Store, records: RecordSource) -> None:
        self._store = store
        self._records = records

    def facts(self, world: World, troubles: Sequence[Trouble], *, unrouted: str | None, now: datetime) -> Facts:
        """Return the facts of this pass; `unrouted` says why gateways do not route as asked, if so."""
        rollout = world.rollout
        assert rollout is not None, "facts are about a rollout"
        ended = exits(world.of(rollout.canary))
        mine = [trouble for trouble in troubles if trouble.revision == rollout.canary]
        return Facts(
            canary_ready=len(world.ready(rollout.canary)),
            canary_present=len(world.present(rollout.canary)),
            stable_present=0 if rollout.stable == rollout.canary else len(world.present(rollout.stable)),
            exits=len(ended),
            exit_reason=_reason(ended[-1].failure, ended[-1].failure_detail) if ended else "",
            refused=next((trouble.reason for trouble in mine if trouble.for_good), None),
            shortage=next((trouble.reason for trouble in mine if not trouble.for_good), None),
            analysis=self._analysis(world, rollout, unrouted, now),
        )

    def _analysis(self, world: World, rollout: Rollout, unrouted: str | None, now: datetime) -> Analysis | None:
        if not rollout.steps or rollout.stable is None or rollout.weight_percent == 0:
            return None
        step = rollout.steps[-1]
        try:
            canary = self._outcomes(rollout.canary, step.started_at)
            stable = self._outcomes(rollout.stable, step.started_at)
        except Unavailable as error:
            return could_not_measure(f"live records cannot be read: {error}", now, step.analysis)
        slos, options = world.service.spec.slos, rollout.options
        evidence = _evidence(rollout, step, tally(canary, slos), tally(stable, slos))
        hit = guard(canary, evidence, options, now)
        if hit is not None:
            return hit
        if unrouted is not None:
            return could_not_measure(f"the gateways do not route as asked: {unrouted}", now, step.analysis)
        return judge(evidence, slos, options, options.steps[step.index], started_at=step.started_at, now=now)

    def _outcomes(self, revision: RevisionId, since: datetime) -> Sequence[Outcome]:
        kept = self._store.get_revision(revision)
        records = self._records.read(kept.service, since=since, revision=revision)
        return outcomes(records, time_lapse=kept.engine.time_lapse)


def _evidence(rollout: Rollout, step: StepRecord, canary: Counts, stable: Counts) -> Evidence:
    if step.weight_percent < 100:
        return Evidence(canary=canary, stable=stable, control=Control.CONCURRENT)
    pooled = add(past.analysis.stable for past in _concurrent_steps(rollout) if past.analysis and past.analysis.stable)
    if pooled.requests == 0:
        return Evidence(canary=canary, stable=None, control=Control.LIMITS)
    return Evidence(canary=canary, stable=pooled, control=Control.EARLIER_STEPS)


def _concurrent_steps(rollout: Rollout) -> Sequence[StepRecord]:
    return [past for past in rollout.steps[:-1] if past.weight_percent < 100]


def _reason(failure: object, detail: str | None) -> str:
    return f"{failure}: {detail}" if detail else str(failure or "unknown")
