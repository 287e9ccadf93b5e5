"""Which load a canary replica must be judged at, what is missing to it, and when sending it must end at once. Pure.

A canary's share of the traffic is seldom the load it will carry: 5 % of 6 requests/s on one replica of two is a tenth
of it. The rest is made up by requests of the service's own workload, sent to the canary's replicas only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from pydantic import AwareDatetime

from controlplane.domain.base import Value
from controlplane.domain.door.outcomes import Outcome, stall_limit_ms
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.rollouts.analysis import LoadProof, ReplaySource
from controlplane.domain.rollouts.flights import HANGS_AT
from controlplane.domain.rollouts.rollout import Rollout, RolloutState, StepRecord
from controlplane.domain.rollouts.rollout_options import RolloutOptions, StepSpec
from controlplane.domain.slo import LatencyMetric, SloSet

WINDOW_S = 30.0  # engine time over which the load reached is measured
SHORTEST_WINDOW_S = 5.0  # wall clock: a gateway writes its records five times a second
LATELY_S = 10.0  # engine time over which live latency is watched while we send
_OVERDUE_FROM = 3  # replayed requests that wait beyond the limit, and
_OVERDUE_SHARE = 0.25  # ... their share of those waiting, from which on the load is more than the replica carries
_SUFFERS_FROM = 2  # misses of users before anything is said of a share of them

STANDS_S = 60.0
"""Sent for so long, engine time, without a growing queue, a load does not count as collapsed before."""


class Attempts(Value):
    """What came of making up the load of one rollout so far."""

    collapses: int = 0  # in a row
    hanging: int = 0  # replayed requests that hung when sending ended: never taken back
    overdue: int = 0  # of those in flight: beyond a limit where later ones were answered, or silent for too long
    note: str = ""  # why nothing is sent at present, or no more
    source: ReplaySource | None = None  # what is sent at this step
    most_rps: float | None = None  # a replica is sent no more than this, less than it is to prove; None: all of it
    began: AwareDatetime | None = None  # the step they are of

    def of_step(self, began: datetime) -> Attempts:
        """Return them for the step that began then: what an earlier one saw, or another day, is in no row with it."""
        return self if self.began == began else self.evolve(began=began, collapses=0, overdue=0)


Finished = Sequence[tuple[GatewayRecord, Outcome]]
_MISSES = frozenset({Outcome.MISSED, Outcome.FAILED, Outcome.LEFT_LATE})
_LEFT_OUT = frozenset({Outcome.REFUSED_BY_ENGINE, Outcome.REFUSED_BY_US, Outcome.INFRASTRUCTURE, Outcome.LEFT_EARLY})


def wanted_rps(step: StepSpec, slos: SloSet, canary_replicas: int) -> float | None:
    """Return requests per second a canary replica is to be judged at, engine time; None: no load is to be proven."""
    wanted = slos.target_qps / canary_replicas if step.load_rps is None else step.load_rps
    return wanted or None


def matched_step(rollout: Rollout) -> StepRecord | None:
    """Return the step whose load we may make up. At 100 % nobody else would serve users that suffer from it."""
    judged = rollout.state is RolloutState.PROGRESSING and rollout.stable is not None and rollout.options.match_load
    if not judged or rollout.waits_for_replicas or rollout.steps[-1].weight_percent == 100:
        return None
    return rollout.steps[-1]


def window_s(time_lapse: float, engine_s: float = WINDOW_S) -> float:
    """Return the wall-clock seconds of a window in engine time."""
    return max(SHORTEST_WINDOW_S, engine_s / time_lapse)


def rate_rps(finished: Finished, wall_s: float, time_lapse: float) -> float:
    """Return finished requests per second of engine time."""
    return sum(outcome not in _LEFT_OUT for _, outcome in finished) / (wall_s * time_lapse)


def proof(
    wanted: float,
    *,
    users: Finished,
    replayed: Finished,
    wall_s: float,
    time_lapse: float,
    replicas: int,
    options: RolloutOptions,
    attempts: Attempts,
) -> LoadProof:
    """Return what a canary replica has carried over the last `wall_s` seconds beside what it is to carry."""
    mine, ours = (rate_rps(part, wall_s, time_lapse) for part in (users, replayed))
    reached = (mine + ours) / max(1, replicas)
    if attempts.most_rps is not None:  # what chance makes finish at once proves no more than what is sent
        reached = max(mine / max(1, replicas), min(reached, attempts.most_rps))
    return LoadProof(
        wanted_rps=wanted,
        reached_rps=reached,
        replayed_share=ours / (mine + ours) if ours else 0.0,
        proven=reached >= options.load_share * wanted,
        collapses=attempts.collapses,
        hanging=attempts.hanging,
        note=attempts.note,
        source=attempts.source if ours else None,
    )


def suffers(arm: str, users: Finished, slos: SloSet, options: RolloutOptions) -> str | None:
    """Say why users of one arm suffer now; None when they do not, or too few are there to say."""
    told = [outcome for _, outcome in users if outcome not in _LEFT_OUT and outcome is not Outcome.UNKNOWN]
    missed = sum(outcome in _MISSES for outcome in told)
    allowed = sum(slo.allowed_miss_ratio for slo in slos.latency) + 2 * options.miss_ratio_margin
    if missed < _SUFFERS_FROM or missed <= allowed * len(told):
        return None
    return f"{missed} of {len(told)} users' requests to the {arm} missed a limit lately"


def overdue_s(waiting_s: Sequence[float], slos: SloSet) -> Sequence[float]:
    """Return the waits for a first token, engine time, that are certain misses by now."""
    limit_s = min(_first_token_limits_s(slos), default=math.inf)
    return [each for each in waiting_s if each > limit_s]


def _first_token_limits_s(slos: SloSet) -> Sequence[float]:
    return [slo.limit_ms / 1e3 for slo in slos.latency if slo.metric in (LatencyMetric.TTFT, LatencyMetric.E2E)]


Begun = tuple[float, float]
"""A stream that goes on: how long its first token took, how long ago the last one came, seconds of engine time."""


def stalled(begun: Sequence[Begun], slos: SloSet, times: float = 1.0) -> Sequence[Begun]:
    """Return the streams that have been silent for longer than so many times what a stream may be."""
    limit_ms = stall_limit_ms(slos.latency)
    return [] if limit_ms is None else [each for each in begun if 1e3 * each[1] > times * limit_ms]


class Waits(NamedTuple):
    """Replayed requests without a first token, seconds of engine time: those passed over, and those in a queue."""

    overtaken_s: Sequence[float]
    queued_s: Sequence[float]


def waits(waiting_s: Sequence[float], elapsed_s: float, answered_to_s: float, slos: SloSet) -> Waits:
    """Tell hangs from a queue: a request sent a whole limit after one that still waits has been answered.

    `answered_to_s` is when the latest of the answered was due, both counted from the start of sending.
    """
    limit_s = min(_first_token_limits_s(slos), default=math.inf)
    since_s = elapsed_s - answered_to_s + limit_s
    return Waits([each for each in waiting_s if each > since_s], [each for each in waiting_s if each <= since_s])


def hanging(overtaken_s: Sequence[float], slos: SloSet, options: RolloutOptions, *, begun: Sequence[Begun] = ()) -> int:
    """Return how many hang, of those passed over and of those that have begun: no queue silences what has begun.

    0 while they are fewer than the guard rail asks for.
    """
    limit_s = min(_first_token_limits_s(slos), default=math.inf)
    hung = sum(each > HANGS_AT * limit_s for each in overtaken_s) + len(stalled(begun, slos, HANGS_AT))
    return hung if hung >= options.guard_hanging else 0


def collapses(waiting_s: Sequence[float], slos: SloSet) -> str | None:
    """Say that the canary does not keep up with what we send: a queue grows that users stand in too."""
    late = len(overdue_s(waiting_s, slos))
    if late < _OVERDUE_FROM or late < _OVERDUE_SHARE * len(waiting_s):
        return None
    return f"{late} of {len(waiting_s)} replayed requests that wait for a first token wait beyond a limit"
