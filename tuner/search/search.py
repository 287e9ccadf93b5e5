"""The only door to Optuna: a study there is the ask/tell record of a search, readable by any Optuna tool.

The order of writes makes a killed search safe: ask here, save the trial in our own store, run it, save its result in
our store, tell it here. `reconcile` repeats the last step for results that were saved and never told, and closes asks
that nobody ever started.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import optuna
from optuna.samplers import GPSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from controlplane.domain.errors import InvalidInput, Unavailable
from controlplane.domain.studies.tuning_options import Strategy
from tuner.search.alone_sampler import REDRAWS, AloneSampler, quiet_tpe
from tuner.search.candidates import Candidates, point_key
from tuner.search.doubting_sampler import DoubtingSampler
from tuner.search.sampler import (
    AT_LEAST,
    GIVEN_UP,
    HOST,
    LEVELS_S,
    LOG_COST,
    OUT_OF_MEMORY,
    START_S,
    AdvisedSampler,
    GridSnapper,
    distributions,
    params_of,
    point_of,
    ran,
)
from tuner.space.space import Point

_KIND, _BASELINE = "kind", "baseline"
_CONSTRAINT = "runs_within_limits"
_IMPUTED_FACTOR = 2.0  # cost told for what could not run: this times the worst measured one


class Proposal(NamedTuple):
    """What to start next."""

    number: int
    point: Point
    reason: str
    expected_log_cost: float | None


class Finished(NamedTuple):
    """What is told. Exactly one of the three: a cost, a bound (dropped), or neither (could not run).

    `cost` is what any Optuna sampler is told; of a dropped one, what its bound lets expect; `beyond` is what none that
    ran would cost, told of what could not run. `start_s` and `levels_s` are what the start and all levels took on
    `host`, in real seconds. `shown` is for people who look into the record.
    """

    log_cost: float | None = None
    at_least: float | None = None
    cost: float | None = None
    beyond: float | None = None
    ran_out_of_memory: bool = False
    reason: str = ""
    start_s: float | None = None
    levels_s: float | None = None
    host: str | None = None
    shown: Mapping[str, float | str] = MappingProxyType({})


class Search:
    """One search. Open the same name on the same storage to go on with it.

    Raises InvalidInput when the strategy cannot run here, Unavailable when the storage cannot be opened.
    """

    def __init__(
        self,
        name: str,
        among: Candidates,
        *,
        storage_url: str | None,
        strategy: Strategy,
        seed: int,
        worthwhile: float,
        host: str | None = None,
    ) -> None:
        check_strategy(strategy)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._among = among
        self._sampler_of = partial(_sampler, strategy, seed=seed, worthwhile=worthwhile, host=host)
        self._sampler = self._sampler_of(among)
        try:
            self._study = optuna.create_study(
                study_name=name, storage=storage_url, sampler=self._sampler, direction="minimize", load_if_exists=True
            )
        except (OSError, SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise Unavailable("the search's record cannot be opened", why=str(error)) from error

    def look_again(self, among: Candidates) -> None:
        """Go on with what is expected of the candidates now; what was told stays."""
        self._among = among
        self._sampler = self._study.sampler = self._sampler_of(among)

    def describe(self, objective: str, facts: Mapping[str, str]) -> None:
        """Name the number that is lowered, with its unit, and say what it is for: any Optuna tool shows both."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study.set_metric_names([objective])
        for name, fact in facts.items():
            self._study.set_user_attr(name, fact)

    def ask(self) -> Proposal | str:
        """Return what to start next, or why to stop."""
        while True:
            trial = self._study.ask(distributions(self._among.space))
            point = point_of(self._among.space, trial.params)
            if not self._is_enqueued(trial):
                break
            if point_key(point) in self._among.row_of:
                return Proposal(trial.number, point, "it was enqueued by hand", None)
            trial.set_user_attr("reason", "enqueued, but a known rule or the memory model speaks against it")
            self._study.tell(trial.number, state=TrialState.FAIL)
        advice = self._sampler.advice
        assert advice is not None  # the sampler just answered
        if advice.row is None:
            self._study.tell(trial.number, state=TrialState.FAIL)
            return advice.reason
        return Proposal(trial.number, point, advice.reason, advice.expected_log_cost)

    def _is_enqueued(self, trial: optuna.Trial) -> bool:
        """Say whether somebody else chose its parameters (`study.enqueue_trial`, the dashboard)."""
        return "fixed_params" in self._study._storage.get_trial_system_attrs(trial._trial_id)

    def add(self, point: Point) -> int:
        """Record a trial chosen elsewhere (the baseline) and return its number; tell its result as any other's."""
        # Not enqueued: another worker's `ask` could take what waits in the queue.
        template = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=params_of(self._among.space, point),
            distributions=distributions(self._among.space),
            user_attrs={_KIND: _BASELINE},
        )
        storage = self._study._storage
        known = storage.create_new_trial(self._study._study_id, template_trial=template)
        return storage.get_trial(known).number

    def is_open(self, number: int) -> bool:
        """Say whether a trial can still be told a result."""
        found = self._find(number)
        return found is not None and not found.state.is_finished()

    def tell(self, number: int, result: Finished) -> None:
        """Record a result. Telling it again changes nothing."""
        found = self._find(number)
        if found is None or found.state.is_finished():
            return
        try:
            self._tell(found, result)
        except optuna.exceptions.UpdateFinishedTrialError:  # another worker told it in between
            return

    def _tell(self, found: FrozenTrial, result: Finished) -> None:
        # The Trial that `ask` returned may have died with another process; this is the same one.
        trial = optuna.trial.Trial(self._study, found._trial_id)
        for key, value in _attributes(result).items():
            trial.set_user_attr(key, value)
        # A dropped candidate runs, at a higher cost: called infeasible it would be imputed far from what it is.
        trial.set_constraint(_CONSTRAINT, 0.0 if result.cost is not None else 1.0)
        trial.set_user_attr(f"constraint {_CONSTRAINT}", "kept" if result.cost is not None else "broken")
        trial.set_user_attr("outcome", _outcome(result))
        self._study.tell(found.number, values=self._value(result), skip_if_finished=True)

    def fail(self, number: int, *, for_good: bool = False, reason: str = "") -> None:
        """Close a trial whose experiment broke: nothing is learnt from it. `for_good`: nor is it proposed again, and it
        says why.
        """
        found = self._find(number)
        if found is not None and not found.state.is_finished():
            said = {GIVEN_UP: True, "outcome": "not measured: its experiment broke", "reason": reason}
            for key, value in said.items() if for_good else ():
                optuna.trial.Trial(self._study, found._trial_id).set_user_attr(key, value)
            self._study.tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def reconcile(
        self,
        results: Mapping[int, Finished | None],
        running: Iterable[int],
        *,
        shared: bool = False,
        reasons: Mapping[int, str] | None = None,
    ) -> None:
        """Make the record agree with our store after a crash.

        `results` are finished trials by number (None: the experiment broke every time); `running` are numbers our store
        still holds as running, or to be tried again. Every other open ask was never started and is closed, unless the
        search is `shared` with workers that may be about to start theirs. `reasons` are why experiments broke.
        """
        alive = set(running)
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            result = results.get(trial.number)
            if result is not None:
                self.tell(trial.number, result)
            elif trial.number in results:
                self.fail(trial.number, for_good=True, reason=(reasons or {}).get(trial.number, ""))
            elif trial.number not in alive and not shared:
                self.fail(trial.number)

    def _find(self, number: int) -> FrozenTrial | None:
        trials = self._study.get_trials(deepcopy=False)
        return trials[number] if 0 <= number < len(trials) else None

    def _value(self, result: Finished) -> float:
        """Return the number to show. Only what was measured may look better than the baseline."""
        if result.cost is not None and result.at_least is None:
            return result.cost
        complete = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        values = {trial.number: trial.value for trial in complete if ran(trial) and trial.value is not None}
        if result.cost is not None:
            baseline = [values[t.number] for t in complete if t.user_attrs.get(_KIND) == _BASELINE and ran(t)]
            least: float = max([result.cost, *(baseline or values.values())])
            return least
        worst = max((abs(value) for value in values.values()), default=0.5) * _IMPUTED_FACTOR
        return worst if result.beyond is None else max(worst, result.beyond)


def gp_available() -> bool:
    """Say whether Optuna's Gaussian-process sampler can run (it needs torch, which we do not ship)."""
    return importlib.util.find_spec("torch") is not None


def check_strategy(strategy: Strategy) -> None:
    """Refuse a strategy that cannot run here. Raises InvalidInput."""
    if strategy is Strategy.GP and not gp_available():
        allowed = ", ".join(each for each in Strategy if each is not Strategy.GP)
        raise InvalidInput(
            "strategy gp cannot run", why="torch, which Optuna needs for it, is not installed", allowed=allowed
        )


def _outcome(result: Finished) -> str:
    if result.log_cost is not None:
        return "measured"
    return "could not run" if result.at_least is None else "not held: it costs more than it may, how much is a guess"


def _attributes(result: Finished) -> dict[str, float | bool | str]:
    known = {
        "reason": result.reason,
        LOG_COST: result.log_cost,
        AT_LEAST: result.at_least,
        OUT_OF_MEMORY: result.ran_out_of_memory or None,
        START_S: result.start_s,
        LEVELS_S: result.levels_s,
        HOST: result.host,
    }
    return {name: value for name, value in known.items() if value is not None} | dict(result.shown)


def _sampler(
    strategy: Strategy, among: Candidates, *, seed: int, worthwhile: float, host: str | None
) -> AdvisedSampler | GridSnapper:
    match strategy:
        case Strategy.TWIN if among.forecast is None:
            return AloneSampler(among, worthwhile=worthwhile, host=host, seed=seed)
        case Strategy.TWIN:
            return DoubtingSampler(among, worthwhile=worthwhile, host=host, seed=seed)
        case Strategy.TPE:
            return GridSnapper(quiet_tpe(seed), among, redraws=REDRAWS)
        case Strategy.GP:
            return GridSnapper(GPSampler(seed=seed, n_startup_trials=3), among, redraws=1)
        case Strategy.RANDOM:
            return GridSnapper(RandomSampler(seed=seed), among, redraws=REDRAWS)
