"""When requests arrive: unit-rate processes bent to a rate that may change with time."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from controlplane.domain.base import Value
from controlplane.domain.errors import InvalidInput
from controlplane.domain.workload import ArrivalProcess, Arrivals

Floats = npt.NDArray[np.float64]


class SteadyRate(Value):
    """The same rate all the time."""

    kind: Literal["steady"] = "steady"


class RampRate(Value):
    """From `from_factor` to `to_factor` times the rate, linearly over the whole run."""

    kind: Literal["ramp"] = "ramp"
    from_factor: float = Field(default=0.0, ge=0)
    to_factor: float = Field(default=2.0, gt=0)


class StepRate(Value):
    """Equal slices of the run, each at its own multiple of the rate."""

    kind: Literal["step"] = "step"
    factors: tuple[Annotated[float, Field(ge=0)], ...] = Field(min_length=1, examples=[[1, 2, 4]])


class DiurnalRate(Value):
    """A day's curve: 1 + swing · sin over `period_s` (None: the run is one day), lowest at the start."""

    kind: Literal["diurnal"] = "diurnal"
    swing: float = Field(default=0.6, ge=0, le=1)
    period_s: float | None = Field(default=None, gt=0)


RateShape = Annotated[SteadyRate | RampRate | StepRate | DiurnalRate, Field(discriminator="kind")]


def arrival_times(
    arrivals: Arrivals, *, rate_rps: float, duration_s: float, rng: np.random.Generator, shape: RateShape | None = None
) -> Floats:
    """Return ascending arrival instants in [0, duration_s), seconds.

    A process of unit rate is drawn and its time rescaled by the cumulative rate, which gives the exact
    inhomogeneous process (time-rescaling theorem; Brown et al., Neural Computation 2002). Raises InvalidInput for
    rates and durations that are not positive.
    """
    check_rate(rate_rps, duration_s)
    grid = np.linspace(0.0, duration_s, _grid_points(shape, duration_s))
    cumulative = _cumulative(shape or SteadyRate(), grid, duration_s) * rate_rps
    units = _unit_process(arrivals, float(cumulative[-1]), rng)
    times = np.interp(units, cumulative, grid)
    return times[times < duration_s]


def check_rate(rate_rps: float, duration_s: float) -> None:
    """Raise InvalidInput unless both are positive and finite."""
    for name, value in (("request rate", rate_rps), ("duration", duration_s)):
        if not (math.isfinite(value) and value > 0):
            raise InvalidInput(f"{name} is {value:g}", allowed="a positive number")


def _unit_process(arrivals: Arrivals, total: float, rng: np.random.Generator) -> Floats:
    """Draw a process of unit rate over [0, total)."""
    if arrivals.process is ArrivalProcess.CONSTANT:
        return np.arange(math.ceil(total), dtype=np.float64)
    shape = arrivals.burstiness if arrivals.process is ArrivalProcess.GAMMA else 1.0
    drawn = np.empty(0)
    while drawn.size == 0 or drawn[-1] < total:
        room = max(64, int(1.2 * total) + 64)
        gaps = rng.gamma(shape, 1.0 / shape, size=room)
        drawn = np.concatenate((drawn, (drawn[-1] if drawn.size else 0.0) + np.cumsum(gaps)))
    return drawn[drawn < total]


def _grid_points(shape: RateShape | None, duration_s: float) -> int:
    return 2 if shape is None or isinstance(shape, SteadyRate) else max(2001, int(duration_s * 4) + 1)


def _cumulative(shape: RateShape, grid: Floats, duration_s: float) -> Floats:
    """Return the integral of the rate's factor from 0 to each grid point."""
    match shape:
        case SteadyRate():
            return grid
        case RampRate(from_factor=first, to_factor=last):
            return first * grid + (last - first) * grid**2 / (2 * duration_s)
        case StepRate(factors=factors):
            edges = np.linspace(0.0, duration_s, len(factors) + 1)
            sums = np.concatenate(([0.0], np.cumsum(np.asarray(factors) * duration_s / len(factors))))
            return np.interp(grid, edges, sums)
        case DiurnalRate(swing=swing, period_s=period_s):
            omega = 2 * math.pi / (period_s or duration_s)
            return grid - swing / omega * np.sin(omega * grid)
