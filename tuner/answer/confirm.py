"""What the search found is confirmed: which measurement is next, and when there is nothing left to gain. Pure.

The cheapest fleet that is possible is confirmed first, in turn with the baseline and under the same arrivals (a fresh
seed a round), until it is sure to be cheaper or sure not to be. A baseline that surely cannot be had is not measured
again: whatever it sustains, nothing changes. Then its whole fleet is checked. What was learned may
put another candidate first: then that one is confirmed, as long as the budget lasts.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.capacity import fleet_size
from controlplane.domain.studies.study import Trial, TrialKind, TrialState
from controlplane.domain.studies.tuning_options import ObjectiveKind
from tuner.answer.evidence import measured
from tuner.answer.fleets import cheaper, costs, exists, gains, holds, largest_here, sized
from tuner.answer.named import LIKELY, largest_cheaper
from tuner.answer.standing import POSSIBLE, UNLIKELY, Standing, baseline_of, is_proved, rounds_tell, standings
from tuner.answer.too_few import too_few_gpus

MOST_ROUNDS = 3
NOT_AGAIN = "the baseline is not measured again: these GPUs surely do not hold its fleet"
_SURELY_OUT = 0.01  # probability that the baseline can be had, below which measuring it again changes no answer


class Proof(StrEnum):
    """What a candidate needs next."""

    WINNER = "winner"  # measured again
    BASELINE = "baseline"  # measured again, under the arrivals the winner had
    FLEET = "fleet"  # checked as a whole


class Next(NamedTuple):
    """A measurement and how many engines it starts; `kept` more are to be left for what follows it.

    `likely` is False of a candidate that hardly wins: while the budget lasts others are looked for first. `last` is
    True where only its check tells whether the target is in reach here: no further round does.
    """

    proof: Proof
    standing: Standing
    starts: int
    kept: int = 0
    likely: bool = True
    last: bool = False


def next_proofs(spec: ServiceSpec, trials: Sequence[Trial]) -> list[Next]:
    """Return what each candidate worth it needs next, the most promising first; nothing when nothing is to gain.

    While none is promising and nothing is proved, the hardly possible ones are: a start saved proves nothing. Where the
    baseline's fleet does not exist, one as large as what surely holds, and held, gains nothing either.
    """
    ranked, lost = standings(spec, trials), is_lost(spec, trials)
    settled = (each for each in ranked if is_proved(spec, each) or (lost and each.is_held and _is_sure(spec, each)))
    proved = min((each.fleet.gpus for each in settled if each.exists), default=None)
    held = min((each.fleet.gpus for each in ranked if each.is_held and each.exists), default=None)
    open_ = [each for each in ranked if proved is None or each.fleet.gpus < proved]
    for least in (POSSIBLE, UNLIKELY):
        possible = (each for each in open_ if is_possible(each, lost=lost, least=least))
        reaching = (_reaching(spec, each, below=held) if lost else each for each in possible)
        wanted = (_next(spec, trials, each, last=lost and not _is_sure(spec, each)) for each in reaching)
        found = [each for each in wanted if each is not None]
        if found or proved is not None:
            break
    return sorted(found, key=_turn)


def _turn(wanted: Next) -> float:
    """Return when a candidate's turn is: as it is ranked; of those that only caution forbids, by odds per engine start.

    All of these take all GPUs, so that any that holds is as good, and the starts left are to find one.
    """
    found = wanted.standing
    return 0.0 if found.exists or not wanted.last else -found.holds / (wanted.starts + wanted.kept) + 1


def is_lost(spec: ServiceSpec, trials: Sequence[Trial]) -> bool:
    """Say whether the baseline's fleet cannot be had on these GPUs: then anything that can is better."""
    baseline = baseline_of(measured(trials))
    return baseline is None or not exists(spec, sized(spec, baseline))


def baseline_is_out(spec: ServiceSpec, trials: Sequence[Trial]) -> bool:
    """Say whether the baseline reaches the target by no number of the GPUs there are, for certain.

    Then every fleet that can be had is cheaper, however often the baseline is measured again.
    """
    if not any(t.kind is TrialKind.BASELINE and t.state is not TrialState.RUNNING for t in trials):
        return False
    if spec.tuning.objective.kind is ObjectiveKind.HIGHEST_GOODPUT:
        return False
    baseline = baseline_of(measured(trials))
    return baseline is None or float(np.mean(np.isfinite(costs(spec, baseline)))) < _SURELY_OUT


def is_checked_at_once(spec: ServiceSpec, trials: Sequence[Trial]) -> bool:
    """Say whether fleets that may reach the target are checked without a round of confirmation before: where the
    baseline's does not exist and a round tells little.
    """
    if rounds_tell(spec) or not spec.tuning.confirm_fleet:
        return False
    begun = any(t.kind is TrialKind.BASELINE and t.state is not TrialState.RUNNING for t in trials)
    return begun and is_lost(spec, trials)


def odds_per_start(spec: ServiceSpec, standing: Standing) -> float:
    """Return how likely its largest fleet here holds the target, over the engines that a check of it starts."""
    fleet = largest_here(spec, standing.measured)
    return 0.0 if fleet is None else standing.reach / fleet.replicas


def round_starts(spec: ServiceSpec, trials: Sequence[Trial]) -> int:
    """Return how many engines a round of confirmation starts."""
    return 1 if baseline_is_out(spec, trials) else 2


def is_likely(standing: Standing) -> bool:
    """Say whether a candidate rather wins than not, by this fleet or by what it truly needs; one whose fleet cannot be
    had, whether it rather holds the target with all that there is.
    """
    if not standing.exists:
        return max(standing.could, standing.reach) >= LIKELY
    return standing.cheaper >= LIKELY or standing.could >= LIKELY


def is_possible(standing: Standing, *, lost: bool, least: float = POSSIBLE) -> bool:
    """Say whether a candidate may yet be the answer, be it that only a lucky estimate of it fits the GPUs, or holds
    the target with all of them where the baseline's fleet does not exist (`lost`).
    """
    if not standing.exists:
        return standing.could >= least or (lost and standing.reach >= least)
    return standing.could >= least or standing.cheaper >= LIKELY or lost


def rounds_of(trials: Sequence[Trial], kind: TrialKind, config_hash: str) -> int:
    """Return how often a configuration was measured again, under way or done."""
    return sum(t.kind is kind and t.config.content_hash() == config_hash for t in trials)


def _reaching(spec: ServiceSpec, standing: Standing, *, below: int | None) -> Standing:
    """Return a candidate with the fleet to check where the baseline's does not exist: the largest there can be, where
    only that tells what is in reach; the largest on fewer GPUs than held together of another one, where it may do.
    """
    if standing.check is not None:
        return standing
    belief, gpus = standing.measured.belief, standing.measured.config.gpus_per_replica
    fleet = largest_here(spec, standing.measured) if not standing.exists and standing.reach >= POSSIBLE else None
    if below is not None and (replicas := (below - 1) // gpus) > spec.tuning.objective.spare_replicas:
        fewer = standing.fleet.gpus >= below and holds(spec, belief, replicas) >= POSSIBLE
        fleet = fleet_size(replicas, gpus, spec.gpus) if fewer else fleet
    if fleet is None:
        return standing
    return standing._replace(fleet=fleet, holds=holds(spec, belief, fleet.replicas))


def _is_sure(spec: ServiceSpec, standing: Standing) -> bool:
    """Say whether the fleet named is surely enough by what one replica was measured at."""
    return standing.exists and standing.holds >= spec.tuning.confidence


def _next(spec: ServiceSpec, trials: Sequence[Trial], standing: Standing, *, last: bool) -> Next | None:
    if standing.is_held or _check_broke(trials, standing):
        return None
    asked, likely = _money_hangs_on(spec, trials, standing), is_likely(standing)
    check = asked.fleet.replicas if spec.tuning.confirm_fleet and exists(spec, asked.fleet) else 0
    if standing.check is not None:  # it missed with fewer, and could not grow then
        check = check if standing.exists and standing.fleet.replicas > standing.check.replicas else 0
        return Next(Proof.FLEET, standing, check) if check and standing.cheaper >= LIKELY else None
    if last and check and not rounds_tell(spec):
        return Next(Proof.FLEET, asked, check, likely=likely, last=last)
    again = rounds_of(trials, TrialKind.CONFIRM_WINNER, standing.measured.config.content_hash())
    before = sum(t.kind is TrialKind.CONFIRM_BASELINE for t in trials)
    paired = not baseline_is_out(spec, trials)
    if paired and before < again and before < MOST_ROUNDS:
        return Next(Proof.BASELINE, asked, 1, kept=check, likely=likely, last=last)
    enough = MOST_ROUNDS if asked is standing or rounds_tell(spec) else 1
    if again and (last or standing.cheaper >= spec.tuning.confidence or again >= enough):
        worth = check and (likely or last or asked is not standing)
        return Next(Proof.FLEET, asked, check, likely=likely, last=last) if worth else None
    starts = 2 if paired and before <= again else 1
    return Next(Proof.WINNER, asked, starts, kept=check, likely=likely, last=last)


def _money_hangs_on(spec: ServiceSpec, trials: Sequence[Trial], standing: Standing) -> Standing:
    """Return a candidate with the fleet that decides whether it wins: one that is cheaper, where what it is believed
    to need is not and it may well do with fewer. Only a check tells, and a miss costs no more than another round.

    What missed of others as good in the search speaks for it only until it was measured again itself. Where further
    rounds tell little, odds of 10 % are enough for a check, which takes half the starts of a round for one engine.
    """
    baseline = baseline_of(measured(trials))
    open_ = baseline is not None and standing.exists and standing.check is None and standing.could >= POSSIBLE
    if baseline is None or not open_ or standing.cheaper >= LIKELY:
        return standing
    candidate = standing.measured
    least = LIKELY if rounds_tell(spec) else POSSIBLE
    fleet = largest_cheaper(spec, candidate, baseline, below=standing.fleet.replicas, least=least)
    too_few = 0 if standing.rounds else too_few_gpus(trials, candidate.config)
    if fleet is None or fleet.gpus <= too_few:
        return standing
    won = cheaper(spec, fleet, candidate, baseline), gains(spec, fleet, candidate, baseline)
    return standing._replace(fleet=fleet, cheaper=won[0], gains=won[1])


def _check_broke(trials: Sequence[Trial], standing: Standing) -> bool:
    config = standing.measured.config
    broken = (t for t in trials if t.kind is TrialKind.CONFIRM_FLEET and t.state is TrialState.FAILED)
    return any(t.config == config for t in broken)
