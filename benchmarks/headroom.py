"""The gate alone at twice what its engines sustain, in virtual time: vips' first tokens, over many draws.

    python -m benchmarks.headroom [--seeds 200 230] [--places 40] [--times 2] [--beyond 20] [--reserve 10]

`benchmarks.overload` asks the same of a whole gateway by the wall clock, where a draw takes a minute and a busy machine
is late by more than vips wait. Here the gate runs on an event loop whose clock jumps to the next thing that is due.
Arrivals are those of `benchmarks.overload`; a first token takes 500 ms of an engine's work, an answer 1.25 s
(`alike`, as there) or lognormal with that mean and sigma 0.8 (`spread`). `first` begins with an overload nobody saw
coming, `warm` after 10 s of vips alone. An engine that is given more than its places either works on all of them, more
slowly (`slows`, as one with continuous batching does), or lets what is too much wait (`seats`, as one whose
`max-num-seqs` is its places does). The ratio is the 99th percentile of vips' first tokens over 500 ms; `served`:
answers of all classes over what the places sustain in that time (who waits at the end counts: it may be above 1).
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import math
import selectors
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from random import Random
from typing import NamedTuple

from benchmarks.overload import CLASSES, FIRST_MS, LASTS_S, MAX_WAIT_S, SHARES, arrivals
from controlplane.domain.door.fair_queue import Waiting
from controlplane.domain.door.identity import PriorityClass
from controlplane.domain.door.queue_options import QueueOptions
from controlplane.gateway.gate import Gate

SECONDS, WARM_S, TOKENS, SIGMA = 30.0, 10.0, 20, 0.8

Chosen = Mapping[str, float]
"""Options of the queue that are not as delivered."""


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


class Engine:
    """What is beyond the gate: an answer's work is done at full speed while no more are there than `places`.

    Of more, `seats` lets the first `places` of them be answered, vips first as with `scheduling-policy: priority`, and
    the others wait for a seat; without it all are answered more slowly.
    """

    def __init__(self, places: int, *, seats: bool, now: Callable[[], float]) -> None:
        self._places, self._seats, self._now = places, seats, now
        self._done = self._at = 0.0  # work that each answer under way has got so far, and when
        self._due: list[tuple[float, int, asyncio.Future[None]]] = []
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._busy = self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    async def begin(self, *, vip: bool) -> None:
        """Take a seat, where there are seats."""
        if self._seats and self._busy >= self._places:
            self._count += 1
            seat: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (not vip, self._count, seat))
            await seat
        self._turn(+1)

    async def work(self, work_s: float) -> None:
        """Return when so much of an answer's work is done."""
        self._count += 1
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turn(0)
        heapq.heappush(self._due, (self._done + work_s, self._count, done))
        self._next()
        await done

    def end(self) -> None:
        self._turn(-1)
        if self._waiting:
            heapq.heappop(self._waiting)[2].set_result(None)

    @property
    def _speed(self) -> float:
        return min(1.0, self._places / max(1, self._busy))

    def _turn(self, more: int) -> None:
        now = self._now()
        self._done += (now - self._at) * self._speed
        self._at, self._busy = now, self._busy + more
        self._next()

    def _next(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due:
            in_s = max(0.0, (self._due[0][0] - self._done) / self._speed)
            self._timer = asyncio.get_running_loop().call_later(in_s, self._finish)

    def _finish(self) -> None:
        self._timer = None
        due = heapq.heappop(self._due)
        self._turn(0)
        self._done = max(self._done, due[0])
        due[2].set_result(None)
        self._next()


class Begun(NamedTuple):
    """One request: whose, when it was due, and the time to its first token; None: it was turned away."""

    tenant: str
    due_s: float
    ttft_s: float | None


async def _all(
    due: Sequence[tuple[float, str]], places: int, lasts: Callable[[], float], *, seats: bool, chosen: Chosen
) -> Sequence[Begun]:
    loop = asyncio.get_running_loop()
    queue = QueueOptions(enabled=True, max_wait_s=MAX_WAIT_S, batch_max_wait_s=4 * MAX_WAIT_S)
    queue = queue.evolve(**chosen)
    gate = Gate(queue, lambda: places, loop.time, expects_vips=True)
    engine = Engine(places, seats=seats, now=loop.time)

    async def one(at: float, tenant: str, lasts_s: float) -> Begun:
        await asyncio.sleep(at - loop.time())
        priority = CLASSES.get(tenant, PriorityClass.NORMAL)
        if await gate.enter(Waiting(tenant, priority, TOKENS)) is not None:
            return Begun(tenant, at, None)
        await engine.begin(vip=priority is PriorityClass.VIP)
        first_s = min(lasts_s, FIRST_MS / 1000)
        await engine.work(first_s)
        ttft_s = loop.time() - at
        await engine.work(lasts_s - first_s)
        engine.end()
        gate.leave()
        return Begun(tenant, at, ttft_s)

    return await asyncio.gather(*(one(at, tenant, lasts()) for at, tenant in due))


def draw(
    seed: int, *, places: int, times: float, spread: bool, warm: bool, chosen: Chosen, seats: bool = False
) -> tuple[float, float]:
    """Return the ratio and what was served of one draw, by these options of the queue."""
    chance, rate_rps = Random(seed), times * places / LASTS_S
    begin = WARM_S if warm else 0.0
    due = list(arrivals(rate_rps * SHARES["gold"], begin, {"gold": 1.0}, chance)) if warm else []
    due += [(begin + at, tenant) for at, tenant in arrivals(rate_rps, SECONDS, SHARES, chance)]
    mu = math.log(LASTS_S) - SIGMA**2 / 2
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        lasts = (lambda: max(FIRST_MS / 1000, chance.lognormvariate(mu, SIGMA))) if spread else (lambda: LASTS_S)
        found = runner.run(_all(due, places, lasts, seats=seats, chosen=chosen))
    together = [each for each in found if each.due_s >= begin]
    firsts = [each.ttft_s for each in together if each.tenant == "gold" and each.ttft_s is not None]
    p99_s = statistics.quantiles(firsts, n=100, method="inclusive")[98]
    served = sum(each.ttft_s is not None for each in together)
    return 1000 * p99_s / FIRST_MS, served * LASTS_S / (places * SECONDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs=2, default=(200, 230), help="from, and up to but without")
    parser.add_argument("--places", type=int, default=40)
    parser.add_argument("--times", type=float, default=2.0)
    parser.add_argument("--beyond", type=float, help="vip_beyond_percent; as it is delivered")
    parser.add_argument("--reserve", type=float, help="vip_reserve_percent; as it is delivered")
    args = parser.parse_args()
    given_options = {"vip_beyond_percent": args.beyond, "vip_reserve_percent": args.reserve}
    chosen = {name: value for name, value in given_options.items() if value is not None}
    print("engine  answers  begin   ratio P50   P90   max   above 1.3   served")
    for seats in (False, True):
        for spread, warm in product((False, True), (True, False)):
            asked = partial(draw, places=args.places, times=args.times, seats=seats, chosen=chosen)
            given = [asked(seed, spread=spread, warm=warm) for seed in range(*args.seeds)]
            ratios = sorted(ratio for ratio, _ in given)
            p90, served = ratios[math.ceil(0.9 * len(ratios)) - 1], statistics.mean(each for _, each in given)
            above = sum(ratio > 1.3 for ratio in ratios)
            kind = f"{'seats' if seats else 'slows':8}"
            names = f"{kind}{'spread' if spread else 'alike':9}{'warm' if warm else 'first':6}"
            print(f"{names}{statistics.median(ratios):11.2f}{p90:6.2f}{ratios[-1]:6.2f}{above:12}{served:9.2f}")


if __name__ == "__main__":
    main()
