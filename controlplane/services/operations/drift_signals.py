"""What each watched signal of live requests is worth, and what it was when the capacity was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from controlplane.domain.door.outcomes import Outcome, read_outcome
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.operations.drift import Drift, Signal
from controlplane.domain.operations.drift_quick import Length
from controlplane.domain.service import EngineOptions, ServiceSpec
from controlplane.domain.workload import ArrivalProcess, SyntheticWorkload, Workload
from controlplane.services.capacities import Measured
from tuner.space.knobs.schema import DEFAULT_VERSION

MOST_BLOCKS = 200_000
"""Hashes of prompts' blocks that are remembered of one service: 3 million tokens."""
MOST_SESSIONS, SESSION_REQUESTS = 10_000, 10
"""Sessions that are remembered of one service; after so many requests a name begins another, as it may be a user's."""
_LENGTHS = (Signal.PROMPT, Signal.OUTPUT)


class Sessions:
    """Remembers one length of the last sessions' requests."""

    def __init__(self) -> None:
        self._logs: dict[str, tuple[int, float]] = {}

    def length(self, session: str | None, tokens: int) -> Length:
        """Return a request's length beside those that its session had before, and remember it."""
        if session is None:
            return Length(tokens)
        before, logs = self._logs.pop(session, (0, 0.0))
        if before + 1 < SESSION_REQUESTS:
            self._logs[session] = (before + 1, logs + math.log(tokens))
        if len(self._logs) > MOST_SESSIONS:
            del self._logs[next(iter(self._logs))]
        return Length(tokens, before, logs / before if before else 0.0)


class SignalReader:
    """Of one service. Remembers the blocks of the last prompts, arrivals and sessions; a restart forgets them."""

    def __init__(self) -> None:
        self._blocks: dict[int, None] = {}
        self._last_at: datetime | None = None
        self._sessions = {each: Sessions() for each in _LENGTHS}

    def read(
        self, records: Sequence[GatewayRecord], spec: ServiceSpec, *, sustained_rps: float | None, seconds: float
    ) -> Mapping[Signal, Sequence[float]]:
        """Return what each request says. `sustained_rps`: of a replica, engine time; `seconds` they came within."""
        ordered = sorted(records, key=lambda each: each.at)
        lengths = {each: [n for r in ordered if (n := getattr(r, each.value)) is not None] for each in _LENGTHS}
        shares = [share for r in ordered if (share := self._share(r.prefix_blocks)) is not None]
        is_light = sustained_rps is not None and _rate_rps(ordered, spec, seconds) <= sustained_rps
        misses = _misses(ordered, spec) if is_light else []
        return {**lengths, Signal.PREFIX: shares, Signal.BURSTS: self._gaps(ordered), Signal.MISSES: misses}

    def lengths(self, records: Sequence[GatewayRecord]) -> Mapping[Signal, Sequence[Length]]:
        """Return each request's lengths beside those that its session had before."""
        ordered = sorted(records, key=lambda each: each.at)
        return {
            each: [self._sessions[each].length(r.session, n) for r in ordered if (n := getattr(r, each.value))]
            for each in _LENGTHS
        }

    def _share(self, blocks: Sequence[int]) -> float | None:
        """Return the share of a prompt's blocks that an earlier one had; the oldest blocks are forgotten."""
        if not blocks:
            return None
        known = sum(block in self._blocks for block in blocks)
        for block in blocks:
            self._blocks.pop(block, None)
            self._blocks[block] = None
        while len(self._blocks) > MOST_BLOCKS:
            del self._blocks[next(iter(self._blocks))]
        return known / len(blocks)

    def _gaps(self, records: Sequence[GatewayRecord]) -> Sequence[float]:
        moments = [*([] if self._last_at is None else [self._last_at]), *(each.at for each in records)]
        self._last_at = max(moments, default=None)
        return [max(0.0, (after - before).total_seconds()) for before, after in pairwise(moments)]


def measured_with(found: Measured | None) -> Mapping[Signal, float]:
    """Return what the signals were when a capacity was measured; those that nobody knows are not watched.

    Of a trace nobody says what its prompts share, nor how bursty its own arrivals are.
    """
    if found is None or found.capacity.rate_rps.value <= 0:
        return {}
    model, workload = found.capacity, found.study.spec.workload
    rates = {Signal.PROMPT: model.prompt_tps, Signal.OUTPUT: model.output_tps}
    known = {each: tps.value / model.rate_rps.value for each, tps in rates.items() if tps is not None}
    if isinstance(workload, SyntheticWorkload):
        known[Signal.PREFIX] = workload.shared_prefix_share
    match workload.arrivals.process:
        case ArrivalProcess.POISSON:
            known[Signal.BURSTS] = 1.0
        case ArrivalProcess.GAMMA:
            known[Signal.BURSTS] = 1 / workload.arrivals.burstiness
        case ArrivalProcess.TRACE | ArrivalProcess.CONSTANT:
            pass
    allowed = sum(slo.allowed_miss_ratio for slo in found.study.spec.slos.latency)
    return known | ({Signal.MISSES: min(0.5, allowed)} if found.study.spec.slos.latency else {})


def other_engine(found: Measured | None, serves: EngineOptions) -> str | None:
    """Say which engine version the capacity was measured with when another one serves; None when it is the same."""
    if found is None:
        return None
    was, now = found.study.spec.engine.version or DEFAULT_VERSION, serves.version or DEFAULT_VERSION
    return None if was == now else f"the engine is version {now}, measured was {was}"


def with_signals(workload: Workload, found: Sequence[Drift]) -> Mapping[str, Any]:
    """Return the fields of a synthetic workload that follow from what is shared and how bursty it is now."""
    now = {each.signal: each.now for each in found}
    shared = workload.shared_prefix_share if isinstance(workload, SyntheticWorkload) else 0.0
    arrivals = workload.arrivals
    if Signal.BURSTS in now:
        shape = min(10.0, max(0.05, 1 / max(now[Signal.BURSTS], 1e-6)))
        arrivals = arrivals.evolve(process=ArrivalProcess.GAMMA, burstiness=shape)
    return {"shared_prefix_share": min(1.0, now.get(Signal.PREFIX, shared)), "arrivals": arrivals}


def _rate_rps(records: Sequence[GatewayRecord], spec: ServiceSpec, seconds: float) -> float:
    """Return requests per second of a replica that answered any, engine time."""
    replicas = len({each.engine_id for each in records}) or 1
    return len(records) / max(seconds, 1e-3) / replicas / spec.engine.time_lapse


def _misses(records: Sequence[GatewayRecord], spec: ServiceSpec) -> list[float]:
    outcomes = [read_outcome(r, spec.slos.latency, time_lapse=spec.engine.time_lapse).outcome for r in records]
    return [float(each is Outcome.MISSED) for each in outcomes if each in (Outcome.SERVED, Outcome.MISSED)]
