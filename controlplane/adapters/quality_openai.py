"""Asks an OpenAI-compatible engine for greedy answers and prompt log probabilities; runs a user's scoring command."""

from __future__ import annotations

import subprocess
import zlib
from collections.abc import Sequence
from typing import Any

import httpx

from controlplane.domain.errors import InvalidInput, Unavailable
from controlplane.domain.quality import GreedyAnswer

_ANSWER_TOKENS = 48
_TIMEOUT_S = 120.0
_COMMAND_TIMEOUT_S = 3600.0


class OpenAiQualityProbe:
    """Implements `ports.QualityProbe` with HTTP and child processes."""

    def answers(self, url: str, model: str, prompts: Sequence[str], *, api_key: str | None) -> tuple[GreedyAnswer, ...]:
        """Return one greedy answer per prompt, asked one after the other (batching changes rounding)."""
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        with httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT_S, trust_env=False) as client:
            return tuple(_answer(client, model, prompt) for prompt in prompts)

    def score(self, command: Sequence[str], url: str, model: str) -> float:
        """Run the command and return the number on its last line."""
        words = [word.replace("{url}", url).replace("{model}", model) for word in command]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(f"the quality command {words[0]} did not finish", why=str(error)) from error
        lines = done.stdout.strip().splitlines()
        if done.returncode != 0 or not lines:
            raise Unavailable(f"the quality command {words[0]} failed", why=f"exit code {done.returncode}")
        try:
            return float(lines[-1])
        except ValueError as error:
            raise InvalidInput(
                f"the quality command {words[0]} printed no score", why="its last line is no number"
            ) from error


def _answer(client: httpx.Client, model: str, prompt: str) -> GreedyAnswer:
    body = {
        "model": model,
        "prompt": prompt,
        "max_tokens": _ANSWER_TOKENS,
        "temperature": 0,
        "seed": 0,
        "logprobs": 1,
        "prompt_logprobs": 0,
    }
    try:
        reply = client.post("/v1/completions", json=body)
        reply.raise_for_status()
        choice: dict[str, Any] = reply.json()["choices"][0]
    except (httpx.HTTPError, ValueError, KeyError, IndexError) as error:
        raise Unavailable("the engine gave no answer to compare", why=type(error).__name__) from error
    tokens = (choice.get("logprobs") or {}).get("tokens") or choice.get("text", "").split()
    # Names of tokens, not the tokens: no text is kept.
    return GreedyAnswer(
        tokens=tuple(zlib.crc32(token.encode()) for token in tokens), prompt_logprobs=_prompt_logprobs(choice)
    )


def _prompt_logprobs(choice: dict[str, Any]) -> tuple[float, ...]:
    """vLLM: None for the first prompt token, then {token id: {"logprob": …}} with the token itself first."""
    entries = choice.get("prompt_logprobs") or ()
    return tuple(float(next(iter(entry.values()))["logprob"]) for entry in entries if entry)
