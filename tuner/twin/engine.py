"""The engine in virtual time: API server, engine core and GPU, as three clocks. The readable reference of the twin.

One engine core loop follows `vllm/v1/engine/core.py` (`step_with_batch_queue`): with asynchronous scheduling two steps
are in flight, so step n + 1 is composed when step n - 1 has ended, and a request that arrives while step n runs waits
for step n + 2. The CPU launches a decode step's kernels while the GPU still works on the step before; a step that holds
prompts is launched once the GPU is free (measured: preparing new requests waits for it). A step ends when both its GPU
work and its launch are done. With one GPU the launch holds up the core itself. The API server takes requests in
and streams tokens out, one after another.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence as SequenceOf
from typing import NamedTuple

from controlplane.domain.errors import InvalidInput
from tuner.twin.adapter_slots import AdapterSlots
from tuner.twin.first_use import FirstUse
from tuner.twin.intake import Intake
from tuner.twin.kvcache import KvPool, Sequence
from tuner.twin.scheduler import Limits, Part, Scheduler, step_load
from tuner.twin.setup import EngineSetup
from tuner.twin.steptime import cooled, gpu_s, heated, launch_s, matmul_s


class Emission(NamedTuple):
    """Tokens of one request on their way out. `at_s`: when the client sees them."""

    request_id: int
    tokens: int
    finished: bool
    at_s: float


class Step(NamedTuple):
    """One finished engine step, seconds. `emitted` is in the order the API server streams it."""

    start_s: float
    end_s: float
    tokens: int
    sequences: int
    emitted: tuple[Emission, ...]


class Counters(NamedTuple):
    """Totals since start, as `vllm:` counters count them."""

    steps: int
    preemptions: int
    prompt_tokens: int
    generation_tokens: int
    prefix_cache_queries: int
    prefix_cache_hits: int


class _Flight(NamedTuple):
    start_s: float
    end_s: float
    parts: list[Part]


class TwinEngine:
    """Drive it by `submit` and `next_step`; call `next_step(now)` until it returns None, again at `next_event_s`.

    Times given must not run backwards. Everything is deterministic; `seed` is kept for models with noise. `first_use`
    is what it compiled so far and pays for what it did not; None: nothing is compiled while it serves.
    """

    def __init__(self, setup: EngineSetup, seed: int = 0, *, first_use: FirstUse | None = None) -> None:
        self.setup = setup
        self.seed = seed
        self._cost = setup.cost
        self._pool = KvPool(setup.kv_blocks, setup.block_size, caching=setup.prefix_caching)
        self._slots = AdapterSlots(setup.adapter_slots)
        self._first_use = first_use or FirstUse(0.0)
        self._scheduler = Scheduler(limits(setup), self._pool, self._slots)
        self._depth = 2 if setup.async_scheduling else 1
        self._intake = Intake(self._cost.intake_s, self._cost.intake_token_s)
        self._flights: deque[_Flight] = deque()
        self._known: dict[int, Sequence] = {}
        self._core_s = self._gpu_s = self._worker_s = self._api_s = -math.inf
        self._heat = 0.0
        self._stalled = False
        self._order = self._steps = self._prompt_tokens = self._generation_tokens = 0

    def submit(
        self,
        request_id: int,
        *,
        prompt_tokens: int,
        max_tokens: int,
        now_s: float,
        block_hashes: SequenceOf[int] = (),
        priority: int = 0,
        adapter: str | None = None,
    ) -> None:
        """Send a request at `now_s`. `block_hashes` name its prompt's full blocks of `setup.block_size` tokens.

        `adapter` is the LoRA adapter it is for, None: the base model.

        Raises InvalidInput when it is longer than the engine takes (`max_model_len`, or the whole KV cache).
        """
        check_length(self.setup, prompt_tokens, max_tokens)
        sequence = Sequence(request_id, prompt_tokens, max_tokens, self._order, priority, tuple(block_hashes), adapter)
        at_server = now_s + self._cost.wire_s + self._cost.wire_token_s * prompt_tokens
        self._intake.push(at_server, sequence)
        self._order += 1
        self._known[request_id] = sequence

    def cancel(self, request_id: int, now_s: float) -> None:
        """Forget a request (its client hung up); unknown or finished ids are ignored."""
        sequence = self._known.pop(request_id, None)
        if sequence is None:
            return
        self._intake.drop(sequence)
        self._scheduler.remove(sequence)

    def next_step(self, now_s: float) -> Step | None:
        """Return the next step that ended by `now_s`, or None when none did (ask again at `next_event_s`)."""
        while (event_s := self.next_event_s) is not None and event_s <= now_s:
            step = self._advance(event_s)
            if step is not None:
                return step
        return None

    @property
    def next_event_s(self) -> float | None:
        """When something happens next; None while there is no work."""
        if self._may_schedule():
            return self._core_s
        if self._flights:
            return max(self._core_s, self._flights[0].end_s)
        event_s = self._intake.next_event_s
        return None if event_s is None else max(self._core_s, event_s)

    @property
    def running(self) -> int:
        return len(self._scheduler.running)

    @property
    def waiting(self) -> int:
        return len(self._scheduler.waiting)

    @property
    def kv_usage(self) -> float:
        return self._pool.usage()

    @property
    def counters(self) -> Counters:
        return Counters(
            steps=self._steps,
            preemptions=self._scheduler.preemptions,
            prompt_tokens=self._prompt_tokens,
            generation_tokens=self._generation_tokens,
            prefix_cache_queries=self._pool.queries,
            prefix_cache_hits=self._pool.hits,
        )

    def _may_schedule(self) -> bool:
        has_work = bool(self._scheduler.running or self._scheduler.waiting)
        return has_work and len(self._flights) < self._depth and not self._stalled

    def _advance(self, event_s: float) -> Step | None:
        schedules = self._may_schedule()
        ends = not schedules and bool(self._flights)
        self._core_s = event_s
        step = self._finish(self._flights.popleft()) if ends else None
        for sequence in self._intake.advance(self._core_s):
            self._scheduler.add(sequence)
        if schedules:
            self._schedule()
        return step

    def _schedule(self) -> None:
        parts = self._scheduler.schedule()
        if not parts:
            self._stalled = True
            return
        cost, load = self._cost, step_load(parts)
        self._core_s += cost.schedule_s + cost.schedule_sequence_s * load.sequences
        swaps = self._slots.swapped_in(part.sequence for part in parts)
        launching_s = max(self._core_s, self._worker_s) + cost.prompt_s * load.prompts
        launching_s += swaps * self.setup.adapter_swap_s
        launching_s += self._first_use.stall_s(sum(part.tokens for part in parts))
        if load.prompt_tokens > 0:
            launching_s = max(launching_s, self._gpu_s)
        self._worker_s = launching_s + launch_s(cost, load)
        start_s = max(self._gpu_s, launching_s)
        heat = cooled(self._heat, start_s - self._gpu_s)
        busy_s = gpu_s(cost, load, heat)
        self._heat = heated(heat, busy_s, matmul_s(cost, load))
        self._gpu_s = max(start_s + busy_s, self._worker_s)
        if cost.launch_blocks_core > 0:
            self._core_s = self._worker_s
        self._flights.append(_Flight(start_s, self._gpu_s, parts))

    def _finish(self, flight: _Flight) -> Step:
        self._stalled = False
        self._steps += 1
        self._api_s = max(self._api_s, self._core_s)
        emitted = [emission for part in flight.parts if (emission := self._deliver(part)) is not None]
        tokens = sum(part.tokens for part in flight.parts)
        return Step(flight.start_s, flight.end_s, tokens, len(flight.parts), tuple(emitted))

    def _deliver(self, part: Part) -> Emission | None:
        sequence = part.sequence
        if not part.samples or sequence.request_id not in self._known:
            return None
        sequence.delivered += 1
        self._generation_tokens += 1
        self._prompt_tokens += sequence.prompt_tokens if sequence.delivered == 1 else 0
        finished = sequence.delivered >= sequence.max_tokens
        if finished:
            del self._known[sequence.request_id]
            self._scheduler.remove(sequence)
        pending = sequence.delivered - sequence.streamed
        if not (finished or sequence.delivered == 1 or pending >= self.setup.stream_interval):
            return None
        sequence.streamed = sequence.delivered
        self._api_s += self._cost.output_s
        return Emission(sequence.request_id, pending, finished, self._api_s)


def limits(setup: EngineSetup) -> Limits:
    """Return the scheduler's part of a setup."""
    return Limits(
        max_num_seqs=setup.max_num_seqs,
        max_num_batched_tokens=setup.max_num_batched_tokens,
        chunked_prefill=setup.chunked_prefill,
        long_prefill_token_threshold=setup.long_prefill_token_threshold,
        priority_policy=setup.priority_policy,
    )


def check_length(setup: EngineSetup, prompt_tokens: int, max_tokens: int) -> None:
    """Raise InvalidInput when the engine would refuse the request."""
    if prompt_tokens < 1 or max_tokens < 1:
        raise InvalidInput(f"a request of {prompt_tokens} + {max_tokens} tokens", allowed="at least one of each")
    longest = min(setup.max_model_len, (setup.kv_blocks - 1) * setup.block_size)
    if prompt_tokens + max_tokens > longest:
        raise InvalidInput(f"a request of {prompt_tokens} + {max_tokens} tokens", allowed=f"{longest} in all")
