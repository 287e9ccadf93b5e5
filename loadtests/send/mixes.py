"""Kinds of requests mixed by weight: shared prefixes, sessions of several turns, priorities, clients that hang up."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import Field

from controlplane.domain.base import Value
from controlplane.domain.workload import Arrivals, Lengths
from loadtests.send.arrivals import RateShape, arrival_times
from loadtests.send.schedule import Schedule, assemble, draw_lengths, rng_of

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_ARRIVALS, _KINDS, _PART = 100, 101, 102
_GROUPS_PER_PART = 1 << 40  # so that groups of different parts never meet


class SharedPrefix(Value):
    """`tokens` at the beginning of each prompt come from one of `documents`, the first ones more often (Zipf)."""

    tokens: int = Field(ge=1)
    documents: int = Field(default=1, ge=1)
    zipf: float = Field(default=0.0, ge=0, description="0: all documents alike; 1: the k-th as often as 1/k.")


class Turns(Value):
    """Sessions: each turn's prompt is everything said before plus new tokens; turns follow after thinking."""

    mean: float = Field(default=5, ge=1, description="Geometric number of turns.")
    think_s: float = Field(default=10, gt=0, description="Mean time between two turns, exponential.")
    max_prompt_tokens: int = Field(default=16384, ge=1, description="The session ends before its prompt grows longer.")


class Part(Value):
    """One kind of requests. `prompt_tokens` counts the new tokens: prefix and history come on top."""

    name: str
    weight: float = Field(default=1, gt=0)
    prompt_tokens: Lengths
    output_tokens: Lengths
    shared_prefix: SharedPrefix | None = None
    turns: Turns | None = None
    priority: int = Field(default=0, description="vLLM's: lower is served sooner.")
    cancel_share: float = Field(default=0, ge=0, le=1, description="Clients that hang up, anywhere within the answer.")


def build_mix(
    parts: tuple[Part, ...],
    arrivals: Arrivals,
    *,
    rate_rps: float,
    duration_s: float,
    seed: int,
    shape: RateShape | None = None,
) -> Schedule:
    """Return one schedule of all parts at `rate_rps` in all, turns included.

    A session arrives as one request in `turns.mean`; its later turns come on top, so the rate is reached once the first
    sessions are under way. Raises InvalidInput for an impossible rate or duration.
    """
    shares = np.array([part.weight for part in parts]) / sum(part.weight for part in parts)
    per_start = sum(share * (part.turns.mean if part.turns else 1) for share, part in zip(shares, parts, strict=True))
    starts = arrival_times(
        arrivals, rate_rps=rate_rps / per_start, duration_s=duration_s, rng=rng_of(seed, _ARRIVALS), shape=shape
    )
    kinds = rng_of(seed, _KINDS).choice(len(parts), size=len(starts), p=shares)
    columns = [_requests(parts[k], k, starts[kinds == k], rng_of(seed, _PART, k)) for k in range(len(parts))]
    return _merged(columns, duration_s)


_Columns = dict[str, npt.NDArray[np.float64] | Ints]


def _requests(part: Part, number: int, starts: Floats, rng: np.random.Generator) -> _Columns:
    rows = _sessions(part, starts, rng) if part.turns else _singles(part, starts, rng)
    n = len(rows["scheduled_s"])
    base = number * _GROUPS_PER_PART
    rows["prefix_group"] = np.where(rows["prefix_group"] >= 0, rows["prefix_group"] + base, -1)
    rows["session"] = np.where(rows["session"] >= 0, rows["session"] + base, -1)
    rows["priority"] = np.full(n, part.priority, dtype=np.int64)
    hang_up = rng.random(n) < part.cancel_share
    after = 1 + np.floor(rng.random(n) * rows["output_tokens"]).astype(np.int64)
    rows["cancel_after"] = np.where(hang_up, after, 0)
    return rows


def _singles(part: Part, starts: Floats, rng: np.random.Generator) -> _Columns:
    n = len(starts)
    new, output = draw_lengths(part.prompt_tokens, n, rng), draw_lengths(part.output_tokens, n, rng)
    group, shared = _prefixes(part.shared_prefix, n, rng)
    return {
        "scheduled_s": starts,
        "prompt_tokens": new + shared,
        "output_tokens": output,
        "prefix_group": group,
        "prefix_tokens": shared,
        "session": np.full(n, -1, dtype=np.int64),
    }


def _prefixes(prefix: SharedPrefix | None, n: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    if prefix is None:
        return np.full(n, -1, dtype=np.int64), np.zeros(n, dtype=np.int64)
    weights = np.arange(1, prefix.documents + 1, dtype=np.float64) ** -prefix.zipf
    documents: Ints = rng.choice(prefix.documents, size=n, p=weights / weights.sum()).astype(np.int64)
    return documents, np.full(n, prefix.tokens, dtype=np.int64)


def _sessions(part: Part, starts: Floats, rng: np.random.Generator) -> _Columns:
    """Each session has one stream of tokens that all its prompts begin with: turn by turn more of it."""
    assert part.turns is not None
    prefix = part.shared_prefix.tokens if part.shared_prefix else 0
    rows: list[tuple[float, int, int, int]] = []
    for session, start in enumerate(starts.tolist()):
        rows += [(*turn, session) for turn in _turns(part, part.turns, start, prefix, rng)]
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    whole = table[:, 1:].astype(np.int64)
    return {
        "scheduled_s": table[:, 0],
        "prompt_tokens": whole[:, 0],
        "output_tokens": whole[:, 1],
        "prefix_group": whole[:, 2],
        "prefix_tokens": whole[:, 0],
        "session": whole[:, 2],
    }


def _turns(
    part: Part, turns: Turns, start_s: float, prefix: int, rng: np.random.Generator
) -> list[tuple[float, int, int]]:
    count = int(rng.geometric(1 / turns.mean))
    new = draw_lengths(part.prompt_tokens, count, rng).tolist()
    answers = draw_lengths(part.output_tokens, count, rng).tolist()
    waits = rng.exponential(turns.think_s, size=count).tolist()
    rows: list[tuple[float, int, int]] = []
    at_s, history = start_s, prefix
    for fresh, answer, wait_s in zip(new, answers, waits, strict=True):
        prompt = history + fresh
        if prompt > turns.max_prompt_tokens:
            break
        rows.append((at_s, prompt, answer))
        at_s, history = at_s + wait_s, prompt + answer
    return rows


def _merged(columns: list[_Columns], duration_s: float) -> Schedule:
    merged = {name: np.concatenate([each[name] for each in columns]) for name in columns[0]}
    order = np.argsort(merged["scheduled_s"], kind="stable")
    order = order[merged["scheduled_s"][order] < duration_s]
    rows = {name: column[order] for name, column in merged.items()}
    times, prompt, output = (rows.pop(name) for name in ("scheduled_s", "prompt_tokens", "output_tokens"))
    return assemble(
        times, prompt.astype(np.int64), output.astype(np.int64), **{k: v.astype(np.int64) for k, v in rows.items()}
    )
