"""API keys. A secret is shown once, when it is made."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, status
from pydantic import AwareDatetime

from controlplane.api.context import Admin, Ctx, Page, problems
from controlplane.api.requests import NewKeyName, Overlap
from controlplane.domain.door.identity import ApiKey, Credential, Grant
from controlplane.services.keys import create_key, list_keys, revoke_key, rotate_key

router = APIRouter(prefix="/keys", tags=["keys"])


class KeyView(Grant):
    """A key without any hash of its secret."""

    name: str
    old_until: AwareDatetime | None
    made_at: AwareDatetime | None
    last_used_at: AwareDatetime | None


class MadeKey(Grant):
    name: str
    secret: str


@router.get("", summary="List the keys, oldest first", responses=problems())
def show_keys(ctx: Ctx, _: Admin) -> Page[KeyView]:
    keys = tuple(_view(kept) for kept in list_keys(ctx.store))
    return Page(items=keys, limit=len(keys))


@router.post("", summary="Make a key", status_code=status.HTTP_201_CREATED, responses=problems(409, 422))
def make_key(body: NewKeyName, ctx: Ctx, actor: Admin) -> MadeKey:
    """The secret is in this answer and nowhere else. After the first key every request needs one."""
    grant = Grant(**body.model_dump(exclude={"name"}))
    made = create_key(ctx.store, body.name, grant, actor=actor, now=ctx.clock())
    return _made(made.key, made.secret)


@router.post("/{name}/rotate", summary="Give a key a new secret", responses=problems(404, 422))
def turn_key(name: str, body: Overlap, ctx: Ctx, actor: Admin) -> MadeKey:
    """The old secret works on for `overlap_s`, so that clients can be given the new one in peace."""
    made = rotate_key(ctx.store, name, overlap_s=body.overlap_s, actor=actor, now=ctx.clock())
    return _made(made.key, made.secret)


@router.delete("/{name}", summary="Revoke a key", status_code=status.HTTP_204_NO_CONTENT, responses=problems(404))
def forget_key(name: str, ctx: Ctx, actor: Admin) -> None:
    revoke_key(ctx.store, name, actor=actor, now=ctx.clock())


def _made(key: ApiKey, secret: str) -> MadeKey:
    return MadeKey(**_grant(key), name=key.name, secret=secret)


def _view(kept: Credential) -> KeyView:
    key = kept.key
    return KeyView(
        **_grant(key),
        name=key.name,
        old_until=key.old_until,
        made_at=kept.made_at,
        last_used_at=kept.last_used_at,
    )


def _grant(key: ApiKey) -> dict[str, Any]:
    return {name: getattr(key, name) for name in Grant.model_fields}
