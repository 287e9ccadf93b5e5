"""`fleetune key ...`: API keys."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Annotated, Any

import typer

from controlplane.cli.asking import Ask, Noun, asks
from controlplane.cli.tables.show import Column, field
from controlplane.domain.door.identity import DEFAULT_TENANT, PriorityClass, Scope

Name = Annotated[str, typer.Argument(help="Its name.")]
KEY = Noun(
    "/keys",
    columns=[
        Column("key", field("name")),
        Column("tenant", field("tenant")),
        Column("scopes", field("scopes")),
        Column("models", field("models")),
        Column("expires", field("expires_at")),
        Column("last used", field("last_used_at")),
    ],
    details=[],
    empty="no key: only this machine may ask",
)

app = typer.Typer(help="API keys.", no_args_is_help=True)


@app.command("create")
@partial(asks, of_a_new_one=True)
def create(
    ask: Ask,
    name: Name,
    scope: Annotated[list[Scope], typer.Option(help="What it may do; give it again for more.")] = [Scope.INFER],  # noqa: B006 - typer copies it
    tenant: Annotated[str, typer.Option(help="Whom it speaks for.")] = DEFAULT_TENANT,
    model: Annotated[list[str], typer.Option(help="Only this model; give it again for more.")] = [],  # noqa: B006
    expires: Annotated[str | None, typer.Option(help="When it expires, ISO 8601 with a zone.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(help="At most.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(help="Prompt and answer.")] = None,
    tokens_per_day: Annotated[int | None, typer.Option(help="Of a day of UTC.")] = None,
    tokens_per_month: Annotated[int | None, typer.Option(help="Of a calendar month, UTC.")] = None,
    usd_per_day: Annotated[float | None, typer.Option(help="By the models' prices.")] = None,
    usd_per_month: Annotated[float | None, typer.Option(help="By the models' prices.")] = None,
    concurrent: Annotated[int | None, typer.Option(help="Requests under way at once.")] = None,
    priority: Annotated[PriorityClass | None, typer.Option(help="Class in queues; default: its tenant's.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, even where it shuts clients out.")] = False,
) -> None:
    """Make an API key. The secret is shown once and not kept."""
    if not yes:
        _ask_before_the_first(ask)
    limits = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "tokens_per_day": tokens_per_day,
        "tokens_per_month": tokens_per_month,
        "usd_per_day": usd_per_day,
        "usd_per_month": usd_per_month,
        "concurrent": concurrent,
    }
    body = {"name": name, "scopes": scope, "tenant": tenant, "models": model, "expires_at": expires, "limits": limits}
    body["priority"] = priority
    _show(ask.client.post("/keys", body))


@app.command("rotate")
@asks
def rotate(
    ask: Ask, name: Name, overlap_h: Annotated[float, typer.Option(help="Hours for which the old one works on.")] = 24
) -> None:
    """Give a key a new secret. The old one works on for a while, so that clients can be changed in peace."""
    _show(ask.client.post(f"/keys/{name}/rotate", {"overlap_s": timedelta(hours=overlap_h).total_seconds()}))


@app.command("list")
@asks
def list_(ask: Ask) -> None:
    """List the keys and what they may do."""
    ask.show_list(KEY, ask.client.get("/keys")["items"])


@app.command("revoke")
@asks
def revoke(ask: Ask, name: Name) -> None:
    """Revoke a key at once."""
    ask.client.delete(f"/keys/{name}")
    typer.echo(f"key {name} is revoked")


def _ask_before_the_first(ask: Ask) -> None:
    """Ask where the first key would shut out clients that have none. Raises typer.Abort for a no, or for no answer."""
    if ask.client.get("/keys")["items"]:
        return
    served = [row["spec"]["model"]["name"] for row in ask.client.get("/services")["items"] if not row["stopped"]]
    if not served:
        return
    typer.secho(
        f"This is the first key. From now on every request needs one: clients of {', '.join(served)} that send none "
        "get 401 at once, at the gateway and at the API, and that stays so when the key is revoked. "
        "The dashboard of this installation goes on with a key of its own.",
        fg=typer.colors.YELLOW,
        err=True,
    )
    typer.confirm("make it?", abort=True, err=True)


def _show(made: Any) -> None:
    typer.echo(f"key {made['name']} of {made['tenant']}, may {', '.join(made['scopes'])}, shown this once:", err=True)
    typer.echo(made["secret"])
