"""From records to a report: pooled percentiles, goodput, SLO checks, and whether the generator can be believed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from controlplane.domain.report import MAX_LAG_MS, Distribution, LoadTestReport, SloCheck, Validity
from controlplane.domain.slo import LatencyMetric, LatencySlo
from loadtests.measure.host import Host
from loadtests.measure.intervals import distribution, ratio_interval
from loadtests.measure.records import RecordTable

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

MAX_LAG_SHARE = 0.1
"""Above the floor, what is the generator's own may be this share of P99 TTFT, which contains it."""
MAX_CPU_PERCENT = 95.0


@dataclass(frozen=True)
class Measured:
    """One run as it went. Emulated seconds; `cpu_percent` is the busiest generator process's."""

    target: str
    rate_rps: float
    duration_s: float  # of the measured window, which follows the warm-up
    warmup_s: float
    time_lapse: float
    seed: int
    slos: tuple[LatencySlo, ...] = ()
    stopped_early: str | None = None
    cpu_percent: float | None = None
    unfinished: int = 0
    not_sent: int = 0
    coalesced: int = 0
    lost: str | None = None  # what of the generator went missing
    max_lag_ms: float = MAX_LAG_MS  # wall clock
    host: Host | None = None
    prompt_salt: int = 0


def build_report(run: Measured, records: RecordTable, gaps_ms: Floats) -> LoadTestReport:
    """Return the report of the requests scheduled after the warm-up; `gaps_ms` are theirs, pooled."""
    measured = records.where(records.scheduled_s >= run.warmup_s)
    errors = measured.error[~measured.ok]
    missed = _missed_any(measured, run.slos)
    checks = tuple(check_slo(measured, slo) for slo in run.slos)
    span_s = max(run.duration_s, 1e-9)
    finished = records.where(_finished_within(records, run))
    reason = _invalid_reason(run, measured, checks)
    return LoadTestReport(
        target=run.target,
        rate_rps=run.rate_rps,
        duration_s=run.duration_s,
        time_lapse=run.time_lapse,
        seed=run.seed,
        requests=len(measured),
        completed=int((measured.ok & ~measured.cancelled).sum()),
        errors=len(errors),
        error_counts=dict(sorted(Counter(errors.tolist()).items())),
        truncated=int((errors == "truncated").sum()),
        throughput_rps=len(finished) / span_s,
        output_tps=float(finished.output_tokens.sum()) / span_s,
        prompt_tps=float(finished.prompt_tokens.sum()) / span_s,
        goodput_rps=float((~missed).sum()) / span_s,
        attainment=float((~missed).mean()) if len(measured) else 0.0,
        ttft_ms=distribution(measured.ttft_ms[measured.ok]),
        tpot_ms=distribution(measured.tpot_ms),
        itl_ms=distribution(gaps_ms),
        e2e_ms=distribution(measured.e2e_ms),
        lag_ms=distribution(measured.lag_ms),
        slo_checks=checks,
        validity=Validity.INVALID if reason else Validity.VALID,
        invalid_reason=reason,
        stopped_early=run.stopped_early,
        generator_cpu_percent=run.cpu_percent,
        timer_late_ms=None if run.host is None else run.host.timer_late_ms,
        steal_percent=None if run.host is None else run.host.steal_percent,
        unfinished=run.unfinished,
        cancelled=int(measured.cancelled.sum()),
        coalesced=run.coalesced,
        prompt_salt=run.prompt_salt,
    )


def check_slo(records: RecordTable, slo: LatencySlo) -> SloCheck:
    """Judge one limit: a failed request misses it, an undefined TPOT (one token) passes.

    The limit is met when no more than its allowed share of all requests missed it. The measured percentile is that of
    the requests that have the latency. A limit on TTFT or E2E that no request has is not met (no answer was streamed);
    one on TPOT is, because answers of one token have none.
    """
    missed = _missed(records, slo)
    n, count = len(records), int(missed.sum())
    low, high = ratio_interval(count, n)
    values: Floats = getattr(records, slo.metric.value)
    measured = distribution(values[records.ok], (slo.percentile,)).at(slo.percentile)
    known = measured is not None or slo.metric is LatencyMetric.TPOT
    return SloCheck(
        slo=slo,
        met=n > 0 and known and count <= slo.allowed_miss_ratio * n + 1e-9,
        measured=measured,
        miss_ratio=count / n if n else 0.0,
        miss_ratio_low=low,
        miss_ratio_high=high,
    )


def _missed(records: RecordTable, slo: LatencySlo, less_ms: Floats | float = 0.0) -> Mask:
    values: Floats = getattr(records, slo.metric.value)
    exceeded: Mask = np.nan_to_num(values - less_ms, nan=-1.0) > slo.limit_ms
    return exceeded | ~records.ok


def _missed_any(records: RecordTable, slos: tuple[LatencySlo, ...]) -> Mask:
    missed: Mask = ~records.ok
    for slo in slos:
        missed = missed | _missed(records, slo)
    return missed


def _finished_within(records: RecordTable, run: Measured) -> Mask:
    """Requests that completed within the measured window, whenever they were sent: the steady throughput."""
    ended_s = records.scheduled_s + np.nan_to_num(records.e2e_ms, nan=np.inf) / 1e3
    within: Mask = (ended_s >= run.warmup_s) & (ended_s < run.warmup_s + run.duration_s)
    return within


def _invalid_reason(run: Measured, records: RecordTable, checks: tuple[SloCheck, ...]) -> str | None:
    """Say why the figures tell of the generator instead of the target; None when they do not."""
    if run.lost:
        return run.lost
    if run.not_sent:
        return f"{run.not_sent} requests were never sent: the generator ran out of connections or memory"
    if run.cpu_percent is not None and run.cpu_percent > MAX_CPU_PERCENT:
        return f"the generator used {run.cpu_percent:.0f} % of its core (limit {MAX_CPU_PERCENT:.0f} %)"
    return _lag_reason(run, records) or _flipped(records, checks)


def _lag_reason(run: Measured, records: RecordTable) -> str | None:
    lag = _p99_of(records.lag_ms)
    ttft = _p99_of(records.ttft_ms[records.ok])
    blurred = ttft - _p99_of((records.ttft_ms - records.own_ms)[records.ok])
    limit = max(run.max_lag_ms * run.time_lapse, MAX_LAG_SHARE * ttft)
    host = "" if run.host is None else run.host.blame(limit / run.time_lapse)
    if lag > limit:
        return f"requests left late: P99 lag {lag:.1f} ms (limit {limit:.1f} ms){host}"
    if blurred > limit:
        return (
            f"the generator was late to send or read: {blurred:.1f} ms of P99 TTFT may be its own ({limit:.1f} ms may)"
            f"{host}"
        )
    return None


def _flipped(records: RecordTable, checks: tuple[SloCheck, ...]) -> str | None:
    """Lag and blur are part of TTFT. When a limit is missed only because of them, the generator decided the verdict."""
    for check in checks:
        if check.met or check.measured is None or check.slo.metric is LatencyMetric.TPOT:
            continue
        own_ms = records.own_ms if check.slo.metric.value == "ttft_ms" else records.lag_ms
        without = int(_missed(records, check.slo, own_ms).sum())
        if without <= check.slo.allowed_miss_ratio * len(records):
            return f"{check.slo} is missed only because the generator was late to send or read"
    return None


def with_engine_lag(report: LoadTestReport, p99_ms: float, *, max_lag_ms: float = MAX_LAG_MS) -> LoadTestReport:
    """Return the report, invalid when an emulated engine delivered so late that its latencies are the host's.

    `p99_ms` is wall clock. What is allowed is what the generator's own lag is allowed.
    """
    late_ms, ttft = p99_ms * report.time_lapse, _p99(report.ttft_ms)
    limit = max(max_lag_ms * report.time_lapse, MAX_LAG_SHARE * ttft)
    if report.validity is Validity.INVALID or late_ms <= limit:
        return report
    slower = "; a smaller engine.emulator.time_lapse gives this host more time" if report.time_lapse > 1 else ""
    reason = f"the emulated engine could not keep its own time: P99 lag {late_ms:.1f} ms (limit {limit:.1f} ms){slower}"
    return report.evolve(validity=Validity.INVALID, invalid_reason=reason)


def _p99(values: Distribution) -> float:
    found = values.at(99.0)
    return found.value if found else 0.0


def _p99_of(values: Floats) -> float:
    """Return what `distribution` says of the percentile, without its interval."""
    known = values[~np.isnan(values)]
    return float(np.percentile(known, 99.0)) if len(known) else 0.0
