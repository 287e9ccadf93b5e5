"""What else explains a baseline's levels: an engine whose steps cost what its flags allow, or hold less than that.

Buffers, samplers and kernels may be built for the largest step; a scheduler may cut prompts into pieces smaller than
the budget, and something else may lie in the cache's memory. No factor of a part says so: met by factors alone, a step
that pays for a thousand seats looks like a slow memory, a cache that is mostly gone like a slow API server. One
configuration shows such explanations alike; another tells them apart. So all that explain the levels about as well are
kept, each with its odds, and the search's trials decide (`tuner.search.surrogate`).
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

_USUAL = {"seat_us": 5.0, "padding": 0.1, "piece_tokens": 1024.0, "cache": 0.3}
"""Where the search for a structure's amount is centred: 5 ms for a thousand seats, a tenth of the budget, pieces of
1,024 tokens, three tenths of the cache."""
_MOST = {"cache": 1.0}
_USUAL_SD = 1.0  # of its logarithm
_AMOUNTS, _SPEEDS, _EAGER, _SERVER = (-1.0, 0.0, 1.0, 2.0), (-0.75, 0.0, 0.75), (0.0, 1.1), (0.0, 1.0)
"""Logarithms that a descent may begin at: of the amount, of the factors of GPU, large launches and API server."""
_DESCENTS = 3
_STRUCTURE_ODDS = 0.3
"""How likely an engine has one such structure, beside one that has none: one number more explains a little by luck."""
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
    """Return what explains the levels: slow parts alone, or one of the structures beside them.

    A structure that is no likelier than slow parts alone is left out: levels that it does not act on leave its amount
    open. Raises InvalidInput as `fit_factors` does.
    """
    plain, sds = fit_factors(setup_of, levels, known=known), spread_of(known)
    point = np.log([getattr(plain.factors, name) for name in PARTS])
    parts = _Ended(plain.factors, point, sds, errors_of(setup_of(plain.factors), levels), 1.0)
    structures = [_with(name, setup_of, levels, sds) for name in _USUAL]
    tolerance = doubted(min(typical(each.errors) for each in (parts, *structures)))
    likelier = [each for each in structures if each.log_odds(tolerance) > parts.log_odds(tolerance)]
    best, *others = sorted((parts, *likelier), key=lambda each: each.log_odds(tolerance), reverse=True)
    before = errors_of(setup_of(Factors()), levels)
    return Explained(found_at(best.factors, before, best.errors), tuple(_rivals(best, others, tolerance)))


def _rivals(best: _Ended, others: Sequence[_Ended], tolerance: float) -> Iterator[Rival]:
    for each in others:
        odds = float(np.exp(each.log_odds(tolerance) - best.log_odds(tolerance)))
        if odds >= _LEAST_ODDS:
            yield Rival(factors=each.factors, odds=odds)


def _with(name: str, setup_of: SetupOf, levels: Sequence[SeenLoad], parts_sds: Floats) -> _Ended:
    """Return the likeliest factors beside one structure, whose amount the last number of a point says."""
    sds = np.append(parts_sds, _USUAL_SD)

    def factors(point: Floats) -> Factors:
        amount = _USUAL[name] * float(np.exp(point[-1]))
        return factors_at(point[:-1]).evolve(**{name: min(amount, _MOST.get(name, amount))})

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
