"""What the looks at a rollout found as time went on: a few of each step, evenly spaced, for who reads it later. Pure.

The rollout keeps its latest look, which decides. Here stand the intervals as they narrowed and the canary's share as
the gateways had it: evidence, on which nothing is decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import AwareDatetime, Field

from controlplane.domain.base import Value
from controlplane.domain.rollouts.analysis import Analysis, Verdict
from controlplane.domain.rollouts.rollout import Rollout

MOST_LOOKS = 40
"""Of a step; some kilobytes."""
SOONEST_S = 1.0


class SeenInterval(Value):
    """One comparison at one look: canary's ratio minus stable's."""

    name: str
    replayed: bool = False
    low: float
    high: float
    margin: float


class Look(Value):
    at: AwareDatetime
    step: int | None = Field(default=None, description="From 0; None: no step is under way.")
    asked_percent: int = Field(description="The canary's share as the rollout asks for it.")
    weights: tuple[int | None, ...] = Field(
        default=(), description="Its share in the table of each gateway, as read then; None: it did not answer."
    )
    arrived_share: float | None = Field(
        default=None, ge=0, le=1, description="Of arrivals that a gateway split in this step, so far; None: none."
    )
    verdict: Verdict | None = None
    reached_rps: float | None = Field(default=None, description="Requests/s a canary replica carried, engine time.")
    intervals: tuple[SeenInterval, ...] = ()


class Looks(Value):
    """Of one rollout, oldest first."""

    looks: tuple[Look, ...] = ()


def look_at(rollout: Rollout, analysis: Analysis | None, weights: Sequence[int | None], *, now: datetime) -> Look:
    """Return what there is to see now."""
    step = rollout.steps[-1].index if rollout.steps and not rollout.waits_for_replicas else None
    seen = Look(at=now, step=step, asked_percent=rollout.weight_percent, weights=tuple(weights))
    if analysis is None:
        return seen
    return seen.evolve(
        verdict=analysis.verdict,
        arrived_share=_arrived(analysis),
        reached_rps=None if analysis.load is None else analysis.load.reached_rps,
        intervals=tuple(
            SeenInterval(name=c.name, replayed=c.replayed, low=c.low, high=c.high, margin=c.margin)
            for c in analysis.comparisons
        ),
    )


def is_news(known: Looks, look: Look, *, began: datetime) -> bool:
    """Say whether a look is worth keeping: the share or the verdict changed, or a fortieth of the step has gone by."""
    last = known.looks[-1] if known.looks else None
    if last is None or (last.step, last.asked_percent, last.weights) != (look.step, look.asked_percent, look.weights):
        return True
    if look.verdict in (Verdict.PASS, Verdict.FAIL) and last.verdict is not look.verdict:
        return True
    if not look.intervals:
        return False
    spacing_s = max(SOONEST_S, (look.at - began).total_seconds() / MOST_LOOKS)
    return (look.at - last.at).total_seconds() >= spacing_s


def with_look(known: Looks, look: Look) -> Looks:
    """Return them with one more; of a step that has too many every other one goes, never its first and latest."""
    mine = [each for each in known.looks if each.step == look.step]
    if len(mine) < MOST_LOOKS:
        return Looks(looks=(*known.looks, look))
    gone = {id(each) for each in mine[1:-1:2]}
    return Looks(looks=(*(each for each in known.looks if id(each) not in gone), look))


def _arrived(analysis: Analysis) -> float | None:
    canary, stable = analysis.canary.asked, analysis.stable.asked if analysis.stable else 0
    return canary / (canary + stable) if canary + stable else None
