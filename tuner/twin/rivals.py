"""What else explains a baseline's levels: an engine whose steps cost what its flags allow, not what they hold.

Buffers, samplers and kernels may be built for the largest step, which no factor of a part says: met by factors alone, a
step that pays for a thousand seats looks like a slow memory. One configuration shows such explanations alike; another
tells them apart. So all that explain the levels about as well are kept, each with its odds, and the search's trials
decide (`tuner.search.surrogate`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from controlplane.domain.studies.calibration import Factors, Rival
from tuner.twin.compiled_state import Floats
from tuner.twin.factors import (
    ALIKE,
    PARTS,
    TOLERANCE,
    Found,
    SeenLoad,
    descended,
    doubted,
    errors_of,
    factors_at,
    fit_factors,
    found_at,
    spread_of,
    surprise,
    typical,
)
from tuner.twin.setup import EngineSetup

_USUAL = {"seat_us": 5.0, "padding": 0.1}
"""Where the search for such a cost is centred: 5 ms for a thousand seats, a tenth of the budget."""
_USUAL_SD = 1.0  # of its logarithm
_AMOUNTS, _SPEEDS, _EAGER, _SERVER = (-1.0, 0.0, 1.0, 2.0), (-0.75, 0.0, 0.75), (0.0, 1.1), (0.0, 1.0)
"""Logarithms that a descent may begin at: of the cost, and of the factors of the GPU, large launches and API server."""
_DESCENTS = 3
_STRUCTURE_ODDS = 0.3
"""How likely an engine has such a cost, beside one that has not: one number more explains a little more by luck."""
_LEAST_ODDS = 0.05  # what is less likely is not worth its simulations

SetupOf = Callable[[Factors], EngineSetup]


class Explained(NamedTuple):
    """The likeliest explanation of the levels, and the others with their odds beside it."""

    found: Found
    rivals: tuple[Rival, ...] = ()


class _Ended(NamedTuple):
    factors: Factors
    point: Floats
    sds: Floats
    errors: Floats
    odds: float
    """Beforehand."""

    def log_odds(self, tolerance: float) -> float:
        """Return the logarithm of how likely this is, up to what all have in common; few percentiles tell for all."""
        told = float(np.sum(surprise(self.errors, self.point, self.sds, tolerance) ** 2))
        return float(np.log(self.odds)) - told / 2 / ALIKE


def explain(setup_of: SetupOf, levels: Sequence[SeenLoad], *, known: bool) -> Explained:
    """Return what explains the levels: slow parts alone, or a cost of each structure beside them.

    Raises InvalidInput as `fit_factors` does.
    """
    plain, sds = fit_factors(setup_of, levels, known=known), spread_of(known)
    point = np.log([getattr(plain.factors, name) for name in PARTS])
    ended = [_Ended(plain.factors, point, sds, errors_of(setup_of(plain.factors), levels), 1.0)]
    ended += [_with(name, setup_of, levels, sds) for name in _USUAL]
    tolerance = doubted(min(typical(each.errors) for each in ended))
    best, *others = sorted(ended, key=lambda each: each.log_odds(tolerance), reverse=True)
    before = errors_of(setup_of(Factors()), levels)
    return Explained(found_at(best.factors, before, best.errors), tuple(_rivals(best, others, tolerance)))


def _rivals(best: _Ended, others: Sequence[_Ended], tolerance: float) -> Iterator[Rival]:
    for each in others:
        odds = float(np.exp(each.log_odds(tolerance) - best.log_odds(tolerance)))
        if odds >= _LEAST_ODDS:
            yield Rival(factors=each.factors, odds=odds)


def _with(name: str, setup_of: SetupOf, levels: Sequence[SeenLoad], parts_sds: Floats) -> _Ended:
    """Return the likeliest factors beside a cost of one structure, which the last number of a point says."""
    sds = np.append(parts_sds, _USUAL_SD)

    def factors(point: Floats) -> Factors:
        return factors_at(point[:-1]).evolve(**{name: _USUAL[name] * float(np.exp(point[-1]))})

    def residuals(point: Floats, tolerance: float) -> Floats:
        return surprise(errors_of(setup_of(factors(point)), levels), point, sds, tolerance)

    def loss(point: Floats) -> float:
        return float(np.sum(residuals(point, TOLERANCE) ** 2))

    point = min((descended(residuals, TOLERANCE, start, sds) for start in _starts(loss)), key=loss)
    return _Ended(factors(point), point, sds, errors_of(setup_of(factors(point)), levels), _STRUCTURE_ODDS)


def _starts(loss: Callable[[Floats], float]) -> list[Floats]:
    """Return where to descend from: the likeliest for the likeliest amounts."""
    best_of = [
        min(
            (
                np.array([speed, speed, 0.0, eager, server, 0.0, amount])
                for speed in _SPEEDS
                for eager in _EAGER
                for server in _SERVER
            ),
            key=loss,
        )
        for amount in _AMOUNTS
    ]
    return sorted(best_of, key=loss)[:_DESCENTS]
