"""Plausible load test reports: latencies of a queue that fills as the rate nears what the replica holds."""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.report import Distribution, LoadTestReport, Percentile, SloCheck, Validity
from controlplane.domain.service import ServiceSpec
from controlplane.domain.slo import LatencySlo
from controlplane.domain.studies.capacity import Capacity, fleet_size, replicas_for, usd_per_million_tokens
from controlplane.domain.studies.study import Level

# P50 to P99.9 of a latency as multiples of its median, of the measured kind: a long tail on first tokens.
_SPREADS = {"ttft_ms": (1, 1.8, 2.1, 2.8), "tpot_ms": (1, 1.15, 1.22, 1.4), "e2e_ms": (1, 2.2, 2.7, 3.6)}
_RANKS = (50.0, 90.0, 95.0, 99.0)


def a_report(spec: ServiceSpec, *, rate_rps: float, full_rps: float, seconds: float = 60) -> LoadTestReport:
    """Return a level at `rate_rps` on a replica that saturates at `full_rps`."""
    queue = 1 / max(0.03, 1 - rate_rps / full_rps)
    fast = 4 / full_rps
    ttft_ms, tpot_ms = fast * (130 + 50 * queue), fast * (20 + 24 * rate_rps / full_rps)
    medians = {"ttft_ms": ttft_ms, "tpot_ms": tpot_ms, "e2e_ms": ttft_ms + 211 * tpot_ms}
    count = int(rate_rps * seconds)
    spread = {name: distribution(median, _SPREADS[name], count) for name, median in medians.items()}
    checks = tuple(_check(slo, spread[slo.metric.value]) for slo in spec.slos.latency)
    attainment = 1 - max(check.miss_ratio for check in checks)
    return LoadTestReport(
        target="http://127.0.0.1:41873",
        rate_rps=rate_rps,
        duration_s=seconds,
        time_lapse=spec.engine.time_lapse,
        seed=7,
        requests=count,
        completed=count,
        errors=0,
        throughput_rps=min(rate_rps, full_rps),
        output_tps=min(rate_rps, full_rps) * 211,
        prompt_tps=min(rate_rps, full_rps) * 1155,
        goodput_rps=min(rate_rps, full_rps) * attainment,
        attainment=attainment,
        **spread,
        itl_ms=distribution(medians["tpot_ms"] * 0.9, (1, 1.4, 1.9, 4.1), count * 200),
        lag_ms=distribution(0.3, (1, 2, 2.6, 6), count),
        slo_checks=checks,
        validity=Validity.VALID,
        generator_cpu_percent=31,
    )


def distribution(median: float, spread: Sequence[float], count: int) -> Distribution:
    """Return percentiles around a median with intervals that narrow with the samples."""
    width = 0.4 / max(1, count) ** 0.5
    points = tuple(
        Percentile(
            percentile=rank,
            value=median * times,
            low=median * times * (1 - width),
            high=None if count < 299 and rank == 99 else median * times * (1 + width * (1 + times)),
        )
        for rank, times in zip(_RANKS, spread, strict=True)
    )
    return Distribution(count=count, mean=median * 1.2, percentiles=points)


def levels(spec: ServiceSpec, full_rps: float, rates: Sequence[float]) -> tuple[Level, ...]:
    """Return the levels of a ladder over `rates`."""
    reports = [a_report(spec, rate_rps=rate, full_rps=full_rps) for rate in rates]
    return tuple(
        Level(
            rate_rps=report.rate_rps,
            passed=all(check.met for check in report.slo_checks),
            certain=True,
            reason="decided by the sequential test",
            report=report,
        )
        for report in reports
    )


def outcome(spec: ServiceSpec, config: EngineConfig, found: Sequence[Level]) -> dict[str, object]:
    """Return the fields of a feasible trial: capacity between best passed and least failed level, size and cost."""
    passed = max((level.rate_rps for level in found if level.passed), default=0.0)
    failed = min((level.rate_rps for level in found if not level.passed), default=passed)
    objective = spec.tuning.objective
    replicas = replicas_for(spec.slos.target_qps, passed, headroom=objective.headroom)
    size = fleet_size(replicas, config.gpus_per_replica, spec.gpus)
    tokens_per_s = spec.slos.target_qps * (211 + 1155)
    return {
        "levels": tuple(found),
        "capacity": Capacity(rps=passed, low_rps=passed, high_rps=failed),
        "fleet": size,
        "usd_per_million_tokens": usd_per_million_tokens(size.usd_per_hour, tokens_per_s),
    }


def _check(slo: LatencySlo, measured: Distribution) -> SloCheck:
    point = measured.at(slo.percentile)
    assert point is not None
    met = point.value <= slo.limit_ms
    ratio = (
        slo.allowed_miss_ratio * (point.value / slo.limit_ms) ** 4 if met else min(0.9, point.value / slo.limit_ms / 5)
    )
    return SloCheck(
        slo=slo,
        met=met,
        measured=point,
        miss_ratio=ratio,
        miss_ratio_low=ratio * 0.6,
        miss_ratio_high=min(1, ratio * 1.6),
    )
