"""What an emulated model says and how long: settled when a request comes in, so that only the timing is left."""

from __future__ import annotations

import random
from typing import NamedTuple

from controlplane.emulator.endings import Output
from controlplane.emulator.protocol import ChatBody, CompletionBody
from controlplane.emulator.speech import Murmur, Script, Speech
from controlplane.emulator.tokens import OutputWords

_MEAN_CHAT_TOKENS = 200


class Plan(NamedTuple):
    """One answer before its first token is out: how it ends and what it says."""

    output: Output
    speech: Speech


def plan_answer(
    body: ChatBody | CompletionBody,
    script: str | None,
    *,
    room: int,
    words: OutputWords,
    start: int,
    draw: random.Random,
) -> Plan:
    """Return what an answer is: `script` when its shape was asked for, else words of the pool from `start` on."""
    if script is None:
        return Plan(plan_output(body, room=room, words=words, start=start, draw=draw), Murmur(words, start))
    speech = Script(script)
    most = min(room, body.limit() or room)
    output = Output(len(speech), "stop") if len(speech) <= most else Output(most, "length")
    return Plan(output, speech)


def plan_output(
    body: ChatBody | CompletionBody, *, room: int, words: OutputWords, start: int, draw: random.Random
) -> Output:
    """Return how an answer ends.

    A request that states its length gets it (like a model with dummy weights, which never says it is done); a chat
    that states none ends by itself after an exponential draw of 200 tokens on average. Stop strings and stop token ids
    end it earlier, not before `min_tokens`. `room` is what the context leaves.
    """
    wanted = body.limit()
    tokens = room if wanted is None else min(wanted, room)
    plan = Output(tokens, "length")
    if wanted is None and not body.ignore_eos:
        own = max(1, body.min_tokens, round(draw.expovariate(1 / _MEAN_CHAT_TOKENS)))
        plan = Output(own, "stop") if own < tokens else plan
    stopped = _stopped(body, plan.tokens, words, start)
    return stopped or plan


def _stopped(body: ChatBody | CompletionBody, tokens: int, words: OutputWords, start: int) -> Output | None:
    """Return the ending by the first stop string or stop token within the first `tokens`, None without any."""
    stops, stop_ids = body.stops, frozenset(body.stop_token_ids or ())
    if not stops and not stop_ids:
        return None
    text = ""
    for position in range(tokens):
        known = len(text)
        text += words.word(start + position)
        if position + 1 < body.min_tokens:
            continue
        if words.token(start + position) in stop_ids:
            return Output(position + 1, "stop", words.token(start + position))
        for stop in stops:
            if (place := text.find(stop, max(0, known - len(stop)))) >= 0:
                return Output(position + 1, "stop", stop, place)
    return None
