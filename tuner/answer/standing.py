"""How every configuration stands beside the baseline, and which answer that adds up to. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.answer import Answer
from controlplane.domain.studies.capacity import FleetSize, fleet_size
from controlplane.domain.studies.study import Trial, TrialKind, TrialState
from controlplane.domain.studies.tuning_options import ObjectiveKind
from controlplane.domain.workload import has_own_arrivals
from tuner.answer.after_check import fleet_after
from tuner.answer.evidence import Measured, measured
from tuner.answer.fleets import (
    Interval,
    below,
    cheaper,
    costs,
    exists,
    gains,
    holds,
    most_gpus,
    needed,
    ratio,
    reach,
    sized,
)
from tuner.answer.likelihood import Array
from tuner.answer.named import LIKELY, LIKELY_GAIN, is_likely_gain, rather_holding
from tuner.answer.too_few import UNDER_THE_SAME, missed_checks, more_than, too_few_gpus

POSSIBLE = 0.1
"""Below this probability of a cheaper fleet, a configuration is not worth an engine start that others are."""

UNLIKELY = 0.05
"""Below this one, it is worth none at all, and no longer counts among what could have been missed."""

_MORE_ROOM = 1.02  # capacity per GPU over the baseline's, for certain, that makes the same fleet worth a rollout


class Standing(NamedTuple):
    """One candidate: the fleet it needs, and how likely that is cheaper than the baseline's."""

    measured: Measured
    fleet: FleetSize
    exists: bool  # on the service's GPUs, within its ceilings
    holds: float  # the target, with this fleet
    cheaper: float  # this fleet, than what the baseline needs
    gains: float  # it holds, and as many GPUs of the baseline do neither as well nor with the headroom
    could: float  # what it truly needs, than what the baseline needs
    reach: float  # the largest fleet of it that can be had here holds the target
    rounds: int  # of confirmation
    check: Trial | None  # its last fleet check

    @property
    def is_held(self) -> bool:
        """True when its fleet was checked as a whole and held."""
        return self.check is not None and self.check.state is TrialState.FEASIBLE


class Decision(NamedTuple):
    """The answer by everything measured so far. `winner` is None when the baseline is kept."""

    answer: Answer
    winner: Standing | None
    baseline: Measured | None  # None: it took no load at all
    baseline_fleet: FleetSize | None
    missed_saving: float
    missed_chance: float = 0.0  # that one of those measured needs fewer GPUs than the baseline's fleet


def standings(spec: ServiceSpec, trials: Sequence[Trial]) -> list[Standing]:
    """Return every candidate that may be recommended, the cheapest fleet first."""
    found = measured(trials)
    baseline = baseline_of(found)
    able = [each for each in found.values() if each is not baseline and _may_win(each)]
    before = measured([trial for trial in trials if trial.kind in UNDER_THE_SAME])
    missed = missed_checks(trials, before)
    placed = (_standing(spec, each, baseline, more_than(each, before, missed)) for each in able)
    return sorted(placed, key=lambda each: _rank(spec, each))


def baseline_of(found: dict[str, Measured]) -> Measured | None:
    """Return what was measured of the baseline."""
    return next((each for each in found.values() if each.of(TrialKind.BASELINE)), None)


def decide(spec: ServiceSpec, trials: Sequence[Trial]) -> Decision:
    """Return the answer that all trials add up to."""
    baseline, ranked = baseline_of(measured(trials)), standings(spec, trials)
    fleet = None if baseline is None else sized(spec, baseline)
    kept = fleet is not None and exists(spec, fleet)
    within = [each for each in ranked if each.exists]
    proved = next((each for each in within if is_proved(spec, each)), None)
    again = sorted(within, key=lambda each: each.rounds == 0)  # the luckiest of many is not believed before others
    likely = next((each for each in again if _is_likely(spec, each, baseline)), None)
    here = next((each for each in again if _rather_holds(each)), None)
    as_small = _as_small(spec, baseline, fleet, within) if baseline is not None and fleet is not None else fleet
    smaller = next((each for each in within if kept and _is_held_on_fewer(spec, each, baseline, as_small)), None)
    roomier = next((each for each in within if kept and _has_more_room(spec, each, baseline, fleet)), None)

    def answered(answer: Answer, winner: Standing | None, fleet: FleetSize | None = fleet) -> Decision:
        return Decision(
            answer, winner, baseline, fleet, *(_missed(spec, ranked, baseline, fleet) if kept else (0.0, 0.0))
        )

    if proved is not None:
        return answered(Answer.IMPROVEMENT, proved)
    if likely is not None:
        return answered(Answer.IMPROVEMENT_UNCHECKED, likely)
    if (as_dear := smaller or roomier) is not None:
        return answered(Answer.SAME_FLEET_MORE_CAPACITY, as_dear)
    if here is not None and not kept:
        return answered(Answer.SAME_FLEET_MORE_CAPACITY, here)
    if baseline is None or fleet is None or not kept:
        own = None if baseline is None else _all_gpus(spec, trials, baseline)
        return answered(Answer.NO_IMPROVEMENT if own else Answer.OUT_OF_REACH, None, own or fleet)
    return answered(Answer.NO_IMPROVEMENT, None, as_small)


def _rather_holds(standing: Standing) -> bool:
    """Say whether a fleet is worth running where the baseline has none: it held, or holds likelier than not. Measured
    once that takes more: the luckiest of many is believed too much.
    """
    again = standing.rounds > 0 or standing.check is not None
    return standing.is_held or standing.holds >= (LIKELY if again else LIKELY_GAIN)


def is_proved(spec: ServiceSpec, standing: Standing) -> bool:
    """Say whether a cheaper fleet is sure: confirmed, checked as a whole where that is wanted, probable enough.

    Where a round of confirmation tells little (`rounds_tell`), the check that held is what was measured again.
    """
    confidence = spec.tuning.confidence
    sure = min(standing.holds, standing.cheaper) >= confidence and standing.gains >= confidence**2  # both at once
    again = standing.rounds > 0 or (standing.is_held and not rounds_tell(spec))
    return sure and again and (standing.is_held or not spec.tuning.confirm_fleet)


def rounds_tell(spec: ServiceSpec) -> bool:
    """Say whether a round of confirmation tells what a fleet sustains in the long run.

    Under a trace's own arrivals it hardly does: a section of minutes, stretched to its rate, sustains a multiple or a
    fraction of what the whole trace does, which only a fleet's check replays.
    """
    return not has_own_arrivals(spec.workload)


def _is_likely(spec: ServiceSpec, standing: Standing, baseline: Measured | None) -> bool:
    if baseline is None:
        return True
    chances = {"gains_chance": standing.gains, "cheaper_chance": standing.cheaper}
    return is_likely_gain(spec, standing.fleet, baseline, **chances)


def _all_gpus(spec: ServiceSpec, trials: Sequence[Trial], baseline: Measured) -> FleetSize | None:
    """Return the largest fleet of the baseline here, where it likely holds the target; None where it does not, or where
    as many GPUs of one as good missed together.
    """
    if spec.tuning.objective.kind is ObjectiveKind.HIGHEST_GOODPUT:
        return None
    fleet = rather_holding(spec, baseline, LIKELY_GAIN)
    return fleet if fleet is not None and fleet.gpus > too_few_gpus(trials, baseline.config) else None


def _as_small(spec: ServiceSpec, baseline: Measured, fleet: FleetSize, within: Sequence[Standing]) -> FleetSize:
    """Return the baseline's fleet where nothing is a gain: no larger than what held together of another configuration
    without its headroom, if so many surely hold of the baseline too.
    """
    gpus, spare = baseline.config.gpus_per_replica, spec.tuning.objective.spare_replicas
    replicas = min((each.fleet.gpus for each in within if each.is_held), default=fleet.gpus) // gpus
    if not spare < replicas < fleet.replicas or holds(spec, baseline.belief, replicas) < spec.tuning.confidence:
        return fleet
    return fleet_size(replicas, gpus, spec.gpus)


def _is_held_on_fewer(spec: ServiceSpec, standing: Standing, baseline: Measured | None, kept: FleetSize | None) -> bool:
    """Say whether a fleet held together on fewer GPUs than the baseline would be kept on, which may do with as many but
    not as surely. Then that is what there is to run, whether or not it is a gain over what the baseline truly needs.
    """
    if baseline is None or kept is None or not standing.is_held or standing.fleet.gpus >= kept.gpus:
        return False
    if spec.tuning.objective.kind is ObjectiveKind.HIGHEST_GOODPUT:
        return False
    as_many = standing.fleet.gpus // baseline.config.gpus_per_replica
    theirs = holds(spec, baseline.belief, as_many) if as_many > spec.tuning.objective.spare_replicas else 0.0
    return standing.holds >= LIKELY and standing.holds > theirs


def _standing(spec: ServiceSpec, candidate: Measured, baseline: Measured | None, too_few: int) -> Standing:
    checks = candidate.of(TrialKind.CONFIRM_FLEET)
    last = checks[-1] if checks else None
    fleet = fleet_after(spec, candidate, baseline, last, too_few)
    return Standing(
        measured=candidate,
        fleet=fleet,
        exists=exists(spec, fleet),
        holds=holds(spec, candidate.belief, fleet.replicas),
        cheaper=1.0 if baseline is None else cheaper(spec, fleet, candidate, baseline),
        gains=1.0 if baseline is None else gains(spec, fleet, candidate, baseline),
        could=1.0 if baseline is None else below(costs(spec, candidate), costs(spec, baseline)),
        reach=reach(spec, candidate),
        rounds=len(candidate.of(TrialKind.CONFIRM_WINNER)),
        check=last,
    )


def _may_win(candidate: Measured) -> bool:
    """Say whether nothing refutes it: an engine that could not start or died, answers that differ."""
    searched = candidate.of(TrialKind.SEARCH)
    return not any(map(is_refuting, candidate.trials)) and any(t.state is TrialState.FEASIBLE for t in searched)


def is_refuting(trial: Trial) -> bool:
    """Say whether a trial refutes its configuration, whatever others of it measured."""
    return trial.start_failure is not None or bool(trial.quality and not trial.quality.passed)


def _rank(spec: ServiceSpec, standing: Standing) -> tuple[float, ...]:
    belief, config = standing.measured.belief, standing.measured.config
    per_gpu = belief.median_rps / config.gpus_per_replica
    match spec.tuning.objective.kind:
        case ObjectiveKind.HIGHEST_GOODPUT:
            return (-belief.median_rps * standing.fleet.replicas,)
        case ObjectiveKind.LOWEST_COST:
            if not standing.exists:
                return (math.inf, -standing.reach)
            sure = min(standing.holds, spec.tuning.confidence)
            return (standing.fleet.gpus, not standing.is_held, standing.rounds == 0, -sure, -per_gpu)


def _has_more_room(spec: ServiceSpec, standing: Standing, baseline: Measured | None, fleet: FleetSize | None) -> bool:
    if baseline is None or fleet is None or standing.fleet.gpus != fleet.gpus or standing.rounds == 0:
        return False
    gained = gain_per_gpu(standing.measured, baseline)
    return standing.holds >= spec.tuning.confidence and gained.low >= _MORE_ROOM


def gain_per_gpu(ours: Measured, theirs: Measured) -> Interval:
    """Return how many times the requests per second and GPU of the one those of the other are (95 %)."""
    return ratio(_each(ours), _each(theirs))


def _each(found: Measured) -> Array:
    return found.belief.samples() / found.config.gpus_per_replica


def _missed(
    spec: ServiceSpec, ranked: Sequence[Standing], baseline: Measured | None, kept: FleetSize | None
) -> tuple[float, float]:
    """Return the largest saving over the baseline's fleet that is not less likely than 5 %, and how likely there is
    one. What missed together needs more, whatever its levels say. For highest goodput: the saving of a request.
    """
    if kept is None or baseline is None:
        return 0.0, 0.0
    if spec.tuning.objective.kind is ObjectiveKind.HIGHEST_GOODPUT:
        theirs = -needed(spec, baseline)
        per_request = [(theirs[:, None] / -needed(spec, each.measured)[None, :]).ravel() for each in ranked]
        best = min((float(np.quantile(each, UNLIKELY)) for each in per_request), default=1.0)
        return max(0.0, 1 - best), _likeliest(per_request, 1)
    needs = [np.maximum(needed(spec, each.measured), _least_gpus(each)) for each in ranked]
    least = min((math.floor(np.quantile(gpus, UNLIKELY)) for gpus in needs), default=kept.gpus)
    return max(0.0, 1 - least / kept.gpus), _likeliest(needs, kept.gpus)


def _likeliest(costs_of_each: Sequence[Array], kept: float) -> float:
    """Return how likely the likeliest is to cost less than what is kept."""
    return max((float(np.mean(each < kept)) for each in costs_of_each), default=0.0)


def _least_gpus(standing: Standing) -> int:
    """Return how many GPUs a configuration takes at least: one replica more than missed together."""
    check = standing.check
    replicas = check.replicas + 1 if check is not None and check.state is TrialState.INFEASIBLE else 1
    return replicas * standing.measured.config.gpus_per_replica


def largest_reach(spec: ServiceSpec, trials: Sequence[Trial]) -> Measured | None:
    """Return the configuration whose largest fleet here most likely holds the target, of equals the one that carries
    most; None when no fleet is affordable.

    Of those measured more than once, where there are some: the luckiest of many is believed too much.
    """
    most, found = most_gpus(spec), measured(trials)
    able = [m for m in found.values() if m is baseline_of(found) or _may_win(m)]
    fitting = [m for m in able if m.config.gpus_per_replica <= most]
    again = [m for m in fitting if any(t.kind not in UNDER_THE_SAME for t in m.trials)]

    def far(m: Measured) -> tuple[float, float]:
        return round(reach(spec, m), 2), m.belief.median_rps * (most // m.config.gpus_per_replica)

    return max(again or fitting, key=far, default=None)
