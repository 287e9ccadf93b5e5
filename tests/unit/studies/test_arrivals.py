"""What the twin says of a trial's arrivals: the long run, and how half hours of a trace's own arrivals differ."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.study import Trial, TrialKind
from controlplane.domain.workload import Workload
from controlplane.services.studies import arrivals, trial_twin
from controlplane.services.studies.arrivals import with_arrivals
from controlplane.services.studies.trial_plan import requests_of
from tests.unit.studies.study_world import service_spec
from tests.unit.tuner.answer.made_studies import config
from tests.unit.tuner.answer.measured_trials import a_trial
from tuner.answer.evidence import LONG_RUN, LONG_RUN_SD, THESE_ARRIVALS
from tuner.twin.simulate import RequestArrays

MADE = {
    "kind": "synthetic",
    "prompt_tokens": {"mean": 900, "cv": 0.8, "max": 4000},
    "output_tokens": {"mean": 120, "cv": 0.6, "max": 500},
}
OWN = {"kind": "trace", "trace": "azure-llm-2023/code", "arrivals": {"process": "trace"}}


@pytest.fixture(autouse=True)
def _short_half_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "_HALF_HOUR_S", 120.0)
    arrivals._long_runs.cache_clear()


def spec_of(workload: dict[str, Any]) -> ServiceSpec:
    slos = {"latency": [{"metric": "ttft_ms", "percentile": 95, "limit_ms": 1500}], "target_qps": 8}
    return service_spec(workload=workload, slos=slos)


def ended(spec: ServiceSpec, kind: TrialKind = TrialKind.SEARCH, expected_rps: float | None = 8.0) -> Trial:
    trial = a_trial(spec, 0, kind, config(1), 8.0)
    return trial.evolve(predicted={} if expected_rps is None else {"capacity_rps": expected_rps})


def test_half_hours_lie_apart_those_of_a_trace_s_own_arrivals_most() -> None:
    own, made = (with_arrivals(spec, ended(spec), (), None).predicted for spec in (spec_of(OWN), spec_of(MADE)))
    assert own[LONG_RUN_SD] > made[LONG_RUN_SD] > 0
    assert all(found[name] > 0 for found in (own, made) for name in (THESE_ARRIVALS, LONG_RUN))


def test_the_long_run_is_the_mean_of_several_half_hours_and_a_further_one_lies_apart_from_it_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec, alone = spec_of(OWN), []
    monkeypatch.setattr(arrivals, "_HALF_HOURS", 1)
    for seed in range(2):
        again = spec.evolve(tuning=spec.tuning.evolve(seed=spec.tuning.seed + seed))
        alone.append(with_arrivals(again, ended(again), (), None).predicted[LONG_RUN])
    monkeypatch.setattr(arrivals, "_HALF_HOURS", 2)
    arrivals._long_runs.cache_clear()
    pooled = with_arrivals(spec, ended(spec), (), None).predicted
    assert pooled[LONG_RUN] == pytest.approx((alone[0] * alone[1]) ** 0.5, rel=arrivals._PRECISION)
    apart = abs(math.log(alone[0] / alone[1])) / 2**0.5
    assert pooled[LONG_RUN_SD] == pytest.approx(apart * 1.5**0.5, abs=arrivals._PRECISION)


@pytest.mark.parametrize(
    ("kind", "expected_rps"), [(TrialKind.CONFIRM_FLEET, 8.0), (TrialKind.SEARCH, None)], ids=["fleet", "no forecast"]
)
def test_nothing_is_said_of_a_fleet_s_check_or_without_a_forecast(kind: TrialKind, expected_rps: float | None) -> None:
    spec = spec_of(MADE)
    trial = ended(spec, kind, expected_rps)
    assert with_arrivals(spec, trial, (), None) is trial


def test_a_burst_that_the_engine_was_warmed_up_with_is_not_the_level_s(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of(MADE)
    levels = spec.tuning.levels.evolve(warmup_s=30.0, max_s=60.0)
    spec = spec.evolve(tuning=spec.tuning.evolve(levels=levels))
    plain = with_arrivals(spec, ended(spec), (), None).predicted

    def bursting(workload: Workload, *, rate_rps: float, duration_s: float, seed: int) -> RequestArrays:
        """All requests of a level's first ten seconds come at once; what is longer is a half hour."""
        sent = requests_of(workload, rate_rps=rate_rps, duration_s=duration_s, seed=seed)
        early = (sent.scheduled_s < 10) & (duration_s < arrivals._HALF_HOUR_S)
        return sent._replace(scheduled_s=np.where(early, sent.scheduled_s / 1000, sent.scheduled_s))

    for module in (arrivals, trial_twin):
        monkeypatch.setattr(module, "requests_of", bursting)
    burst = with_arrivals(spec, ended(spec), (), None).predicted
    assert burst[THESE_ARRIVALS] == pytest.approx(plain[THESE_ARRIVALS], rel=0.05)
