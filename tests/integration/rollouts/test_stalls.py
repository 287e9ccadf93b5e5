"""A canary that falls silent in the middle of its answers, until clients give up: on twins, in virtual time."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from controlplane.domain.base import EngineId
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.rollouts.rollout_options import RolloutOptions, StepSpec
from tests.builders_serving import CHAT
from tests.integration.rollouts.living_site import LivingSite
from tests.integration.rollouts.test_load_matched import AS_GOOD, AT_ONCE

SILENT_AFTER = 5
PATIENCE_S = 8.0  # less than any time-out of the gateway, more than the 2.5 s that a stream may be silent here
ONE_IN_THREE = 3


@dataclass
class SilentSite(LivingSite):
    """Every third answer of the canary's engines ends, without an end, after a few tokens; users leave in time."""

    left: set[int] = field(default_factory=set)

    def _emitted(self, engine_id: EngineId, number: int, tokens: int, finished: bool, at_s: float) -> None:
        request = self._flying.get(number)
        if request is None or not (self._is_silenced(engine_id, number) and request.tokens >= SILENT_AFTER):
            super()._emitted(engine_id, number, tokens, finished, at_s)

    def _is_silenced(self, engine_id: EngineId, number: int) -> bool:
        canary = self.store.list_rollouts(CHAT)[:1]
        mine = canary and str(self.fleet.observe(engine_id).spec.owner).endswith(str(canary[0].value.canary))
        return bool(mine) and number % ONE_IN_THREE == 0

    def tick(self) -> None:
        super().tick()
        for number, each in list(self._flying.items()):
            if each.revision is not None and each.last_s is not None and self.now_s - each.last_s > PATIENCE_S:
                self._leave(number)

    def _leave(self, number: int) -> None:
        request = self._flying[number]
        record = self._as_gateway_record(number, request.engine_id, request, self.now_s)
        silent_ms = 1e3 * (self.now_s - (request.last_s or 0.0))
        self.records.add(record.evolve(client_gone=True, tpot_ms=20.0, silent_ms=silent_ms))
        self.left.add(number)
        self.cancel(number)


def test_a_canary_that_falls_silent_under_replayed_requests_is_aborted_before_any_user() -> None:
    site = SilentSite(users_rps=6)
    rollout = site.roll_out(AS_GOOD, within_s=300)
    assert rollout.state is RolloutState.ABORTED
    assert "replayed requests to the canary hang" in rollout.reason
    assert site.users_of(rollout.canary) == 0


def test_users_who_leave_a_silent_stream_are_misses_of_its_canary() -> None:
    """Nothing is replayed, and nobody stays until the five limits after which what is in flight hangs."""
    steps = (StepSpec(weight_percent=20, max_s=600), *AT_ONCE[2:])
    site = SilentSite(users_rps=6, options=RolloutOptions(steps=steps, match_load=False))
    rollout = site.roll_out(AS_GOOD, within_s=600)
    assert site.left
    assert rollout.state is RolloutState.ABORTED
    assert "SLO misses +" in rollout.reason
    assert rollout.steps[-1].weight_percent == 20
    assert site.clock() - rollout.steps[-1].started_at < timedelta(seconds=200)
