"""How many replicas the offered load needs, and when to act on it. Pure: load, capacity and time in, a decision out.

Out at once, in slowly: a replica too few costs the SLO for as long as one takes to start, one too many costs money for
as long as the window. What is not known changes nothing: without numbers the last safe number of replicas stays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from pydantic import AwareDatetime, Field

from controlplane.domain.base import Value
from controlplane.domain.operations.autoscale_options import AutoscaleOptions
from controlplane.domain.operations.replica_capacity import ReplicaCapacity
from controlplane.domain.studies.tuning_options import Objective

KEEP_EVERY_S = 30.0
"""Wants are kept as the highest of each half minute: ten minutes are twenty numbers."""
LONGEST_GAP_S = 90.0
"""A longer silence within the window, and nobody knows that fewer replicas were enough."""
_SURE_Z = 2.0
ABSORBED_S = 30.0
"""A step in traffic is to be absorbed so long after a start-up, counted from the step."""
SHORTEST_S, SHORT_S = 5.0, 15.0
"""What is certain of so short a while is acted on: a step in traffic need not fill the whole window first."""
NOTICED_S = 10.0
"""Until a step is certain and its replicas are processes, so much of `ABSORBED_S` may be gone: two looks."""
DRAIN_QUEUE_S = ABSORBED_S - NOTICED_S
"""Within so long after a start a queue is to be gone: replicas for the load alone would hardly shorten it."""
UNKNOWN_STARTUP_S = 180.0
"""No start was ever seen: what a large model takes on an H200."""


class Load(Value):
    """Offered to all replicas together: arrivals, not completions. Engine time."""

    rate_rps: float = Field(ge=0, allow_inf_nan=False)
    prompt_tps: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    output_tps: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    def times(self, factor: float) -> Load:
        """Return `factor` times the load."""
        tokens = ((None if each is None else each * factor) for each in (self.prompt_tps, self.output_tps))
        prompt, output = tokens
        return Load(rate_rps=self.rate_rps * factor, prompt_tps=prompt, output_tps=output)


class WantedAt(Value):
    """The most replicas that were wanted within a half minute."""

    at: AwareDatetime = Field(description="When it was last so.")
    replicas: int


class ScaleFacts(NamedTuple):
    """What is known at one moment. `problem` says why the load is None."""

    replicas: int
    load: Load | None
    capacity: ReplicaCapacity | None
    most: int
    most_why: str = ""
    ready: int = 0
    starting_s: tuple[float, ...] = ()  # how long each of those that are on their way has been; wall clock
    time_lapse: float = 1.0  # engine seconds in one of the wall clock
    in_flight: float | None = None  # of all replicas, those that wait among them; None: nobody counted
    expected_rps: float | None = None  # the highest within a start-up, by the forecast
    problem: str = ""
    keep: str = ""  # why no replica may go now
    hold: str = ""  # why nothing may change now


class ScaleDecision(Value):
    """What is to run, and why. `held`: nothing was decided, the last safe number stays."""

    at: AwareDatetime
    replicas: int = Field(ge=0)
    wanted: int | None = Field(default=None, description="By the load alone, before windows and ceilings.")
    held: bool = False
    reason: str
    load: Load | None = None
    expected_rps: float | None = None


def sure(load: Load, seconds: float) -> Load:
    """Return what of a load measured over a short while is certain: less two standard deviations of a Poisson count."""
    count = load.rate_rps * seconds
    return load.times(max(0.0, 1 - _SURE_Z / math.sqrt(count)) if count > 0 else 0.0)


def offered(whole: Load, short: Mapping[float, Load]) -> Load:
    """Return the load of the whole window, or of the last seconds (engine time) where more of it is certain."""
    certain = (sure(load, seconds) for seconds, load in short.items())
    return max((whole, *certain), key=lambda each: each.rate_rps)


def replicas_needed(
    load: Load, capacity: ReplicaCapacity, options: AutoscaleOptions, objective: Objective
) -> tuple[int, str]:
    """Return how many replicas carry the load with headroom and spares, and which of its rates asks for most.

    Longer requests ask for more at the same rate: each rate is held against what one replica sustains of it.
    """
    headroom = _headroom(options, objective)
    spare = objective.spare_replicas if options.spare_replicas is None else options.spare_replicas
    shares = {"requests/s": load.rate_rps / capacity.rate_rps.value}
    for name, asked, held in (
        ("prompt tokens/s", load.prompt_tps, capacity.prompt_tps),
        ("output tokens/s", load.output_tps, capacity.output_tps),
    ):
        if asked is not None and held is not None and held.value > 0:
            shares[name] = asked / held.value
    most = max(shares, key=lambda each: shares[each])
    return max(1, math.ceil(shares[most] / (1 - headroom) - 1e-9)) + spare, most


def _headroom(options: AutoscaleOptions, objective: Objective) -> float:
    return objective.headroom if options.headroom is None else options.headroom


def decide(
    options: AutoscaleOptions, objective: Objective, facts: ScaleFacts, past: Sequence[WantedAt], now: datetime
) -> tuple[ScaleDecision, tuple[WantedAt, ...]]:
    """Return what is to run from now on, and the past to give back next time."""
    kept = _recent(past, now, options.scale_in_after_s)
    unknown = facts.hold or facts.problem or _unusable(facts)
    if unknown or facts.load is None or facts.capacity is None:
        held = ScaleDecision(at=now, replicas=facts.replicas, held=True, reason=unknown, load=facts.load)
        return held, kept
    wanted, why = _wanted(options, objective, facts, facts.load, facts.capacity)
    kept = _noted(kept, WantedAt(at=now, replicas=wanted))
    replicas, reason = _ceiled(*_settled(options, facts, wanted, why, kept, now), facts)
    decision = ScaleDecision(
        at=now,
        replicas=replicas,
        wanted=wanted,
        reason=reason,
        load=facts.load,
        expected_rps=facts.expected_rps,
    )
    return decision, kept


def to_zero(
    options: AutoscaleOptions, decision: ScaleDecision, facts: ScaleFacts, asked_at: datetime, now: datetime
) -> ScaleDecision:
    """Return the decision, or none at all to run where nobody asked for so long. `asked_at`: the last that anybody did.

    What one replica sustains need not be known for that; that nobody asks must be.
    """
    idle_s = (now - asked_at).total_seconds()
    stays = not options.scales_to_zero or idle_s < options.zero_after_s
    if stays or facts.load is None or facts.keep or facts.hold:
        return decision
    return ScaleDecision(at=now, replicas=0, wanted=0, load=facts.load, reason=f"nobody asked for {idle_s:.0f} s")


def _unusable(facts: ScaleFacts) -> str:
    if facts.load is None:
        return "the offered load is not known"
    if facts.capacity is None:
        return "no capacity of the revision is known: run a study, or declare autoscale.capacity_rps"
    return "a replica sustains nothing by its studies" if facts.capacity.rate_rps.value <= 0 else ""


def startup_s(capacity: ReplicaCapacity | None) -> float:
    """Return how long a start may take: the longest seen."""
    known = None if capacity is None else capacity.startup_s
    return UNKNOWN_STARTUP_S if known is None else known.high


def _wanted(
    options: AutoscaleOptions, objective: Objective, facts: ScaleFacts, load: Load, capacity: ReplicaCapacity
) -> tuple[int, str]:
    """Return the most that any of three reasons asks for: the load, the queue it leaves, the load expected shortly."""
    now, most = replicas_needed(load, capacity, options, objective)
    reasons = [(now, f"{now} for {load.rate_rps:.3g} requests/s ({most} ask for most)")]
    queue = _queue(facts, load, capacity)
    at_capacity = 1 - _headroom(options, objective)  # what waits is a number and no rate: no room for its chance
    for more_rps, why in (
        (queue / (DRAIN_QUEUE_S * facts.time_lapse) * at_capacity, f"a queue of {queue:.0f} as well"),
        ((facts.expected_rps or 0.0) - load.rate_rps, f"{facts.expected_rps or 0.0:.3g} expected shortly"),
    ):
        if load.rate_rps > 0 and more_rps > 0:
            raised = load.times(1 + more_rps / load.rate_rps)
            wanted, _ = replicas_needed(raised, capacity, options, objective)
            reasons.append((wanted, f"{wanted} for {load.rate_rps:.3g} requests/s and {why}"))
    wanted, why = max(reasons, key=lambda each: each[0])
    return max(options.min_replicas, wanted), why


def _queue(facts: ScaleFacts, load: Load, capacity: ReplicaCapacity) -> float:
    """Return how many requests will wait when a replica started now is ready.

    Those beyond the crowd that the ready replicas hold at their capacity, and what comes beyond what they sustain until
    then, less what those on their way finish until then, each from its own start on. That the ready ones catch up by
    themselves is not counted on: a queue that stays says that they sustain less than is believed.
    """
    if facts.in_flight is None or capacity.concurrent is None or facts.ready < 1:
        return 0.0
    waits = max(0.0, facts.in_flight - facts.ready * capacity.concurrent.high)
    start_s = startup_s(capacity) * facts.time_lapse
    grows = max(0.0, load.rate_rps - facts.ready * capacity.rate_rps.high) * start_s
    helped_s = math.fsum(min(start_s, since * facts.time_lapse) for since in facts.starting_s)
    return max(0.0, waits + grows - helped_s * capacity.rate_rps.high)


def _settled(
    options: AutoscaleOptions, facts: ScaleFacts, wanted: int, why: str, kept: Sequence[WantedAt], now: datetime
) -> tuple[int, str]:
    """Out at once; in only to what was enough all through the window."""
    if wanted >= facts.replicas:
        return wanted, why
    if facts.keep:
        return facts.replicas, f"{why}; none goes: {facts.keep}"
    if not _covers(kept, now, options.scale_in_after_s):
        return facts.replicas, f"{why}; none goes before {options.scale_in_after_s:g} s of it are known"
    enough = max(each.replicas for each in kept)
    if enough >= facts.replicas:
        return facts.replicas, f"{why}; {facts.replicas} were needed within {options.scale_in_after_s:g} s"
    return enough, f"{why}; {enough} were enough for {options.scale_in_after_s:g} s"


def _ceiled(replicas: int, reason: str, facts: ScaleFacts) -> tuple[int, str]:
    if replicas <= facts.most:
        return replicas, reason
    most = max(facts.most, facts.replicas) if facts.keep else facts.most
    return most, f"{reason}; no more than {facts.most}: {facts.most_why}"


def _recent(past: Sequence[WantedAt], now: datetime, window_s: float) -> tuple[WantedAt, ...]:
    """Return the past that the window reaches, and the one entry before it that shows that it is covered."""
    begin = now - timedelta(seconds=window_s)
    within = [each for each in past if begin < each.at <= now]
    before = [each for each in past if begin - timedelta(seconds=LONGEST_GAP_S) <= each.at <= begin]
    return (*before[-1:], *within)


def _noted(kept: tuple[WantedAt, ...], latest: WantedAt) -> tuple[WantedAt, ...]:
    last = kept[-1] if kept else None
    if last is None or _half_minute(last.at) != _half_minute(latest.at):
        return (*kept, latest)
    return (*kept[:-1], latest.evolve(replicas=max(last.replicas, latest.replicas)))


def _half_minute(at: datetime) -> int:
    return math.floor(at.timestamp() / KEEP_EVERY_S)


def _covers(kept: Sequence[WantedAt], now: datetime, window_s: float) -> bool:
    moments = [each.at for each in kept]
    if not moments or moments[0] > now - timedelta(seconds=window_s):
        return False
    gaps = [(b - a).total_seconds() for a, b in zip(moments, [*moments[1:], now], strict=True)]
    return max(gaps) <= LONGEST_GAP_S
