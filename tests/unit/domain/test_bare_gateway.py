"""What is left of a service's gateway options where nobody's requests but our own pass."""

from __future__ import annotations

from controlplane.domain.door.caching import CacheMode, CacheOptions
from controlplane.domain.door.gateway_options import GatewayOptions
from controlplane.domain.door.queue_options import QueueOptions


def test_times_and_choice_stay_and_what_is_for_users_goes() -> None:
    users = GatewayOptions.model_validate(
        {"tenant_limits": {"requests_per_minute": 60}, "limits_of": {"acme": {"requests_per_minute": 1}}}
    ).evolve(
        stall_timeout_s=7,
        max_retries=0,
        fallback="small",
        cache=CacheOptions(mode=CacheMode.GREEDY),
        queue=QueueOptions(enabled=True),
    )
    assert users.bare == GatewayOptions(stall_timeout_s=7, max_retries=0)
