"""A builder of load test reports."""

from __future__ import annotations

from typing import Any

from controlplane.domain.report import Distribution, LoadTestReport, Percentile, Validity


def a_load_report(**changes: Any) -> LoadTestReport:
    """Return a short valid run at 5 requests per second."""
    spread = Distribution(
        count=50, mean=100.0, percentiles=(Percentile(percentile=99, value=240.5, low=200, high=None),)
    )
    report = LoadTestReport(
        target="http://127.0.0.1:8000",
        rate_rps=5,
        duration_s=10,
        seed=1,
        requests=50,
        completed=50,
        errors=0,
        throughput_rps=5,
        output_tps=100,
        prompt_tps=500,
        goodput_rps=5,
        attainment=1,
        ttft_ms=spread,
        tpot_ms=spread,
        itl_ms=spread,
        e2e_ms=spread,
        lag_ms=spread,
        validity=Validity.VALID,
    )
    return report.evolve(**changes)
