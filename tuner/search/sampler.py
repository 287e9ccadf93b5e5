"""Fleetune's search as an Optuna sampler: it works inside any Optuna study over the space and reads all from it."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from tuner.search.advisor import advise
from tuner.search.candidates import Advice, Candidates, Tried, point_key
from tuner.search.surrogate import encode
from tuner.space.space import Dimension, Point, Space

LOG_COST = "log_cost"
AT_LEAST = "log_cost_at_least"
OUT_OF_MEMORY = "out_of_memory"
GIVEN_UP = "given_up"  # its experiment broke every time: nothing is learnt, and it is not tried again
START_S, LEVELS_S, HOST = "start_s", "levels_s", "host"

NOTHING_OPEN = Advice(None, "every feasible candidate was tried")
_CLOSER_LOOKS = 24  # simulations before one start: a few seconds against minutes of GPU time


class PointSampler(Protocol):
    """Chooses points of a space; `advice` says what was expected of the last choice."""

    advice: Advice | None


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return the space as Optuna sees it: numbers as ranges (values between the grid's are snapped), else choices."""
    return {dimension.flag: _distribution(dimension) for dimension in space.dimensions}


def tried(among: Candidates, trials: Sequence[FrozenTrial]) -> list[Tried]:
    """Return what finished trials of an Optuna study tell about the space; failed ones tell nothing."""
    complete = [t for t in trials if t.state == TrialState.COMPLETE and _has_params(t, among.space)]
    return [found for trial in complete if (found := _told(among, trial)) is not None]


def so_far(among: Candidates, study: optuna.Study, trial: FrozenTrial) -> tuple[list[Tried], list[Point]]:
    """Return what the trials beside this one told, and the points of those that run or were given up."""
    others = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number]
    return tried(among, others), [point_of(among.space, t.params) for t in others if _is_taken(t, among.space)]


def ran(trial: FrozenTrial) -> bool:
    """Say whether a finished trial kept every constraint; what could not run broke one."""
    return all(value <= 0 for value in trial.constraints.values())


def _told(among: Candidates, trial: FrozenTrial) -> Tried | None:
    """Return what one complete trial tells, None when nothing.

    One that another tool added or ran has only its value, and perhaps constraints.
    """
    point, attributes = point_of(among.space, trial.params), trial.user_attrs
    found = Tried(
        point=point,
        log_cost=attributes.get(LOG_COST),
        at_least=attributes.get(AT_LEAST),
        ran_out_of_memory=bool(attributes.get(OUT_OF_MEMORY, False)),
        start_s=attributes.get(START_S),
        levels_s=attributes.get(LEVELS_S),
        host=attributes.get(HOST),
    )
    if found.ran or not ran(trial):
        return found
    log_cost = among.log_cost_of(trial.values[0], point)
    return None if log_cost is None else found._replace(log_cost=log_cost)


def point_of(space: Space, params: Mapping[str, Any]) -> Point:
    """Return the space's point for the parameters of an Optuna trial."""
    return space.canonical({d.flag: _snap(d, params[d.flag]) for d in space.dimensions})


def params_of(space: Space, point: Point) -> dict[str, Any]:
    """Return Optuna's parameters for a point; a value without effect is written as the dimension's first choice."""
    return {
        d.flag: point[d.flag] if point[d.flag] is not None or None in d.choices else d.choices[0]
        for d in space.dimensions
    }


class AdvisedSampler(BaseSampler):
    """Proposes the candidate that `_choose` advises by all that is known. `advice` says what was expected of it.

    When there is nothing worth trying Optuna is left to `sample_independent`, and `advice.row` is None: ask for
    `advice` before starting what was sampled.
    """

    def __init__(self, among: Candidates, *, worthwhile: float, host: str | None = None) -> None:
        self._among = among
        self._worthwhile = worthwhile
        self._host = host
        self.advice: Advice | None = None

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return distributions(self._among.space)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        self.advice = self._choose(study, trial, search_space)
        if self.advice.row is None:
            return {}
        return params_of(self._among.space, self._among.points[self.advice.row])

    @abstractmethod
    def _choose(self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> Advice:
        """Return what to start next."""


class TwinSampler(AdvisedSampler):
    """Twin-informed Bayesian optimisation (`tuner.search.advisor`). Without a forecast: `AloneSampler`."""

    def _choose(self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> Advice:
        return self._advice(*so_far(self._among, study, trial))

    def _advice(self, known: Sequence[Tried], pending: Sequence[Point]) -> Advice:
        """Look closer at whatever seems best until that is no longer a guess."""
        found = self._advise(known, pending)
        for _ in range(_CLOSER_LOOKS):
            if found.best_row is None or not self._among.look_at(found.best_row):
                break
            found = self._advise(known, pending)
        return found

    def _advise(self, known: Sequence[Tried], pending: Sequence[Point]) -> Advice:
        return advise(self._among, known, pending=pending, worthwhile=self._worthwhile, host=self._host)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        dimension = next(d for d in self._among.space.dimensions if d.flag == param_name)
        return params_of(self._among.space, dict.fromkeys(self._among.space.names))[dimension.flag]


class GridSnapper(BaseSampler):
    """Any other Optuna sampler on our grid: what it draws is drawn anew while no open candidate, then moved to the
    nearest one, so none comes twice.

    `redraws` is 1 for a sampler that maximises something: it would draw the same again, at the same price.
    """

    def __init__(self, inner: BaseSampler, among: Candidates, *, redraws: int) -> None:
        self._inner = inner
        self._among = among
        self._space = among.space
        self._redraws = redraws
        self.advice: Advice | None = None

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return distributions(self._space)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._inner.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._inner.after_trial(study, trial, state, values)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        taken = {
            point_key(point_of(self._space, other.params))
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number and _has_params(other, self._space) and not _is_open_again(other)
        }
        rows = [row for key, row in self._among.row_of.items() if key not in taken]
        if not rows:
            self.advice = NOTHING_OPEN
            return {}
        row = self.draw_row(study, trial, search_space, rows)
        self.advice = Advice(row, "sampled")
        return params_of(self._space, self._among.points[row])

    def draw_row(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution], rows: Sequence[int]
    ) -> int:
        """Return which of `rows` (one at least) is drawn, or is nearest to the last of a few draws of others."""
        wanted = set(rows)
        for _ in range(self._redraws):
            point = self._draw(study, trial, search_space)
            row = self._among.row_of.get(point_key(point))
            if row in wanted:
                return row
        away = np.square(self._among.features[rows] - encode(self._space, [point])).sum(axis=1)
        return rows[int(np.argmin(away))]

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def _draw(self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> Point:
        params = self._inner.sample_relative(study, trial, search_space)
        rest = {
            name: self._inner.sample_independent(study, trial, name, search_space[name])
            for name in search_space
            if name not in params
        }
        return point_of(self._space, params | rest)


def _distribution(dimension: Dimension) -> BaseDistribution:
    values = dimension.choices
    if not dimension.is_numeric or len(values) < 2:
        return CategoricalDistribution(values)
    numbers = [value for value in values if isinstance(value, int | float)]
    low, high = min(numbers), max(numbers)
    if all(isinstance(value, int) for value in numbers):
        return IntDistribution(int(low), int(high), log=low > 0)
    return FloatDistribution(low, high)


def _snap(dimension: Dimension, value: Any) -> Any:
    if value in dimension.choices:
        return value
    numbers = [choice for choice in dimension.choices if isinstance(choice, int | float)]
    if not isinstance(value, int | float) or not numbers:
        return dimension.choices[0]
    return min(numbers, key=lambda choice: _distance(float(choice), float(value)))


def _distance(a: float, b: float) -> float:
    return abs(math.log(a / b)) if a > 0 and b > 0 else abs(a - b)


def _is_taken(trial: FrozenTrial, space: Space) -> bool:
    """Say whether a trial without a result keeps its point from being proposed: it runs, or was given up."""
    without_result = trial.state in (TrialState.RUNNING, TrialState.FAIL)
    return without_result and not _is_open_again(trial) and _has_params(trial, space)


def _is_open_again(trial: FrozenTrial) -> bool:
    """Say whether a trial was closed without having been tried to the end."""
    return trial.state == TrialState.FAIL and not trial.user_attrs.get(GIVEN_UP, False)


def _has_params(trial: FrozenTrial, space: Space) -> bool:
    return all(name in trial.params for name in space.names)
