"""Audit, trace and record say the same of how a request ended, wherever on its way that was."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from multidict import CIMultiDict

from controlplane.adapters.gateway.audit_files import audit_lines
from controlplane.domain.base import ServiceName
from controlplane.domain.door.audit import Decision, Entry, Happened
from controlplane.domain.door.gateway_files import audit_dir
from controlplane.domain.door.routing import GatewayRecord
from controlplane.gateway.auditing.log import AuditLog
from controlplane.gateway.call import Call
from controlplane.gateway.exchange import Exchange
from controlplane.gateway.fingerprint import Prompt
from controlplane.gateway.flights import Flights
from controlplane.gateway.openai_errors import RequestRefused
from controlplane.gateway.pipeline import Pipeline, Stage
from controlplane.gateway.pools import Route
from controlplane.gateway.relay import ClientGone
from controlplane.gateway.stages.audit import Auditing
from controlplane.gateway.stages.record import Recording
from controlplane.gateway.stages.trace import Tracing
from controlplane.gateway.tally import Tally
from controlplane.telemetry.tracing import Ended
from tests.builders_serving import NOW

FULL = RequestRefused(429, "Too many.", code="queue_full")
Said = tuple[int, str | None, bool]
"""Status, error, and whether the client had left."""


@dataclass
class Told:
    """What the three were told of one request."""

    folder: Path
    traced: list[Ended] = field(default_factory=list)
    records: list[GatewayRecord] = field(default_factory=list)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def of(self, end: BaseException | None, *, recorded: bool) -> Happened:
        """Let one request end so; `recorded` says whether behind the stage that records or before it."""
        log = AuditLog(audit_dir(self.folder), "gw-1", clock=lambda: NOW, retention_days=1)
        stages: list[Stage] = [Auditing(log), Tracing(lambda *_, **__: cast(Any, self), lambda: 1.0)]
        if recorded:
            stages.append(Recording(self.records.append, lambda: 1.0, self.stopping, Flights(lambda: 1.0)))

        async def answer(exchange: Exchange) -> web.StreamResponse:
            if end is not None:
                raise end
            exchange.tally.status, exchange.tally.error = 200, None
            return web.Response()

        with contextlib.suppress(RequestRefused, ClientGone, asyncio.CancelledError, ZeroDivisionError):
            await Pipeline(stages, answer)(an_exchange())
        await log.flush()
        (entry,) = audit_lines(self.folder, "gw-1")
        return Entry.model_validate_json(entry[1]).happened

    def end(self, ended: Ended) -> None:
        self.traced.append(ended)

    @property
    def trace_says(self) -> Said:
        (ended,) = self.traced
        return cast(int, ended.told["status"]), ended.error, ended.told["client_gone"] is True


def an_exchange() -> Exchange:
    headers: CIMultiDict[str] = CIMultiDict()
    call = Call("r-1", "/v1/chat/completions", "", headers, b"", "m", False, None, None, None, Prompt(), 16)
    route = Route(service=ServiceName("chat"), model="m")
    request = cast(Any, web.Response())  # only its headers are looked at
    return Exchange(request, call, route, Tally(call, gateway="gw-1", service="chat", at=NOW, arrived=0.0))


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize(
    ("end", "said", "decision"),
    [
        (None, (200, None, False), Decision.ANSWERED),
        (FULL, (429, "queue_full", False), Decision.REFUSED),
        (asyncio.CancelledError(), (499, None, True), Decision.LEFT),
        (ClientGone(), (499, None, True), Decision.LEFT),
        (ZeroDivisionError(), (500, "internal", False), Decision.FAILED),
    ],
)
async def test_all_say_the_same(
    end: BaseException | None, said: Said, decision: Decision, recorded: bool, tmp_path: Path
) -> None:
    told = Told(tmp_path)
    audit = await told.of(end, recorded=recorded)
    assert (audit.status, audit.reason, audit.decision) == (*said[:2], decision)
    assert (audit.prompt_tokens, audit.output_tokens) == (0, 0)
    assert told.trace_says == said
    assert [(r.status, r.error, r.client_gone) for r in told.records] == [said] * recorded


async def test_a_request_that_the_gateways_end_cut_was_not_left_by_its_client(tmp_path: Path) -> None:
    told = Told(tmp_path)
    told.stopping.set()
    audit = await told.of(asyncio.CancelledError(), recorded=True)
    assert (audit.status, audit.reason, audit.decision) == (503, "gateway_stopped", Decision.FAILED)
    assert told.trace_says == (503, "gateway_stopped", False)
