"""What an engine answers when it may not choose: the stuff of the quality gate."""

from __future__ import annotations

from controlplane.domain.base import Value


class GreedyAnswer(Value):
    """One prompt's answer: token names as numbers (never text), and log probabilities of the prompt's tokens, nats."""

    tokens: tuple[int, ...]
    prompt_logprobs: tuple[float, ...] = ()
