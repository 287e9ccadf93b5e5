"""Who asks, for whom, and what they may do."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from pydantic import AwareDatetime, Field

from controlplane.domain.base import Value

DEFAULT_TENANT = "default"


class Scope(StrEnum):
    """What a key or token may do."""

    INFER = "infer"  # ask models through a gateway
    READ = "read"  # look at everything the API shows
    OPERATE = "operate"  # studies, rollouts, schedules, scaling
    ADMIN = "admin"  # keys, and whatever runs a command on the host


GRANTS: Mapping[Scope, frozenset[Scope]] = {
    Scope.INFER: frozenset({Scope.INFER}),
    Scope.READ: frozenset({Scope.READ}),
    Scope.OPERATE: frozenset({Scope.OPERATE, Scope.READ}),
    Scope.ADMIN: frozenset(Scope),
}
"""What each scope includes. Asking models is apart: who operates the fleet need not be able to use it."""


def may(scopes: Collection[Scope], needed: Scope) -> bool:
    """Say whether one of the scopes includes the one that is needed. Each includes itself."""
    return needed in scopes or any(needed in GRANTS[scope] for scope in scopes)


class PriorityClass(StrEnum):
    """Order in a gateway's queue. Granted to a key, a token or a tenant; a request may ask for less, never for more."""

    VIP = "vip"
    NORMAL = "normal"
    BATCH = "batch"


class Limits(Value):
    """How much may be asked. None: no limit. Rates refill steadily; a minute's worth may come at once."""

    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1, description="Prompt and answer together.")
    tokens_per_day: int | None = Field(default=None, ge=1, description="Of a day of UTC.")
    tokens_per_month: int | None = Field(default=None, ge=1, description="Of a calendar month, UTC.")
    usd_per_day: float | None = Field(default=None, gt=0, description="By the prices of the models.")
    usd_per_month: float | None = Field(default=None, gt=0)
    concurrent: int | None = Field(default=None, ge=1, description="Requests under way at the same time.")

    def __bool__(self) -> bool:
        return bool(self.set_ones)

    @cached_property
    def set_ones(self) -> Sequence[tuple[str, float]]:
        """The limits that there are, by their fields' names: looked at with every request."""
        given = ((name, getattr(self, name)) for name in type(self).model_fields)
        return tuple((name, limit) for name, limit in given if limit is not None)

    @property
    def in_usd(self) -> bool:
        """Say whether money is limited, for which a model needs a price."""
        return self.usd_per_day is not None or self.usd_per_month is not None


class Grant(Value):
    """What a key is given: for whom it speaks and what it may do."""

    tenant: str = Field(default=DEFAULT_TENANT, description="Whom it speaks for.")
    scopes: tuple[Scope, ...] = Field(default=(Scope.INFER,), description="What it may do: by default ask models only.")
    models: tuple[str, ...] = Field(default=(), description="Models it may ask; empty: all.")
    expires_at: AwareDatetime | None = Field(default=None, description="None: it does not expire.")
    limits: Limits = Field(default=Limits(), description="What it may ask of all models together.")
    priority: PriorityClass | None = Field(default=None, description="Its class in queues; None: that of the tenant.")


class Principal(Grant):
    """Who asks, proven: by a key, or by a token of an issuer that is trusted."""

    name: str

    def may_ask(self, model: str) -> bool:
        """Say whether it may use a model."""
        return not self.models or model in self.models


class ApiKey(Principal):
    """A key as a gateway knows it: whose it is, what it may do, and the SHA-256 of its secret, never the secret.

    While a secret is being replaced the old one works too, until `old_until`.
    """

    sha256: str
    old_sha256: str | None = None
    old_until: AwareDatetime | None = None

    def is_valid(self, now: datetime) -> bool:
        """Say whether it has not expired."""
        return self.expires_at is None or now < self.expires_at

    def digests(self, now: datetime) -> tuple[str, ...]:
        """Return the SHA-256 of every secret that opens it now."""
        if not self.is_valid(now):
            return ()
        overlaps = self.old_sha256 is not None and self.old_until is not None and now < self.old_until
        return (self.sha256, self.old_sha256) if overlaps and self.old_sha256 else (self.sha256,)


class Credential(Value):
    """A key as the store keeps it, with its history. A revoked one stays, so that what it did can be told."""

    key: ApiKey
    made_at: AwareDatetime | None = Field(default=None, description="None: made before this was noted.")
    revoked_at: AwareDatetime | None = None
    last_used_at: AwareDatetime | None = Field(default=None, description="To the minute, at the API or a gateway.")

    @property
    def is_revoked(self) -> bool:
        return self.revoked_at is not None
