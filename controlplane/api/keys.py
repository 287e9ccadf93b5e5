"""API keys. A secret is shown once, when its key is made."""

from __future__ import annotations

from fastapi import APIRouter, status

from controlplane.api.context import Actor, Ctx, Page, problems
from controlplane.api.requests import NewKeyName
from controlplane.domain.base import Value
from controlplane.services.keys import create_key, list_keys, revoke_key

router = APIRouter(prefix="/keys", tags=["keys"])


class KeyName(Value):
    name: str


class MadeKey(Value):
    name: str
    secret: str


@router.get("", summary="List the names of the keys, oldest first", responses=problems())
def show_keys(ctx: Ctx, _: Actor) -> Page[KeyName]:
    names = tuple(KeyName(name=key.name) for key in list_keys(ctx.store))
    return Page(items=names, limit=len(names))


@router.post("", summary="Make a key", status_code=status.HTTP_201_CREATED, responses=problems(409, 422))
def make_key(body: NewKeyName, ctx: Ctx, actor: Actor) -> MadeKey:
    """The secret is in this answer and nowhere else. After the first key every request needs one."""
    made = create_key(ctx.store, body.name, actor=actor, now=ctx.clock())
    return MadeKey(name=made.key.name, secret=made.secret)


@router.delete("/{name}", summary="Revoke a key", status_code=status.HTTP_204_NO_CONTENT, responses=problems(404))
def forget_key(name: str, ctx: Ctx, actor: Actor) -> None:
    revoke_key(ctx.store, name, actor=actor, now=ctx.clock())
