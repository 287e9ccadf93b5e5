"""Canaries whose answers are quick and wrong: on twins, in virtual time, with few users."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from controlplane.domain.base import EngineId
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.rollouts.rollout_options import RolloutOptions, StepSpec
from tests.builders_serving import CHAT
from tests.integration.rollouts.living_site import SPEC, LivingSite
from tests.integration.rollouts.site_requests import Request
from tests.integration.rollouts.test_load_matched import AS_GOOD, QUICK

FEW_RPS = 0.6
FEW_USERS = SPEC.evolve(slos=SPEC.slos.evolve(target_qps=FEW_RPS))


@dataclass
class OddSite(LivingSite):
    """The canary's answers to users have `odd` fields; what is replayed to it ends after a token where `short`."""

    odd: dict[str, Any] = field(default_factory=dict)
    short: bool = False

    def _is_canarys(self, engine_id: EngineId) -> bool:
        found = self.store.list_rollouts(CHAT)[:1]
        return bool(found) and str(self.fleet.observe(engine_id).spec.owner).endswith(str(found[0].value.canary))

    def _as_gateway_record(self, number: int, engine_id: EngineId, request: Request, at_s: float) -> GatewayRecord:
        plain = super()._as_gateway_record(number, engine_id, request, at_s).evolve(stop="stop", other_model=False)
        return plain.evolve(**self.odd) if self._is_canarys(engine_id) else plain

    def _emitted(self, engine_id: EngineId, number: int, tokens: int, finished: bool, at_s: float) -> None:
        ended = self.short and self._is_canarys(engine_id)
        super()._emitted(engine_id, number, tokens, finished or ended, at_s)


def test_replayed_answers_of_one_token_abort_before_any_user() -> None:
    site = OddSite(users_rps=6, seed=41, short=True)
    rollout = site.roll_out(AS_GOOD, within_s=300)
    assert rollout.state is RolloutState.ABORTED
    assert "canary answers are over after a token" in rollout.reason
    assert site.users_of(rollout.canary) == 0


def test_a_wrong_model_is_seen_at_a_request_a_minute() -> None:
    """It got some two a minute, of which no minute had ten; replayed requests passed each step."""
    steps = (StepSpec(weight_percent=5, max_s=1800), StepSpec(weight_percent=100))
    site = OddSite(
        users_rps=FEW_RPS, spec=FEW_USERS, seed=42, options=QUICK.evolve(steps=steps), odd={"other_model": True}
    )
    rollout = site.roll_out(AS_GOOD, within_s=1700)
    assert rollout.state is RolloutState.ABORTED
    assert "name another model" in rollout.reason


def test_where_stable_serves_nobody_beside_it_answers_are_held_to_what_it_gave_before() -> None:
    everybody = RolloutOptions(steps=(StepSpec(weight_percent=100, max_s=900),))
    site = OddSite(users_rps=6, seed=43, options=everybody, odd={"output_tokens": 1})
    rollout = site.roll_out(AS_GOOD, within_s=300)
    assert rollout.state is RolloutState.ABORTED
    assert "over after a token" in rollout.reason
    assert site.users_of(rollout.canary) < 60


def test_replayed_requests_that_lie_in_flight_beyond_a_limit_are_misses_while_others_go_on() -> None:
    """So few do not hang the canary, and have no record before sending ends: a step passed without them."""
    short = (StepSpec(weight_percent=0, max_s=85), StepSpec(weight_percent=100))
    site = OddSite(users_rps=6, seed=44, hangs=AS_GOOD, hang_every=140, options=RolloutOptions(steps=short))
    rollout = site.roll_out(AS_GOOD, within_s=110)
    assert rollout.state is RolloutState.PAUSED
    assert rollout.steps[0].analysis is not None
    (misses,) = (c for c in rollout.steps[0].analysis.comparisons if c.replayed and c.name == "slo_miss_ratio")
    recorded = rollout.steps[0].analysis.replayed
    assert recorded is not None
    assert misses.canary_ratio > recorded.slo_misses / recorded.told
