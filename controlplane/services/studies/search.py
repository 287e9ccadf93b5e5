"""Between a study's trials and the search: what may be started, what the twin expects of it, what trials taught."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.flags import FlagValue
from controlplane.domain.engines.start_failure import StartFailure
from controlplane.domain.errors import InvalidInput
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.calibration import Calibration
from controlplane.domain.studies.study import Study, Trial, TrialState
from controlplane.services.studies.forecast import forecaster_across
from tuner.answer.attempts import is_unfinished
from tuner.answer.objective import log_cost, objective_name, smooth_cost, told_log_cost
from tuner.answer.winner import trial_log_cost
from tuner.search.advisor import BEYOND_BOUND
from tuner.search.candidates import Candidates, Outlook, RivalOutlook, Tried, candidates, point_key
from tuner.search.prior import CapacityOf, CostOf, screen
from tuner.search.search import Finished, Search
from tuner.space.feasibility import contradictions, memory_plan, objections
from tuner.space.first_tier import engine_defaults, shape_of, space_for
from tuner.space.knobs.schema import knobs_of
from tuner.space.space import Point, Space
from tuner.twin.gpus import gpu_of
from tuner.twin.shapes import ModelShape

WORTHWHILE = 0.006
"""Expected improvement below which another start is not worth it: a fifth of what one capacity is uncertain by."""

_USELESS_SHARE = 1 / 64
_MOST_POINTS = 20_000
SIMULATED = 240  # configurations, some seconds on one core


@dataclass(frozen=True)
class StudySearch:
    """A study's search and what is expected of its candidates."""

    search: Search
    among: Candidates
    capacity_of: CapacityOf | None
    calibration: Calibration | None = None

    def forecast_rps(self, config: EngineConfig) -> float | None:
        """Return the twin's capacity for one configuration, None when it has no opinion."""
        return (self.capacity_of(config) or None) if self.capacity_of is not None else None


def open_search(study: Study, *, storage_url: str | None, host: str | None = None) -> StudySearch:
    """Return the search of a study, going on with its record where there is one. `host` is where its trials will run.

    Raises InvalidInput when no point of the space is feasible or the strategy cannot run here, Unavailable when the
    record cannot be opened.
    """
    spec = study.spec
    among, capacity_of = _expected(study)
    search = Search(
        study.study_id,
        among,
        storage_url=storage_url,
        strategy=spec.tuning.strategy,
        seed=spec.tuning.seed,
        worthwhile=WORTHWHILE,
        host=host,
    )
    search.describe(objective_name(spec), _facts(spec))
    return StudySearch(search, among, capacity_of, study.calibration)


def look_again(study: Study, found: StudySearch) -> StudySearch:
    """Return the search with what the study's own calibration expects; as it is while that is the one it knows."""
    if study.calibration == found.calibration:
        return found
    among, capacity_of = _expected(study)
    found.search.look_again(among)
    return StudySearch(found.search, among, capacity_of, study.calibration)


def _expected(study: Study) -> tuple[Candidates, CapacityOf | None]:
    """Return what may be started with what the twin expects of it, and what asks the twin of one configuration."""
    spec = study.spec
    space = space_for(spec, study.baseline)
    points = feasible_points(spec, space)
    configs = [space.config(point) for point in points]
    capacity_of = forecaster_across(spec, study.calibration)
    outlook = _outlook(spec, space, points, capacity_of)
    rooms = _rooms(spec, configs)
    levels = spec.tuning.levels
    level_s = (levels.warmup_s + levels.max_s) / spec.engine.time_lapse
    among = candidates(space, points, outlook=outlook, room_gib=rooms, level_s=level_s)
    rivals = [] if outlook is None else _rivals(study, space, points)
    among = among._replace(rivals=rivals, earlier=_earlier(study, space), log_cost_of=_reader(spec, space))
    return among, capacity_of if outlook is not None or spec.alternatives else None


def _outlook(
    spec: ServiceSpec, space: Space, points: Sequence[Point], capacity_of: CapacityOf | None
) -> Outlook | None:
    if capacity_of is None or not all(way.has_twin for way in spec.ways.values()):
        return None
    return screen(space, points, capacity_of, effort=SIMULATED, seed=spec.tuning.seed, cost_of=_coster(spec))


def _rivals(study: Study, space: Space, points: Sequence[Point]) -> list[RivalOutlook]:
    """Return what is expected where something else explains what the baseline measured."""
    known, spec = study.calibration, study.spec
    if known is None:
        return []
    ways = [(rival.odds, forecaster_across(spec, known.by(rival))) for rival in known.rivals]
    found = [(_outlook(spec, space, points, capacity_of), odds) for odds, capacity_of in ways]
    return [RivalOutlook(outlook, odds) for outlook, odds in found if outlook is not None]


def _coster(spec: ServiceSpec) -> CostOf:
    return lambda config, capacity_rps: log_cost(spec, capacity_rps, config.gpus_per_replica)


def _reader(spec: ServiceSpec, space: Space) -> Callable[[float, Point], float | None]:
    """Return what reads a trial's value that another Optuna tool left in the study."""

    def log_cost_of(value: float, point: Point) -> float | None:
        return told_log_cost(spec, value, space.config(point).gpus_per_replica)

    return log_cost_of


def _earlier(study: Study, space: Space) -> list[Tried]:
    """Return what the study it starts from measured; configurations that are no points of this space tell nothing."""
    known = () if study.warm_start is None else study.warm_start.capacities
    found = []
    for each in known:
        point = _place(space, each.config)
        if point is not None:
            cost = log_cost(study.spec, each.rps, each.config.gpus_per_replica)
            found.append(Tried(point, log_cost=cost))
    return found


def _place(space: Space, config: EngineConfig) -> Point | None:
    try:
        point = space.point(config)
    except InvalidInput:
        return None
    return point if space.config(point) == config else None


def feasible_points(spec: ServiceSpec, space: Space) -> list[Point]:
    """Return the points nothing is known against, the baseline among them whatever is known (it is always measured).

    Raises InvalidInput when there is no other.
    """
    known = _known(spec)
    baseline = space.point(space.base)
    points, complaints = [baseline], set[str]()
    for point in _some(space, spec.tuning.seed):
        if point_key(point) == point_key(baseline):
            continue
        config = space.config(point)
        shape, defaults, env = known[config.alternative]
        found = objections(config, pool=spec.gpus, shape=shape, defaults=defaults, env=env)
        complaints.update(found)
        if not found:
            points.append(point)
    if len(points) == 1:
        why = "; ".join(sorted(complaints)[:3]) or "it holds only the baseline"
        raise InvalidInput("the search space holds nothing to try", why=why)
    return points


class _Known(NamedTuple):
    shape: ModelShape | None
    defaults: Mapping[str, FlagValue]
    env: Mapping[str, str]


def _known(spec: ServiceSpec) -> Mapping[str | None, _Known]:
    """Return the model's shape, the engine's defaults and its environment by alternative; the own one's is None too."""
    gpu = gpu_of(spec.gpus)
    ways: list[tuple[str | None, ServiceSpec]] = [(None, spec), *spec.ways.items()]
    return {
        name: _Known(shape_of(way), engine_defaults(knobs_of(way.engine), gpu), way.engine.env) for name, way in ways
    }


def _rooms(spec: ServiceSpec, configs: Sequence[EngineConfig]) -> NDArray[np.float64] | None:
    """Return the memory each leaves for its KV cache, GiB: NaN where the twin does not know, None if it never does."""
    shapes = {alternative: known.shape for alternative, known in _known(spec).items()}
    if all(shape is None for shape in shapes.values()):
        return None
    return np.array([_room_gib(spec, config, shapes[config.alternative]) for config in configs])


def check_baseline(spec: ServiceSpec, baseline: EngineConfig) -> None:
    """Refuse a baseline that no engine could start with. Raises InvalidInput."""
    shape, defaults, env = _known(spec)[baseline.alternative]
    found = contradictions(baseline, pool=spec.gpus, shape=shape, defaults=defaults, env=env)
    if found:
        raise InvalidInput("the baseline cannot run, so nothing can be compared with it", why="; ".join(found))


def taught(spec: ServiceSpec, trial: Trial) -> Finished | None:
    """Return what a finished trial tells the search; None when its experiment broke (nothing)."""
    if trial.state is TrialState.FAILED:
        return None
    return _said(spec, trial)._replace(
        start_s=trial.start_s, levels_s=_levels_s(spec, trial), host=trial.host, reason=trial.reason or ""
    )


def _said(spec: ServiceSpec, trial: Trial) -> Finished:
    cost = trial_log_cost(spec, trial)
    if cost is not None and trial.capacity is not None:
        told = smooth_cost(spec, trial.capacity.rps, trial.config.gpus_per_replica)
        return Finished(log_cost=cost, cost=told, shown=_shown(trial))
    died = trial.start_failure is not None  # then its last level says how it died, not what it holds
    missed = [level.rate_rps for level in trial.levels if not level.passed and not died]
    if not missed:
        burst = trial.start_failure is StartFailure.OUT_OF_MEMORY
        return Finished(ran_out_of_memory=burst, beyond=_beyond_any(spec, trial))
    gpus = trial.config.gpus_per_replica
    expected = smooth_cost(spec, min(missed) * math.exp(-BEYOND_BOUND), gpus)
    return Finished(at_least=log_cost(spec, min(missed), gpus), cost=expected)


def _beyond_any(spec: ServiceSpec, trial: Trial) -> float:
    """Return more than any engine of these GPUs costs that is of any use: a share of its part of the target."""
    useful = spec.slos.target_qps / spec.gpus.count * _USELESS_SHARE
    return smooth_cost(spec, useful, trial.config.gpus_per_replica)


def _shown(trial: Trial) -> Mapping[str, float | str]:
    """Return what people want to see of a measured trial beside its value."""
    found: dict[str, float | str] = {}
    if trial.capacity is not None:
        found["capacity_rps"] = trial.capacity.rps
    if trial.fleet is not None:
        found |= {"replicas": trial.fleet.replicas, "fleet_usd_per_hour": trial.fleet.usd_per_hour}
    return found


def _facts(spec: ServiceSpec) -> Mapping[str, str]:
    """Return what the study's number is of, for people who read the record with another tool."""
    return {
        "service": spec.name,
        "target": f"{spec.slos.target_qps:g} requests/s",
        "limits": ", ".join(str(slo) for slo in spec.slos.latency),
        "gpus": f"{spec.gpus.count} × {spec.gpus.type} at {spec.gpus.price_usd_per_gpu_hour:g} USD per hour",
    }


def _levels_s(spec: ServiceSpec, trial: Trial) -> float:
    """Return the real seconds that all levels of a trial took."""
    usual_s = spec.tuning.levels.warmup_s
    warmups_s = (usual_s if level.warmup_s is None else level.warmup_s for level in trial.levels)
    measured_s = (level.report.duration_s for level in trial.levels)
    return (sum(warmups_s) + sum(measured_s)) / spec.engine.time_lapse


def reconcile(spec: ServiceSpec, search: Search, trials: Sequence[Trial], *, shared: bool = False) -> None:
    """Tell the search what our store holds and it was never told (the worker died between the two)."""
    ours = [(t.optuna_number, t) for t in trials if t.optuna_number is not None]
    results: Mapping[int, Finished | None] = {n: taught(spec, t) for n, t in ours if not is_unfinished(t)}
    running = [n for n, t in ours if is_unfinished(t)]
    search.reconcile(results, running, shared=shared, reasons={n: t.reason or "" for n, t in ours})


def _room_gib(spec: ServiceSpec, config: EngineConfig, shape: ModelShape | None) -> float:
    plan = None if shape is None else memory_plan(config, pool=spec.gpus, shape=shape)
    return math.nan if plan is None else plan.kv_gib


def _some(space: Space, seed: int) -> list[Point]:
    """Return all points, or a seeded choice when they are too many to think about."""
    points = list(space.points()) if space.size <= 3 * _MOST_POINTS else _drawn(space, seed)
    if len(points) <= _MOST_POINTS:
        return points
    chosen = np.random.default_rng(seed).choice(len(points), _MOST_POINTS, replace=False)
    return [points[row] for row in sorted(chosen)]


def _drawn(space: Space, seed: int) -> list[Point]:
    rng = np.random.default_rng(seed)
    drawn = [
        space.canonical({d.flag: d.choices[int(rng.integers(len(d.choices)))] for d in space.dimensions})
        for _ in range(_MOST_POINTS)
    ]
    return list({point_key(point): point for point in drawn}.values())
