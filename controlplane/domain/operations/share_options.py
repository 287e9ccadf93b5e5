"""What a service says about sharing GPUs with other services, in service.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from controlplane.domain.base import Value
from controlplane.domain.engines.flags import FlagValue
from controlplane.domain.operations.autoscale_options import AutoscaleOptions

DEFAULT_UTILIZATION = 0.9
"""vLLM's own of gpu-memory-utilization, 0.26."""


class ShareOptions(Value):
    """One replica on GPUs that replicas of other services hold too: some are awake, the others sleep."""

    pool: str = Field(
        pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$",
        description="Services that say the same name share the same GPUs.",
    )
    awake: int = Field(
        default=1, ge=1, le=16, description="How many of them may be awake at once; of members that differ the least."
    )
    level: Literal[1, 2] = Field(
        default=1, description="1: weights wait in host memory. 2: they are dropped, and read again when it wakes."
    )
    min_awake_s: float = Field(default=10, ge=0, description="Stays awake at least so long.")
    turn_s: float = Field(
        default=60, gt=0, description="Goes to sleep after so long though it is asked, where others wait."
    )
    hold_s: float = Field(default=120, gt=0, description="A request held for a sleeping one gets 503 after so long.")
    most_held: int = Field(default=100, ge=0, description="Requests held by one gateway; beyond it 503.")

    @model_validator(mode="after")
    def _ordered(self) -> ShareOptions:
        if self.turn_s < self.min_awake_s:
            raise ValueError(f"turn_s {self.turn_s:g} is below min_awake_s {self.min_awake_s:g}")
        return self


def check_shared(
    shares: ShareOptions,
    autoscale: AutoscaleOptions,
    flags: Mapping[str, FlagValue],
    replicas: int,
    *,
    on_cluster: bool,
) -> None:
    """Raise ValueError for a service that cannot share its GPUs. `flags` are named as canonical."""
    if autoscale.enabled:
        raise ValueError("shares: a service that shares GPUs has one replica: autoscale.enabled cannot be true")
    if replicas > 1:
        raise ValueError(f"shares: a service that shares GPUs has one replica, not initial_replicas {replicas}")
    if on_cluster:
        raise ValueError("shares: on a cluster a pod has its GPUs for itself; leave out kubernetes or shares")
    share = flags.get("gpu-memory-utilization", DEFAULT_UTILIZATION)
    if shares.awake > 1 and isinstance(share, int | float) and share * shares.awake > 1:
        need = f"engine.flags gpu-memory-utilization of at most {1 / shares.awake:.2f}"
        raise ValueError(f"shares: {shares.awake} engines awake on the same GPUs need {need}, it is {share:g}")
