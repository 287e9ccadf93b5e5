"""What differs between kinds of engines, said once. Everything else asks a driver and knows no engine by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, JsonValue, model_validator

from controlplane.domain.base import Value
from controlplane.domain.engines.flags import FlagValue
from controlplane.domain.engines.start_failure import StartFailure


def _compiled(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    return pattern


Pattern = Annotated[str, AfterValidator(_compiled)]
"""A regular expression of Python's `re`."""


class Api(StrEnum):
    """What an engine is asked for, by the last words of OpenAI's paths."""

    COMPLETIONS = "completions"
    CHAT = "chat"
    EMBEDDINGS = "embeddings"


class FlagStyle(Value):
    """How flags stand on the command line. As vLLM: `--name=value`, True is `--name`, False is `--no-name`."""

    joined: bool = Field(default=True, description="`--name=value`; False: two words, `--name value`.")
    underscores: bool = Field(default=False, description="`--max_batch_size` rather than `--max-batch-size`.")
    negated: bool = Field(default=True, description="False is `--no-name`; False here: the flag is left out.")
    names: Mapping[str, str] = Field(
        default_factory=dict, description="Our word for a flag to the engine's: `tensor-parallel-size: num-shard`."
    )


class Readiness(Value):
    """When an engine is ready: its health check answers 200, and so does one small real request."""

    health_path: str = Field(default="/health", pattern="^/")
    request_path: str = Field(default="/v1/completions", pattern="^/")
    request: Mapping[str, JsonValue] = Field(
        default={"prompt": [1], "max_tokens": 1}, description="Its body; `model` is added."
    )


class MetricNames(Value):
    """Names on the engine's Prometheus page. What it does not tell is None: unknown, never zero."""

    path: str = Field(default="/metrics", pattern="^/")
    running: str | None = Field(default=None, description="Gauge: requests in the batch.")
    waiting: str | None = Field(default=None, description="Gauge: requests queued.")
    ttft_s: str | None = Field(default=None, description="Histogram, seconds.")
    tpot_s: str | None = Field(default=None, description="Histogram, seconds.")
    kv_usage: str | None = Field(default=None, description="Gauge: share of the KV cache in use, 0 to 1.")
    preemptions: str | None = Field(default=None, description="Counter: requests put back in the queue while they ran.")
    prompt_tokens: str | None = Field(default=None, description="Counter: tokens of prompts.")
    generation_tokens: str | None = Field(default=None, description="Counter: tokens of answers.")
    model_label: str | None = Field(default=None, description="The label that holds the served model's name.")


class FailurePattern(Value):
    """A line of the log that tells why an engine did not start."""

    failure: StartFailure
    pattern: Pattern


def patterns(*told: tuple[StartFailure, str]) -> tuple[FailurePattern, ...]:
    """Return what lines tell, in the order in which they are looked for."""
    return tuple(FailurePattern(failure=failure, pattern=pattern) for failure, pattern in told)


class LogReading(Value):
    """How an engine's log is read."""

    prefix: Pattern | None = Field(default=None, description="What stands before the message of a line.")
    survived: Pattern | None = Field(default=None, description="Lines the engine itself calls no error.")
    consequence: Pattern | None = Field(default=None, description="Errors that only pass an earlier one on.")
    free_memory_gib: Pattern | None = Field(
        default=None, description="Two groups, free and whole: below 90 % somebody else held the GPU."
    )
    failures: tuple[FailurePattern, ...] = ()


class Dialect(Value):
    """What of OpenAI's API an engine understands beyond plain text."""

    apis: tuple[Api, ...] = Field(default=(Api.COMPLETIONS, Api.CHAT), min_length=1, description="The first is tested.")
    token_ids: bool = Field(default=True, description="A prompt may be an array of token ids.")
    ignore_eos: bool = Field(default=True, description="`ignore_eos` makes answers as long as `max_tokens`.")
    prompt_logprobs: bool = Field(default=False, description="Tells log probabilities of a prompt (quality gate).")
    cache_salt: bool = Field(default=False, description="Prefixes of different `cache_salt` are not shared.")


class EngineDriver(Value):
    """One kind of engine. A user's own is written as a file, with the same fields (`engine.mapping`)."""

    title: str = Field(min_length=1, description="What people call it.")
    command: tuple[str, ...] = Field(min_length=1, description="Words with {model} {name} {host} {port} {args}.")
    install: str = Field(default="", description="How its program gets onto a host.")
    flags: FlagStyle = FlagStyle()
    name_flag: str | None = Field(default=None, description="The flag that says the name clients use.")
    owned: Mapping[str, str] = Field(default_factory=dict, description="Flags that are not the user's, and why.")
    always: Mapping[str, FlagValue] = Field(default_factory=dict, description="Flags set unless the user sets them.")
    drain_flag: str | None = Field(default=None, description="The flag that says how long SIGTERM waits, seconds.")
    key_flag: str | None = Field(default=None, description="The flag that holds the key the engine asks for.")
    key_variable: str | None = Field(default=None, description="The variable that holds it.")
    env: Mapping[str, str] = Field(default_factory=dict, description="Variables of its environment.")
    readiness: Readiness = Readiness()
    metrics: MetricNames = MetricNames()
    log: LogReading = LogReading()
    dialect: Dialect = Dialect()
    flag_files: str | None = Field(default=None, description="Name of the flag files that ship for it.")
    has_twin: bool = Field(default=False, description="The twin predicts it. Without one the search does without.")
    compiles_at_first_use: bool = Field(
        default=False, description="Sizes met for the first time may stall it: trials warm it up before they measure."
    )
    start_s: float = Field(default=60.0, gt=0, description="A usual start, before any was seen.")

    @model_validator(mode="after")
    def _can_be_reached(self) -> EngineDriver:
        text = " ".join(self.command)
        missing = [name for name in ("{port}", "{args}") if name not in text]
        if missing:
            raise ValueError("command lacks " + " and ".join(missing))
        return self
