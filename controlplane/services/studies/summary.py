"""What a study's answer says in words. Every number in it stands in the evidence beside it."""

from __future__ import annotations

from typing import NamedTuple

from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.answer import Answer, Chances
from controlplane.domain.studies.capacity import FleetSize
from controlplane.domain.studies.study import FleetCheck, Study, TrialKind
from controlplane.domain.studies.tuning_options import Budget, ObjectiveKind
from controlplane.domain.words import chance, counted
from tuner.answer.evidence import Measured
from tuner.answer.fleets import Interval, exists, most_gpus, sized
from tuner.answer.named import LIKELY
from tuner.answer.policy import SAVED, Spent
from tuner.answer.standing import POSSIBLE, Decision, rounds_tell

_ROOM = 1.25  # time a budget is to hold, over what its starts are expected to take


NO_RATE = "the baseline meets the limits at no rate measured"


class Told(NamedTuple):
    """The numbers of an answer."""

    kept: Measured
    fleet: FleetSize
    check: FleetCheck | None
    saved: Interval  # the fleet's cost over the baseline's
    chances: Chances
    stopped_because: str
    unchecked: str | None = None  # why a measurement that was wanted was not made


def summary(spec: ServiceSpec, found: Decision, told: Told) -> str:
    """Return the answer as one sentence or two, and why engine starts were left where some were."""
    said = _answered(spec, found, told)
    left = SAVED in told.stopped_because and told.stopped_because not in said
    return f"{said} ({told.stopped_because})" if left else said


def _answered(spec: ServiceSpec, found: Decision, told: Told) -> str:
    match found.answer:
        case Answer.IMPROVEMENT:
            return f"{_gain(spec, found, told)}; {_holds(spec, told)}{_checked(told.check)}"
        case Answer.IMPROVEMENT_UNCHECKED:
            why = unproved(spec, found, told)
            likely = f"likely an improvement, not proved ({why}): {_gain(spec, found, told)}"
            return f"{likely}; {_holds(spec, told)}{_checked(told.check)}"
        case Answer.SAME_FLEET_MORE_CAPACITY:
            return f"{_same(spec, found, told)}; {_holds(spec, told)}{_checked(told.check)}"
        case Answer.NO_IMPROVEMENT:
            shown = "no improvement shown" if told.chances.missed_chance >= POSSIBLE else "no improvement"
            return f"{shown}: {_kept(spec, told)}; {_missed(spec, told)}"
        case Answer.OUT_OF_REACH:
            far = _reach(spec, found, told)
            if not is_open(spec, found, told):
                return f"the target cannot be met here: {far}"
            likely = "likely" if told.chances.holds < LIKELY else "perhaps"
            return f"the target is {likely} out of reach here, not proved: {far}"


def unproved(spec: ServiceSpec, found: Decision, told: Told) -> str:
    """Say what is missing of the proof of a likely improvement."""
    winner, confidence = found.winner, spec.tuning.confidence
    assert winner is not None  # there is none only without an improvement
    reasons = []
    if not winner.rounds and (rounds_tell(spec) or not winner.is_held):
        reasons.append("the winner was not measured again")
    if told.check is not None and told.check.held is None:
        reasons.append(f"the fleet as a whole was not checked: {told.check.reason}")
    if told.check is not None and told.check.held is False:
        reasons.append(f"{counted(told.check.replicas, 'replica')} missed the target together: {told.check.reason}")
    if winner.gains < confidence:
        reasons.append(f"it is a gain with probability {chance(winner.gains)}")
    if winner.cheaper < confidence:
        reasons.append(f"it is cheaper with probability {chance(winner.cheaper)}")
    if winner.holds < confidence:
        reasons.append(f"it holds with probability {chance(winner.holds)}")
    return "; ".join(reasons) or told.stopped_because


def is_open(spec: ServiceSpec, found: Decision, told: Told) -> bool:
    """Say whether an answer without a winner leaves in doubt if the target is in reach here: more starts may tell."""
    if _is_goodput(spec):
        return False  # there is no target
    if found.answer is Answer.OUT_OF_REACH:
        return told.chances.holds >= POSSIBLE
    return found.answer is Answer.NO_IMPROVEMENT and told.chances.holds < spec.tuning.confidence


def is_unsettled(found: Decision, told: Told) -> bool:
    """Say whether a cheaper fleet is possible, and the budget did not hold what would have told."""
    possible = found.answer is Answer.NO_IMPROVEMENT and told.chances.missed_chance >= POSSIBLE
    return possible and told.unchecked is not None


def go_on(study: Study, found: Decision, told: Told, *, used: Spent) -> str | None:
    """Return the command that makes an uncertain answer a certain one; None when it is certain."""
    may_gain = found.answer is Answer.IMPROVEMENT_UNCHECKED or _may_gain(study.spec, found)
    if not may_gain and not is_open(study.spec, found, told) and not is_unsettled(found, told):
        return None
    more = told.fleet.replicas + 4  # the check, a missed one's further replica, and another round
    return f"fleetune tune --resume {study.study_id} --budget {_with(study.spec.tuning.budget, used, more)}"


def _with(budget: Budget, used: Spent, more: int) -> str:
    """Return a budget of so many more starts, as `--budget` takes it, with the time that they take by those made."""
    starts = budget.engine_starts + more
    share = 1 + more / max(1, used.engine_starts)
    times = []
    if budget.wall_clock_s is not None:
        times.append(f"wall_clock_s={_enough(budget.wall_clock_s, used.wall_clock_s * share):.0f}")
    if budget.gpu_hours is not None:
        times.append(f"gpu_hours={_enough(budget.gpu_hours, used.gpu_seconds * share / 3600):.2f}")
    return ",".join([f"engine_starts={starts}", *times]) if times else f"{starts}"


def _enough(had: float, expected: float) -> float:
    return max(had, _ROOM * expected)


def _may_gain(spec: ServiceSpec, found: Decision) -> bool:
    """Say whether the answer is the same fleet only as long as the baseline may do with as many GPUs."""
    was, winner = found.baseline_fleet, found.winner
    if found.answer is not Answer.SAME_FLEET_MORE_CAPACITY or was is None or winner is None:
        return False
    return not exists(spec, was) or winner.fleet.gpus < was.gpus


def _same(spec: ServiceSpec, found: Decision, told: Told) -> str:
    more = f"{_fleet(told.fleet)}, with {_more(told.chances)}"
    if not _may_gain(spec, found) or found.baseline_fleet is None:
        return f"the same fleet, {more}"
    needs = f"the baseline surely needs {found.baseline_fleet.gpus} GPUs, {most_gpus(spec)} are allowed"
    may = f"that as many as these do not suffice it has probability {chance(told.chances.cheaper)}"
    return f"rather the same fleet than a cheaper one, {more}; {needs}; {may}"


def _gain(spec: ServiceSpec, found: Decision, told: Told) -> str:
    match spec.tuning.objective.kind:
        case ObjectiveKind.HIGHEST_GOODPUT:
            more = NO_RATE if found.baseline is None else f"with {_more(told.chances)}"
            return f"{_fleet(told.fleet)}, {more}"
        case ObjectiveKind.LOWEST_COST:
            return f"{_fleet(told.fleet)}{_instead(spec, found, told)}"


def _instead(spec: ServiceSpec, found: Decision, told: Told) -> str:
    was, saved = found.baseline_fleet, told.saved
    if was is None or found.baseline is None:
        return f", {NO_RATE}"
    less = f"{_less(saved.value)} (95 % interval {_less(saved.high)} to {_less(saved.low)})"
    instead = f" instead of {_price(was) or f'{was.gpus} GPUs'}, {less}"
    if exists(spec, was):
        return instead
    once = found.winner is not None and found.winner.rounds and not found.baseline.of(TrialKind.CONFIRM_BASELINE)
    alone = " and it was not measured again" if once else ""
    return f"{instead}; the baseline needs {was.gpus} GPUs, {most_gpus(spec)} are allowed{alone}"


def _less(ratio: float) -> str:
    return f"{1 - ratio:.0%} less" if ratio <= 1 else f"{ratio - 1:.0%} more"


def _more(chances: Chances) -> str:
    low, high = _over(chances.capacity_ratio_low), _over(chances.capacity_ratio_high)
    return f"{_over(chances.capacity_ratio)} capacity per GPU (95 % interval {low} to {high})"


def _over(ratio: float) -> str:
    return f"{ratio - 1:.0%} more" if ratio >= 1 else f"{1 - ratio:.0%} less"


def _fleet(fleet: FleetSize) -> str:
    return f"{fleet.replicas} × {fleet.gpus // fleet.replicas} GPUs{_paid(fleet)}"


def _paid(fleet: FleetSize) -> str:
    """Return what a fleet costs, nothing where GPUs have no price."""
    return f", {_price(fleet)} USD per hour" if fleet.usd_per_hour else ""


def _comma(fleet: FleetSize) -> str:
    """Return what closes the price that `_paid` puts between commas."""
    return "," if _paid(fleet) else ""


def _price(fleet: FleetSize) -> str:
    return f"{fleet.usd_per_hour:.2f}" if fleet.usd_per_hour else ""


def _holds(spec: ServiceSpec, told: Told) -> str:
    what = "its load" if _is_goodput(spec) else f"{spec.slos.target_qps:g} requests/s"
    fewer = told.chances.fewer_hold
    room = "" if fewer is None else f" (one replica fewer with {chance(fewer)})"
    return f"it holds {what} with probability {chance(told.chances.holds)}{room}"


def _checked(check: FleetCheck | None) -> str:
    if check is None or not check.held:
        return ""
    fewer = f" ({check.fewer})" if check.fewer else ""
    return f"; together, behind a gateway, they held {check.rate_rps:.3g} requests/s{fewer}"


def _kept(spec: ServiceSpec, told: Told) -> str:
    as_good = "carries as much" if _is_goodput(spec) else "is as cheap"
    kept = "is kept" if told.chances.missed_chance >= POSSIBLE else f"{as_good} as anything measured"
    return f"the baseline's {_fleet(told.fleet)}{_comma(told.fleet)} {kept}; {_holds(spec, told)}"


def _missed(spec: ServiceSpec, told: Told) -> str:
    chances, goodput = told.chances, _is_goodput(spec)
    better = "one of those measured carries more" if goodput else "a cheaper fleet among those measured"
    if chances.missed_saving == 0:
        unlikely = f"that {better}" if goodput else better
        return f"{unlikely} is less likely than 5 % ({told.stopped_because})"
    does = better if goodput else "one of those measured does with a cheaper fleet"
    less = f"{chances.missed_saving:.0%} less{' a request' if goodput else ''}"
    more = f"that it costs more than {less} is less likely than 5 %"
    return f"{does} with probability {chance(chances.missed_chance)}; {more} ({told.stopped_because})"


def _is_goodput(spec: ServiceSpec) -> bool:
    return spec.tuning.objective.kind is ObjectiveKind.HIGHEST_GOODPUT


def _reach(spec: ServiceSpec, found: Decision, told: Told) -> str:
    need = sized(spec, told.kept)
    reach = told.kept.belief.median_rps * told.fleet.replicas * (1 - spec.tuning.objective.headroom)
    best = f"the best measured carries {reach:.3g} of {spec.slos.target_qps:g} requests/s with {_fleet(told.fleet)}"
    would = f"{need.gpus} GPUs{_paid(need)}{_comma(need)} would do"
    if not _is_goodput(spec):
        best = f"{best}; {_holds(spec, told)}"
    if found.baseline is None or found.baseline_fleet is None or found.baseline is told.kept:
        return f"{best}; {would}"
    was = found.baseline_fleet
    return f"{best}; {would}; the baseline needs {was.gpus} GPUs{_paid(was)}"
