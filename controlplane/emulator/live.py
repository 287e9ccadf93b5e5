"""The twin in real time: its events are waited for, its tokens handed out the moment a client of it would see them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from controlplane.emulator.card import BusyMeter
from controlplane.emulator.clock import LapsedClock
from controlplane.emulator.metrics import EngineMetrics
from tuner.twin.engine import Emission, TwinEngine, check_length

_TOGETHER_S = 0.0001
"""Tokens due within this wall-clock time are written in one go; an early write by so little is within the timers'
own accuracy."""


_SLICE = 32
"""Tokens written before new requests get a look in (about half a millisecond)."""


class Listener(Protocol):
    """Who gets the tokens of one request."""

    def deliver(self, tokens: int, finished: bool) -> None: ...


class Ask(NamedTuple):
    """One request as the twin needs it: lengths, and what its prompt's full blocks hash to."""

    prompt_tokens: int
    max_tokens: int
    block_hashes: tuple[int, ...] = ()
    priority: int = 0
    adapter: str | None = None


@dataclass(slots=True)
class _Open:
    listener: Listener
    ask: Ask
    finish_reason: str
    received_s: float
    first_s: float = 0.0
    last_s: float = 0.0
    tokens: int = 0


class LiveEngine:
    """Runs one twin engine against the wall clock.

    `own` is the engine's clock (a degraded engine's runs slower), `outside` the clients'. Both are emulated
    seconds on top of `wall`, the event loop's clock.
    """

    def __init__(
        self,
        engine: TwinEngine,
        *,
        wall: Callable[[], float],
        own: LapsedClock,
        outside: LapsedClock,
        metrics: EngineMetrics,
    ) -> None:
        self._engine = engine
        self._wall = wall
        self._own = own
        self._outside = outside
        self._metrics = metrics
        self._open: dict[int, _Open] = {}
        self._outbox: deque[Emission] = deque()
        self._changed = asyncio.Event()
        self._ended = asyncio.Event()
        self._numbers = 0
        self._held: dict[int, None] = {}
        self._busy = BusyMeter()
        self.is_paused = False

    @property
    def in_flight(self) -> int:
        return len(self._open)

    def submit(self, ask: Ask, listener: Listener, *, received_wall_s: float, finish_reason: str) -> int:
        """Send a request that reached the server at `received_wall_s`; return its number.

        Raises InvalidInput when the engine can never run it.
        """
        check_length(self._engine.setup, ask.prompt_tokens, ask.max_tokens)
        number = self._numbers = self._numbers + 1
        if self.is_paused:
            self._held[number] = None
        else:
            self._hand_over(number, ask, self._own.at(received_wall_s))
        self._open[number] = _Open(listener, ask, finish_reason, self._outside.at(received_wall_s))
        self._changed.set()
        return number

    def cancel(self, number: int) -> None:
        """Take back a request whose client is gone. Finished ones are ignored."""
        if self._open.pop(number, None) is None:
            return
        self._held.pop(number, None)
        self._ended.set()
        self._engine.cancel(number, self._own.now())
        self._metrics.finished["abort"] += 1
        self._changed.set()

    def change_speed(self, own_speed: float) -> None:
        """Let the engine's own time run at another speed from now on."""
        self._own.change_speed(own_speed)
        self._changed.set()

    def pause(self, *, keep: bool) -> None:
        """Hold requests back from now on; those inside stand still (`keep`) or go on to their end."""
        self.is_paused = True
        if keep:
            self._own.stop()

    def resume(self) -> None:
        """Let everything run that was held back, in the order in which it came."""
        self._own.go()
        self.is_paused = False
        for number in tuple(self._held):
            self._hand_over(number, self._open[number].ask, self._own.now())
        self._held.clear()
        self._changed.set()

    async def drained(self) -> None:
        """Wait until nothing is inside; what is held back does not count."""
        while self._open.keys() - self._held.keys():
            self._ended.clear()
            await self._ended.wait()

    def show_sleep(self, level: int) -> None:
        """Say in the metrics how deep the engine sleeps: 0 is awake."""
        self._metrics.sleep_level = level

    async def run(self) -> None:
        """Live until cancelled."""
        while True:
            if self._turn():
                await asyncio.sleep(0)  # new requests come in between
            else:
                await self._sleep()

    def leak(self, share: float) -> None:
        """Say in the metrics that so much of the memory left free is lost."""
        self._metrics.leaked = share

    def refresh_metrics(self) -> None:
        """Bring gauges and counters to this moment (a scrape asks for them)."""
        counters, metrics = self._engine.counters, self._metrics
        metrics.running, metrics.waiting = self._engine.running, self._engine.waiting + len(self._held)
        metrics.kv_usage = self._engine.kv_usage
        metrics.busy_share = self._busy.share(self._own.now(), running=self._engine.running > 0)
        metrics.preemptions = counters.preemptions
        metrics.prefix_queries, metrics.prefix_hits = counters.prefix_cache_queries, counters.prefix_cache_hits

    def _hand_over(self, number: int, ask: Ask, now_s: float) -> None:
        self._engine.submit(
            number,
            prompt_tokens=ask.prompt_tokens,
            max_tokens=ask.max_tokens,
            now_s=now_s,
            block_hashes=ask.block_hashes,
            priority=ask.priority,
            adapter=ask.adapter,
        )

    def _turn(self) -> bool:
        """Do a little of what is due now; return whether there may be more.

        Tokens go out before the twin works out its next step: clients wait for the one, nobody for the other.
        """
        if self._write_due():
            return True
        step = self._engine.next_step(self._own.now())
        if step is None:
            return False
        self._metrics.iteration_tokens.observe(step.tokens)
        self._busy.add(step.start_s, step.end_s)
        self._outbox.extend(step.emitted)
        return True

    def _write_due(self) -> bool:
        """Write tokens that are due, at most a slice; return whether that was a whole slice."""
        outbox, own, late_s = self._outbox, self._own, 0.0
        due_s = own.now() + own.span(_TOGETHER_S)
        for written in range(_SLICE):
            if not outbox or outbox[0].at_s > due_s:
                if written:
                    self._metrics.lag_wall_s.observe(max(0.0, late_s), written)
                return False
            emission = outbox.popleft()
            wall_s = self._wall()
            late_s = wall_s - own.wall_at(emission.at_s)
            self._deliver(emission, self._outside.at(wall_s))
        self._metrics.lag_wall_s.observe(max(0.0, late_s), _SLICE)
        return True

    async def _sleep(self) -> None:
        """Wait for the next event of the twin, the next token due or a change from outside, whichever is first."""
        moments = [self._outbox[0].at_s] if self._outbox else []
        if (event_s := self._engine.next_event_s) is not None:
            moments.append(event_s)
        loop = asyncio.get_running_loop()
        alarm = loop.call_at(self._own.wall_at(min(moments)), self._changed.set) if moments else None
        await self._changed.wait()
        self._changed.clear()
        if alarm is not None:
            alarm.cancel()

    def _deliver(self, emission: Emission, now_s: float) -> None:
        request = self._open.get(emission.request_id)
        if request is None:
            return
        self._measure(request, emission.tokens, now_s)
        if emission.finished:
            del self._open[emission.request_id]
            self._ended.set()
            self._measure_finished(request)
        request.listener.deliver(emission.tokens, emission.finished)

    def _measure(self, request: _Open, tokens: int, now_s: float) -> None:
        metrics = self._metrics
        if request.tokens == 0:
            request.first_s = now_s
            metrics.ttft_s.observe(now_s - request.received_s)
            metrics.prompt_tokens += request.ask.prompt_tokens
        else:
            metrics.itl_s.observe(now_s - request.last_s)
        request.last_s = now_s
        request.tokens += tokens
        metrics.generation_tokens += tokens

    def _measure_finished(self, request: _Open) -> None:
        metrics = self._metrics
        metrics.finished[request.finish_reason] += 1
        metrics.e2e_s.observe(request.last_s - request.received_s)
        metrics.decode_s.observe(request.last_s - request.first_s)
        metrics.request_prompt_tokens.observe(request.ask.prompt_tokens)
        metrics.request_generation_tokens.observe(request.tokens)
        metrics.request_max_tokens.observe(request.ask.max_tokens)
        if request.tokens > 1:
            metrics.tpot_s.observe((request.last_s - request.first_s) / (request.tokens - 1))
