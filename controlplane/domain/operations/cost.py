"""What a service costs now, and what its tokens came to, by tenant. Pure.

Money is of the GPUs its engines hold at this moment; tokens are those of the requests that were served (`door/served`)
and ended in the window. So a fleet that was scaled within the window is priced at its present size: `since_s` tells
when that is so.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import AwareDatetime, Field

from controlplane.domain.base import Value
from controlplane.domain.door.outcomes import finished_at
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.door.served import was_served
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.operations.savings import Saved
from controlplane.domain.operations.spot import held_by
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.capacity import usd_per_million_tokens

NOBODY = "-"
"""Stands for requests that came without a key."""


class TenantCost(Value):
    """One tenant's part, by its tokens."""

    tenant: str
    requests: int
    prompt_tokens: int
    output_tokens: int
    usd_per_hour: float = Field(description="Its share of the tokens, of what the service costs.")


class Cost(Value):
    """Tokens per second and money per hour are of engine time."""

    service: str
    at: AwareDatetime
    window_s: float
    gpus: int = Field(description="Held by its engines now, those that start or drain included.")
    usd_per_hour: float
    max_usd_per_hour: float | None = None
    since_s: float | None = Field(default=None, description="Seconds since the newest engine started; None: no engine.")
    tokens_per_s: float
    usd_per_million_tokens: float | None = Field(default=None, description="None: no token in the window.")
    untold: int = Field(default=0, description="Requests served whose tokens nobody counted: answered in one piece.")
    unserved: int = Field(
        default=0,
        description="Nobody's bill, whatever tokens they have: refused, broken off by an engine, cut by us.",
    )
    tenants: tuple[TenantCost, ...] = Field(default=(), description="The dearest first.")
    saved: Saved | None = Field(default=None, description="None: stable rests on no recommendation.")

    @property
    def is_beyond(self) -> bool:
        """Say whether the ceiling that the service declares is exceeded."""
        return self.max_usd_per_hour is not None and self.usd_per_hour > self.max_usd_per_hour


def engines_usd_per_hour(spec: ServiceSpec, engines: Sequence[Engine]) -> float:
    """Return what a service's engines cost per hour by the GPUs they hold, spot ones at their own price, USD."""
    return held_by(engines).usd_per_hour(spec.gpus, spec.spot)


def cost(
    spec: ServiceSpec, engines: Sequence[Engine], records: Sequence[GatewayRecord], *, now: datetime, window_s: float
) -> Cost:
    """Return what a service costs. `records` may reach further back than the window; `engines` are its own."""
    held = [engine for engine in engines if not engine.state.is_over]
    gpus = sum(engine.spec.gpus for engine in held)
    usd = engines_usd_per_hour(spec, held)
    ended = [r for r in records if 0 <= (now - finished_at(r)).total_seconds() < window_s]
    mine = [r for r in ended if not r.retried and not r.replayed]
    served = [r for r in mine if was_served(r)]
    told = [r for r in served if _tokens(r) is not None]
    total = sum(_tokens(r) or 0 for r in told)
    rate = total / (window_s * spec.engine.time_lapse)
    return Cost(
        service=spec.name,
        at=now,
        window_s=window_s,
        gpus=gpus,
        usd_per_hour=usd,
        max_usd_per_hour=spec.slos.max_usd_per_hour,
        since_s=min(((now - engine.started_at).total_seconds() for engine in held), default=None),
        tokens_per_s=rate,
        usd_per_million_tokens=usd_per_million_tokens(usd, rate) if rate else None,
        untold=len(served) - len(told),
        unserved=len(mine) - len(served),
        tenants=_by_tenant(told, total, usd),
    )


def _by_tenant(records: Sequence[GatewayRecord], total: int, usd: float) -> tuple[TenantCost, ...]:
    parts: dict[str, list[GatewayRecord]] = {}
    for record in records:
        parts.setdefault(record.tenant or NOBODY, []).append(record)
    found = [
        TenantCost(
            tenant=name,
            requests=len(part),
            prompt_tokens=sum(r.prompt_tokens or 0 for r in part),
            output_tokens=sum(r.output_tokens or 0 for r in part),
            usd_per_hour=usd * sum(_tokens(r) or 0 for r in part) / total if total else 0.0,
        )
        for name, part in parts.items()
    ]
    return tuple(sorted(found, key=lambda each: (-each.usd_per_hour, each.tenant)))


def _tokens(record: GatewayRecord) -> int | None:
    if record.prompt_tokens is None or record.output_tokens is None:
        return None
    return record.prompt_tokens + record.output_tokens
