"""The strategies compared. All pay the same prices; all but vLLM's auto_tune climb the same ladder."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.search.priors import believed_room, calibrated_forecasts, forecast, perturbed, wrong_model
from benchmarks.search.trial import LEVEL_S, OOM_START_S, Laboratory, Outcome
from benchmarks.search.truth import ProfileOf, Truth, true_profile
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.studies.tuning_options import Strategy
from controlplane.services.studies.search import WORTHWHILE
from tuner.search.advisor import BEYOND_BOUND
from tuner.search.candidates import Outlook, RivalOutlook, candidates, point_key
from tuner.search.search import Finished, Proposal, Search, gp_available
from tuner.search.surrogate import Array

AUTO_TUNE_SEQS = (128, 256)
AUTO_TUNE_TOKENS = (512, 1024, 2048, 4096)
_AUTO_TUNE_LEVEL_S = 100.0  # its runs send 100 seconds' worth of requests at the rate they test
_AUTO_TUNE_STEP = 1.0  # requests/s it lowers the rate by after a miss


class Episode(NamedTuple):
    """One run of one contestant: its trials in order."""

    outcomes: Sequence[Outcome]


Contestant = Callable[[Truth, int, int], Episode]
"""Takes the truth, a seed and the most engine starts allowed."""


def contestants() -> dict[str, Contestant]:
    """Return the contestants by the name they have in the report; Optuna's GP sampler only where torch is there."""
    found: dict[str, Contestant] = {
        "ours": _ours(lambda truth, seed: perturbed(truth, seed=seed), remembers=False),
        "ours_wrong_model": _ours(lambda truth, _: wrong_model(truth), remembers=False),
        "ours_exact_twin": _ours(lambda _, __: true_profile, remembers=True),
        "ours_calibrated": _calibrated,
        "ours_without_twin": _optuna(Strategy.TWIN),
        "optuna_tpe": _optuna(Strategy.TPE),
        "random": _optuna(Strategy.RANDOM),
        "vllm_auto_tune": _auto_tune,
        "one_factor": _one_factor,
    }
    if gp_available():
        found["optuna_gp"] = _optuna(Strategy.GP)
    return found


def baseline_row(truth: Truth) -> int:
    """Return the row of what serves today: every contestant measures it first."""
    space = truth.scenario.space
    wanted = point_key(space.point(truth.scenario.spec.baseline))
    return next(row for row, point in enumerate(truth.points) if point_key(point) == wanted)


class _Run:
    """Trials of one episode, and the incumbent among them."""

    def __init__(self, truth: Truth, seed: int) -> None:
        self.truth = truth
        self._lab = Laboratory(truth, seed=seed)
        self.outcomes: list[Outcome] = []
        self.best: float | None = None
        self.best_row = baseline_row(truth)

    def trial(self, row: int, forecast_rps: float | None = None) -> Outcome:
        outcome = self._lab.run(row, beat_log_cost=self.best, forecast_rps=forecast_rps)
        self.outcomes.append(outcome)
        cost = self.log_cost(outcome)
        if cost is not None and (self.best is None or cost < self.best):
            self.best, self.best_row = cost, row
        return outcome

    def log_cost(self, outcome: Outcome) -> float | None:
        if outcome.measured_rps is None:
            return None
        return math.log(self.truth.configs[outcome.row].gpus_per_replica / outcome.measured_rps)

    def told(self, outcome: Outcome) -> Finished:
        cost = self.log_cost(outcome)
        took = Finished(start_s=outcome.start_s, levels_s=outcome.levels_s)
        if cost is not None:
            return took._replace(log_cost=cost, cost=math.exp(cost))
        if outcome.failed_rps is None:
            return took._replace(ran_out_of_memory=outcome.oom)
        bound = math.log(self.truth.configs[outcome.row].gpus_per_replica / outcome.failed_rps)
        return took._replace(at_least=bound, cost=math.exp(bound + BEYOND_BOUND))


def _ours(profiles: Callable[[Truth, int], ProfileOf], *, remembers: bool) -> Contestant:
    """Our search with a twin. Only points the (wrong by some GiB) memory model believes in are candidates."""

    def play(truth: Truth, seed: int, starts: int) -> Episode:
        room = truth.room_gib if remembers else believed_room(truth, seed=seed)
        plausible = [row for row in range(len(truth.points)) if room[row] > _needed_gib(truth, row)]
        rows = sorted({baseline_row(truth), *plausible})
        expected = forecast(truth, truth.scenario.space, rows, profiles(truth, seed), seed=seed)
        return _search(truth, Strategy.TWIN, rows, expected, room[rows], seed=seed, starts=starts)

    return play


def _calibrated(truth: Truth, seed: int, starts: int) -> Episode:
    """Our search on a GPU and a model that nobody measured: without a twin to the baseline, then with what its levels
    make of one. Its memory model is off as that of `ours`.
    """
    room = believed_room(truth, seed=seed)
    plausible = [row for row in range(len(truth.points)) if room[row] > _needed_gib(truth, row)]
    rows = sorted({baseline_row(truth), *plausible})

    def learn(baseline: Outcome) -> list[RivalOutlook]:
        return calibrated_forecasts(truth, truth.scenario.space, rows, baseline, seed=seed)

    return _search(truth, Strategy.TWIN, rows, None, room[rows], seed=seed, starts=starts, learn=learn)


def _optuna(strategy: Strategy) -> Contestant:
    def play(truth: Truth, seed: int, starts: int) -> Episode:
        rows = list(range(len(truth.points)))
        return _search(truth, strategy, rows, None, None, seed=seed, starts=starts)

    return play


def _search(
    truth: Truth,
    strategy: Strategy,
    rows: Sequence[int],
    expected: Outlook | None,
    room: Array | None,
    *,
    seed: int,
    starts: int,
    learn: Callable[[Outcome], list[RivalOutlook]] | None = None,
) -> Episode:
    """Return the episode. `learn` makes forecasts of the baseline's trial, where there was none before."""
    points = [truth.points[row] for row in rows]
    among = candidates(truth.scenario.space, points, outlook=expected, room_gib=room, level_s=LEVEL_S)
    search = Search("bench", among, storage_url=None, strategy=strategy, seed=seed, worthwhile=WORTHWHILE)
    row_of = {point_key(truth.points[row]): row for row in rows}
    place_of = {row: place for place, row in enumerate(rows)}
    run = _Run(truth, seed)

    def measure(number: int, row: int) -> None:
        capacity = None
        if expected is not None:
            capacity = truth.configs[row].gpus_per_replica / math.exp(expected.log_cost[place_of[row]])
        search.tell(number, run.told(run.trial(row, capacity)))

    first = baseline_row(truth)
    measure(search.add(truth.points[first]), first)
    if learn is not None:
        learnt = learn(run.outcomes[0])
        expected = learnt[0].outlook if learnt else None
        again = candidates(truth.scenario.space, points, outlook=expected, room_gib=room, level_s=LEVEL_S)
        search.look_again(again._replace(rivals=learnt[1:]))
    while len(run.outcomes) < starts and isinstance(proposal := search.ask(), Proposal):
        measure(proposal.number, row_of[point_key(proposal.point)])
    return Episode(run.outcomes)


def _needed_gib(truth: Truth, row: int) -> float:
    """Return the room below which one longest request does not fit (what the memory model compares with)."""
    length = float(truth.configs[row].flags.get("max-model-len", truth.shape.max_position_embeddings))
    bytes_per_token = truth.shape.kv_bytes_per_token(2.0) / truth.configs[row].gpus_per_replica
    return length * bytes_per_token / 2**30


def _one_factor(truth: Truth, seed: int, starts: int) -> Episode:
    """From the baseline, go through each flag's values in turn and keep the best before the next flag."""
    run = _Run(truth, seed)
    space = truth.scenario.space
    rows = {point_key(point): row for row, point in enumerate(truth.points)}
    run.trial(baseline_row(truth))
    for dimension in space.dimensions:
        current = truth.points[run.best_row]
        for value in dimension.choices:
            row = rows.get(point_key(space.canonical({**current, dimension.flag: value})))
            if row is not None and len(run.outcomes) < starts and all(o.row != row for o in run.outcomes):
                run.trial(row)
    return Episode(run.outcomes)


def _auto_tune(truth: Truth, seed: int, starts: int) -> Episode:
    """vLLM's benchmarks/auto_tune: every pair of its two lists; each from unlimited rate down, one request/s a step.

    It knows no other knob and takes parallelism as given, here the baseline's.
    """
    chance = np.random.default_rng(seed)
    base: EngineConfig = truth.scenario.spec.baseline
    rows = {config: row for row, config in ((r, c.content_hash()) for r, c in enumerate(truth.configs))}
    lab = Laboratory(truth, seed=seed)
    outcomes = [_auto_tuned(truth, lab, baseline_row(truth), chance)]
    for seqs, tokens in itertools.product(AUTO_TUNE_SEQS, AUTO_TUNE_TOKENS):
        wanted = base.with_flags({"max-num-seqs": seqs, "max-num-batched-tokens": tokens})
        row = rows.get(wanted.content_hash())
        if row is not None and len(outcomes) < starts:
            outcomes.append(_auto_tuned(truth, lab, row, chance))
    return Episode(outcomes)


def _auto_tuned(truth: Truth, lab: Laboratory, row: int, chance: np.random.Generator) -> Outcome:
    gpus = truth.configs[row].gpus_per_replica
    if not truth.fits[row]:
        return Outcome(row, None, None, True, OOM_START_S * gpus)
    capacity = float(truth.capacity_rps[row])
    rate, levels = math.floor(capacity * 1.5) + 1.0, 1  # saturated throughput is above what the limits allow
    while rate > 0 and rate > capacity * math.exp(chance.normal(0, 0.02)):
        rate -= _AUTO_TUNE_STEP
        levels += 1
    measured = rate if rate > 0 else None
    return Outcome(row, measured, None, False, (lab.start_s(row) + levels * _AUTO_TUNE_LEVEL_S) * gpus)
