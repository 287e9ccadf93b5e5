"""The gate alone at twice what its engines sustain, in virtual time: what vips wait for a place, over many draws.

    python -m benchmarks.headroom [--seeds 200 230] [--places 40] [--times 2]

`benchmarks.overload` asks the same of a whole gateway by the wall clock, where a draw takes a minute and a busy machine
is late by more than vips wait. Here the gate runs on an event loop whose clock jumps to the next thing that is due.
Arrivals are those of `benchmarks.overload`; a first token takes 500 ms from when a place was given, an answer 1.25 s
(`alike`, as there) or lognormal with that mean and sigma 0.8 (`spread`). `first` begins with an overload nobody saw
coming, `warm` after 10 s of vips alone. The ratio is (500 ms + the 99th percentile of vips' waits) / 500 ms; `served`:
answers of all classes over what the places sustain in that time (who waits at the end counts: it may be above 1).
"""

from __future__ import annotations

import argparse
import asyncio
import math
import selectors
import statistics
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from benchmarks.overload import CLASSES, FIRST_MS, LASTS_S, MAX_WAIT_S, SHARES, arrivals
from controlplane.domain.door.fair_queue import Waiting
from controlplane.domain.door.identity import PriorityClass
from controlplane.domain.door.queue_options import QueueOptions
from controlplane.gateway.gate import Gate

SECONDS, WARM_S, TOKENS, SIGMA = 30.0, 10.0, 20, 0.8


class _Jumping(selectors.SelectSelector):
    """Waits for nothing: the time it would have waited has passed."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing is due any more, and somebody still waits"
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to what is due next."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


class Waited(NamedTuple):
    """One request: whose, when it was due, and its wait for a place; None: it was turned away."""

    tenant: str
    due_s: float
    wait_s: float | None


async def _all(due: Sequence[tuple[float, str]], places: int, lasts: Callable[[], float]) -> Sequence[Waited]:
    loop = asyncio.get_running_loop()
    queue = QueueOptions(enabled=True, max_wait_s=MAX_WAIT_S, batch_max_wait_s=4 * MAX_WAIT_S)
    gate = Gate(queue, lambda: places, loop.time, expects_vips=True)

    async def one(at: float, tenant: str, lasts_s: float) -> Waited:
        await asyncio.sleep(at - loop.time())
        turned = await gate.enter(Waiting(tenant, CLASSES.get(tenant, PriorityClass.NORMAL), TOKENS))
        if turned is not None:
            return Waited(tenant, at, None)
        waited = loop.time() - at
        await asyncio.sleep(lasts_s)
        gate.leave()
        return Waited(tenant, at, waited)

    return await asyncio.gather(*(one(at, tenant, lasts()) for at, tenant in due))


def draw(seed: int, *, places: int, times: float, spread: bool, warm: bool) -> tuple[float, float]:
    """Return the ratio and what was served of one draw."""
    chance, rate_rps = Random(seed), times * places / LASTS_S
    begin = WARM_S if warm else 0.0
    due = list(arrivals(rate_rps * SHARES["gold"], begin, {"gold": 1.0}, chance)) if warm else []
    due += [(begin + at, tenant) for at, tenant in arrivals(rate_rps, SECONDS, SHARES, chance)]
    mu = math.log(LASTS_S) - SIGMA**2 / 2
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        found = runner.run(_all(due, places, lambda: chance.lognormvariate(mu, SIGMA) if spread else LASTS_S))
    together = [each for each in found if each.due_s >= begin]
    waits = [each.wait_s for each in together if each.tenant == "gold" and each.wait_s is not None]
    p99_s = statistics.quantiles(waits, n=100, method="inclusive")[98]
    served = sum(each.wait_s is not None for each in together)
    return 1 + 1000 * p99_s / FIRST_MS, served * LASTS_S / (places * SECONDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs=2, default=(200, 230), help="from, and up to but without")
    parser.add_argument("--places", type=int, default=40)
    parser.add_argument("--times", type=float, default=2.0)
    args = parser.parse_args()
    print("answers  begin   ratio P50   P90   max   above 1.3   served")
    for spread in (False, True):
        for warm in (True, False):
            given = [
                draw(seed, places=args.places, times=args.times, spread=spread, warm=warm)
                for seed in range(*args.seeds)
            ]
            ratios = sorted(ratio for ratio, _ in given)
            p90, served = ratios[math.ceil(0.9 * len(ratios)) - 1], statistics.mean(each for _, each in given)
            above = sum(ratio > 1.3 for ratio in ratios)
            names = f"{'spread' if spread else 'alike':9}{'warm' if warm else 'first':6}"
            print(f"{names}{statistics.median(ratios):11.2f}{p90:6.2f}{ratios[-1]:6.2f}{above:12}{served:9.2f}")


if __name__ == "__main__":
    main()
