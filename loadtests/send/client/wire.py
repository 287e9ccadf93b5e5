"""Request bytes: everything that is the same for all requests is rendered once."""

from __future__ import annotations

import json
from array import array

import numpy as np
import numpy.typing as npt

from loadtests.send.plan import Api, Plan, Target
from loadtests.send.prompts import Prompts, TokenIdPrompts, WordPrompts, parts_of
from loadtests.send.schedule import Schedule, rng_of

_ADAPTERS = 3  # a stream of chance beside the schedule's own three


def compact(column: npt.NDArray[np.int64] | npt.NDArray[np.float64]) -> array[int]:
    """Return a column as plain integers in eight bytes each: a day's schedule must not fill the memory."""
    return array("q", column.astype(np.int64).tobytes())


class RequestWriter:
    """Renders request `index` of a schedule as bytes ready to send."""

    def __init__(self, plan: Plan, target: Target, schedule: Schedule) -> None:
        self._api = plan.api
        self._overhead = plan.prompt_overhead
        self._head = _head(plan, target)
        names, self._asked = asked_models(plan, len(schedule))
        bodies = [_body(plan, name) for name in names]
        self._before, self._after = [before for before, _ in bodies], bodies[0][1]
        self._prompts: Prompts = TokenIdPrompts(plan.salt) if plan.words is None else WordPrompts(plan.salt, plan.words)
        self._prompt_tokens = compact(schedule.prompt_tokens)
        self._output_tokens = compact(schedule.output_tokens)
        self._groups = compact(schedule.prefix_group)
        self._group_tokens = compact(schedule.prefix_tokens)
        self._sessions = compact(schedule.session)
        self._priorities = compact(schedule.priority)
        self._block_starts = schedule.block_starts
        self._block_ids = schedule.block_ids
        self._block_tokens = float(schedule.block_tokens[0])

    def render(self, index: int) -> bytes:
        body = self._before[self._asked[index]] + self._prompt(index) + self._after + self._rest(index)
        return self._head + b"%d\r\n\r\n" % len(body) + body

    def _prompt(self, index: int) -> bytes:
        blocks = ()
        if self._block_tokens:
            blocks = self._block_ids[self._block_starts[index] : self._block_starts[index + 1]].tolist()
        parts = parts_of(
            index,
            max(1, self._prompt_tokens[index] - self._overhead),
            group=self._groups[index],
            group_tokens=self._group_tokens[index],
            blocks=blocks,
            block_tokens=self._block_tokens,
        )
        return self._prompts.render(parts)

    def _rest(self, index: int) -> bytes:
        rest = b"" if self._api is Api.EMBEDDINGS else b',"max_tokens":%d' % self._output_tokens[index]
        if self._sessions[index] >= 0:
            rest += b',"user":"session-%d"' % self._sessions[index]
        if self._priorities[index]:
            rest += b',"priority":%d' % self._priorities[index]
        return rest + b"}"


def _head(plan: Plan, target: Target) -> bytes:
    lines = [
        f"POST {target.base_path}{plan.api.path} HTTP/1.1",
        f"Host: {target.authority}",
        "User-Agent: fleetune-load",
        "Accept: text/event-stream, application/json",
        "Content-Type: application/json",
    ]
    if plan.api_key:
        lines.append(f"Authorization: Bearer {plan.api_key}")
    return ("\r\n".join(lines) + "\r\nContent-Length: ").encode()


def asked_models(plan: Plan, requests: int) -> tuple[list[str], array[int]]:
    """Return the models that are asked for, and which of them each request of a schedule asks.

    Shares are kept to within one request in every schedule; which request it is, is drawn by the plan's seed.
    """
    names, shares = [plan.model, *plan.adapters], [1 - sum(plan.adapters.values()), *plan.adapters.values()]
    until = np.rint(np.cumsum(shares) * requests)
    asked = np.searchsorted(until, np.arange(requests), side="right")
    return names, compact(rng_of(plan.adapter_seed, _ADAPTERS).permutation(np.minimum(asked, len(names) - 1)))


def _body(plan: Plan, model: str) -> tuple[bytes, bytes]:
    """Return what stands before and after the prompt; `max_tokens` and the closing brace follow."""
    fields: dict[str, object] = {"model": model}
    if plan.api is not Api.EMBEDDINGS:
        fields |= {"stream": True, "stream_options": {"include_usage": True}, "temperature": 0}
        fields |= {"ignore_eos": True} if plan.force_length else {}
    opening = json.dumps(fields | plan.extra_body, separators=(",", ":"))[:-1].encode()
    match plan.api:
        case Api.COMPLETIONS:
            return opening + b',"prompt":', b""
        case Api.CHAT:
            return opening + b',"messages":[{"role":"user","content":', b"}]"
        case Api.EMBEDDINGS:
            return opening + b',"input":', b""
