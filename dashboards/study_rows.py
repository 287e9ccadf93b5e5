"""Rows of a study's tables, for the dashboard and the report: trials, baseline beside winner, prior, live outcomes.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from controlplane.domain.report import Distribution, LoadTestReport
from controlplane.domain.rollouts.analysis import Analysis
from controlplane.domain.slo import LatencySlo
from controlplane.domain.studies.capacity import FleetSize
from controlplane.domain.studies.study import FleetCheck, LiveOutcome, Study, StudyEvidence, Trial, TrialKind
from dashboards import markup, words
from dashboards.charts import study as charts_study
from dashboards.markup import Column, Html

Rows = list[list[str]]

TRIALS = [
    Column("Trial"),
    Column("State"),
    Column("Capacity, req/s per replica", numeric=True),
    Column("Twin expected, req/s", numeric=True),
    Column("Replicas × GPUs", numeric=True),
    Column("USD/h", numeric=True),
    Column("USD/M tokens", numeric=True),
    Column("Start, s", numeric=True),
    Column("Levels", numeric=True),
]

SIDES = [Column(""), Column("Baseline"), Column("Winner")]

OUTCOMES = [Column(""), Column("Rollout"), Column("Ended because"), Column("What each step's live requests said")]

_WHY = {
    TrialKind.BASELINE: "what serves today, always measured first",
    TrialKind.SEARCH: "the search's choice",
    TrialKind.CONFIRM_WINNER: "the winner again, on arrivals the search never saw",
    TrialKind.CONFIRM_BASELINE: "the baseline again, on arrivals the search never saw",
    TrialKind.CONFIRM_FLEET: "the whole fleet behind a gateway, at the target rate",
}


def trial_rows(study: Study, trials: Sequence[Trial]) -> Rows:
    """Return one row per trial, in the order they were tried."""
    return [_trial_row(study, trial) for trial in trials]


def side_rows(study: Study, evidence: StudyEvidence) -> Rows:
    """Return baseline and winner beside each other, as measured again: flags, size, latency at capacity, money."""
    worth = evidence.sides()
    pair = [side.trial for side in worth]
    rows: Rows = [
        ["Flags", *(markup.flag_lines(trial.config) for trial in pair)],
        ["Capacity of one replica, req/s", *(words.capacity(side.capacity) for side in worth)],
        ["Replicas × GPUs of each", *(_size(side.fleet) for side in worth)],
        ["Fleet cost per hour", *(_cost(side.fleet) for side in worth)],
        ["USD per million tokens", *(words.usd(side.usd_per_million_tokens, 3) for side in worth)],
    ]
    for slo in charts_study.tightest(study.spec).values():
        name = f"{words.percentile(slo)} at capacity (limit {slo.limit_ms:g} ms)"
        rows.append([name, *(_latency(trial, slo) for trial in pair)])
    if evidence.winner.quality is not None:
        rows.append(["Answers against the baseline's", words.NONE, evidence.winner.quality.reason])
    if evidence.fleet_check is not None:
        rows.append(["Whole fleet, behind a gateway", words.NONE, _fleet_check(evidence.fleet_check)])
    return rows


def provenance(evidence: StudyEvidence) -> str:
    """Return what a recommendation rests on."""
    parts = [f"engine {evidence.engine_version}", f"on {evidence.gpu}", f"seed {evidence.seed}"]
    parts.append(f"{len(evidence.trial_ids)} trials, {len(evidence.confirmations)} of them confirmations")
    return "Rests on: " + ", ".join(parts)


def prior_columns(study: Study) -> list[Column]:
    """Return the heads of `prior_rows`."""
    assert study.warm_start is not None
    before = f"Measured by {study.warm_start.study_id}, req/s"
    return [Column("Configuration"), Column(before, numeric=True), Column("Measured here, req/s", numeric=True)]


def prior_rows(study: Study, trials: Sequence[Trial]) -> Rows:
    """Return what the study began with, the highest capacity first, beside what it measured itself."""
    assert study.warm_start is not None
    known = sorted(study.warm_start.capacities, key=lambda each: -each.rps)
    here = {
        trial.config.content_hash(): words.capacity(trial.capacity) for trial in trials if trial.capacity is not None
    }
    return [
        [
            markup.small_lines([words.changes(each.config, study.baseline, same="as the baseline")]),
            words.number(each.rps),
            here.get(each.config.content_hash(), words.NONE),
        ]
        for each in known
    ]


def prior_text(study: Study) -> str:
    """Return what the study began with, in one sentence."""
    assert study.warm_start is not None
    known = f"{len(study.warm_start.capacities)} capacities that study {study.warm_start.study_id} measured"
    return f"The search began with {known}. They are a prior only: none is counted as measured here."


def outcome_rows(study: Study) -> Rows:
    """Return one row per rollout of the recommendation, as they ended."""
    return [_outcome_row(outcome) for outcome in study.outcomes]


def _trial_row(study: Study, trial: Trial) -> list[str]:
    expected = trial.predicted.get("capacity_rps")
    return [
        _what(study, trial),
        markup.pill(trial.state.value, words.TRIAL_COLOUR[trial.state]),
        words.capacity(trial.capacity),
        words.number(expected),
        _size(trial.fleet),
        _cost(trial.fleet),
        words.usd(trial.usd_per_million_tokens, 3),
        words.NONE if trial.startup_s is None else f"{trial.startup_s:.0f}",
        str(len(trial.levels)),
    ]


def _what(study: Study, trial: Trial) -> Html:
    star = " ★" if charts_study.is_winner(study, trial) else ""
    again = f", attempt {trial.attempt}" if trial.attempt > 1 else ""
    return markup.two_lines(
        f"{charts_study.trial_label(trial)}{star}{again}", markup.small_lines([*_told(study, trial)])
    )


def _told(study: Study, trial: Trial) -> Iterator[str]:
    if trial.config != study.baseline:
        yield words.changes(trial.config, study.baseline)
    yield _WHY[trial.kind]
    if trial.reason:
        yield f"{trial.state.value}: {trial.reason}"


def _fleet_check(check: FleetCheck) -> str:
    if check.held is None:
        return f"not checked: {check.reason}"
    verdict = "held" if check.held else "missed"
    fewer = f"; {check.fewer}" if check.fewer else ""
    return f"{check.replicas} replicas {verdict} {words.number(check.rate_rps or 0)} req/s: {check.reason}{fewer}"


def _size(fleet: FleetSize | None) -> str:
    return words.NONE if fleet is None else f"{fleet.replicas} × {fleet.gpus // fleet.replicas}"


def _cost(fleet: FleetSize | None) -> str:
    return words.NONE if fleet is None else words.usd(fleet.usd_per_hour)


def _latency(trial: Trial, slo: LatencySlo) -> str:
    report = _at_capacity(trial)
    if report is None:
        return words.NONE
    values: Distribution = getattr(report, slo.metric.value)
    found = values.at(slo.percentile)
    if found is None:
        return words.NONE
    # the tail of a short level has no upper bound: too few requests lie beyond the percentile
    between = (
        f"{words.count(values.count)} requests: too few for an interval"
        if found.high is None
        else f"{words.number(found.low)}–{words.number(found.high)}"
    )
    return f"{words.number(found.value)} ms ({between})"


def _at_capacity(trial: Trial) -> LoadTestReport | None:
    passed = [level for level in trial.levels if level.passed]
    return max(passed, key=lambda level: level.rate_rps).report if passed else None


def _outcome_row(outcome: LiveOutcome) -> list[str]:
    steps = [f"step {number}: {_judged(analysis)}" for number, analysis in enumerate(outcome.analyses, start=1)]
    return [
        markup.pill(*words.ending(outcome)),
        markup.two_lines(outcome.rollout_id, f"{words.moment(outcome.at)} UTC"),
        outcome.reason,
        markup.small_lines(steps or ["no step was judged"]),
    ]


def _judged(analysis: Analysis) -> str:
    counted = f"{words.count(analysis.canary.requests)} canary requests"
    misses = next((c for c in analysis.comparisons if c.name == "slo_miss_ratio"), None)
    if misses is not None:
        beside = "" if misses.stable_ratio is None else f", stable {words.percent(misses.stable_ratio)}"
        counted += f", {words.percent(misses.canary_ratio)} missed a limit{beside}"
    return f"{analysis.verdict.value}, {analysis.reason} ({counted})"
