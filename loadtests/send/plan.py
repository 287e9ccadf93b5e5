"""What the parent tells the generator process: one plan per run, down a pipe (it may hold the API key)."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple
from urllib.parse import urlsplit

from pydantic import Field, JsonValue

from controlplane.domain.base import Value
from controlplane.domain.errors import InvalidInput


class Api(StrEnum):
    COMPLETIONS = "completions"
    CHAT = "chat"
    EMBEDDINGS = "embeddings"

    @property
    def path(self) -> str:
        return {"completions": "/completions", "chat": "/chat/completions", "embeddings": "/embeddings"}[self.value]


class Timeouts(Value):
    """Seconds of emulated time, but `connect_s`, which is the wall clock's."""

    connect_s: float = Field(default=5.0, gt=0)
    first_token_s: float = Field(default=120.0, gt=0)
    stall_s: float = Field(default=60.0, gt=0)
    total_s: float = Field(default=120.0, gt=0)


class Plan(Value):
    """One run as the generator process sees it."""

    url: str
    model: str
    out_dir: str
    schedule_path: str
    api: Api = Api.COMPLETIONS
    words: tuple[str, ...] | None = Field(
        default=None, description="Prompts are text of these words, one token each; None: prompts are token ids."
    )
    prompt_overhead: int = Field(default=0, ge=0, description="Tokens that the chat template adds to a text prompt.")
    salt: int = Field(default=0, ge=0, description="Same salt, same prompts.")
    force_length: bool = Field(default=True, description="Send ignore_eos, so that answers have the wanted length.")
    adapters: dict[str, float] = Field(default_factory=dict, description="Model name → share; the rest asks `model`.")
    adapter_seed: int = Field(default=0, description="Which request asks for which: same seed, same choice.")
    extra_body: dict[str, JsonValue] = Field(default_factory=dict)
    timeouts: Timeouts = Timeouts()
    time_lapse: float = Field(default=1.0, gt=0, description="Emulated seconds per second of the wall clock.")
    concurrency: int | None = Field(default=None, ge=1, description="Closed loop with so many requests in flight.")
    drain_on_stop: bool = Field(default=False, description="When stopped, wait for the answers under way.")
    api_key: str | None = Field(default=None, repr=False)
    workers: int = Field(default=1, ge=1, description="Processes that share the schedule.")
    cores: tuple[int, ...] = Field(default=(), description="Where each process is pinned; empty: nowhere.")
    ca_file: str | None = None
    ship: bool = Field(default=False, description="Workers share no disk with us: schedule and records travel along.")


class Target(NamedTuple):
    """Where requests go."""

    host: str
    port: int
    tls: bool
    base_path: str  # ends in /v1

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def parse_target(url: str) -> Target:
    """Return the parts of an OpenAI-compatible base URL, with or without /v1. Raises InvalidInput."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidInput(f"target '{url}' is not a URL", why=str(error), allowed="http://host:port") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
        raise InvalidInput(f"target '{url}' is not usable", allowed="http://host:port or https://host:port")
    tls = parts.scheme == "https"
    base = parts.path.rstrip("/")
    return Target(parts.hostname, port or (443 if tls else 80), tls, base if base.endswith("/v1") else base + "/v1")
