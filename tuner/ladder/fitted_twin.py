"""The twin of one configuration, slowed down or sped up until it shows what was measured of this very engine.

A twin that is a fifth off sends a rate ladder to rates a fifth off, each a level of up to a minute. But one level tells
how far it is off: the same arrivals and lengths, simulated, have the same bursts and the same jump where a queue forms.
So for every latency limit one factor on the twin's clock is looked for that gives the measured percentile at the rate
that ran; with it the twin's capacity is the ladder's next guess. An engine `slower` times as slow under arrivals at r
requests/s is the twin under arrivals at `slower` x r with all its times stretched by `slower`: that is exact, and
nothing of the profile has to be changed.

The factor differs with the rate, as the twin is wrong in more than its clock: levels near the rate asked about weigh
most (`_DRIFT`). A level that ended early is compared with the twin's requests that had finished by then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from controlplane.domain.slo import LatencySlo
from tuner.search.surrogate import Array
from tuner.twin.predict import RequestsAt, highest_rate, latencies_s, threshold
from tuner.twin.remembered import simulate_once
from tuner.twin.setup import EngineSetup
from tuner.twin.simulate import RequestArrays

_TRIED = np.array([-0.7, -0.45, -0.28, -0.18, -0.1, -0.05, 0.0, 0.05, 0.1, 0.18, 0.28, 0.45, 0.7])  # log factors
_PRIOR_SD = 0.35  # log factor of a twin nothing was measured of
_LEVEL_SD, _CUT_SD, _MISFIT_SD = (
    0.02,
    0.05,
    0.15,
)  # of one level; of one that ended early; of one that no factor explains
_DRIFT = 0.13  # change of the log factor per unit of log rate
_FEWEST = 20  # requests below which a percentile says nothing
_PRECISION = 0.02
_STEP = 1.3  # of the bracket: what was expected after the level before is near
_AROUND = np.linspace(-0.09, 0.09, 13)  # log rate: verdicts a few per cent from the limit are luck


class SeenLevel(NamedTuple):
    """What one level measured: per limit its percentile, ms. `until_s` is when it was cut, on its schedule's clock;
    `warmup_s` is its own where that is not the twin's.
    """

    rate_rps: float
    requests: int
    measured_ms: Mapping[LatencySlo, float]
    until_s: float | None = None
    warmup_s: float | None = None


class _Fit(NamedTuple):
    log_rate: float
    log_slower: float
    sd: float


class _Simulated(NamedTuple):
    requests: RequestArrays
    latency_ms: Mapping[LatencySlo, Array]  # NaN where there is none
    done_s: Array


class FittedTwin:
    """A configuration's twin and what its levels told. `requests_at` gives the arrivals that the levels have.

    Requests before `warmup_s` are simulated and not counted, as in a level.
    """

    def __init__(
        self,
        setup: EngineSetup,
        requests_at: RequestsAt,
        slos: tuple[LatencySlo, ...],
        *,
        start_rps: float,
        warmup_s: float = 0.0,
    ) -> None:
        self._setup = setup
        self._requests_at = requests_at
        self._warmup_s = warmup_s
        self._fits: dict[LatencySlo, list[_Fit]] = {slo: [] for slo in slos}
        self._simulations: dict[tuple[float, float], _Simulated] = {}
        self._expected_rps = start_rps
        self._broken: LatencySlo | None = None

    def see(self, level: SeenLevel) -> None:
        """Learn from one level."""
        self._simulations.clear()  # hardly any recurs after another level
        for slo, measured_ms in level.measured_ms.items():
            if level.requests >= _FEWEST and measured_ms > 0:
                fit = self._fit(slo, level, math.log(measured_ms))
                self._fits[slo] += [] if fit is None else [fit]

    def capacity_rps(self) -> float | None:
        """Return the capacity expected after what was seen, requests/s; None when no rate would do."""
        found = highest_rate(self._passes, start_rps=self._expected_rps, precision=_PRECISION, step=_STEP)
        if found == 0:
            return None
        rates = found * np.exp(_AROUND)
        self._expected_rps = threshold(rates, np.array([self._passes(float(rate)) for rate in rates]))
        return self._expected_rps

    def log_slower(self, slo: LatencySlo, rate_rps: float) -> float:
        """Return the logarithm of the factor on the twin's clock for a limit at a rate: 0 while nothing was seen."""
        log_rate, weight, total = math.log(rate_rps), 1 / _PRIOR_SD**2, 0.0
        for fit in self._fits[slo]:
            precision = 1 / (fit.sd**2 + (_DRIFT * (fit.log_rate - log_rate)) ** 2)
            weight, total = weight + precision, total + precision * fit.log_slower
        return total / weight

    def _fit(self, slo: LatencySlo, level: SeenLevel, log_measured: float) -> _Fit | None:
        """Return the factor nearest to the one believed that gives what was measured.

        Looked for outwards from there, as every factor tried is a simulation.
        """
        centre, middle = self.log_slower(slo, level.rate_rps), len(_TRIED) // 2
        log_rate, sd = math.log(level.rate_rps), _LEVEL_SD if level.until_s is None else _CUT_SD
        over = np.full(len(_TRIED), np.nan)
        for distance in range(middle + 1):
            for place in {middle - distance, middle + distance}:
                over[place] = self._log_percentile_ms(slo, level, centre + float(_TRIED[place])) - log_measured
            crossings = np.flatnonzero((over[:-1] <= 0) & (over[1:] > 0))
            if crossings.size:
                found = _TRIED[crossings] - over[crossings] * np.diff(_TRIED)[crossings] / np.diff(over)[crossings]
                return _Fit(log_rate, centre + float(found[np.argmin(np.abs(found))]), sd)
        if not np.isfinite(over).any():
            return None  # too far off, or the twin has nothing like it
        return _Fit(log_rate, centre + float(_TRIED[np.nanargmin(np.abs(over))]), max(sd, _MISFIT_SD))

    def _log_percentile_ms(self, slo: LatencySlo, level: SeenLevel, log_slower: float) -> float:
        simulated = self._simulated(level.rate_rps, log_slower)
        counted = self._counted(simulated, level.warmup_s)
        if level.until_s is not None:
            counted &= simulated.done_s <= level.until_s
        values = simulated.latency_ms[slo][counted]
        values = values[~np.isnan(values)]
        return math.log(float(np.percentile(values, slo.percentile))) if values.size else math.nan

    def _passes(self, rate_rps: float) -> bool:
        for slo in sorted(self._fits, key=lambda slo: slo != self._broken):
            simulated = self._simulated(rate_rps, self.log_slower(slo, self._expected_rps))
            missed = simulated.latency_ms[slo][self._counted(simulated)] > slo.limit_ms  # NaN is no miss
            if not missed.size or float(np.mean(missed)) > slo.allowed_miss_ratio + 1e-12:
                self._broken = slo  # the next rate is likely too high for the same limit: ask it first
                return False
        return True

    def _counted(
        self, simulated: _Simulated, warmup_s: float | None = None
    ) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        return np.asarray(simulated.requests.scheduled_s >= (self._warmup_s if warmup_s is None else warmup_s))

    def _simulated(self, rate_rps: float, log_slower: float) -> _Simulated:
        key = (rate_rps, round(log_slower, 4))
        if key not in self._simulations:
            requests, slower = self._requests_at(rate_rps), math.exp(key[1])
            result = simulate_once(self._setup, requests._replace(scheduled_s=requests.scheduled_s / slower))
            latency_ms = {slo: latencies_s(result)[slo.metric] * slower * 1e3 for slo in self._fits}
            self._simulations[key] = _Simulated(requests, latency_ms, requests.scheduled_s + result.e2e_s * slower)
        return self._simulations[key]
