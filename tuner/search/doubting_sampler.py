"""The search with a twin, for as long as its own trials bear the twin out; afterwards as one that has none.

A surrogate whose forecast is worth nothing knows as little as one without, and is led as far astray by its own
unsureness (`tuner.search.alone`): it circles among copies. And "nothing better is expected" is worth what the
expectations were worth: a forecast that was far off where it was looked at is no reason to end.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from tuner.search.advisor import trust
from tuner.search.alone import FIRST
from tuner.search.alone_sampler import AloneSampler
from tuner.search.candidates import Advice, Candidates, Tried, point_key
from tuner.search.sampler import TwinSampler, so_far
from tuner.search.surrogate import Array

REFUTED = 0.5
"""Trust in the forecast below which the search goes on as if there were none: that it says nothing is the likelier."""
OFF = 0.15
"""Log cost by which a forecast may be off, apart from a factor that all have in common, and still end a search."""
_FEWEST = 3
_WORST = 0.6  # log cost: beyond a cliff an error has no size, and one such is not everything


def off_by(among: Candidates, tried: Sequence[Tried]) -> float:
    """Return how far the forecast was off where something was measured, of several the one that was least so, in log
    cost: root mean square about the median error, each counted up to 0.6; 0 without a forecast and for fewer than
    three.
    """
    placed = [(among.row_of.get(point_key(each.point)), each.log_cost) for each in tried]
    known = [(row, cost) for row, cost in placed if row is not None and cost is not None]
    if len(known) < _FEWEST:
        return 0.0
    return min((_off(forecast, known) for forecast, _ in among.forecasts), default=0.0)


def _off(forecast: Array, known: Sequence[tuple[int, float]]) -> float:
    errors = [cost - forecast[row] for row, cost in known]
    apart = np.minimum(np.abs(errors - np.median(errors)), _WORST)
    return float(np.sqrt(np.mean(np.square(apart))))


class DoubtingSampler(TwinSampler):
    """`TwinSampler` until the trials refute its forecast, or it would end although the forecast was far off; then
    `AloneSampler` on the same record. Both are asked anew before each start: later trials may restore the twin's word.
    """

    def __init__(self, among: Candidates, *, worthwhile: float, host: str | None = None, seed: int = 0) -> None:
        super().__init__(among, worthwhile=worthwhile, host=host)
        without = among._replace(outlook=None, rivals=(), bends=())
        self._alone = AloneSampler(without, worthwhile=worthwhile, host=host, seed=seed)

    def _choose(self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> Advice:
        known, _ = so_far(self._among, study, trial)
        if len(known) > FIRST and trust(self._among, known) < REFUTED:  # before, there would only be draws instead
            return self._without(study, trial, search_space, "the trials refute the twin")
        found = super()._choose(study, trial, search_space)
        if found.row is not None or off_by(self._among, known) < OFF:
            return found
        return self._without(study, trial, search_space, "the twin expects nothing better, but was far off so far")

    def _without(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution], why: str
    ) -> Advice:
        found = self._alone._choose(study, trial, search_space)
        return found._replace(reason=f"{why}: {found.reason}") if found.row is not None else found
