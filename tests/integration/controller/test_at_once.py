"""Two things at once that each have a rule of their own: a canary under way, and GPUs that go or traffic that stops."""

from __future__ import annotations

from controlplane.domain.operations.autoscale_options import AutoscaleOptions
from controlplane.domain.rollouts.rollout import RolloutState
from tests.integration.controller.site import Site
from tests.integration.controller.test_spot import Spot

ENDED = {RolloutState.PROMOTED, RolloutState.ABORTED}


def test_a_canary_whose_spot_gpu_is_taken_back_is_judged_on_its_requests() -> None:
    place = Spot(replicas=2, floor=0)
    site = place.site
    site.roll_out()
    site.passes_until(RolloutState.PROGRESSING)
    canary = [each for each in place.on(spot=True) if str(each.spec.owner).endswith(f"/{site.rollout.canary}")]
    assert len(canary) == 1, "without a floor a canary is spot too"
    place.take_back(canary[0].gpu_indices[0], within_s=30)
    for _ in range(120):
        place.keeper.run()
        site.passes(1, requests=400)
        if site.rollout.state in ENDED:
            break
    assert place.events("engine.reclaimed") == [f"engine/{canary[0].spec.engine_id}"]
    assert site.rollout.state is RolloutState.PROMOTED, site.rollout.reason


def test_a_canary_without_requests_lets_nobody_scale_to_zero() -> None:
    site = Site()
    site.serving(autoscale=AutoscaleOptions(enabled=True, min_replicas=0, zero_after_s=60, capacity_rps=2, window_s=15))
    site.passes(30, requests=1)
    site.roll_out(replicas=1)
    site.passes(200)
    assert site.rollout.state not in ENDED
    assert site.service.stable_replicas == 1
    assert all(each.backends for each in site.table.services[0].revisions), "both arms still answer"
