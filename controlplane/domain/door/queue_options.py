"""How requests beyond what replicas sustain wait at the gateway."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, model_validator

from controlplane.domain.base import Value
from controlplane.domain.door.identity import PriorityClass


class QueueOptions(Value):
    """Off, engines queue for themselves: first come, first served."""

    enabled: bool = False
    concurrency_limit: int | None = Field(
        default=None, ge=1, description="Requests a replica is given at once. None: as measured; unknown: no queue."
    )
    most_waiting: int = Field(default=1000, ge=1, description="More are refused with 503, the least first.")
    max_wait_s: float = Field(default=30, gt=0, description="Whoever waited so long gets a 503.")
    batch_max_wait_s: float = Field(default=600, gt=0, description="The same for the class batch.")
    vip_reserve_percent: float = Field(
        default=10,
        ge=0,
        le=50,
        description="Of all places, kept free of other classes where some caller is vip, and more "
        "where more vips come; 0: none.",
    )
    vip_beyond_percent: float = Field(
        default=20,
        ge=0,
        le=50,
        description="Of all places, how many more vips may take than there are, rounded up: an engine that has "
        "more to do is a little slower for all, and a place is a long wait; 0: none.",
    )
    classes: Mapping[str, PriorityClass] = Field(
        default_factory=dict, description="By tenant; a key's or token's own class goes before. Others are normal."
    )
    weights: Mapping[PriorityClass, float] = Field(
        default={PriorityClass.VIP: 100, PriorityClass.NORMAL: 20, PriorityClass.BATCH: 1},
        description="Shares of the tokens that classes get while they all wait.",
    )

    @model_validator(mode="after")
    def _weighted(self) -> QueueOptions:
        if set(self.weights) != set(PriorityClass) or any(not 0 < each < 1e6 for each in self.weights.values()):
            raise ValueError("weights: vip, normal and batch each need a share above 0")
        return self

    def wait_s(self, priority: PriorityClass) -> float:
        """Return how long a class may wait."""
        return self.batch_max_wait_s if priority is PriorityClass.BATCH else self.max_wait_s

    def granted(self, tenant: str, own: PriorityClass | None, wished: PriorityClass | None) -> PriorityClass:
        """Return the class of a request: the caller's own, else its tenant's; a wish may only lower it."""
        best = own or self.classes.get(tenant, PriorityClass.NORMAL)
        return best if wished is None else max(best, wished, key=list(PriorityClass).index)
