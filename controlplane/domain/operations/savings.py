"""What the recommendation that stable rests on saved against its baseline, from what really ran since. Pure.

At each moment so many replicas of stable hold GPUs. Together they sustain so many requests per second; the baseline
would have needed whole replicas of its own for as many, by the capacities that the study measured of both. Money is
counted only while it was watched: gaps of the controller's are in neither sum.
"""

from __future__ import annotations

import math

from pydantic import AwareDatetime, Field

from controlplane.domain.base import RevisionId, StudyId, Value
from controlplane.domain.hardware import GpuPool
from controlplane.domain.operations.spot import Held, SpotOptions
from controlplane.domain.studies.capacity import Capacity
from controlplane.domain.studies.study import StudyEvidence

LONGEST_GAP_S = 300.0
"""Between two looks; what was between looks that lie further apart is not counted."""


class Compared(Value):
    """One replica of each side: its capacity, and the GPUs that it takes."""

    winner: Capacity
    winner_gpus: int = Field(ge=1)
    baseline: Capacity
    baseline_gpus: int = Field(ge=1)


class Savings(Value):
    """Of one revision since it was promoted. USD; wall clock."""

    revision: RevisionId
    study_id: StudyId
    promoted_at: AwareDatetime
    watched_s: float = Field(default=0.0, ge=0, description="Seconds that are in the sums.")
    ran_usd: float = Field(default=0.0, ge=0, description="Of the GPUs that its engines held.")
    baseline_usd: float = Field(default=0.0, ge=0, description="Of those that the baseline would have held.")
    baseline_low_usd: float = Field(default=0.0, ge=0, description="The same at the 95 % limits of both capacities.")
    baseline_high_usd: float = Field(default=0.0, ge=0)
    looked_at: AwareDatetime | None = Field(default=None, description="Up to when it is counted.")

    @property
    def saved_usd(self) -> float:
        """Return what was saved; negative when the baseline would have been cheaper."""
        return self.baseline_usd - self.ran_usd


class Saved(Value):
    """What is shown of savings: per hour that was watched."""

    revision: RevisionId
    study_id: StudyId
    promoted_at: AwareDatetime
    watched_h: float
    saved_usd: float
    saved_usd_per_hour: float
    low_usd_per_hour: float = Field(description="With its 95 % interval.")
    high_usd_per_hour: float


def compared(evidence: StudyEvidence) -> Compared | None:
    """Return what a study measured of both sides, as confirmed where it was; None where one has no capacity."""
    baseline, winner = evidence.sides()
    if winner.capacity is None or baseline.capacity is None or baseline.capacity.rps <= 0:
        return None
    return Compared(
        winner=winner.capacity,
        winner_gpus=winner.trial.config.gpus_per_replica,
        baseline=baseline.capacity,
        baseline_gpus=baseline.trial.config.gpus_per_replica,
    )


def went_on(
    savings: Savings,
    sides: Compared,
    pool: GpuPool,
    *,
    held: Held,
    idle: Held | None = None,
    spot: SpotOptions | None = None,
    at: AwareDatetime,
) -> Savings:
    """Return the savings with the time since the last look, in which stable's engines held so many GPUs.

    `idle` ones were held by what is kept for a roll-back: paid for, and carrying nothing.
    """
    gap_s = 0.0 if savings.looked_at is None else (at - savings.looked_at).total_seconds()
    if not 0 < gap_s <= LONGEST_GAP_S:
        return savings.evolve(looked_at=at)
    hours, carried = gap_s / 3600, sum(held) / sides.winner_gpus

    def baseline_usd(winner_rps: float, baseline_rps: float) -> float:
        replicas = math.ceil(carried * winner_rps / baseline_rps - 1e-9)
        return hours * _as_spot_as(held, sides, spot, replicas).usd_per_hour(pool, spot)

    winner, baseline = sides.winner, sides.baseline
    idle_usd = 0.0 if idle is None else idle.usd_per_hour(pool, spot)
    return savings.evolve(
        watched_s=savings.watched_s + gap_s,
        ran_usd=savings.ran_usd + hours * (held.usd_per_hour(pool, spot) + idle_usd),
        baseline_usd=savings.baseline_usd + baseline_usd(winner.rps, baseline.rps),
        baseline_low_usd=savings.baseline_low_usd + baseline_usd(winner.low_rps, max(baseline.high_rps, baseline.rps)),
        baseline_high_usd=savings.baseline_high_usd
        + baseline_usd(winner.high_rps, baseline.low_rps if baseline.low_rps > 0 else baseline.rps),
        looked_at=at,
    )


def _as_spot_as(held: Held, sides: Compared, spot: SpotOptions | None, replicas: int) -> Held:
    """Return the GPUs of so many replicas of the baseline: its floor on demand, beyond it spot ones as often as stable.

    That spot GPUs are cheap is not the recommendation's doing: where stable has no replica beyond its floor the
    baseline's would all have been spot, which makes its saving the smaller one.
    """
    if spot is None:
        return Held(firm=replicas * sides.baseline_gpus)
    beyond = sum(held) / sides.winner_gpus - spot.on_demand_replicas
    share = min(1.0, held.spot / sides.winner_gpus / beyond) if beyond > 0 else 1.0
    taken = round(share * (replicas - spot.floor(replicas)))
    return Held(firm=(replicas - taken) * sides.baseline_gpus, spot=taken * sides.baseline_gpus)


def shown(savings: Savings) -> Saved | None:
    """Return savings per hour; None before anything was watched."""
    hours = savings.watched_s / 3600
    if hours <= 0:
        return None
    return Saved(
        revision=savings.revision,
        study_id=savings.study_id,
        promoted_at=savings.promoted_at,
        watched_h=hours,
        saved_usd=savings.saved_usd,
        saved_usd_per_hour=savings.saved_usd / hours,
        low_usd_per_hour=(savings.baseline_low_usd - savings.ran_usd) / hours,
        high_usd_per_hour=(savings.baseline_high_usd - savings.ran_usd) / hours,
    )
