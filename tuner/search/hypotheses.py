"""The ways in which a twin may be wrong that the surrogate keeps side by side (`tuner.search.surrogate`). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[np.float64]


class Hypothesis(NamedTuple):
    """One way the forecast may be wrong. All standard deviations on the scale of log cost."""

    trusts_forecast: bool
    offset_sd: float
    slope_sd: float
    main_sd: float
    interaction_sd: float
    weight: float


HYPOTHESES = (
    Hypothesis(True, 0.3, 0.1, 0.08, 0.03, 0.3),
    Hypothesis(True, 0.3, 0.3, 0.2, 0.06, 0.3),
    Hypothesis(True, 0.5, 0.6, 0.35, 0.15, 0.2),
    Hypothesis(False, 1.5, 0.0, 0.5, 0.2, 0.1),
    Hypothesis(False, 1.5, 0.0, 0.9, 0.4, 0.1),
)

BENT = Hypothesis(True, 0.3, 0.3, 0.2, 0.06, 0.2)
"""Beside these: the twin errs in where a flag begins or ceases to bind. The weight is for all such together."""


def hypotheses_of(
    forecast: _Array | None, bent: Sequence[_Array] = (), rivals: Sequence[tuple[_Array, float]] = ()
) -> list[tuple[Hypothesis, _Array | None]]:
    """Return each hypothesis with the forecast it goes by, None where by none.

    `rivals` are other twins' forecasts with their shares of the likelihood, the first one has the rest of it; `bent` is
    the first with its bends elsewhere. Without a forecast only those hypotheses are left that need none.
    """
    without: list[tuple[Hypothesis, _Array | None]] = [(h, None) for h in HYPOTHESES if not h.trusts_forecast]
    if forecast is None:
        return without
    share = 1.0 - sum(each for _, each in rivals)
    twins = ((forecast, share), *rivals)
    by_twin = [(_weighed(h, part), base) for base, part in twins for h in HYPOTHESES if h.trusts_forecast]
    return [*by_twin, *without, *((_weighed(BENT, share / len(bent)), each) for each in bent)]


def _weighed(hypothesis: Hypothesis, share: float) -> Hypothesis:
    return hypothesis._replace(weight=hypothesis.weight * share)
