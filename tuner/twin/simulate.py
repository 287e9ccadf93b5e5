"""A whole workload through one engine, compiled: what the search, the predictions and the validation use."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tuner.twin.compiled import run
from tuner.twin.compiled_state import (
    AT_SERVER,
    DELIVERED,
    FIRST,
    GAP,
    HASH_COUNT,
    HASH_START,
    HITS,
    LAST,
    NAME,
    OUTPUT,
    PEAK_USED,
    PREEMPTIONS,
    PRIORITY,
    PROMPT,
    QUERIES,
    RANK_ROW,
    STEPS,
    Floats,
    Ints,
    Rules,
    State,
    new_state,
)
from tuner.twin.engine import check_length
from tuner.twin.setup import EngineSetup
from tuner.twin.sharing import BlockNames, Sharing, block_names, shares_nothing

_LOOKS = 8  # at a run that may be given up, up to twice the time that requests arrive: each costs a hundredth of it


class RequestArrays(NamedTuple):
    """Requests of an open-loop workload, one array element each, sorted by `scheduled_s`.

    What prompts share is said by `sharing`, or by `block_hashes`: one row per request, names of the prompt's full
    blocks of `block_size` tokens. With neither the prefix cache finds nothing.
    """

    scheduled_s: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    block_hashes: tuple[tuple[int, ...], ...] = ()
    priority: Ints | None = None
    sharing: Sharing | None = None


class ResultArrays(NamedTuple):
    """Per request in seconds from `scheduled_s`; NaN where it did not happen before the end. Then engine totals."""

    ttft_s: Floats
    e2e_s: Floats
    tpot_s: Floats
    """(E2E - TTFT) / (output tokens - 1); NaN for one token or unfinished."""
    max_gap_s: Floats
    finished: NDArray[np.bool_]
    steps: int
    preemptions: int
    peak_kv_usage: float
    prefix_queries: int
    prefix_hits: int


GivesUp = Callable[[ResultArrays], bool]
"""Says of a run that goes on whether the rest of it would tell nothing more. What it has by then stays as it is."""


def simulate(
    setup: EngineSetup, requests: RequestArrays, *, until_s: float = np.inf, gives_up: GivesUp | None = None
) -> ResultArrays:
    """Return what an idle engine of this setup does with `requests`; `until_s` cuts the run off.

    `gives_up` is asked now and then, and ends the run where it says so. The same events in the same order as
    `TwinEngine`, bit for bit. Raises InvalidInput for a request the engine would refuse.
    """
    _check(setup, requests)
    rules = engine_rules(setup)
    state = _ran(setup, requests, rules, until_s, gives_up)
    return _results(requests, rules, state)


def _results(requests: RequestArrays, rules: Rules, state: State) -> ResultArrays:
    finished = state.seq[:, DELIVERED] >= state.seq[:, OUTPUT]
    ttft = state.times[:, FIRST] - requests.scheduled_s
    e2e = np.where(finished, state.times[:, LAST] - requests.scheduled_s, np.nan)
    several = finished & (state.seq[:, OUTPUT] > 1)
    return ResultArrays(
        ttft_s=ttft,
        e2e_s=e2e,
        tpot_s=np.where(several, (e2e - ttft) / np.maximum(state.seq[:, OUTPUT] - 1, 1), np.nan),
        max_gap_s=np.where(several, state.times[:, GAP], np.nan),
        finished=finished,
        steps=int(state.count[STEPS]),
        preemptions=int(state.count[PREEMPTIONS]),
        peak_kv_usage=float(state.count[PEAK_USED] / rules.blocks),
        prefix_queries=int(state.count[QUERIES]),
        prefix_hits=int(state.count[HITS]),
    )


def _ran(setup: EngineSetup, requests: RequestArrays, rules: Rules, until_s: float, gives_up: GivesUp | None) -> State:
    """Return the engine's state at the end.

    Where prompts share nothing only a preempted request finds blocks again, its own. Naming the blocks of long prompts
    takes several times as long as all the rest, so it is done only after a run without names had a preemption.
    """
    if requests.sharing is not None and shares_nothing(requests.sharing):
        unnamed = _prepare(setup, requests._replace(sharing=None), rules)
        _run(unnamed, setup, requests, rules, until_s, gives_up)
        if unnamed.count[PREEMPTIONS] == 0:
            return unnamed
    state = _prepare(setup, requests, rules)
    _run(state, setup, requests, rules, until_s, gives_up)
    return state


def _run(
    state: State, setup: EngineSetup, requests: RequestArrays, rules: Rules, until_s: float, gives_up: GivesUp | None
) -> None:
    """Let a prepared engine run; one that is cut off goes on from there as if it had not been."""
    if gives_up is not None and len(requests.scheduled_s):
        for look_s in np.linspace(0, 2 * float(requests.scheduled_s[-1]), _LOOKS + 1)[1:]:
            run(state, rules, setup.cost, min(float(look_s), float(until_s)))
            if gives_up(_results(requests, rules, state)):
                return
    run(state, rules, setup.cost, float(until_s))


def _check(setup: EngineSetup, requests: RequestArrays) -> None:
    if len(requests.scheduled_s) == 0:
        return
    longest = int(np.argmax(requests.prompt_tokens + requests.output_tokens))
    check_length(setup, int(requests.prompt_tokens[longest]), int(requests.output_tokens[longest]))
    check_length(setup, int(requests.prompt_tokens.min()), int(requests.output_tokens.min()))


def engine_rules(setup: EngineSetup) -> Rules:
    """Return the scheduler's limits as the compiled engine wants them."""
    return Rules(
        max_num_seqs=setup.max_num_seqs,
        max_num_batched_tokens=setup.max_num_batched_tokens,
        chunked_prefill=int(setup.chunked_prefill),
        long_prefill_token_threshold=setup.long_prefill_token_threshold,
        priority_policy=int(setup.priority_policy),
        depth=2 if setup.async_scheduling else 1,
        block_size=setup.block_size,
        blocks=setup.kv_blocks - 1,
        caching=int(setup.prefix_caching),
        stream_interval=setup.stream_interval,
    )


def _prepare(setup: EngineSetup, requests: RequestArrays, rules: Rules) -> State:
    names, counts, different = _block_names(requests, rules)
    n = len(requests.scheduled_s)
    state = new_state(n, rules, hashes=len(names), names=different)
    state.hashes[NAME] = names
    state.seq[:, PROMPT] = requests.prompt_tokens
    state.seq[:, OUTPUT] = requests.output_tokens
    state.seq[:, PRIORITY] = 0 if requests.priority is None else requests.priority
    state.seq[:, HASH_START] = np.cumsum(counts) - counts
    state.seq[:, HASH_COUNT] = counts
    cost = setup.cost
    state.times[:, AT_SERVER] = requests.scheduled_s + cost.wire_s + cost.wire_token_s * requests.prompt_tokens
    state.lists[RANK_ROW, :n] = np.argsort(state.times[:, AT_SERVER], kind="stable")
    return state


def _block_names(requests: RequestArrays, rules: Rules) -> BlockNames:
    if rules.caching and requests.sharing is not None:
        return block_names(requests.sharing, requests.prompt_tokens, rules.block_size)
    if not requests.block_hashes:
        return BlockNames(np.zeros(0, np.int64), np.zeros(len(requests.scheduled_s), np.int64), 0)
    counts = np.array([len(row) for row in requests.block_hashes], np.int64)
    flat = np.array([name for row in requests.block_hashes for name in row], np.int64)
    different, names = np.unique(flat, return_inverse=True)
    return BlockNames(names, counts, len(different))
