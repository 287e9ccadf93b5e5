"""What a rollout does next. Pure: a rollout, the facts of this moment and the time in; the next rollout out.

PENDING starts canary replicas beside stable; each step of PROGRESSING gets its replicas first, then its weight, then
its verdict; PROMOTING waits for the full canary and for the last stable replica to go. Guard rails act in every state
that gives the canary traffic. Nothing here acts on the world: the controller makes the saved state true.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from controlplane.domain.base import EngineId, Value
from controlplane.domain.errors import Conflict
from controlplane.domain.quality import QualityCheck
from controlplane.domain.rollouts.analysis import Analysis, Counts, Verdict
from controlplane.domain.rollouts.answers import AnswerRisk, describe_answers, follows
from controlplane.domain.rollouts.judge import describe_load
from controlplane.domain.rollouts.rollout import ROLLOUT_FINAL, TRANSITIONS, Rollout, RolloutState, StepRecord
from controlplane.domain.rollouts.rollout_options import CeilingPolicy, StepSpec
from controlplane.domain.rollouts.strata import describe_strata


class Facts(Value):
    """What the controller saw in this pass."""

    canary_ready: int = 0
    canary_present: int = 0  # engines of the canary not yet gone, in whatever state
    stable_present: int = 0  # engines of the former stable not yet gone
    control_ready: tuple[EngineId, ...] = ()  # stable replicas as old as the canary's
    exits: int = 0  # canary engines that exited or never became ready, since the rollout began
    exit_reason: str = ""
    refused: str | None = None  # why a canary engine can never be started here
    shortage: str | None = None  # why canary replicas cannot be started now
    analysis: Analysis | None = None  # of the step under way; None: nothing to judge
    answer_risk: AnswerRisk | None = None  # why the canary, seen by no user yet, may answer otherwise than stable
    answers: QualityCheck | None = None  # what came of comparing them; None: not yet


def advance(rollout: Rollout, facts: Facts, now: datetime) -> Rollout:
    """Return what the rollout becomes; the same value when nothing changed."""
    seen = _with(_not_ahead(rollout, now), canary_crashes=max(rollout.canary_crashes, facts.exits))
    match seen.state:
        case RolloutState.PENDING | RolloutState.PROGRESSING:
            return _guarded(seen, facts, now) or _on_its_way(seen, facts, now)
        case RolloutState.PAUSED:
            return _guarded(seen, facts, now) or seen
        case RolloutState.PROMOTING:
            return _promoting(seen, facts, now)
        case RolloutState.ABORTING:
            return seen if facts.canary_present else move(seen, RolloutState.ABORTED, reason=seen.reason, now=now)
        case RolloutState.HALTED | RolloutState.PROMOTED | RolloutState.ABORTED:
            return seen


def _not_ahead(rollout: Rollout, now: datetime) -> Rollout:
    """Begin a step anew that begins later than now: a clock was set back, and nothing would be counted until then."""
    changes: dict[str, Any] = {}
    if rollout.short_since is not None and rollout.short_since > now:
        changes["short_since"] = now
    last = rollout.steps[-1] if rollout.steps else None
    if last is not None and last.finished_at is None and last.started_at > now:
        changes["steps"] = (*rollout.steps[:-1], last.evolve(started_at=now, analysis=None))
    return rollout.evolve(**changes) if changes else rollout


def move(rollout: Rollout, state: RolloutState, *, reason: str, now: datetime, **changes: Any) -> Rollout:
    """Return the rollout in `state`. Raises Conflict when the table of transitions does not allow it."""
    followers = TRANSITIONS[rollout.state]
    if not followers:
        raise Conflict(f"{rollout.rollout_id} is over", why=f"it is {rollout.state.value}")
    if state not in followers:
        raise Conflict(
            f"{rollout.rollout_id} cannot become {state.value}",
            why=f"it is {rollout.state.value}",
            allowed=", ".join(sorted(follower.value for follower in followers)),
        )
    finished_at = now if state in ROLLOUT_FINAL else None
    return rollout.evolve(state=state, reason=reason, updated_at=now, finished_at=finished_at, **changes)


def _guarded(rollout: Rollout, facts: Facts, now: datetime) -> Rollout | None:
    """Return the rollout on its way back when a guard rail is hit, None otherwise."""
    analysis = _crash_loop(rollout, facts, now) or facts.analysis
    if analysis is None or analysis.guard is None:
        return None
    return _abort(_judged(rollout, analysis, finished_at=now), analysis.reason, now)


def _crash_loop(rollout: Rollout, facts: Facts, now: datetime) -> Analysis | None:
    refused = facts.refused is not None
    if not refused and facts.exits - rollout.tolerated_crashes < rollout.options.guard_crashes:
        return None
    last = facts.analysis or (rollout.steps[-1].analysis if rollout.steps else None)
    return Analysis(
        verdict=Verdict.FAIL,
        reason=facts.refused or f"canary engine exited ({facts.exits} time(s)): {facts.exit_reason}",
        at=now,
        canary=last.canary if last else Counts(requests=0, slo_misses=0, errors=0),
        stable=last.stable if last else None,
        guard="cannot_start" if refused else "crash_loop",
    )


def _on_its_way(rollout: Rollout, facts: Facts, now: datetime) -> Rollout:
    if rollout.waits_for_replicas:
        return _begin_when_ready(rollout, facts, now)
    if facts.analysis is None:
        return rollout
    judged = _judged(rollout, facts.analysis)
    match facts.analysis.verdict:
        case Verdict.PASS:
            return _next_step(_judged(rollout, facts.analysis, finished_at=now), facts, now, facts.analysis.reason)
        case Verdict.FAIL:
            return _abort(_judged(rollout, facts.analysis, finished_at=now), facts.analysis.reason, now)
        case Verdict.INCONCLUSIVE | Verdict.ERROR:
            return _within_ceiling(judged, facts, now)


def _begin_when_ready(rollout: Rollout, facts: Facts, now: datetime) -> Rollout:
    needed = rollout.replicas_needed
    lacks_control = rollout.wants_control and not rollout.control and not facts.control_ready
    if facts.canary_ready >= needed and not lacks_control:
        return _held_by_answers(rollout, facts, now) or _begin_step(
            _answered(rollout, facts), now, _control(rollout, facts)
        )
    if facts.shortage is None:
        said = f"{facts.canary_ready} of {needed} canary replicas are ready"
        said += ", their control is not" if lacks_control else ""
        return _noted(rollout, said, now, short_since=None)
    short_since = rollout.short_since or now
    if (now - short_since).total_seconds() >= rollout.options.capacity_wait_s:
        reason = f"no capacity for the canary beside stable within {rollout.options.capacity_wait_s:g} s"
        return _abort(rollout, f"{reason}: {facts.shortage}", now)
    return _noted(rollout, f"waits for capacity beside stable: {facts.shortage}", now, short_since=short_since)


def _control(rollout: Rollout, facts: Facts) -> tuple[EngineId, ...]:
    return facts.control_ready if rollout.wants_control else ()


def _answered(rollout: Rollout, facts: Facts) -> Rollout:
    return rollout if facts.answer_risk is None else _with(rollout, answers=facts.answers)


def _held_by_answers(rollout: Rollout, facts: Facts, now: datetime) -> Rollout | None:
    """Return a rollout that may not have users yet; None when its answers hold nothing back."""
    if facts.answer_risk is None or rollout.answers_accepted:
        return None
    if facts.answers is None:
        return _noted(rollout, "compares the canary's answers with stable's before any user", now)
    known, said = _answered(rollout, facts), describe_answers(facts.answers)
    match follows(facts.answers, facts.answer_risk, rollout.options):
        case CeilingPolicy.PROCEED:
            return None
        case CeilingPolicy.PAUSE:
            return move(known, RolloutState.PAUSED, reason=f"paused before any traffic: {said}", now=now)
        case CeilingPolicy.ABORT:
            return _abort(known, f"before any traffic: {said}", now)


def _begin_step(rollout: Rollout, now: datetime, control: tuple[EngineId, ...] = ()) -> Rollout:
    if rollout.stable is None or rollout.at_once:
        reason = "asked for at once" if rollout.at_once else "nothing served before"
        reason += ": every canary replica is ready"
        return move(rollout, RolloutState.PROMOTING, reason=reason, now=now, short_since=None)
    weight = _step(rollout).weight_percent
    begun = StepRecord(index=rollout.step_index, weight_percent=weight, started_at=now)
    changes = {"steps": (*rollout.steps, begun), "short_since": None, "control": rollout.control or control}
    reason = f"judging at {weight} %" if weight else "judging by replayed requests, before any user"
    if rollout.state is RolloutState.PENDING:
        return move(rollout, RolloutState.PROGRESSING, reason=reason, now=now, **changes)
    return rollout.evolve(reason=reason, updated_at=now, **changes)


def _next_step(rollout: Rollout, facts: Facts, now: datetime, reason: str) -> Rollout:
    if rollout.step_index + 1 == len(rollout.options.steps):
        return move(rollout, RolloutState.PROMOTING, reason=reason, now=now)
    unproven = _unproven(rollout)
    if unproven is not None:
        return move(_reopened(rollout), RolloutState.PAUSED, reason=unproven, now=now)
    ahead = rollout.evolve(step_index=rollout.step_index + 1, reason=reason, updated_at=now)
    return _begin_step(ahead, now) if facts.canary_ready >= ahead.replicas_needed else ahead


def _within_ceiling(rollout: Rollout, facts: Facts, now: datetime) -> Rollout:
    step, begun = _step(rollout), rollout.steps[-1]
    if (now - begun.started_at).total_seconds() < step.max_s:
        return rollout
    judged = f"{begun.analysis.verdict.value}, {begun.analysis.reason}" if begun.analysis else "not judged"
    reason = f"time ceiling of {step.max_s:g} s at {step.weight_percent} % ({judged}): declared policy"
    match _at_ceiling(step, facts):
        case CeilingPolicy.ABORT:
            return _abort(_finished(rollout, now), f"{reason} abort", now)
        case CeilingPolicy.PAUSE:
            said = "" if step.on_ceiling is CeilingPolicy.PAUSE else f"{step.on_ceiling}, but nothing was measured: "
            return move(rollout, RolloutState.PAUSED, reason=f"{reason} {said}pause", now=now)
        case CeilingPolicy.PROCEED if _samples(begun) < step.min_samples:
            few = f"{_samples(begun)} of {step.min_samples} requests are too few to proceed on"
            return move(rollout, RolloutState.PAUSED, reason=f"{reason} proceed, but {few}: paused", now=now)
        case CeilingPolicy.PROCEED if (against := _doubt(begun)) is not None:
            return move(rollout, RolloutState.PAUSED, reason=f"{reason} proceed, but paused: {against}", now=now)
        case CeilingPolicy.PROCEED:
            return _next_step(_finished(rollout, now), facts, now, f"{reason} proceed")


def _at_ceiling(step: StepSpec, facts: Facts) -> CeilingPolicy:
    """What could not be measured neither promotes nor rolls back: it waits for a person, whatever is declared."""
    unmeasured = facts.analysis is not None and facts.analysis.verdict is Verdict.ERROR
    return CeilingPolicy.PAUSE if unmeasured else step.on_ceiling


def _doubt(step: StepRecord) -> str | None:
    """Return what a person has to look at: a broken promise, or what no comparison counts."""
    if step.analysis is None:
        return None
    return (step.analysis.shown.contradiction if step.analysis.shown else None) or step.analysis.doubt


def _samples(step: StepRecord) -> int:
    """Canary requests the step was judged on, users' and replayed."""
    if step.analysis is None:
        return 0
    return step.analysis.canary.requests + (step.analysis.replayed.requests if step.analysis.replayed else 0)


def _unproven(rollout: Rollout) -> str | None:
    """Say why the canary may not get users, or all of them, yet: nobody has seen it carry the load it is to carry."""
    present, following = rollout.steps[-1], rollout.options.steps[rollout.step_index + 1]
    analysis = present.analysis
    if present.weight_percent > 0 and following.weight_percent < 100:
        return None
    if rollout.options.on_unproven_load is CeilingPolicy.PROCEED:
        return None
    if analysis is None or analysis.load is None or analysis.load.proven:
        return None
    before = "any user" if present.weight_percent == 0 else "100 %"
    like = "" if analysis.strata is None else f"; {describe_strata(analysis.strata)}"
    return f"paused before {before}: load not proven, {describe_load(analysis.load)}{like}"


def _reopened(rollout: Rollout) -> Rollout:
    """The step is not over: resumed, it is judged anew."""
    return rollout.evolve(steps=(*rollout.steps[:-1], rollout.steps[-1].evolve(finished_at=None)))


def _promoting(rollout: Rollout, facts: Facts, now: datetime) -> Rollout:
    crashed = _crash_loop(rollout, facts, now)
    if crashed is not None:
        return move(rollout, RolloutState.HALTED, reason=f"halted mid-promotion: {crashed.reason}", now=now)
    is_left = not facts.stable_present or rollout.options.keep_former_s > 0
    if facts.canary_ready >= rollout.canary_replicas and is_left:
        return move(rollout, RolloutState.PROMOTED, reason=f"promoted: {rollout.reason}", now=now)
    return rollout


def _abort(rollout: Rollout, reason: str, now: datetime) -> Rollout:
    return move(rollout, RolloutState.ABORTING, reason=reason, now=now)


def _judged(rollout: Rollout, analysis: Analysis, *, finished_at: datetime | None = None) -> Rollout:
    """Write the analysis into the step under way; without one (still starting) there is nowhere to write."""
    if rollout.waits_for_replicas:
        return rollout
    step = rollout.steps[-1].evolve(analysis=analysis, finished_at=finished_at)
    return rollout.evolve(steps=(*rollout.steps[:-1], step))


def _finished(rollout: Rollout, now: datetime) -> Rollout:
    step = rollout.steps[-1].evolve(finished_at=now)
    return rollout.evolve(steps=(*rollout.steps[:-1], step))


def _noted(rollout: Rollout, reason: str, now: datetime, **changes: Any) -> Rollout:
    noted = _with(rollout, reason=reason, **changes)
    return noted if noted is rollout else noted.evolve(updated_at=now)


def _with(rollout: Rollout, **changes: Any) -> Rollout:
    """Evolve only when something differs, so that an unchanged rollout is not saved again."""
    return (
        rollout.evolve(**changes)
        if any(getattr(rollout, name) != value for name, value in changes.items())
        else rollout
    )


def _step(rollout: Rollout) -> StepSpec:
    return rollout.options.steps[rollout.step_index]
