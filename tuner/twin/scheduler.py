"""Which tokens go into the next step: vLLM V1's scheduler (`vllm/v1/core/sched/scheduler.py`), in its readable form.

Running sequences come first, in order of admission, then waiting ones; all share the batched-token budget, prompts are
cut into chunks to fill it. A running sequence without a block preempts the one last admitted (or of lowest priority),
whose tokens are computed again later; nothing new is admitted in a step that preempted.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from tuner.twin.adapter_slots import AdapterSlots
from tuner.twin.kvcache import KvPool, Sequence
from tuner.twin.steptime import StepLoad


class Part(NamedTuple):
    """What one sequence has in a step: `tokens` computed after `context` earlier ones."""

    sequence: Sequence
    tokens: int
    context: int
    samples: bool


class Limits(NamedTuple):
    """The scheduler's part of an engine's setup."""

    max_num_seqs: int
    max_num_batched_tokens: int
    chunked_prefill: bool
    long_prefill_token_threshold: int
    priority_policy: bool


class Scheduler:
    """Holds the running list and the waiting queue."""

    def __init__(self, limits: Limits, pool: KvPool, slots: AdapterSlots | None = None) -> None:
        self._limits = limits
        self._pool = pool
        self._slots = slots or AdapterSlots(0)
        self.running: list[Sequence] = []
        self.waiting: deque[Sequence] = deque()
        self.preemptions = 0

    def add(self, sequence: Sequence) -> None:
        """Queue a new request."""
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Forget a finished or cancelled sequence and free its blocks."""
        if sequence in self.running:
            self.running.remove(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        self._pool.release(sequence)

    def schedule(self) -> list[Part]:
        """Return the parts of the next step; empty when nothing can be computed now."""
        parts: list[Part] = []
        preemptions = self.preemptions
        budget = self._schedule_running(parts)
        if self.preemptions == preemptions:
            self._admit(parts, budget)
        return parts

    def _schedule_running(self, parts: list[Part]) -> int:
        budget = self._limits.max_num_batched_tokens
        index = 0
        while index < len(self.running) and budget > 0:
            sequence = self.running[index]
            tokens = min(self._chunk(sequence.missing), budget)
            if sequence.sampled >= sequence.max_tokens:
                tokens = 0
            if tokens > 0:
                budget += self._make_room(sequence, tokens, parts)
                if index >= len(self.running) or self.running[index] is not sequence:
                    break
                parts.append(self._commit(sequence, tokens))
                budget -= tokens
            index += 1
        return budget

    def _make_room(self, sequence: Sequence, tokens: int, parts: list[Part]) -> int:
        """Preempt until `sequence` has its blocks or is itself preempted; return budget handed back."""
        handed_back = 0
        while not self._pool.allocate(sequence, 0, sequence.computed + tokens):
            victim = self._victim()
            handed_back += self._withdraw(victim, parts)
            self._preempt(victim)
            if victim is sequence:
                break
        return handed_back

    def _victim(self) -> Sequence:
        if self._limits.priority_policy:
            return max(self.running, key=lambda sequence: (sequence.priority, sequence.order))
        return self.running[-1]

    def _withdraw(self, victim: Sequence, parts: list[Part]) -> int:
        """Take a victim that was already scheduled in this step out of it (only happens with priorities)."""
        for index, part in enumerate(parts):
            if part.sequence is victim:
                del parts[index]
                victim.sampled -= part.samples
                return part.tokens
        return 0

    def _preempt(self, victim: Sequence) -> None:
        self.running.remove(victim)
        self._pool.release(victim)
        victim.computed = 0
        self.waiting.appendleft(victim)
        self.preemptions += 1

    def _admit(self, parts: list[Part], budget: int) -> None:
        while self.waiting and budget > 0 and len(self.running) < self._limits.max_num_seqs:
            sequence = self._next_waiting()
            if sequence is None:  # all of them wait for a place for their adapter
                return
            cached = self._pool.cached_blocks(sequence)
            computed = cached * self._pool.block_size
            tokens = self._chunk(sequence.missing - computed)
            if not self._limits.chunked_prefill and tokens > budget:
                return
            tokens = min(tokens, budget)
            whole = sequence.prompt_tokens + sequence.sampled
            if not self._pool.fits(sequence, cached, whole):
                return
            self._pool.allocate(sequence, cached, computed + tokens)
            self._count_lookup(sequence, computed)
            self.waiting.remove(sequence)
            self.running.append(sequence)
            sequence.computed = computed
            parts.append(self._commit(sequence, tokens))
            budget -= tokens

    def _next_waiting(self) -> Sequence | None:
        able = (sequence for sequence in self.waiting if self._slots.takes(sequence, self.running))
        if self._limits.priority_policy:
            return min(able, key=lambda sequence: (sequence.priority, sequence.order), default=None)
        return next(able, None)

    def _count_lookup(self, sequence: Sequence, computed: int) -> None:
        if sequence.sampled == 0:
            self._pool.queries += sequence.prompt_tokens
            self._pool.hits += computed

    def _chunk(self, tokens: int) -> int:
        threshold = self._limits.long_prefill_token_threshold
        return min(tokens, threshold) if threshold > 0 else tokens

    def _commit(self, sequence: Sequence, tokens: int) -> Part:
        context = sequence.computed
        sequence.computed += tokens
        samples = sequence.missing == 0
        sequence.sampled += samples
        if sequence.marked < len(sequence.hashes):
            self._pool.remember(sequence, min(sequence.computed, sequence.prompt_tokens))
        return Part(sequence, tokens, context, samples)


def step_load(parts: list[Part]) -> StepLoad:
    """Return the composition of a step, for the step-time model."""
    tokens = prompt = pairs = context = prompts = 0.0
    for part in parts:
        tokens += part.tokens
        if part.tokens == 1 and part.sequence.sampled > 1:
            context += part.context
        else:
            prompt += part.tokens
            prompts += 1.0
            pairs += part.tokens * (part.context + 0.5 * part.tokens)
    return StepLoad(tokens, float(len(parts)), context, pairs, prompt, prompts)
