"""Simulations that come again, made once: studies of one seed begin alike whatever their budget."""

from __future__ import annotations

from tuner.ladder import fitted_twin
from tuner.twin import spread
from tuner.twin.remembered import Memory

_MOST_REQUESTS = 6_000_000  # some 33 bytes each: far more than a worker keeps


def remember_simulations() -> None:
    """From now on this process's twins look up more of what they simulated before. The results are the same."""
    remembered = Memory(_MOST_REQUESTS)
    for module in (fitted_twin, spread):
        vars(module)["simulate_once"] = remembered
