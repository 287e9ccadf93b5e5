"""The policies that are compared, each as its own documentation sets it up. All know the same capacity model."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from benchmarks.scaling.fleet import Policy, Seen, needed
from benchmarks.scaling.replica import STARTUP_S, Replica
from benchmarks.scaling.traffic import TICK_S, Floats
from controlplane.domain.operations.autoscale import SHORT_S, SHORTEST_S, Load, ScaleFacts, WantedAt, decide, offered
from controlplane.domain.operations.autoscale_options import AutoscaleOptions
from controlplane.domain.operations.forecast import BIN_S, Arrivals, bin_of, expected_rps, with_bin
from controlplane.domain.operations.replica_capacity import Estimate
from controlplane.domain.studies.tuning_options import Objective

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)  # a Sunday
_HORIZON_S = STARTUP_S + 60.0
_MOST = 1024


class Ours:
    """The product's policy. With `future` the forecast is what will truly come."""

    def __init__(self, replica: Replica, headroom: float, future: Floats | None = None) -> None:
        start = Estimate(value=STARTUP_S, low=STARTUP_S, high=STARTUP_S)
        self._capacity = replica.capacity.evolve(startup_s=start)
        self._options = AutoscaleOptions(enabled=True, headroom=headroom)
        self._objective = Objective(headroom=headroom)
        self._future = future
        self._counts: deque[float] = deque(maxlen=BIN_S // TICK_S)
        self._past: tuple[WantedAt, ...] = ()
        self._arrivals = Arrivals()

    def __call__(self, seen: Seen) -> int:
        now = BEGIN + timedelta(seconds=(seen.tick + 1) * TICK_S)
        self._counts.append(seen.arrived)
        if bin_of(now) > bin_of(now - timedelta(seconds=TICK_S)):
            self._arrivals = with_bin(self._arrivals, bin_of(now) - 1, self._mean(BIN_S))
        whole = Load(rate_rps=self._mean(60))
        load = offered(whole, {each: Load(rate_rps=self._mean(int(each))) for each in (SHORTEST_S, SHORT_S)})
        facts = ScaleFacts(
            replicas=seen.wanted,
            load=load,
            capacity=self._capacity,
            most=_MOST,
            ready=seen.ready,
            starting_s=seen.starting_s,
            in_flight=seen.in_flight,
            expected_rps=self._expected(seen.tick, now),
        )
        decision, self._past = decide(self._options, self._objective, facts, self._past, now)
        return decision.replicas

    def _expected(self, tick: int, now: datetime) -> float | None:
        if self._future is not None:
            ahead = self._future[tick + 1 : tick + 1 + int(_HORIZON_S / TICK_S)]
            return float(ahead.max()) if len(ahead) else None
        return expected_rps(self._arrivals, now, _HORIZON_S)

    def _mean(self, seconds: int) -> float:
        latest = list(self._counts)[-(seconds // TICK_S) :]
        return sum(latest) / len(latest) / TICK_S


class Hpa:
    """Kubernetes' HorizontalPodAutoscaler on one averaged metric: every 15 s, tolerance 10 %, at most doubling (or
    four more) per 15 s, in by the highest wish of five minutes. Its documented defaults (autoscaling/v2).
    """

    def __init__(self, metric: Callable[[Seen], float], target: float, most: int) -> None:
        self._metric, self._target, self._most = metric, target, most
        self._wishes: deque[int] = deque(maxlen=300 // 15)
        self._wanted = 1

    def __call__(self, seen: Seen) -> int:
        if seen.tick % (15 // TICK_S):
            return seen.wanted
        ratio = self._metric(seen) / self._target
        wish = seen.ready if abs(ratio - 1) <= 0.1 else math.ceil(seen.ready * ratio)
        wish = min(self._most, max(1, wish))
        self._wishes.append(wish)
        if wish > seen.wanted:
            return min(wish, max(2 * seen.wanted, seen.wanted + 4))
        return min(seen.wanted, max(self._wishes))


class Knative:
    """Knative's pod autoscaler on concurrency: 60 s stable window, 6 s panic window at twice what is ready, 70 % of the
    concurrency limit as target, at most halved at once, each by its ConfigMap's defaults. Two knobs are set as somebody
    would whose replicas take 90 s to start: `max-scale`, and a `scale-down-delay` as long as our window.
    """

    def __init__(self, limit: float, most: int) -> None:
        self._target, self._most = 0.7 * limit, most
        self._crowds: deque[float] = deque(maxlen=60 // TICK_S)
        self._wishes: deque[int] = deque(maxlen=600 // TICK_S)
        self._panic_until = -1

    def __call__(self, seen: Seen) -> int:
        self._crowds.append(seen.in_flight)
        stable = math.ceil(sum(self._crowds) / len(self._crowds) / self._target)
        panic = math.ceil(seen.in_flight / self._target)
        if panic >= 2 * seen.ready:
            self._panic_until = seen.tick + 60 // TICK_S
        in_panic = seen.tick <= self._panic_until
        self._wishes.append(max(stable, panic, seen.wanted) if in_panic else max(stable, seen.ready // 2))
        return min(self._most, max(1, *self._wishes))


def contestants(replica: Replica, arrived: Floats, *, headroom: float, score_from: int) -> Mapping[str, Policy]:
    """Return the policies by name. `arrived` is the truth that only static peak and the perfect forecast may know."""
    rate = replica.capacity.rate_rps.value
    minutes = arrived[score_from:].reshape(-1, 60 // TICK_S).mean(axis=1) / TICK_S
    peak = needed(float(minutes.max()), rate, headroom)
    limit = replica.capacity.concurrent
    assert limit is not None, "the twin knows the crowd at the capacity"
    return {
        "ours": Ours(replica, headroom),
        "ours, perfect forecast": Ours(replica, headroom, future=_rates(arrived)),
        "static peak": lambda seen: peak,
        "HPA on GPU utilisation 80 %": Hpa(_utilisation, 0.8, most=peak),
        "KEDA on waiting requests, 5 each": Hpa(lambda s: s.waiting / max(1, s.ready), 5.0, most=peak),
        "concurrency target 70 % (Knative)": Knative(limit.value, most=peak),
    }


def _utilisation(seen: Seen) -> float:
    """A GPU counts as busy whenever a kernel runs: while any request is there (nvidia-smi's utilisation)."""
    return 1 - math.exp(-seen.in_flight / max(1, seen.ready))


def _rates(arrived: Floats) -> Floats:
    """Return requests/s averaged over the minute before each tick, as `ours` sees the present."""
    width = 60 // TICK_S
    total = arrived.cumsum()
    before = total.copy()
    before[width:] -= total[:-width]
    found: Floats = before / 60
    return found
