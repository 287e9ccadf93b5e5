"""The tables of a study: what it began with, what was tried and why, what live traffic said."""

from __future__ import annotations

from controlplane.domain.base import RolloutId, StudyId
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.rollouts.analysis import Analysis, Comparison, Counts, Verdict
from controlplane.domain.studies.capacity import Capacity
from controlplane.domain.studies.study import EarlierCapacity, LiveOutcome, Study, TrialKind, TrialState, WarmStart
from dashboards import study_rows
from dashboards.charts import study as charts_study
from tests.builders_serving import NOW, a_study, a_trial

FP8, TP2 = EngineConfig(flags={"quantization": "fp8"}), EngineConfig(flags={"tensor-parallel-size": 2})
MEASURED = a_trial(number=1, config=FP8, capacity=Capacity(rps=4, low_rps=3.8, high_rps=4.2))


def warm() -> Study:
    known = tuple(EarlierCapacity(config=config, rps=rps) for config, rps in ((FP8, 3.5), (TP2, 6)))
    return a_study(warm_start=WarmStart(study_id=StudyId("st-0"), capacities=known))


def an_outcome(*verdicts: Verdict, promoted: bool = False) -> LiveOutcome:
    misses = Comparison(
        name="slo_miss_ratio", canary_ratio=0.02, stable_ratio=0.01, difference=0.01, low=0, high=0.02, margin=0.05
    )
    counts = Counts(requests=1200, slo_misses=24, errors=0)
    analyses = tuple(
        Analysis(verdict=v, reason="as counted", at=NOW, canary=counts, comparisons=(misses,)) for v in verdicts
    )
    return LiveOutcome(rollout_id=RolloutId("ro-1"), promoted=promoted, reason="ended", at=NOW, analyses=analyses)


def test_what_a_study_began_with_stands_beside_what_it_measured_itself() -> None:
    rows = study_rows.prior_rows(warm(), [MEASURED])
    assert [row[1:] for row in rows] == [["6.00", "–"], ["3.50", "4.00 (3.80–4.20)"]]
    assert "tensor-parallel-size=2" in rows[0][0]


def test_an_earlier_capacity_is_drawn_only_beside_a_trial_of_the_same_flags() -> None:
    figure = charts_study.capacities(warm(), [MEASURED])
    (earlier,) = [trace for trace in figure.data if "prior" in (trace.name or "")]
    assert (list(earlier.x), list(earlier.y)) == ([3.5], [charts_study.trial_label(MEASURED)])
    assert not [t for t in charts_study.capacities(a_study(), [MEASURED]).data if "prior" in (t.name or "")]


def test_the_ending_of_a_rollout_says_whether_the_canary_was_judged_worse() -> None:
    endings = [an_outcome(Verdict.PASS, promoted=True), an_outcome(Verdict.PASS), an_outcome(Verdict.FAIL)]
    promoted, taken_back, worse = study_rows.outcome_rows(a_study(outcomes=endings))
    assert "promoted" in promoted[0]
    assert "taken back" in taken_back[0]
    assert "judged worse" in worse[0]


def test_every_step_tells_its_verdict_and_what_it_counted() -> None:
    (row,) = study_rows.outcome_rows(a_study(outcomes=[an_outcome(Verdict.PASS, Verdict.FAIL)]))
    assert (
        "step 1: pass, as counted (1\u202f200 canary requests, 2.0\u202f% missed a limit, stable 1.0\u202f%)" in row[3]
    )
    assert "step 2: fail" in row[3]


def test_a_trial_tells_why_it_ran_and_why_it_could_not_serve() -> None:
    trials = [
        a_trial(number=0, kind=TrialKind.BASELINE),
        a_trial(number=1, config=FP8, state=TrialState.INFEASIBLE, reason="out <of> memory"),
    ]
    first, second = study_rows.trial_rows(a_study(), trials)
    assert "what serves today" in first[0]
    assert "quantization=fp8" in second[0]
    assert "infeasible: out &lt;of&gt; memory" in second[0]
