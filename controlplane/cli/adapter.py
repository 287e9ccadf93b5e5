"""`fleetune adapter ...`: LoRA adapters on running replicas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from controlplane.cli.asking import Ask, Noun, asks
from controlplane.cli.naming import check_name, tell_elsewhere
from controlplane.cli.tables.show import Column, field
from controlplane.domain.adapters import is_adapter_name
from controlplane.domain.errors import InvalidInput, unreadable
from controlplane.reading.text_file import read_text

Service = Annotated[str, typer.Argument(help="The service.")]
Name = Annotated[str, typer.Argument(help="What clients ask for in `model`.")]


def _served(row: Any) -> str:
    adapter = row["adapter"]
    stable = "none" if adapter["stable"] is None else f"version {adapter['stable']}"
    if adapter["canary"] is None:
        return stable
    share = "nobody yet" if adapter["waits_for_answers"] else f"{adapter['share_percent']} %"
    return f"{stable}, canary version {adapter['canary']} with {share}"


def _judged(row: Any) -> list[str]:
    """What is known of the canary: its answers beside stable's, and the latest look at its users' requests."""
    answers, look = row["adapter"]["answers"], row["judgement"]
    waits = "its answers are not compared yet" if row["adapter"]["waits_for_answers"] and not answers else None
    return [said for said in (waits, answers and answers["reason"], look and look["reason"]) if said]


def _loaded(row: Any) -> list[str]:
    return [f"{engine}: {', '.join(map(str, has)) or 'none'}" for engine, has in sorted(row["loaded"].items())]


ADAPTER = Noun(
    "/adapters",
    columns=[
        Column("adapter", field("adapter.name")),
        Column("serves", _served),
        Column("path", lambda r: r["adapter"]["versions"][-1]["path"], text=True),
        Column("loaded on", _loaded, text=True),
        Column("judged", _judged, text=True),
        Column("problems", lambda r: list(r["problems"].values()), text=True),
    ],
    details=[
        Column("adapter", field("name")),
        Column("stable", field("stable")),
        Column("canary", field("canary")),
        Column("share of the canary", lambda a: f"{a['share_percent']} %" if a["canary"] else None),
        Column("versions", lambda a: [f"{each['number']}: {each['path']}" for each in a["versions"]]),
    ],
    empty="no adapter; `fleetune adapter load SERVICE NAME PATH`",
)

app = typer.Typer(help="LoRA adapters on running replicas.", no_args_is_help=True)


@app.command("list")
@asks
def list_(ask: Ask, service: Service) -> None:
    """List a service's adapters, and which replicas have them."""
    ask.show_list(ADAPTER, ask.client.get(f"/services/{service}/adapters")["items"])


@app.command("load")
@asks
def load(
    ask: Ask,
    service: Service,
    name: Name,
    path: Annotated[str, typer.Argument(help="Its folder, as replicas see it, or a hub name.")],
    share: Annotated[int, typer.Option(min=1, max=99, help="Of requests, for a new version of a known one.")] = 5,
    judge: Annotated[
        bool, typer.Option("--judge/--by-hand", help="Live records promote it or take it back, or you do.")
    ] = True,
) -> None:
    """Load an adapter on every replica; a new version of a known one gets a share of its requests."""
    check_name(name, is_adapter_name(name), "name of an adapter")
    body = {"name": name, "path": path, "share_percent": share, "judge": judge, **_described(path)}
    ask.show_one(ADAPTER, ask.client.post(f"/services/{service}/adapters", body))


@app.command("promote")
@asks
def promote(ask: Ask, service: Service, name: Name) -> None:
    """Give an adapter's canary all its requests."""
    ask.show_one(ADAPTER, ask.client.post(f"/services/{service}/adapters/{name}/promote"))


@app.command("roll-back")
@asks
def roll_back(
    ask: Ask,
    service: Service,
    name: Name,
    to: Annotated[int | None, typer.Option(help="An earlier version; default: take the canary back.")] = None,
) -> None:
    """Take an adapter's canary back, or serve an earlier version again."""
    ask.show_one(ADAPTER, ask.client.post(f"/services/{service}/adapters/{name}/roll-back", {"version": to}))


@app.command("unload")
@asks
def unload(ask: Ask, service: Service, name: Name) -> None:
    """Serve an adapter no more."""
    ask.client.delete(f"/services/{service}/adapters/{name}")
    typer.echo(f"{name} is unloaded from every replica of {service}")


def _described(path: str) -> dict[str, Any]:
    """Return what a local folder says of its adapter; nothing of what is not here. Raises InvalidInput."""
    described = Path(path) / "adapter_config.json"
    if not Path(path).is_dir():
        tell_elsewhere(path)
        return {}
    try:
        config = json.loads(read_text(described))
    except OSError as error:
        raise InvalidInput(f"{path} holds no adapter", why=f"{described.name}: {unreadable(error)}") from error
    except ValueError as error:
        raise InvalidInput(f"{described} is no JSON", why=str(error)) from error
    rank = config.get("r") if isinstance(config, dict) else None
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        why = "it says no rank `r`" if rank is None else f"its rank `r` is {json.dumps(rank)}"
        raise InvalidInput(f"{described} describes no LoRA adapter", why=why, allowed="a whole number from 1")
    return {"rank": rank, "base": config.get("base_model_name_or_path")}
