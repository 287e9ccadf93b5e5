"""One level of a trial: how long it is planned to last, and what its engines' own lateness makes of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.base import StudyId, TrialId
from controlplane.domain.report import Validity
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.pace import pace_of
from controlplane.domain.studies.study import Trial, TrialKind, TrialState
from controlplane.domain.workload import ArrivalProcess, Arrivals, SyntheticWorkload, TracePart, TraceWorkload
from controlplane.services.studies.trial_level import LevelLoad, LevelRunner, residence_s, stay_of
from controlplane.services.studies.trial_plan import workload_of
from loadtests.measure.engine_lag import LagHistogram
from tests.fakes.load_tester import FakeLoadTester, steady
from tests.unit.studies.study_world import service_spec

WORKLOAD = SyntheticWorkload.model_validate({"prompt_tokens": {"mean": 100}, "output_tokens": {"mean": 50}})
P99 = {"latency": [{"metric": "ttft_ms", "percentile": 99, "limit_ms": 1000}], "target_qps": 10}
Lags = Callable[[Trial], Mapping[str, LagHistogram]]


def spec_of(**tuning: Any) -> ServiceSpec:
    levels = {"min_s": 10, "max_s": 60, "warmup_s": 2}
    return service_spec(slos=P99, tuning={"levels": levels, **tuning})


def trial_of(kind: TrialKind = TrialKind.SEARCH) -> Trial:
    return Trial(
        trial_id=TrialId("chat-1-0"),
        study_id=StudyId("chat-1"),
        number=0,
        kind=kind,
        config=spec_of().baseline,
        state=TrialState.RUNNING,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def runner(folder: Path, load: FakeLoadTester, lags: Lags | None = None) -> LevelRunner:
    usual = LevelRunner(load, folder, check=lambda: None, on_progress=lambda _: None)
    return usual if lags is None else LevelRunner(load, folder, usual.check, usual.on_progress, lags)


def test_a_slow_level_goes_on_until_its_p99_rests_on_enough_requests(tmp_path: Path) -> None:
    load = FakeLoadTester(steady(100, 10))
    level, outcome = runner(tmp_path, load).run(trial_of(), spec_of(), "http://engine:1", LevelLoad(WORKLOAD, 1, 2.0))
    assert load.requests[0].duration_s > 100
    assert level.report.requests >= 299
    assert outcome.reason == "meets every limit at the time limit"


def test_where_the_longest_level_is_too_short_the_verdict_says_so(tmp_path: Path) -> None:
    load, spec = FakeLoadTester(steady(100, 10)), spec_of(levels={"min_s": 10, "max_s": 30, "longest_s": 30})
    level, _ = runner(tmp_path, load).run(trial_of(), spec, "http://engine:1", LevelLoad(WORKLOAD, 1, 2.0))
    assert level.passed
    assert not level.certain
    assert "fewer than the 299 that a P99 takes" in level.reason


def test_a_confirmation_rests_on_more_requests_than_the_search() -> None:
    spec = spec_of()
    search, confirmation, check = (
        pace_of(spec, kind, 8.0, residence_s=None)
        for kind in (TrialKind.SEARCH, TrialKind.CONFIRM_WINNER, TrialKind.CONFIRM_FLEET)
    )
    assert search.duration_s == 60
    assert check.enough == confirmation.enough
    assert check.duration_s > confirmation.duration_s
    assert confirmation.duration_s * 8 >= 1000


@pytest.mark.parametrize(("wall_clock_s", "longest_s"), [(None, 300), (6000, 120), (10, 60)])
def test_levels_are_no_longer_than_the_wall_clock_of_the_study_allows(
    wall_clock_s: float | None, longest_s: float
) -> None:
    spec = spec_of(budget={"engine_starts": 10, "wall_clock_s": wall_clock_s})
    assert pace_of(spec, TrialKind.CONFIRM_WINNER, 0.5, residence_s=None).duration_s == longest_s


@pytest.mark.parametrize(("wall_clock_s", "checked_s"), [(None, 1800), (6000, 1500)])
def test_a_fleet_is_checked_for_as_long_as_a_trace_takes_to_burst(wall_clock_s: float | None, checked_s: float) -> None:
    bursting = TraceWorkload(trace="azure-llm-2023/code", arrivals=Arrivals(process=ArrivalProcess.TRACE))
    spec = spec_of(budget={"engine_starts": 10, "wall_clock_s": wall_clock_s}).evolve(workload=bursting)
    smooth = spec.evolve(workload=TraceWorkload(trace="azure-llm-2023/code"))
    assert pace_of(spec, TrialKind.CONFIRM_FLEET, 8.0, residence_s=None).duration_s == checked_s
    assert pace_of(spec, TrialKind.CONFIRM_WINNER, 8.0, residence_s=None).duration_s < 300
    assert pace_of(smooth, TrialKind.CONFIRM_FLEET, 8.0, residence_s=None).duration_s <= smooth.tuning.levels.most_s
    parts = [workload_of(each, trial_of(TrialKind.CONFIRM_FLEET)) for each in (spec, smooth)]
    assert [part.part for part in parts if isinstance(part, TraceWorkload)] == [TracePart.ALL, TracePart.HELD_OUT]


def test_how_long_requests_stay_is_learned_from_the_level_before(tmp_path: Path) -> None:
    load, spec = FakeLoadTester(steady(100, 200)), spec_of()  # 50 tokens take ten seconds
    levels = runner(tmp_path, load)
    first, _ = levels.run(trial_of(), spec, "http://engine:1", LevelLoad(WORKLOAD, 1, 8.0))
    again = trial_of().evolve(levels=(first,))
    assert residence_s(again.levels) == pytest.approx(9.9, abs=0.01)
    second, _ = levels.run(again, spec, "http://engine:1", LevelLoad(WORKLOAD, 1, 8.0))
    assert first.warmup_s == 2
    assert second.warmup_s == pytest.approx(9.9, abs=0.01)
    known, _ = levels.run(trial_of(), spec, "http://engine:1", LevelLoad(WORKLOAD, 1, 8.0, residence_s=5.0))
    assert known.warmup_s == 5


def test_a_fleet_check_knows_how_long_requests_stay_from_the_trials_of_its_configuration(tmp_path: Path) -> None:
    level, _ = runner(tmp_path, FakeLoadTester(steady(100, 200))).run(
        trial_of(), spec_of(), "http://engine:1", LevelLoad(WORKLOAD, 1, 8.0)
    )
    measured = trial_of(TrialKind.CONFIRM_WINNER).evolve(levels=(level,))
    other = trial_of().evolve(config=measured.config.with_flags({"max-num-seqs": 8}))
    assert stay_of([measured, other, trial_of()], measured.config) == pytest.approx(9.9, abs=0.01)
    assert stay_of([measured], other.config) is None


def delivered(punctual: float, late: float) -> LagHistogram:
    return LagHistogram((0.01, 0.1, math.inf), (punctual, punctual + late, punctual + late))


@pytest.mark.parametrize(("late", "validity"), [(0.0, Validity.VALID), (500.0, Validity.INVALID)])
def test_a_level_counts_only_if_its_emulated_engines_kept_their_time(
    tmp_path: Path, late: float, validity: Validity
) -> None:
    # What an engine was late before the level is nobody's fault here.
    readings = iter([delivered(0, 900), delivered(1000, 900 + late)])
    levels = runner(tmp_path, FakeLoadTester(steady(100, 10)), lambda _: {"http://engine:1": next(readings)})
    level, outcome = levels.run(trial_of(), spec_of(), "http://engine:1", LevelLoad(WORKLOAD, 1, 8.0))
    assert level.report.validity is validity
    assert outcome.passed is (validity is Validity.VALID)
    assert ("emulated engine" in outcome.reason) is (validity is Validity.INVALID)
