"""`fleetune rollout ...`: attempts to make a revision stable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from controlplane.cli.asking import Ask, Id, Noun, Reason, add_actions, add_list, asks
from controlplane.cli.client import ApiClient
from controlplane.cli.files import require_writable
from controlplane.cli.tables.show import Column, field
from controlplane.domain.errors import InvalidInput, NotFound
from controlplane.domain.words import counted
from controlplane.host.clock import utc_now


def _step(step: Any) -> str:
    verdict = field("analysis.verdict")(step) or "waiting"
    return f"{step['weight_percent']} % {verdict}"


def _latencies(steps: Any) -> list[str] | None:
    """Return how much slower the canary is by the last step that has it; None where none has."""
    from controlplane.domain.rollouts.analysis import LatencyEffect
    from controlplane.domain.rollouts.effects import describe_effect

    told = [found for step in steps if (found := (step["analysis"] or {}).get("effects"))]
    return [describe_effect(LatencyEffect.model_validate(each)) for each in told[-1]] if told else None


ROLLOUT = Noun(
    "/rollouts",
    columns=[
        Column("rollout", field("rollout_id")),
        Column("service", field("service")),
        Column("state", field("state")),
        Column("canary", field("canary")),
        Column("stable", field("stable"), wide=True),
        Column("steps", lambda r: [_step(step) for step in r["steps"]], text=True),
        Column("reason", field("reason"), text=True),
    ],
    details=[
        Column("rollout", field("rollout_id")),
        Column("service", field("service")),
        Column("state", field("state")),
        Column("reason", field("reason")),
        Column("canary", field("canary")),
        Column("stable", field("stable")),
        Column("canary replicas", field("canary_replicas")),
        Column("created", field("created_at")),
        Column("finished", field("finished_at")),
        Column("steps", lambda r: [_step(step) for step in r["steps"]]),
        Column("answers", field("answers.reason")),
        Column("latency", lambda r: _latencies(r["steps"])),
        Column("last verdict", lambda r: field("analysis.reason")(r["steps"][-1]) if r["steps"] else None),
    ],
    empty="no rollout yet; apply a recommendation with `fleetune recommendation apply STUDY`",
)

app = typer.Typer(help="Attempts to make a revision stable.", no_args_is_help=True)
add_list(app, ROLLOUT)


@app.command("show")
@asks
def show(ask: Ask, id: Id) -> None:
    """Show one, and what its canary has different."""
    rollout = ask.client.get(f"/rollouts/{id}")
    changes = _changes(ask.client, rollout)
    ask.show_one(ROLLOUT, rollout, details=[Column("changes", lambda _: changes)])


@app.command("report")
@asks
def report(
    ask: Ask, id: Id, html: Annotated[Path | None, typer.Option("--html", help="Write a page instead of JSON.")] = None
) -> None:
    """Everything about one: verdicts, load proven, what is different, what was promised, what happened."""
    found = ask.client.get(f"/rollouts/{id}/report")
    if html is None:
        typer.echo(json.dumps(found, indent=1))
        return
    from controlplane.cli.tables.rollout_html import rollout_page
    from controlplane.domain.rollouts.rollout_report import RolloutReport

    require_writable(html)
    html.write_text(rollout_page(RolloutReport.model_validate(found), utc_now()))
    typer.echo(f"wrote {html}")


@app.command("start")
@asks
def start(
    ask: Ask,
    service: Annotated[str, typer.Argument(help="The service to change.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="flag=value, laid over what is stable; again for more.")
    ] = None,
    unset: Annotated[list[str] | None, typer.Option(help="A flag of stable to take away; again for more.")] = None,
    replicas: Annotated[int | None, typer.Option(min=1, help="Once promoted; default: as many as serve now.")] = None,
    reason: Reason = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Roll out engine flags of your own choice, without a study: they are laid over those that are stable."""
    from controlplane.cli.flags import parse_flags

    changes: dict[str, Any] = {**parse_flags(set_ or []), **dict.fromkeys(unset or [])}
    if not changes:
        raise InvalidInput("nothing to roll out", allowed="--set flag=value or --unset flag")
    if not yes:
        _ask_first(ask.client, service, changes, replicas)
    body = {"service": service, "changes": changes, "replicas": replicas, "reason": reason}
    ask.show_one(ROLLOUT, ask.client.post("/rollouts", body))


add_actions(
    app,
    ROLLOUT,
    {
        "pause": "Keep the weight, judge nothing.",
        "resume": "Go on with a paused or halted rollout.",
        "promote": "Promote without waiting for verdicts.",
        "abort": "Return all traffic to stable.",
        "halt": "Stop a promotion midway; a person must act.",
    },
)


def _early_users(service: Any) -> str | None:
    from controlplane.domain.rollouts.rollout_options import RolloutOptions

    return RolloutOptions.model_validate(service["spec"]["rollout"]).early_users if service["stable"] else None


def _ask_first(client: ApiClient, service: str, changes: dict[str, Any], replicas: int | None) -> None:
    """Show what would change and ask. Raises typer.Abort for a no, and where nobody can answer."""
    from controlplane.domain.engines.flag_changes import flag_changes, laid_over

    found = client.get(f"/services/{service}")
    before = _flags(client, service, found["stable"]) if found["stable"] else found["spec"]["engine"]["flags"]
    wanted = found["stable_replicas"] if replicas is None else replicas
    typer.echo(f"{service}, {counted(wanted, 'replica')} once promoted ({found['stable_replicas']} now):", err=True)
    for change in flag_changes(before, laid_over(before, changes)):
        typer.echo(f"  {change}", err=True)
    if (said := _early_users(found)) is not None:
        typer.echo(f"note: {said}", err=True)
    typer.confirm("start the rollout?", abort=True, err=True)


def _changes(client: ApiClient, rollout: Any) -> list[str] | None:
    """Return what the canary has different from stable; None where a revision is not known any more."""
    from controlplane.domain.engines.flag_changes import flag_changes

    if rollout["stable"] is None:
        return ["the first revision that serves"]
    try:
        stable, canary = (_flags(client, rollout["service"], rollout[which]) for which in ("stable", "canary"))
    except NotFound:
        return None
    return [str(each) for each in flag_changes(stable, canary)] or ["the same flags: another model or engine"]


def _flags(client: ApiClient, service: str, revision: str) -> Any:
    for each in client.get(f"/services/{service}/revisions")["items"]:
        if each["revision_id"] == revision:
            return each["config"]["flags"]
    raise NotFound(f"no revision {revision} of {service}")
