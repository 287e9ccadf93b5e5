"""A canary whose engines strain where stable's do not: on twins, in virtual time, with users from the first step on."""

from __future__ import annotations

import pytest

from controlplane.domain.rollouts.rollout import RolloutState
from controlplane.domain.rollouts.rollout_options import RolloutOptions
from tests.integration.rollouts.living_site import BF16, LivingSite
from tests.integration.rollouts.test_load_matched import AS_GOOD, AT_ONCE


@pytest.mark.parametrize(("share", "seed"), [(0.5, 12), (0.52, 21)])
def test_too_little_memory_for_the_kv_cache_is_found_before_it_hurts(share: float, seed: int) -> None:
    site = LivingSite(users_rps=6, seed=seed, options=RolloutOptions(steps=AT_ONCE))
    rollout = site.roll_out(BF16.with_flags({"gpu-memory-utilization": share}), within_s=300)
    assert rollout.state is RolloutState.ABORTED
    analysis = rollout.steps[-1].analysis
    assert analysis is not None
    assert analysis.guard == "engine_strain"
    assert "where one of stable would preempt 0.0" in rollout.reason
    assert site.users_of(rollout.canary) > 0
    assert site.users_hurt(rollout.canary) <= 5


@pytest.mark.parametrize(("full_after", "seed"), [(600, 4), (150, 41)])
def test_memory_that_leaks_is_seen_before_it_is_full_and_breaks_off_what_is_in_flight(
    full_after: int, seed: int
) -> None:
    """When it was full after 600 requests, 14 users' requests were broken off at 20 %."""
    site = LivingSite(
        users_rps=6, seed=seed, leaks=AS_GOOD, leaks_after=full_after, options=RolloutOptions(steps=AT_ONCE)
    )
    rollout = site.roll_out(AS_GOOD, within_s=300)
    assert rollout.state is RolloutState.ABORTED
    analysis = rollout.steps[-1].analysis
    assert analysis is not None
    assert analysis.guard == "memory_growth"
    assert site.users_of(rollout.canary) > 0
    assert site.users_hurt(rollout.canary) == 0
