"""From a study's trials to what is believed of each configuration's capacity. Pure.

Every level of every trial counts: of the search, of the confirmations, of the fleet checks (there each replica carries
its share of the rate). An experiment that broke tells nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.report import SloCheck, Validity
from controlplane.domain.studies.study import Level, Trial, TrialKind, TrialState
from tuner.answer.likelihood import Run, Seen
from tuner.answer.posterior import Belief, Subject, believe

THESE_ARRIVALS, LONG_RUN, LONG_RUN_SD = "these_arrivals_rps", "long_run_rps", "long_run_sd"
"""What the twin says a replica sustains under a trial's very arrivals, in the long run, and by how much (sd of the
logarithm) one half hour to come differs from another; in `Trial.predicted`."""


class Measured(NamedTuple):
    """A configuration, all its trials that count, and what is believed of one replica."""

    config: EngineConfig
    trials: tuple[Trial, ...]
    belief: Belief

    def of(self, kind: TrialKind) -> tuple[Trial, ...]:
        """Return its trials of one kind."""
        return tuple(trial for trial in self.trials if trial.kind is kind)


def measured(trials: Sequence[Trial], *, together: float = 0.0) -> dict[str, Measured]:
    """Return every configuration that took any load, by its hash, in the order of their first trials.

    `together` is by how much a replica is taken to sustain more as one of several than alone (logarithm, and as unsure
    as it is large): 0 is what decides, of whole fleets.
    """
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        if _counts(trial):
            groups.setdefault(trial.config.content_hash(), []).append(trial)
    subjects = {key: _subject(group, together) for key, group in groups.items()}
    beliefs = believe(subjects)
    return {key: Measured(groups[key][0].config, tuple(groups[key]), beliefs[key]) for key in groups if key in beliefs}


def _counts(trial: Trial) -> bool:
    """A running trial is not judged yet; only a fleet check looks at itself while it runs."""
    if trial.state is TrialState.RUNNING:
        return trial.kind is TrialKind.CONFIRM_FLEET
    return trial.state is not TrialState.FAILED


def _subject(trials: Sequence[Trial], together: float) -> Subject:
    expected = next((rps for t in trials if (rps := _expected_rps(t))), None)
    to_come = max((trial.predicted.get(LONG_RUN_SD, 0.0) for trial in trials), default=0.0)
    runs = tuple(run for trial in trials for run in _runs(trial, to_come, together))
    return Subject(runs, trials[0].config.gpus_per_replica, expected, to_come)


def _expected_rps(trial: Trial) -> float | None:
    """Return what the twin expected of one replica, in the long run where it said so."""
    return trial.predicted.get(LONG_RUN) or trial.predicted.get("capacity_rps")


def _runs(trial: Trial, half_hours_sd: float, together: float) -> list[Run]:
    """Return the levels that share arrivals: all of a ladder, each of a fleet check alone: half an hour or less, of
    which one differs from another by `half_hours_sd`.
    """
    told = [(level, each) for level in trial.levels if (each := _seen(trial, level)) is not None]
    if trial.kind is TrialKind.CONFIRM_FLEET:
        of_each = ((each, together if is_of_several(trial, level) else 0.0) for level, each in told)
        return [Run((each,), apart=half_hours_sd, together=more) for each, more in of_each]
    return [Run(tuple(each for _, each in told), _luck(trial))] if told else []


def is_of_several(trial: Trial, level: Level) -> bool:
    """Say whether more than one replica carried a level."""
    return level.each_rps(trial) < level.rate_rps


def _luck(trial: Trial) -> float | None:
    these, long_run = trial.predicted.get(THESE_ARRIVALS), trial.predicted.get(LONG_RUN)
    return math.log(these / long_run) if these and long_run else None


def _seen(trial: Trial, level: Level) -> Seen | None:
    report = level.report
    if report.validity is Validity.INVALID or not report.slo_checks:
        return None
    finished = report.completed + report.errors
    nearest = max(report.slo_checks, key=lambda check: _pressure(check, finished))
    return Seen(
        rate_rps=level.each_rps(trial),
        requests=finished,
        misses=nearest.miss_ratio * finished,
        allowed=nearest.slo.allowed_miss_ratio,
        arrived=finished + report.unfinished,
        passed=level.passed,
        whole=report.stopped_early is None,
    )


def _pressure(check: SloCheck, finished: int) -> float:
    allowed = check.slo.allowed_miss_ratio
    return (check.miss_ratio * finished + 0.5) / (finished * allowed + 1)
