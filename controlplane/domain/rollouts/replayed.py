"""A request we sent to prove a canary's load, as a gateway would have recorded it. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from controlplane.domain.base import RevisionId, RolloutId, ServiceName
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.engines.driver import Api
from controlplane.domain.report import RequestRecord
from controlplane.domain.rollouts.load_match import Begun

GATEWAY = "replay"
"""What stands for the gateway in such records, and begins the name of their files."""

_PATHS = {
    Api.COMPLETIONS: "/v1/completions",
    Api.CHAT: "/v1/chat/completions",
    Api.EMBEDDINGS: "/v1/embeddings",
}
_CLASSES = {
    "connect": "upstream_connect",
    "timeout": "upstream_timeout",
    "truncated": "truncated",
    "generator": "internal",  # it had no connection left: ours
}


class Origin(NamedTuple):
    """What all requests of one run share. `began` is wall-clock; seconds counted from it are engine time."""

    rollout_id: RolloutId
    service: ServiceName
    model: str
    revision: RevisionId
    engine_id: str | None  # None: one of several behind a gateway
    began: datetime
    time_lapse: float
    api: Api = Api.COMPLETIONS
    forces_length: bool = False  # engines are told to go on until the wanted length

    def record(self, name: str, at_s: float, **fields: Any) -> GatewayRecord:
        """Return the record of a request that was due `at_s` after the start."""
        return GatewayRecord(
            id=f"{self.rollout_id}-{self.began.timestamp():.3f}-{name}",
            at=self.began + timedelta(seconds=at_s / self.time_lapse),
            gateway=GATEWAY,
            service=self.service,
            model=self.model,
            revision=self.revision,
            engine_id=self.engine_id,
            path=_PATHS[self.api],
            stream=self.api is not Api.EMBEDDINGS,
            replayed=True,
            **fields,
        )


def finished(record: RequestRecord, origin: Origin) -> GatewayRecord:
    """Return the record of a request that came to its end, wall-clock milliseconds.

    It counts from when it was sent: that our generator sent it late is not the canary's doing.
    """
    error, lapse = _error(record), origin.time_lapse
    return origin.record(
        str(record.index),
        record.scheduled_s + record.lag_ms / 1e3,
        status=record.status or (200 if error is None else 502),
        error=error,
        truncated=record.error == "truncated",
        prompt_tokens=record.prompt_tokens,
        output_tokens=record.output_tokens,
        stop=_stop(record, origin),
        ttft_ms=_wall(_sent(record, record.ttft_ms), lapse),
        tpot_ms=_wall(record.tpot_ms, lapse),
        e2e_ms=_wall(_sent(record, record.e2e_ms), lapse),
        max_itl_ms=_wall(record.max_itl_ms, lapse),
    )


def given_up(waited_s: float, now_s: float, number: int, origin: Origin) -> GatewayRecord:
    """Return the record of a request that we no longer wait for: a client that left after so long. Engine time."""
    return origin.record(
        f"left-{number}",
        now_s - waited_s,
        status=499,
        client_gone=True,
        e2e_ms=_wall(1e3 * waited_s, origin.time_lapse),
    )


def given_up_silent(begun: Begun, now_s: float, number: int, origin: Origin) -> GatewayRecord:
    """Return that of a stream that has fallen silent and is no longer waited for. Engine time."""
    first_s, silent_s = begun
    waited_s = first_s + silent_s  # at the least: its tokens took some time too
    left = given_up(waited_s, now_s, number, origin)
    return left.evolve(
        id=f"{left.id}-silent",
        status=200,
        ttft_ms=_wall(1e3 * first_s, origin.time_lapse),
        silent_ms=_wall(1e3 * silent_s, origin.time_lapse),
    )


def _stop(record: RequestRecord, origin: Origin) -> str | None:
    """Return whether an answer went on until the wanted length, as it was told to; None where nobody told it."""
    if not origin.forces_length or not record.ok:
        return None
    return "stop" if record.output_tokens < record.wanted_tokens else "length"


def _error(record: RequestRecord) -> str | None:
    if record.error is None:
        return None
    if 400 <= record.status < 500:
        return "upstream_4xx"
    known = _CLASSES.get(record.error.partition("_")[0])
    return known or ("upstream_5xx" if record.status >= 500 else "upstream_disconnected")


def _sent(record: RequestRecord, since_due_ms: float | None) -> float | None:
    return None if since_due_ms is None else max(0.0, since_due_ms - record.lag_ms)


def _wall(engine_ms: float | None, time_lapse: float) -> float | None:
    return None if engine_ms is None else engine_ms / time_lapse
