"""Charts: what is drawn follows from the values, nothing is lost or made up."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.flags import FlagValue
from controlplane.domain.operations.live import live
from controlplane.domain.slo import LatencyMetric, LatencySlo
from controlplane.domain.studies.study import Level, Trial, TrialKind, TrialState
from dashboards.charts import knobs as charts_knobs
from dashboards.charts import live as charts_live
from dashboards.charts import report as charts_report
from dashboards.charts import study as charts_study
from tests.builders_serving import NOW, a_recommendation, a_study, a_trial
from tests.e2e.dashboard.seed import a_chat_spec
from tests.e2e.dashboard.seed_reports import a_report, levels, outcome

SPEC = a_chat_spec()
SLO = SPEC.slos.latency[0]
TP4 = {"tensor-parallel-size": 4}


def measured(number: int, full_rps: float, flags: Mapping[str, FlagValue] | None = None) -> Trial:
    config = EngineConfig(flags=flags or {})
    found = levels(SPEC, full_rps, [full_rps * share for share in (0.5, 0.8, 0.99)])
    return a_trial(number=number, config=config).evolve(**outcome(SPEC, config, found))


def test_every_level_of_every_trial_is_a_point_of_the_latency_curves() -> None:
    trials = [measured(0, 3), measured(1, 4, {"quantization": "fp8"})]
    figure = charts_study.latency_throughput(a_study(spec=SPEC), trials, SLO)
    assert [len(trace.x) for trace in figure.data] == [3, 3]
    assert figure.layout.shapes[0].y0 == SLO.limit_ms


def test_levels_that_missed_a_limit_are_hollow() -> None:
    trial = measured(0, 3)
    (trace,) = charts_study.latency_throughput(a_study(spec=SPEC), [trial], SLO).data
    filled = [colour == trace.line.color for colour in trace.marker.color]
    assert filled == [level.passed for level in trial.levels]


def test_latencies_far_beyond_the_limit_are_drawn_on_a_labelled_logarithmic_axis() -> None:
    strict = SLO.evolve(limit_ms=SLO.limit_ms / 100)
    axis = charts_study.latency_throughput(a_study(spec=SPEC), [measured(0, 3)], strict).layout.yaxis
    assert axis.type == "log"
    assert len(axis.tickvals) == len(axis.ticktext) > 2


def test_the_pareto_front_leaves_out_what_costs_more_and_is_slower() -> None:
    cheap, fast, beaten_twice = measured(0, 3), measured(1, 8, TP4), measured(2, 2.9, TP4)
    trials = [cheap, fast, beaten_twice]
    points = {t.number: charts_study.cost_and_latency(t, SLO) for t in trials}
    front = next(t for t in charts_study.pareto(a_study(spec=SPEC), trials, SLO).data if t.name == "Pareto front")
    on_front = set(zip(front.x, front.y, strict=True))
    for point in points.values():
        assert point is not None
        beaten = any(o != point and o[0] <= point[0] and o[1] <= point[1] for o in points.values() if o)
        assert (point in on_front) != beaten


def test_trials_without_a_passed_level_are_not_on_the_cost_chart() -> None:
    trial = a_trial(state=TrialState.INFEASIBLE)
    assert charts_study.cost_and_latency(trial, SLO) is None
    assert not charts_study.pareto(a_study(spec=SPEC), [trial], SLO).data


def test_knob_panels_show_only_flags_that_varied_and_mark_what_could_not_serve() -> None:
    trials = [
        measured(0, 3, {"max-num-seqs": 64, "max-model-len": 8192}),
        a_trial(number=1, state=TrialState.INFEASIBLE, config=EngineConfig(flags={"max-model-len": 8192})),
    ]
    figure = charts_knobs.knob_effects(a_study(spec=SPEC), trials)
    assert figure is not None
    assert [note.text for note in figure.layout.annotations] == ["max-num-seqs"]
    assert [trace.marker.symbol for trace in figure.data] == ["circle", "x-thin"]
    assert figure.data[1].x == (charts_knobs.DEFAULT,)


def test_a_whole_fleet_is_no_point_of_one_replica() -> None:
    """Its check has no capacity of one replica; its rate is shared by all of them."""
    level = Level(rate_rps=6, passed=True, certain=True, reason="", report=a_report(SPEC, rate_rps=6, full_rps=9))
    fleet = a_trial(
        number=2,
        kind=TrialKind.CONFIRM_FLEET,
        replicas=3,
        levels=(level,),
        state=TrialState.FEASIBLE,
        config=EngineConfig(flags={"max-num-seqs": 64}),
    )
    trials = [measured(0, 3, {"max-num-seqs": 64}), measured(1, 4, {"max-num-seqs": 128}), fleet]
    figure = charts_knobs.knob_effects(a_study(spec=SPEC), trials)
    assert figure is not None
    assert len(figure.data) == 2
    curves = charts_study.latency_throughput(a_study(spec=SPEC), trials, SPEC.slos.latency[0])
    assert [trace.x for trace in curves.data if trace.name.startswith("#2")] == [(2,)]


def test_a_study_in_which_nothing_varied_has_no_knob_panels() -> None:
    assert charts_knobs.knob_effects(a_study(spec=SPEC), [measured(0, 3), measured(1, 3)]) is None


def test_the_recommended_configuration_is_the_winner_wherever_it_ran() -> None:
    study = a_study(recommendation=a_recommendation())
    winner = a_trial(config=EngineConfig(flags={"max-num-seqs": 64}))
    assert charts_study.role(study, winner)[0] == "winner"
    assert charts_study.role(study, a_trial(kind=TrialKind.BASELINE))[0] == "baseline"


def test_nothing_wins_a_study_without_improvement() -> None:
    found = a_recommendation(improvement=False)
    assert not charts_study.is_winner(a_study(recommendation=found), a_trial(config=found.config))


def test_a_percentile_without_upper_bound_has_no_error_bar() -> None:
    report = a_report(SPEC, rate_rps=2, full_rps=3, seconds=20)
    (trace,) = charts_report.percentiles(report, ["ttft_ms"]).data
    assert report.ttft_ms.percentiles[-1].high is None
    assert (trace.error_y.array[-1], trace.error_y.arrayminus[-1]) == (0, 0)


def test_the_percentile_drawn_is_the_one_that_is_limited() -> None:
    p95 = LatencySlo(metric=LatencyMetric.TTFT, percentile=95, limit_ms=100)
    slos = SPEC.slos.evolve(latency=(p95,))
    assert charts_live.bold(slos, LatencyMetric.TTFT) == 95
    assert charts_live.bold(slos, LatencyMetric.E2E) == 99


@pytest.mark.parametrize("metric", list(LatencyMetric))
def test_live_charts_without_traffic_are_empty_and_still_draw_the_limit(metric: LatencyMetric) -> None:
    silent = live(SPEC, [], now=NOW, window_s=60, bucket_s=10)
    figure = charts_live.quantile(silent, metric, charts_live.roles(None, None, ()))
    assert not figure.data
    assert len(figure.layout.shapes) == sum(slo.metric is metric for slo in SPEC.slos.latency)
    assert not charts_live.errors(silent, {}).data
    assert not charts_live.rate(silent, {}).data
