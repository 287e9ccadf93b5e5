"""What the audit log is told of a request."""

from __future__ import annotations

from datetime import datetime

from controlplane.domain.door.audit import Decision, Happened
from controlplane.domain.door.identity import Principal
from controlplane.domain.door.routing import ENGINE_SPARED
from controlplane.domain.lean import lean
from controlplane.gateway.answering import REJECTED
from controlplane.gateway.openai_errors import RequestRefused
from controlplane.gateway.tally import Tally

_Happened = lean(Happened)


def happened(tally: Tally) -> Happened:
    """Return what became of a request that is over."""
    prompt, output = tally.used
    key, call = tally.call.key, tally.call
    return _Happened(
        at=tally.at,
        gateway=tally.gateway,
        request_id=call.request_id,
        tenant=key.tenant if key else None,
        key=key.name if key else None,
        service=tally.service,
        model=call.model,
        revision=tally.revision,
        path=call.path,
        decision=_decision(tally),
        reason=tally.error,
        status=tally.final_status,
        prompt_tokens=prompt,
        output_tokens=output,
        flags=tally.flags,
        redacted=tally.redacted,
    )


def turned_away(gateway: str, at: datetime, key: Principal | None, path: str, refusal: RequestRefused) -> Happened:
    """Return what became of a request that was refused before its model was known."""
    return _Happened(
        at=at,
        gateway=gateway,
        tenant=key.tenant if key else None,
        key=key.name if key else None,
        path=path,
        decision=Decision.REFUSED,
        reason=refusal.code,
        status=refusal.status,
    )


def _decision(tally: Tally) -> Decision:
    if tally.refused:
        return Decision.REFUSED
    if tally.client_gone:
        return Decision.LEFT
    if tally.error == REJECTED:
        return Decision.REJECTED
    if tally.error is not None:
        return Decision.FAILED
    return Decision.FROM_CACHE if tally.cache in ENGINE_SPARED else Decision.ANSWERED
