"""What is sent and when: request shapes, arrivals and a seed."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, model_validator

from controlplane.domain.base import Value


class ArrivalProcess(StrEnum):
    TRACE = "trace"  # the trace's own timestamps, scaled to the wanted rate
    POISSON = "poisson"
    GAMMA = "gamma"  # burstiness = shape: 1 is Poisson, below 1 burstier
    CONSTANT = "constant"


class Lengths(Value):
    """Lognormal token lengths, cut at both ends. `cv` is the coefficient of variation; 0 means all equal."""

    mean: float = Field(gt=0)
    cv: float = Field(default=0, ge=0)
    min: int = Field(default=1, ge=1)
    max: int = Field(default=131072, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Lengths:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class Arrivals(Value):
    process: ArrivalProcess = ArrivalProcess.POISSON
    burstiness: float = Field(default=1.0, gt=0, description="Gamma shape; only for process gamma.")


class TracePart(StrEnum):
    """Which rows of a trace are used: a study searches on the first three quarters and confirms on the rest."""

    ALL = "all"
    SEARCH = "search"
    HELD_OUT = "held_out"


class TraceWorkload(Value):
    """Requests shaped by a recorded trace (lengths in a seeded order)."""

    kind: Literal["trace"] = "trace"
    trace: str = Field(
        examples=["azure-llm-2023/conv"],
        description="Name of a shipped trace, or a file: from where you are, or beside service.yaml.",
    )
    arrivals: Arrivals = Arrivals()
    rate_rps: float | None = Field(default=None, gt=0, description="Offered rate; None keeps the trace's own.")
    max_prompt_tokens: int = Field(default=7000, ge=1, description="Longer prompts are cut to this.")
    max_output_tokens: int = Field(default=1000, ge=1, description="Longer answers are cut to this.")
    max_cut_share: float = Field(
        default=0.1, ge=0, le=1, description="Refused when more of the trace's rows are longer than the two limits."
    )
    part: TracePart = TracePart.ALL
    seed: int = 0


class SyntheticWorkload(Value):
    """Requests with lengths drawn from distributions."""

    kind: Literal["synthetic"] = "synthetic"
    prompt_tokens: Lengths
    output_tokens: Lengths
    shared_prefix_share: float = Field(default=0, ge=0, le=1)
    arrivals: Arrivals = Arrivals()
    rate_rps: float | None = Field(default=None, gt=0)
    seed: int = 0


Workload = Annotated[TraceWorkload | SyntheticWorkload, Field(discriminator="kind")]


def has_own_arrivals(workload: Workload) -> bool:
    """Say whether requests come as they do in the trace, with its bursts."""
    return isinstance(workload, TraceWorkload) and workload.arrivals.process is ArrivalProcess.TRACE
