"""What is noted about one request while it is served, and the record it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from controlplane.domain.base import RevisionId
from controlplane.domain.door.routing import ENGINE_SPARED, CacheResult, GatewayRecord
from controlplane.domain.lean import lean
from controlplane.gateway.answer_notes import AnswerNotes
from controlplane.gateway.call import Call
from controlplane.gateway.pools import Replica
from controlplane.gateway.relay import Cut
from controlplane.gateway.sse import StreamWatch

CLIENT_GONE_STATUS = 499

_Record = lean(GatewayRecord)


@dataclass(slots=True)
class Tally:
    """Mutable notes of one request. Instants are monotonic seconds except `at`."""

    call: Call
    gateway: str
    service: str
    at: datetime
    arrived: float
    revision: RevisionId | None = None
    engine_id: str | None = None
    weight_percent: int | None = None  # of its revision, as it was chosen
    ahead: int | None = None  # requests in flight at the replica
    cached_blocks: int | None = None  # of the prompt, where prefixes are heeded
    session: str | None = None  # what keeps it with a revision
    split_up: bool = False  # a session too large to be kept with one
    status: int | None = None  # until something is sent
    error: str | None = "internal"  # until it is known how it went
    refused: bool = False  # by a stage on its way, before any engine was asked
    truncated: bool = False
    client_gone: bool = False
    retries: int = 0
    queue_ms: float = 0.0
    asked_at: float | None = None  # the first of the replicas it was sent to
    elsewhere_ms: float = 0.0  # until the revision it is at was asked, since another one was
    ended: float | None = None
    watch: StreamWatch | None = None
    usage: Mapping[str, Any] | None = None
    notes: AnswerNotes | None = None  # of an answer in one piece; those of a stream are its watch's
    cache: CacheResult | None = None
    redacted: bool = False
    flags: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)  # for the client, whoever answers

    def sent_to(
        self, replica: Replica, weight_percent: int | None = None, *, now: float, heeds_prefixes: bool = False
    ) -> None:
        self.asked_at = now if self.asked_at is None else self.asked_at
        if self.revision is not None and replica.revision != self.revision:
            self.elsewhere_ms = 1000 * (now - self.asked_at)
        self.revision, self.engine_id = replica.revision, replica.backend.engine_id
        self.weight_percent, self.ahead = weight_percent, replica.in_flight
        self.cached_blocks = replica.prefixes.matched(self.call.prompt.blocks) if heeds_prefixes else None

    def turned_away(self, status: int, code: str | None) -> None:
        self.refused, self.status, self.error = True, status, code

    def client_left(self) -> None:
        self.client_gone, self.error = True, None
        self.status = self.status or CLIENT_GONE_STATUS

    def cut(self, reason: Cut) -> None:
        """Note that the answer broke off after its first byte."""
        self.error, self.truncated = reason.value, True

    def record(self, now: float) -> GatewayRecord:
        """Return the record of the finished request."""
        prompt, prompt_tokens = self.call.prompt, self._prompt_tokens()
        return _Record(
            **self._identity(self.call.request_id),
            status=self.final_status,
            error=self.error,
            truncated=self.truncated,
            client_gone=self.client_gone,
            retries=self.retries,
            queue_ms=round(self.queue_ms, 3) if self.queue_ms else 0.0,
            elsewhere_ms=round(self.elsewhere_ms, 3) if self.elsewhere_ms else 0.0,
            prompt_tokens=prompt_tokens,
            prompt_bytes=prompt.text_bytes,
            prefix_blocks=prompt.blocks,
            prefix_block_tokens=prompt.block_tokens(prompt_tokens),
            output_tokens=self.watch.output_tokens if self.watch else self._count("completion_tokens"),
            e2e_ms=self._e2e_ms(now),
            cache=self.cache,
            redacted=self.redacted,
            flags=self.flags,
            **self._of_answer(),
            **({} if self.watch is None else self._of_stream(self.watch, now)),
        )

    def silent_s(self, now: float) -> float | None:
        """Seconds since the last token of a stream that waits for its engine's next one; None of any other."""
        since = self.watch.silent_since() if self.watch else None
        return None if since is None else now - since

    def failed_attempt(self, *, status: int, error: str, now: float) -> GatewayRecord:
        """Return the record of an attempt that failed before its first byte and is made again elsewhere."""
        identity = self._identity(f"{self.call.request_id}.{self.retries}")
        return _Record(
            **identity, status=status, error=error, retries=self.retries, e2e_ms=_ms(now - self.arrived), retried=True
        )

    @property
    def final_status(self) -> int:
        """Return what the client got, of a request that is over; 499 where it did not wait for anything."""
        return 500 if self.status is None else self.status

    @property
    def used(self) -> tuple[int, int]:
        """Tokens of prompt and answer as far as they are known; of a prompt without a count what was expected.

        What the cache answered took none.
        """
        if self.cache in ENGINE_SPARED:
            return 0, 0
        prompt = self._prompt_tokens()
        output = self.watch.output_tokens if self.watch else self._count("completion_tokens")
        if not output and self.error is not None:
            return 0, 0  # nothing was generated
        return (self.call.expected_prompt_tokens if prompt is None else prompt), output or 0

    def _identity(self, record_id: str) -> dict[str, Any]:
        call = self.call
        return {
            "id": record_id,
            "at": self.at,
            "gateway": self.gateway,
            "service": self.service,
            "model": call.model,
            "revision": self.revision,
            "engine_id": self.engine_id,
            "weight_percent": self.weight_percent,
            "ahead": self.ahead,
            "cached_blocks": self.cached_blocks,
            "adapter": call.adapter,
            "version": call.version,
            "path": call.path,
            "stream": call.stream,
            "key": None if call.key is None else call.key.name,
            "tenant": None if call.key is None else call.key.tenant,
            "session": call.session_hash,
            "split_up": self.split_up,
        }

    def _of_answer(self) -> dict[str, Any]:
        notes = self.watch.notes if self.watch else self.notes
        if notes is None:
            return {}
        found: dict[str, Any] = {"stop": notes.stop, "declined": notes.declined}
        if notes.model is not None:
            found["other_model"] = notes.model != (self.call.adapter or self.call.model)
        if notes.tool_calls:
            found |= {"tool_calls": notes.tool_calls, "bad_tool_calls": notes.bad_tool_calls(self.call.tools)}
        return found

    def _of_stream(self, watch: StreamWatch, now: float) -> dict[str, float | None]:
        return {
            "ttft_ms": None if watch.first_token_at is None else _ms(watch.first_token_at - self.arrived),
            "tpot_ms": _tpot_ms(watch),
            "max_itl_ms": _ms(watch.max_gap_s),
            "silent_ms": _ms(self.silent_s(now)) if self.client_gone else None,
        }

    def _prompt_tokens(self) -> int | None:
        """The engine's count where the client asked for it; token ids count themselves."""
        counted = self._count("prompt_tokens")
        return self.call.prompt.tokens if counted is None else counted

    def _count(self, name: str) -> int | None:
        usage = self.usage if self.watch is None else self.watch.usage
        counted = usage.get(name) if usage else None
        return counted if isinstance(counted, int) else None

    def _e2e_ms(self, now: float) -> float | None:
        """To the last token; to its leaving for a client that hung up, which may have waited for one long before."""
        if self.watch is not None and self.watch.last_token_at is not None and not self.client_gone:
            return _ms(self.watch.last_token_at - self.arrived)
        return _ms((self.ended or now) - self.arrived)


def _tpot_ms(watch: StreamWatch) -> float | None:
    """(last token − first token) / (output tokens − 1); undefined for one token and for answers in one piece."""
    if watch.first_token_at is None or watch.last_token_at is None:
        return None
    tokens = watch.output_tokens or 0
    return _ms((watch.last_token_at - watch.first_token_at) / (tokens - 1)) if tokens > 1 else None


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
