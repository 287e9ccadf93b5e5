"""Issuers of tokens (OIDC) that are trusted, and what the claims of their tokens are worth here. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from controlplane.domain.base import Value
from controlplane.domain.door.identity import DEFAULT_TENANT, Principal, PriorityClass, Scope
from controlplane.domain.errors import Forbidden, Refused

T = TypeVar("T")

_TENANT = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_SUBJECT = re.compile(r"[\x21-\x7e]{1,128}")
_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class TokenAlgorithm(StrEnum):
    """How a token may be signed. `none` is not among them, nor is any secret that is shared (HS256)."""

    RS256 = "RS256"
    RS384 = "RS384"
    RS512 = "RS512"
    PS256 = "PS256"
    PS384 = "PS384"
    PS512 = "PS512"
    ES256 = "ES256"
    ES384 = "ES384"
    ES512 = "ES512"
    EDDSA = "EdDSA"


class Issuer(Value):
    """One issuer: how its tokens are checked, and how their claims become tenant, scopes, models and class.

    A claim is named by its name, or by a path with dots (`realm_access.roles`); it holds a text, words or a list.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$", description="Callers are called NAME:subject.")
    issuer: str = Field(min_length=1, description="Exactly the `iss` of its tokens.")
    audience: str = Field(min_length=1, description="What `aud` must contain: this installation.")
    jwks_url: str = Field(description="Where its public keys are; https beyond this machine.")
    algorithms: Annotated[tuple[TokenAlgorithm, ...], Field(min_length=1)] = (
        TokenAlgorithm.RS256,
        TokenAlgorithm.ES256,
    )
    clock_skew_s: float = Field(default=30, ge=0, le=300)
    refresh_s: float = Field(default=300, ge=10, description="Keys are fetched again so often: a withdrawn one ends.")
    max_age_s: float = Field(default=3600, ge=60, description="Keys last confirmed longer ago are not trusted.")
    answer_within_s: float = Field(default=5, gt=0, description="It is away when its keys take longer.")
    tenant: str = Field(default=DEFAULT_TENANT, pattern=f"^{_TENANT.pattern}$", description="Whose its tokens are.")
    tenant_claim: str | None = Field(default=None, description="Then a token without this claim is refused.")
    tenants: Mapping[str, str] = Field(default_factory=dict, description="Claimed value → tenant; others as claimed.")
    scope_claim: str = "scope"
    scopes: Mapping[str, Scope] = Field(
        default_factory=dict, description="Claimed value → scope. Empty: every token may infer, and nothing else."
    )
    models_claim: str | None = Field(default=None, description="Models it may ask; a token without it may ask none.")
    priority_claim: str | None = None
    priorities: Mapping[str, PriorityClass] = Field(default_factory=dict, description="Claimed value → class.")

    @field_validator("jwks_url")
    @classmethod
    def _safe(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOCAL_HOSTS):
            raise ValueError("keys that came over plain http could be anybody's: https, or http on this machine")
        return url


def principal_of(issuer: Issuer, claims: Mapping[str, Any], now: datetime) -> Principal:
    """Return whom a token speaks for, its signature, issuer and audience being right.

    Raises Refused for a token out of its time or without a usable subject, Forbidden when its claims give it nothing.
    """
    return Principal(
        name=f"{issuer.name}:{_subject(claims)}",
        tenant=_tenant(issuer, claims),
        scopes=_scopes(issuer, claims),
        models=_models(issuer, claims),
        expires_at=_end(issuer, claims, now),
        priority=_priority(issuer, claims),
    )


def _end(issuer: Issuer, claims: Mapping[str, Any], now: datetime) -> datetime:
    """Return when the token is over, clock skew included."""
    at, skew = now.timestamp(), issuer.clock_skew_s
    end = _instant(claims, "exp")
    if end is None or at >= end + skew:
        raise Refused("this token is not valid", why="it has expired" if end else "it has no `exp`")
    if any(at < begin - skew for begin in (_instant(claims, "nbf"), _instant(claims, "iat")) if begin is not None):
        raise Refused("this token is not valid", why="its time has not begun")
    return datetime.fromtimestamp(min(end + skew, datetime(9999, 1, 1, tzinfo=UTC).timestamp()), UTC)


def _instant(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
        raise Refused("this token is not valid", why=f"`{name}` is no instant")
    return float(value)


def _subject(claims: Mapping[str, Any]) -> str:
    subject = claims.get("sub")
    if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
        raise Refused("this token is not valid", why="its `sub` is missing or cannot name a caller")
    return subject


def _tenant(issuer: Issuer, claims: Mapping[str, Any]) -> str:
    if issuer.tenant_claim is None:
        return issuer.tenant
    claimed = next(iter(_words(claims, issuer.tenant_claim)), None)
    tenant = None if claimed is None else issuer.tenants.get(claimed, claimed)
    if tenant is None or not _TENANT.fullmatch(tenant):
        raise Forbidden("this token names no tenant", why=f"the claim `{issuer.tenant_claim}` is missing or unusable")
    return tenant


def _scopes(issuer: Issuer, claims: Mapping[str, Any]) -> tuple[Scope, ...]:
    if not issuer.scopes:
        return (Scope.INFER,)
    granted = _mapped(issuer.scopes, claims, issuer.scope_claim)
    if not granted:
        raise Forbidden("this token may do nothing here", why=f"nothing in `{issuer.scope_claim}` is a scope")
    return tuple(sorted(set(granted)))


def _models(issuer: Issuer, claims: Mapping[str, Any]) -> tuple[str, ...]:
    if issuer.models_claim is None:
        return ()
    models = tuple(_words(claims, issuer.models_claim))
    if not models:
        raise Forbidden("this token may ask no model", why=f"the claim `{issuer.models_claim}` names none")
    return models


def _priority(issuer: Issuer, claims: Mapping[str, Any]) -> PriorityClass | None:
    """Return the best class it is granted."""
    granted = _mapped(issuer.priorities, claims, issuer.priority_claim) if issuer.priority_claim else ()
    return min(granted, key=list(PriorityClass).index, default=None)


def _mapped(mapping: Mapping[str, T], claims: Mapping[str, Any], claim: str) -> tuple[T, ...]:
    return tuple(mapping[word] for word in _words(claims, claim) if word in mapping)


def _words(claims: Mapping[str, Any], claim: str) -> tuple[str, ...]:
    found = claims[claim] if claim in claims else _at(claims, claim.split("."))
    if isinstance(found, str):
        return tuple(found.split())
    return tuple(each for each in found if isinstance(each, str)) if isinstance(found, list) else ()


def _at(claims: object, path: list[str]) -> object:
    for part in path:
        claims = claims.get(part) if isinstance(claims, Mapping) else None
    return claims
