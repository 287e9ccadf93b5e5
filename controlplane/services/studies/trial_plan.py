"""What one trial of a study is loaded with, where its ladder starts, and what its capacity is worth. Pure."""

from __future__ import annotations

from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.capacity import Capacity, FleetSize, fleet_size, usd_per_million_tokens
from controlplane.domain.studies.study import Trial, TrialKind, TrialState
from controlplane.domain.workload import TracePart, TraceWorkload, Workload, has_own_arrivals
from loadtests.send.schedule import build_schedule
from tuner.answer.objective import fleet_for, rate_to_beat
from tuner.answer.winner import incumbent, is_within_reach
from tuner.ladder.ladder import Ladder, LadderOptions
from tuner.twin.sharing import Sharing
from tuner.twin.simulate import RequestArrays

_CONFIRM_SEED = 7919  # added to the workload's seed: arrivals and lengths the search never saw
_FLEET_SEED = 104_729
_CONFIRMING = (TrialKind.CONFIRM_WINNER, TrialKind.CONFIRM_BASELINE, TrialKind.CONFIRM_FLEET)
_USEFUL_SHARE = 0.25  # of the rate at which all GPUs together reach the target: below, a replica is useless
_BASELINE_SHARE = _USEFUL_SHARE / 8  # the baseline serves today: how little it sustains is what the others are held to
_NEAR_SHARE = 0.5  # of what all GPUs need: while nothing is known to reach the target, what comes near is measured
_BASELINES = (TrialKind.BASELINE, TrialKind.CONFIRM_BASELINE)


def with_cost(spec: ServiceSpec, trial: Trial) -> Trial:
    """Return a trial with what its capacity means in replicas and money; as it is when it has none.

    A fleet check costs what its replicas cost, per token that it really served.
    """
    if trial.kind is TrialKind.CONFIRM_FLEET:
        return _with_fleet_cost(spec, trial)
    if trial.state is not TrialState.FEASIBLE or trial.capacity is None:
        return trial
    fleet = fleet_for(spec, trial.capacity.rps, trial.config.gpus_per_replica)
    return trial.evolve(fleet=fleet, usd_per_million_tokens=token_cost(spec, trial, trial.capacity, fleet))


def token_cost(spec: ServiceSpec, trial: Trial, capacity: Capacity, fleet: FleetSize) -> float | None:
    """Return USD per million tokens of a fleet at the target, with as many tokens a request as the trial served."""
    best = max((level for level in trial.levels if level.passed), key=lambda level: level.rate_rps)
    report = best.report
    per_request = (report.prompt_tps + report.output_tps) / report.throughput_rps if report.throughput_rps else 0.0
    if per_request <= 0:
        return None
    tokens_per_s = per_request * min(spec.slos.target_qps, capacity.rps * fleet.replicas)
    return usd_per_million_tokens(fleet.usd_per_hour, tokens_per_s)


def _with_fleet_cost(spec: ServiceSpec, trial: Trial) -> Trial:
    size = fleet_size(trial.held_together, trial.config.gpus_per_replica, spec.gpus)
    reports = [level.report for level in trial.levels if level.passed and level.replicas in (None, size.replicas)]
    tokens_per_s = sum(each.prompt_tps + each.output_tps for each in reports) / max(1, len(reports))
    cost = usd_per_million_tokens(size.usd_per_hour, tokens_per_s) if tokens_per_s else None
    return trial.evolve(fleet=size, usd_per_million_tokens=cost)


def workload_of(spec: ServiceSpec, trial: Trial) -> Workload:
    """Return what the trial is loaded with: rows of the trace that the search never saw when it confirms.

    A fleet is checked under a trace's own arrivals as a whole: the bursts of a quarter of them are not those of all.
    """
    if trial.kind is TrialKind.CONFIRM_FLEET and has_own_arrivals(spec.workload):
        return spec.workload
    if not isinstance(spec.workload, TraceWorkload) or spec.workload.part is not TracePart.ALL:
        return spec.workload
    return spec.workload.evolve(part=TracePart.HELD_OUT if trial.kind in _CONFIRMING else TracePart.SEARCH)


def requests_of(workload: Workload, *, rate_rps: float, duration_s: float, seed: int) -> RequestArrays:
    """Return what a load test of the workload sends, as the twin wants it, with what its prompts share."""
    schedule = build_schedule(workload, rate_rps=rate_rps, duration_s=duration_s, seed=seed)
    sharing = Sharing(
        prefix_group=schedule.prefix_group,
        prefix_tokens=schedule.prefix_tokens,
        block_starts=schedule.block_starts,
        block_ids=schedule.block_ids,
        block_tokens=float(schedule.block_tokens[0]),
    )
    return RequestArrays(
        schedule.scheduled_s,
        schedule.prompt_tokens,
        schedule.output_tokens,
        priority=schedule.priority,
        sharing=sharing,
    )


def seed_of(spec: ServiceSpec, trial: Trial, trials: tuple[Trial, ...]) -> int:
    """Return the seed of arrivals and lengths: one for the whole search, a fresh one per round of confirmation.

    A round's winner and baseline get the same one: their difference is then not one of arrivals.
    """
    if trial.kind not in _CONFIRMING:
        return spec.tuning.seed
    earlier = sum(_is_alike(t, trial) and t.number < trial.number for t in trials)
    first = _FLEET_SEED if trial.kind is TrialKind.CONFIRM_FLEET else _CONFIRM_SEED
    return spec.tuning.seed + first + earlier


def _is_alike(one: Trial, other: Trial) -> bool:
    return one.kind is other.kind and (one.kind is TrialKind.CONFIRM_FLEET or one.config == other.config)


def ladder_of(spec: ServiceSpec, trial: Trial, trials: tuple[Trial, ...]) -> Ladder:
    """Return where a trial's levels start: at the rate it has to beat, else at what is expected of it."""
    gpus = trial.config.gpus_per_replica
    useful = spec.slos.target_qps / max(1, spec.gpus.count // gpus)
    floor = useful * (_BASELINE_SHARE if trial.kind in _BASELINES else _USEFUL_SHARE)
    options = LadderOptions(precision=spec.tuning.levels.precision, floor_rps=floor)
    forecast = trial.predicted.get("capacity_rps")
    if trial.kind is TrialKind.SEARCH:
        best = incumbent(spec, trials)
        if best is not None and best.capacity is not None:
            need = rate_to_beat(spec, best.capacity.rps, best.config.gpus_per_replica, gpus)
            beat = need if is_within_reach(spec, best) else need * _NEAR_SHARE
            return Ladder(options=options, start_rps=need, beat_rps=beat, forecast_rps=forecast)
        return Ladder(options=options, start_rps=forecast or useful, forecast_rps=forecast)
    if trial.kind is TrialKind.BASELINE:
        return Ladder(options=options, start_rps=forecast or useful, forecast_rps=forecast)
    known = next((t.capacity for t in trials if t.config == trial.config and t.capacity is not None), None)
    if known is None:
        return Ladder(options=options, start_rps=forecast or useful, forecast_rps=forecast)
    return Ladder(options=options, start_rps=known.low_rps, forecast_rps=known.rps)
