"""The search without a twin as an Optuna sampler: chance, a Gaussian process and TPE take turns over one record."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from tuner.search.advisor import advise, open_rows
from tuner.search.alone import Turn, draws, whose_turn
from tuner.search.candidates import Advice, Candidates, Mask, Tried
from tuner.search.sampler import NOTHING_OPEN, AdvisedSampler, GridSnapper, so_far
from tuner.space.space import Point

REDRAWS = 30
"""How often a sampler that draws is asked for one start, before what lies nearest to its last draw is taken."""

_Draw = Callable[[GridSnapper], int]


class AloneSampler(AdvisedSampler):
    """Whose turn it is says `tuner.search.alone`. All that is known is read from the study, whoever proposed it.

    It goes on until every candidate was tried: without a forecast "nothing better is expected" was wrong too often.
    """

    def __init__(self, among: Candidates, *, worthwhile: float, host: str | None = None, seed: int = 0) -> None:
        super().__init__(among, worthwhile=worthwhile, host=host)
        self._chance = GridSnapper(RandomSampler(seed=seed), among, redraws=REDRAWS)
        self._tpe = GridSnapper(quiet_tpe(seed), among, redraws=REDRAWS)

    def _choose(self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> Advice:
        known, pending = so_far(self._among, study, trial)
        rows = [int(row) for row in np.flatnonzero(open_rows(self._among, known, pending))]

        def draw(sampler: GridSnapper) -> int:
            return sampler.draw_row(study, trial, search_space, rows)

        begun = len(known) + len(pending)
        few = not begun or len(rows) <= draws(begun)  # without even a baseline there is nothing to be led astray by
        return self._in_turn(known, pending, draw, everything=few) if rows else NOTHING_OPEN

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._chance.sample_independent(study, trial, param_name, param_distribution)

    def _in_turn(self, known: Sequence[Tried], pending: Sequence[Point], draw: _Draw, *, everything: bool) -> Advice:
        begun = len(known) + len(pending)
        match whose_turn(begun, knows_earlier=bool(self._among.earlier)):
            case Turn.CHANCE:
                return Advice(draw(self._chance), "nothing is known yet: drawn at random")
            case Turn.MODEL:
                found = self._modelled(known, pending, None if everything else partial(draw, self._chance))
                return found if found.row is not None else self._sampled(draw, found.reason)
            case Turn.TPE:
                return self._sampled(draw, "its turn, as one model does not see everything")

    def _sampled(self, draw: _Draw, why: str) -> Advice:
        return Advice(draw(self._tpe), f"Optuna's TPE proposes it ({why})")

    def _modelled(self, known: Sequence[Tried], pending: Sequence[Point], drawn: Callable[[], int] | None) -> Advice:
        """Return the model's choice among what is drawn; without `drawn` among all that are open."""
        only: Mask | None = None
        if drawn is not None:
            only = np.zeros(len(self._among.points), dtype=bool)
            only[[drawn() for _ in range(draws(len(known) + len(pending)))]] = True
        return advise(self._among, known, pending=pending, worthwhile=self._worthwhile, host=self._host, only=only)


def quiet_tpe(seed: int) -> TPESampler:
    """Return Optuna's multivariate TPE, which it calls experimental at every start."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return TPESampler(seed=seed, n_startup_trials=4, multivariate=True)
