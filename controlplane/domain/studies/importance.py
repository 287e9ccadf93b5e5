"""What a flag did to the cost in a study, and how sure that is."""

from __future__ import annotations

from pydantic import Field

from controlplane.domain.base import Value
from controlplane.domain.engines.flags import FlagValue


class Importance(Value):
    """A flag's effect with a 95 % interval, as a share: 0.25 is a quarter dearer."""

    flag: str
    effect: float = Field(description="Cost per request at the worst value tried over its best, less 1.")
    low: float
    high: float
    best: FlagValue | None = Field(description="The value with the lowest cost; None is the engine's default.")
    told_apart: bool = Field(
        default=True,
        description="False: only ever changed together with another flag; which of them it was is not known.",
    )
