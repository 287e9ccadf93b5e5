"""`fleetune service ...`: served models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controlplane.cli.asking import Ask, Noun, add_show, asks
from controlplane.cli.rollout import ROLLOUT
from controlplane.cli.tables.show import Column, Output, field
from controlplane.domain.errors import Unavailable
from controlplane.domain.words import counted
from controlplane.host.clock import utc_now

if TYPE_CHECKING:
    from controlplane.domain.service import ServiceSpec

Name = Annotated[str, typer.Argument(help="The service.")]


def _kept(former: Any) -> str | None:
    """Return the replicas that are kept started without traffic; None where their time is over."""
    from controlplane.domain.serving import Former

    kept = None if former is None else Former.model_validate(former)
    if kept is None or kept.until <= utc_now():
        return None
    return f"{kept.revision}, {counted(kept.replicas, 'replica')}, until {kept.until:%H:%M:%S} UTC"


SERVICE = Noun(
    "/services",
    columns=[
        Column("service", field("name")),
        Column("model", field("spec.model.name")),
        Column("engine", field("spec.engine.kind")),
        Column("stable", field("stable")),
        Column("replicas", field("stable_replicas")),
        Column("rollout", field("rollout"), wide=True),
        Column("stopped", field("stopped")),
    ],
    details=[
        Column("service", field("name")),
        Column("model", field("spec.model.path")),
        Column("engine", field("spec.engine.kind")),
        Column("base flags", field("spec.engine.flags")),
        Column("alternatives", lambda s: list(s["spec"]["alternatives"])),
        Column(
            "limits",
            lambda s: [f"P{v['percentile']:g} {v['metric']} ≤ {v['limit_ms']:g}" for v in s["spec"]["slos"]["latency"]],
        ),
        Column("target QPS", field("spec.slos.target_qps")),
        Column("stable", field("stable")),
        Column("replicas", field("stable_replicas")),
        Column("kept for a roll-back", lambda s: _kept(s["former"])),
        Column("takes turns on", field("spec.shares.pool")),
        Column("rollout", field("rollout")),
    ],
    empty="no service; `fleetune service register -f service.yaml` adds one",
)

app = typer.Typer(help="Served models.", no_args_is_help=True)
add_show(app, SERVICE)


@app.command("list")
@asks
def list_(ask: Ask) -> None:
    """List the served models."""
    ask.show_list(SERVICE, ask.client.get("/services")["items"])


@app.command("register")
@asks
def register(
    ask: Ask,
    file: Annotated[list[Path], typer.Option("-f", "--file", help="service.yaml; give it again for more services.")],
) -> None:
    """Add a service, or give a known one a new description. All files are read before any is registered."""
    from controlplane.reading.service_file import load_service

    specs = [load_service(path) for path in file]
    made = [ask.client.post("/services", spec.model_dump(mode="json")) for spec in specs]
    for each in specs:
        if (said := each.rollout.early_users) is not None:
            typer.echo(f"note: {each.name}: {said}", err=True)
        for said in _unknown(ask, each):
            typer.echo(f"note: {each.name}: {said}", err=True)
    ask.show_list(SERVICE, made)


def _unknown(ask: Ask, spec: ServiceSpec) -> list[str]:
    """Return what a description names and nobody knows there; `fleetune status` goes on saying it."""
    if spec.gateway.fallback is None and spec.follows is None:
        return []
    try:
        found: list[str] = ask.client.get(f"/services/{spec.name}/status")["unknown"]
    except Unavailable:  # it is registered nevertheless
        return []
    return found


@app.command("scale")
@asks
def scale(
    ask: Ask, name: Name, replicas: Annotated[int, typer.Option(min=0, help="Replicas of the stable revision.")]
) -> None:
    """Run the stable revision with so many replicas."""
    ask.show_one(SERVICE, ask.client.post(f"/services/{name}/scale", {"replicas": replicas}))


@app.command("stop")
@asks
def stop(ask: Ask, name: Name) -> None:
    """Scale to nothing and keep the record; `start` serves again."""
    ask.show_one(SERVICE, ask.client.post(f"/services/{name}/stop"))


@app.command("start")
@asks
def start(ask: Ask, name: Name) -> None:
    """Serve again with the replicas it had."""
    ask.show_one(SERVICE, ask.client.post(f"/services/{name}/start"))


@app.command("roll-back")
@asks
def roll_back(
    ask: Ask,
    name: Name,
    revision: Annotated[str, typer.Argument(help="An earlier revision: see `fleetune service revisions`.")],
    replicas: Annotated[int | None, typer.Option(min=1, help="Default: as many as it last had.")] = None,
    at_once: Annotated[
        bool, typer.Option("--at-once", help="All traffic as soon as its replicas are ready; nothing is judged.")
    ] = False,
) -> None:
    """Start a rollout to an earlier revision."""
    body = {"revision": revision, "replicas": replicas, "at_once": at_once}
    ask.show_one(ROLLOUT, ask.client.post(f"/services/{name}/roll-back", body))


def _estimate(name: str) -> Callable[[Any], str | None]:
    """Return a reader of a number with its interval, as `12.3 (11.9 to 13)`."""

    def read(row: Any) -> str | None:
        found = row.get(name)
        return None if found is None else f"{found['value']:.4g} ({found['low']:.4g} to {found['high']:.4g})"

    return read


CAPACITY = Noun(
    "/capacity",
    columns=[Column("revision", field("revision"))],
    details=[
        Column("revision", field("revision")),
        Column("rests on", field("source")),
        Column("corrected by live traffic", field("observed")),
        Column("requests/s at the SLOs", _estimate("rate_rps")),
        Column("prompt tokens/s", _estimate("prompt_tps")),
        Column("output tokens/s", _estimate("output_tps")),
        Column("requests in the engine", _estimate("concurrent")),
        Column("prompt tokens waiting", _estimate("prefill_tokens")),
        Column("KV cache %", _estimate("kv_percent")),
        Column("start-up s", _estimate("startup_s")),
    ],
    empty="",
)


@app.command("capacity")
@asks
def capacity(ask: Ask, name: Name) -> None:
    """Show what one replica of stable sustains, each number with its 95 % interval."""
    ask.show_one(CAPACITY, ask.client.get(f"/services/{name}/capacity"))


COST = Noun(
    "/cost",
    columns=[
        Column("tenant", field("tenant")),
        Column("USD/h", lambda row: f"{row['usd_per_hour']:.2f}"),
        Column("requests", field("requests")),
        Column("prompt tokens", field("prompt_tokens")),
        Column("output tokens", field("output_tokens")),
    ],
    details=[],
    empty="no request in the window",
)


@app.command("cost")
@asks
def cost(
    ask: Ask,
    name: Name,
    hours: Annotated[float, typer.Option(min=0.01, max=24, help="Whose tokens are counted, up to now.")] = 1.0,
) -> None:
    """Show what a service costs: USD per hour and per million tokens, and by tenant."""
    found = ask.client.get(f"/services/{name}/cost", hours=hours)
    ask.show_list(COST, found["tenants"], raw=found)
    if ask.output in (Output.TABLE, Output.WIDE):
        _say_cost(found)


def _say_cost(found: dict[str, Any]) -> None:
    per_million = found["usd_per_million_tokens"]
    tokens = "no token in the window" if per_million is None else f"{per_million:.3g} USD per million tokens"
    typer.echo(f"{found['gpus']} GPUs: {found['usd_per_hour']:.2f} USD/h, {tokens}")
    if (saved := found["saved"]) is not None:
        interval = f"{saved['low_usd_per_hour']:.2f} to {saved['high_usd_per_hour']:.2f}"
        hourly, whole = f"{saved['saved_usd_per_hour']:.2f} USD/h", f"{saved['saved_usd']:.2f} USD"
        typer.echo(
            f"study {saved['study_id']} saves {hourly} against its baseline ({interval}): "
            f"{whole} in {saved['watched_h']:.1f} h watched"
        )
    ceiling, since_s = found["max_usd_per_hour"], found["since_s"]
    if ceiling is not None and found["usd_per_hour"] > ceiling:
        typer.echo(f"beyond max_usd_per_hour {ceiling:g}")
    if since_s is not None and since_s < found["window_s"]:
        typer.echo(f"the fleet changed {since_s:.0f} s ago; it is priced as it is now")
    if found["untold"]:
        typer.echo(f"{found['untold']} requests without a count of tokens are not in it")
    if found.get("unserved"):
        typer.echo(f"{found['unserved']} requests are nobody's bill: refused, broken off by an engine, or cut by us")


SCALING = Noun(
    "/scaling",
    columns=[Column("replicas", field("decision.replicas"))],
    details=[
        Column("replicas", field("decision.replicas")),
        Column("wanted by the load", field("decision.wanted")),
        Column("held", field("decision.held")),
        Column("why", field("decision.reason")),
        Column("offered requests/s", field("decision.load.rate_rps")),
        Column("expected within a start", field("decision.expected_rps")),
        Column("forecast error", field("forecast_error")),
        Column("decided", field("decision.at")),
    ],
    empty="",
)


@app.command("scaling")
@asks
def scaling(ask: Ask, name: Name) -> None:
    """Show what the autoscaler decided last, and why; dashes while it is off."""
    ask.show_one(SCALING, ask.client.get(f"/services/{name}/scaling"))


REVISION = Noun(
    "/revisions",
    columns=[
        Column("revision", field("revision_id")),
        Column("created", field("created_at")),
        Column("study", field("study_id")),
        Column("flags", field("config.flags"), text=True),
    ],
    details=[],
    empty="no revision yet",
)


@app.command("revisions")
@asks
def revisions(ask: Ask, name: Name) -> None:
    """List what the service was ever served with."""
    ask.show_list(REVISION, ask.client.get(f"/services/{name}/revisions")["items"])
