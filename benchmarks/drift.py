"""False alarms of stationary traffic, and how soon what changed is found, in simulated time.

    python -m benchmarks.drift --months 12 --json docs/results/drift.json

All signals together. Lognormal lengths (cv 1.2) and shares of known prefixes in sessions of three requests on average
that have most of both in common; Poisson arrivals; misses in runs of three at just the ratio that is allowed: requests
are not independent, and no client names its session. A batch as the product makes it (60 s and 100 requests at least).
Without drift a month of batches, months times; with it one change anywhere within a batch, seconds of traffic until it
is found.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlplane.domain.operations.drift import BATCH_REQUESTS, BATCH_S, Signal, Watch, added, followed, judged
from controlplane.domain.operations.drift_quick import Length

RATES_RPS = (0.2, 0.5, 2.0)
MONTH_S = 30 * 86_400.0
CV, SESSION, SHARED, RUN = 1.2, 3.0, 0.8, 3.0
LENGTHS = (Signal.PROMPT, Signal.OUTPUT)
LOOKS = 5  # at a batch; the product looks every 20 s
_WARM = 200  # batches before a change
_LAST = 60 * 24  # batches watched for a change at most
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Traffic(NamedTuple):
    """Mean tokens, mean share of known prefixes, gamma shape of arrivals (1 is Poisson), share that misses."""

    prompts: float = 1000.0
    outputs: float = 200.0
    prefix: float = 0.3
    shape: float = 1.0
    misses: float = 0.05


MEASURED = Traffic()
WAS = {
    Signal.PROMPT: MEASURED.prompts,
    Signal.OUTPUT: MEASURED.outputs,
    Signal.PREFIX: MEASURED.prefix,
    Signal.BURSTS: 1 / MEASURED.shape,
    Signal.MISSES: MEASURED.misses,
}
CHANGES = {
    "prompts twice as long": MEASURED._replace(prompts=2000.0),
    "prefixes of 70 % instead of 30": MEASURED._replace(prefix=0.7),
    "four times the squared cv of gaps": MEASURED._replace(shape=0.25),
    "four times the misses": MEASURED._replace(misses=0.2),
}


def lengths(count: int, mean: float, chance: np.random.Generator) -> Ints:
    """Return lognormal lengths, those of one session alike."""
    return lengths_of(np.cumsum(chance.random(count) < 1 / SESSION), mean, chance)


def lengths_of(sessions: Ints, mean: float, chance: np.random.Generator) -> Ints:
    """Return lognormal lengths of requests of these sessions, numbered upwards."""
    sigma = float(np.sqrt(np.log1p(CV**2)))
    logs = np.log(mean) - sigma**2 / 2 + sigma * _alike(sessions, chance)
    found: Ints = np.maximum(1, np.exp(logs)).astype(np.int64)
    return found


def shares(count: int, mean: float, chance: np.random.Generator) -> Floats:
    """Return shares: a prompt is known or not for the most part, those of one session alike."""
    from scipy.special import ndtr

    found: Floats = np.where(ndtr(_in_sessions(count, chance)) < mean, 0.9, 0.1)
    return np.clip(found + mean - (0.1 + 0.8 * mean), 0, 1)


def misses(count: int, ratio: float, chance: np.random.Generator) -> Floats:
    """Return 1 for a miss, in runs of three on average."""
    begins = ratio / (1 - ratio) / RUN
    found, state = np.zeros(count), chance.random() < ratio
    draws = chance.random(count)
    for index in range(count):
        state = draws[index] >= 1 / RUN if state else draws[index] < begins
        found[index] = state
    return found


def _in_sessions(count: int, chance: np.random.Generator) -> Floats:
    """Return standard normal numbers that requests of a session share for the most part."""
    return _alike(np.cumsum(chance.random(count) < 1 / SESSION), chance)


def _alike(sessions: Ints, chance: np.random.Generator) -> Floats:
    common = chance.normal(size=int(sessions[-1]) + 1)[sessions]
    mixed: Floats = np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * chance.normal(size=len(sessions))
    return mixed


def batch(rate_rps: float) -> tuple[float, int]:
    """Return seconds and requests of a batch at a steady rate."""
    seconds = max(BATCH_S, BATCH_REQUESTS / rate_rps)
    return seconds, int(rate_rps * seconds)


def false_alarms(rate_rps: float, *, seconds: float, seed: int) -> list[Signal]:
    """Return the alarms of so much stationary traffic; after each the watch begins anew, without a cool-down."""
    chance, watch = np.random.default_rng(seed), Watch()
    found: list[Signal] = []
    each_s, count = batch(rate_rps)
    for _ in range(int(seconds / each_s)):
        watch, drifts, _ = _step(watch, each_s, _drawn(count, MEASURED, chance))
        if drifts:
            watch, found = watch.anew(), [*found, *drifts]
    return found


def warmed(rate_rps: float, *, batches: int, seed: int) -> Watch:
    """Return the watch after so many batches without a change."""
    chance, watch = np.random.default_rng(seed), Watch()
    each_s, count = batch(rate_rps)
    for _ in range(batches):
        watch, drifts, _ = _step(watch, each_s, _drawn(count, MEASURED, chance))
        watch = watch.anew() if drifts else watch
    return watch


def found_after_s(rate_rps: float, *, now: Traffic, seed: int, watch: Watch | None = None) -> float | None:
    """Return seconds from a change anywhere in a batch until it is found; None: not within so many batches.

    `watch` is what was known before; else 20 batches.
    """
    chance = np.random.default_rng(seed)
    watch = watch or warmed(rate_rps, batches=20, seed=seed)
    each_s, count = batch(rate_rps)
    begins = int(chance.integers(count))
    before, after = _drawn(count, MEASURED, chance), _drawn(count, now, chance)
    values: Mapping[Signal, list[float]] = {each: [*before[each][:begins], *after[each][begins:]] for each in before}
    for number in range(_LAST):
        watch, drifts, took_s = _step(watch, each_s, values)
        if drifts:
            return max(0.0, number * each_s + took_s - begins / count * each_s)
        values = _drawn(count, now, chance)
    return None


def _step(watch: Watch, each_s: float, values: Mapping[Signal, list[float]]) -> tuple[Watch, list[Signal], float]:
    """Go on by a batch, in a few looks; return what was found, and after how many seconds of the batch."""
    for look in range(LOOKS):
        watch = followed(watch, {each: _of_look(values[each], look) for each in LENGTHS}, WAS, each_s / LOOKS)
        if watch.is_sudden:
            return _judged(watch, each_s, (look + 1) / LOOKS)
    return _judged(added(watch, values), each_s, 1.0)


def _of_look(values: Sequence[float], look: int) -> list[Length]:
    begin, end = (len(values) * each // LOOKS for each in (look, look + 1))
    return [Length(int(each)) for each in values[begin:end]]


def _judged(watch: Watch, each_s: float, share: float) -> tuple[Watch, list[Signal], float]:
    watch, drifts = judged(watch, WAS, each_s)
    return watch, [each.signal for each in drifts], share * each_s


def _drawn(count: int, traffic: Traffic, chance: np.random.Generator) -> Mapping[Signal, list[float]]:
    return {
        Signal.PROMPT: lengths(count, traffic.prompts, chance).tolist(),
        Signal.OUTPUT: lengths(count, traffic.outputs, chance).tolist(),
        Signal.PREFIX: shares(count, traffic.prefix, chance).tolist(),
        Signal.BURSTS: chance.gamma(traffic.shape, size=count).tolist(),
        Signal.MISSES: misses(count, traffic.misses, chance).tolist(),
    }


def row(rate_rps: float, *, months: int, changes: int, first_seed: int) -> dict[str, Any]:
    """Return what one rate came to."""
    seeds = range(first_seed, first_seed + months)
    alarms = [each for seed in seeds for each in false_alarms(rate_rps, seconds=MONTH_S, seed=seed)]
    found: dict[str, Any] = {}
    warm = [warmed(rate_rps, batches=_WARM, seed=first_seed + months + number) for number in range(5)]
    for name, now in CHANGES.items():
        tried = range(first_seed, first_seed + changes)
        took = [found_after_s(rate_rps, now=now, seed=seed, watch=warm[seed % len(warm)]) for seed in tried]
        known = sorted(each for each in took if each is not None)
        median_s, slowest_s = (known[len(known) // 2], known[-1]) if known else (None, None)
        found[name] = {"found": len(known), "of": changes, "median_s": median_s, "slowest_s": slowest_s}
    of = {
        "rate_rps": rate_rps,
        "first_seed": first_seed,
        "months": months,
        "false_alarms": len(alarms),
        "of": sorted(alarms),
    }
    return of | {"changes": found}


def main() -> None:
    """Run, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--months", type=int, default=12)
    parser.add_argument("--changes", type=int, default=200)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES_RPS)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    rows = []
    for rate in asked.rates:
        rows.append(row(rate, months=asked.months, changes=asked.changes, first_seed=asked.first_seed))
        print(rows[-1])
    if asked.json is not None:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
