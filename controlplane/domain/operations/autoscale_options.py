"""What a user says about scaling in service.yaml."""

from __future__ import annotations

from pydantic import Field, model_validator

from controlplane.domain.base import Value


class AutoscaleOptions(Value):
    """Replicas that follow the offered load. Off unless asked for: what scales by itself spends money by itself."""

    enabled: bool = False
    dry_run: bool = Field(default=False, description="Decide and say so, change nothing.")
    min_replicas: int = Field(
        default=1, ge=0, description="0: none runs after zero_after_s without a request; the next one starts one."
    )
    zero_after_s: float = Field(default=900, ge=60, description="With min_replicas 0. Wall clock.")
    hold_s: float = Field(default=300, gt=0, description="A request held for the first replica gets 503 after so long.")
    most_held: int = Field(default=100, ge=0, description="Requests held by one gateway; beyond it 503.")
    max_replicas: int | None = Field(default=None, ge=1, description="None: what the GPUs and max_usd_per_hour allow.")
    headroom: float | None = Field(
        default=None, ge=0, lt=1, description="Share of each replica's capacity kept free. None: the objective's."
    )
    spare_replicas: int | None = Field(default=None, ge=0, description="1 is N+1. None: the objective's.")
    window_s: float = Field(default=60, ge=15, le=600, description="Over which the offered load is measured.")
    scale_in_after_s: float = Field(
        default=600, ge=60, description="So long fewer replicas must have been enough before one goes."
    )
    capacity_rps: float | None = Field(
        default=None, gt=0, description="What one replica sustains, where no study measured it. Engine time."
    )
    startup_s: float | None = Field(default=None, gt=0, description="Of one replica. None: as studies saw it.")
    warm_replicas: int = Field(
        default=0, ge=0, description="Engines of stable started beyond its replicas, without traffic: they come first."
    )
    warm_asleep: bool = Field(
        default=False,
        description="Warm engines sleep, their weights in host memory. Needs engine.flags enable-sleep-mode: true and "
        "engine.env VLLM_SERVER_DEV_MODE: '1'.",
    )
    forecast: bool = Field(default=True, description="Start replicas before the load of yesterday's hour comes back.")

    @property
    def keeps_warm(self) -> int:
        """Return how many engines are kept warm beyond the replicas."""
        return self.warm_replicas if self.enabled and not self.dry_run else 0

    @property
    def scales_to_zero(self) -> bool:
        """Say whether a service may be without a replica on purpose."""
        return self.enabled and not self.dry_run and self.min_replicas == 0

    @model_validator(mode="after")
    def _ordered(self) -> AutoscaleOptions:
        if self.max_replicas is not None and self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas {self.max_replicas} is below min_replicas {self.min_replicas}")
        return self
